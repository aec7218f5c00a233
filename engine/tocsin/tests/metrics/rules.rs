//! Alert rules and dashboard: promtool accepts them, they name metrics that there are, and the pages know
//! them.

use std::collections::BTreeSet;

use serde_json::Value;
use tocsin::control::metrics::{all_families, series_names};

use crate::harness::wait_for;
use crate::prometheus::{Prometheus, promtool, repository};

fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Names of metrics in a text, as they would be in an expression.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tocsin_")).map(str::to_owned).collect()
}

/// Names behind `key: ` in a text of YAML.
fn values_of(text: &str, key: &str) -> BTreeSet<String> {
    let rest = |line: &str| Some(line.trim().trim_start_matches("- ").strip_prefix(key)?.trim().to_owned());
    text.lines().filter_map(rest).collect()
}

/// Title and expression of each of the dashboard's queries.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("scripts/grafana/tocsin.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let of = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().map(|t| (title.clone(), t["expr"].as_str().unwrap().to_owned())).collect()
    };
    let annotation = dashboard["annotations"]["list"][0]["expr"].as_str().unwrap().to_owned();
    panels.iter().flat_map(of).chain([("annotation".to_owned(), annotation)]).collect()
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn every_alert_has_a_test_and_a_row_on_the_page() {
    let alerts = values_of(&text("scripts/prometheus/alerts.yml"), "alert:");
    assert!(alerts.len() > 20, "{alerts:?}");
    let (tests, page) = (text("scripts/prometheus/alerts_test.yml"), text("docs/metrics.md"));
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} has no test");
        assert!(page.contains(&format!("| `{alert}` |")), "{alert} is not on docs/metrics.md");
    }
    let told = page.lines().filter_map(|line| line.strip_prefix("| `Tocsin")?.split('`').next());
    for name in told {
        assert!(
            alerts.contains(&format!("Tocsin{name}")),
            "docs/metrics.md has Tocsin{name}, alerts.yml not"
        );
    }
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let there = series_names();
    for file in ["alerts.yml", "alerts_test.yml"] {
        let unknown: Vec<_> =
            named(&text(&format!("scripts/prometheus/{file}"))).difference(&there).cloned().collect();
        // Alerts speak of families too.
        let families: BTreeSet<&str> = all_families().map(|family| family.name).collect();
        let unknown: Vec<_> = unknown.iter().filter(|name| !families.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    let shown: BTreeSet<String> = queries().iter().flat_map(|(_, expr)| named(expr)).collect();
    let unknown: Vec<_> = shown.difference(&there).collect();
    assert!(shown.len() > 40 && unknown.is_empty(), "the dashboard names {unknown:?}");
}

#[test]
fn the_dashboard_s_panels_lie_beside_one_another() {
    let dashboard: Value = serde_json::from_str(&text("scripts/grafana/tocsin.json")).unwrap();
    let (mut places, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
    }
}

/// Every query of the dashboard means something to Prometheus, and those that do not wait for something to go
/// wrong have an answer.
pub(crate) fn dashboard_shows_something(prometheus: &Prometheus) {
    for (title, expr) in queries() {
        let expr = expr.replace("$__rate_interval", "2s").replace("$instance", ".*");
        assert!(!expr.contains('$'), "{title}: a variable that the test does not know: {expr}");
        if expr.ends_with("> 0") {
            prometheus.query(&expr);
        } else {
            wait_for(&format!("{title}: {expr}"), || !prometheus.query(&expr).is_empty());
        }
    }
}
