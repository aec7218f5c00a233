//! A result as one page: environment, notes, what is missing, tables, plots.
//!
//! Contract: self-contained: no script, no request to anywhere, readable on light and dark. Every text
//! that came from outside (names, notes, facts) is escaped. Pure; allocates the page; nothing fails.
//!
//! Series whose names differ in their second last part alone are contenders and share a plot:
//! `plain/1000/engine/last` beside `plain/1000/floor/last`.

use std::fmt::Write as _;

use super::text::{fact, judged};
use super::{QUANTILES, format, plot};
use crate::result::{Comparison, Figure, Missing, ResultFile, Series, SuiteResult, Track, Unit};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1c1e;--soft:#5a5a62;--grid:#dcdce2;--paper:#fff;--bad:#b00020;--good:#0a6b3d}\
@media(prefers-color-scheme:dark){:root{--ink:#ececf1;--soft:#a2a2ad;--grid:#3a3a42;--paper:#151518;--bad:#ff7b8a;--good:#66d19e}}\
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:76em;margin:2em auto;padding:0 1em}\
h1,h2,h3{line-height:1.2}h2{margin-top:2.2em;border-bottom:1px solid var(--grid)}\
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}\
div.wide{overflow-x:auto}th,td{padding:.2em .7em;border-bottom:1px solid var(--grid);text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}td.text{text-align:left;white-space:normal;overflow-wrap:anywhere}\
.met{color:var(--good)}.unmet{color:var(--bad);font-weight:600}.soft,figcaption{color:var(--soft)}\
figure{margin:1em 0;display:inline-block;width:min(100%,36em);vertical-align:top}svg{width:100%;height:auto}\
svg [stroke=\"#010101\"]{stroke:var(--ink)}svg [fill=\"#010101\"]{fill:var(--ink)}\
svg [stroke=\"#020202\"]{stroke:var(--grid)}i{display:inline-block;width:1.2em;height:.25em;vertical-align:middle;margin:0 .3em 0 .8em}";

/// The whole page.
#[must_use]
pub fn page(file: &ResultFile) -> String {
    let mut out = String::new();
    put(&mut out, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    put(&mut out, "<meta name=\"viewport\" content=\"width=device-width\"><title>Tocsin: measured</title>");
    put(&mut out, &format!("<style>{STYLE}</style></head><body><h1>Tocsin: measured</h1>"));
    let links: Vec<String> =
        file.suites.iter().map(|s| format!("<a href=\"#{0}\">{0}</a>", escape(&s.name))).collect();
    put(&mut out, &format!("<p>{}</p><h2>Environment</h2><div class=\"wide\"><table>", links.join(" · ")));
    for (name, value) in &file.environment {
        let (name, value) = (escape(name), escape(&fact(value)));
        put(&mut out, &format!("<tr><td>{name}</td><td class=\"text\">{value}</td></tr>"));
    }
    put(&mut out, "</table></div>");
    file.suites.iter().for_each(|suite| section(&mut out, suite));
    put(&mut out, "</body></html>");
    out
}

/// Text that means itself within HTML and within its attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn section(out: &mut String, suite: &SuiteResult) {
    let name = escape(&suite.name);
    put(out, &format!("<h2 id=\"{name}\">{name}</h2>"));
    let settings: Vec<String> =
        suite.settings.iter().map(|(k, v)| format!("{} = {}", escape(k), escape(&fact(v)))).collect();
    put(out, &format!("<p class=\"soft\">{}</p>", settings.join(", ")));
    if !suite.notes.is_empty() {
        let notes: String = suite.notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        put(out, &format!("<ul>{notes}</ul>"));
    }
    missing(out, &suite.missing);
    comparisons(out, &suite.comparisons);
    figures(out, &suite.figures);
    table(out, &suite.series);
    for group in groups(&suite.series) {
        plots(out, &group);
    }
    tracks(out, &suite.tracks);
}

/// Tracks whose names differ in their last part alone share a plot.
fn tracks(out: &mut String, tracks: &[Track]) {
    fn parts(track: &Track) -> (&str, &str) {
        track.name.rsplit_once('/').unwrap_or((&track.name, ""))
    }
    for group in tracks.chunk_by(|a, b| parts(a).0 == parts(b).0) {
        let Some(first) = group.first() else { continue };
        let lines: Vec<_> = group.iter().map(|track| track.points.clone()).collect();
        let Some(svg) = plot::track(first.unit, &lines) else { continue };
        let legend = legend(group.iter().map(|track| parts(track).1));
        let subject = escape(parts(first).0);
        put(out, &format!("<figure><figcaption>{subject}, over the run{legend}</figcaption>{svg}</figure>"));
    }
}

/// Which colour is whose.
fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let of = |(name, colour): (&str, &&str)| format!("<i style=\"background:{colour}\"></i>{}", escape(name));
    names.zip(plot::COLOURS.iter().cycle()).map(of).collect()
}

fn missing(out: &mut String, missing: &[Missing]) {
    if missing.is_empty() {
        return;
    }
    let items = missing.iter().map(|m| format!("<li>{}: {}</li>", escape(&m.what), escape(&m.why)));
    put(out, &format!("<h3>Not measured</h3><ul>{}</ul>", items.collect::<String>()));
}

fn comparisons(out: &mut String, comparisons: &[Comparison]) {
    if comparisons.is_empty() {
        return;
    }
    put(
        out,
        "<h3>Side by side</h3><div class=\"wide\"><table><tr><th>What</th><th>Ratio</th><th>Quartiles</th>",
    );
    put(out, "<th>Rounds</th><th>Target</th><th>Ours</th><th>Other</th></tr>");
    for c in comparisons {
        let (low, high) = (format::ratio(c.quartiles.0), format::ratio(c.quartiles.1));
        put(
            out,
            &format!(
                "<tr><td class=\"text\">{}</td><td>{}</td><td>{low} to {high}</td><td>{}</td>{}<td>{}</td><td>{}</td></tr>",
                escape(&c.name),
                format::ratio(c.ratio),
                c.rounds,
                verdict(Unit::Plain, c.ratio, c.target),
                escape(&c.ours),
                escape(&c.other),
            ),
        );
    }
    put(out, "</table></div>");
}

fn figures(out: &mut String, figures: &[Figure]) {
    if figures.is_empty() {
        return;
    }
    put(
        out,
        "<h3>Figures</h3><div class=\"wide\"><table><tr><th>What</th><th>Value</th><th>Target</th></tr>",
    );
    for f in figures {
        let (name, value) = (escape(&f.name), format::value(f.unit, f.value));
        put(out, &format!("<tr><td>{name}</td><td>{value}</td>{}</tr>", verdict(f.unit, f.value, f.target)));
    }
    put(out, "</table></div>");
}

fn verdict(unit: Unit, value: f64, target: Option<crate::result::Target>) -> String {
    let class = target.map_or("", |target| if target.met(value) { "met" } else { "unmet" });
    format!("<td class=\"{class}\">{}</td>", judged(unit, value, target))
}

fn table(out: &mut String, series: &[Series]) {
    if series.is_empty() {
        return;
    }
    let heads: String = QUANTILES.iter().map(|(name, _)| format!("<th>{name}</th>")).collect();
    put(out, "<h3>Distributions</h3><div class=\"wide\"><table>");
    put(out, &format!("<tr><th>Series</th><th>Count</th>{heads}<th>max</th></tr>"));
    for one in series {
        let histogram = one.histogram();
        let cell = |value: u64| format!("<td>{}</td>", format::value(one.unit, value as f64));
        let cells: String = QUANTILES.iter().map(|(_, q)| cell(histogram.value_at_quantile(*q))).collect();
        let (name, count, max) = (escape(&one.name), format::count(histogram.len()), cell(histogram.max()));
        put(out, &format!("<tr><td>{name}</td><td>{count}</td>{cells}{max}</tr>"));
    }
    put(out, "</table></div>");
}

/// Series that are contenders of each other, in the order of the first of each group.
fn groups(series: &[Series]) -> Vec<Vec<&Series>> {
    let mut groups: Vec<(String, Unit, Vec<&Series>)> = Vec::new();
    for one in series {
        let (subject, _) = split(&one.name);
        match groups.iter_mut().find(|(name, unit, _)| *name == subject && *unit == one.unit) {
            Some((_, _, members)) => members.push(one),
            None => groups.push((subject, one.unit, vec![one])),
        }
    }
    groups.into_iter().map(|(_, _, members)| members).collect()
}

/// What is measured, and whose it is: the second last part of a name of three parts or more.
fn split(name: &str) -> (String, &str) {
    let mut parts: Vec<&str> = name.split('/').collect();
    if parts.len() < 3 {
        return (name.to_owned(), name);
    }
    let contender = parts.remove(parts.len() - 2);
    (parts.join("/"), contender)
}

fn plots(out: &mut String, group: &[&Series]) {
    let Some(first) = group.first() else { return };
    let histograms: Vec<_> = group.iter().map(|series| series.histogram()).collect();
    let legend = legend(group.iter().map(|series| split(&series.name).1));
    let subject = escape(&split(&first.name).0);
    let kinds = [
        ("by percentile", plot::percentiles(first.unit, &histograms)),
        ("share of values", plot::histogram(first.unit, &histograms)),
    ];
    for (kind, svg) in kinds {
        if let Some(svg) = svg {
            put(out, &format!("<figure><figcaption>{subject}, {kind}{legend}</figcaption>{svg}</figure>"));
        }
    }
}

fn put(out: &mut String, line: &str) {
    // Writing to a `String` does not fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::{SCHEMA, Target};

    fn series(name: &str) -> Series {
        Series { name: name.to_owned(), unit: Unit::Nanoseconds, values: vec![(10, 5), (20_000, 2)] }
    }

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(escape("<b a=\"'\">&"), "&lt;b a=&quot;&#39;&quot;&gt;&amp;");
        let evil = "<script>alert('x')</script>";
        let suite = SuiteResult {
            name: evil.to_owned(),
            series: vec![series(&format!("a/{evil}/b"))],
            figures: vec![Figure { name: evil.to_owned(), unit: Unit::Plain, value: 1.0, target: None }],
            missing: vec![Missing { what: evil.to_owned(), why: evil.to_owned() }],
            notes: vec![evil.to_owned()],
            ..SuiteResult::default()
        };
        let environment = BTreeMap::from([(evil.to_owned(), serde_json::Value::from(evil))]);
        let page = page(&ResultFile { schema: SCHEMA, environment, suites: vec![suite] });
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        // Nothing is fetched: the only address is the name of SVG's language.
        let addresses = page.matches("http").count();
        assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    }

    #[test]
    fn contenders_share_a_plot_and_targets_are_judged() {
        let all =
            [series("p/1/engine/last"), series("p/1/engine/first"), series("p/1/floor/last"), series("x/y")];
        let named: Vec<Vec<&str>> =
            groups(&all).iter().map(|g| g.iter().map(|s| s.name.as_str()).collect()).collect();
        assert_eq!(named, [vec!["p/1/engine/last", "p/1/floor/last"], vec!["p/1/engine/first"], vec!["x/y"]]);
        assert_eq!(split("p/1/engine/last"), ("p/1/last".to_owned(), "engine"));
        let met = verdict(Unit::Plain, 1.0, Some(Target::AtMost(1.02)));
        assert_eq!(met, "<td class=\"met\">≤ 1.02 met</td>");
        assert!(verdict(Unit::Plain, 1.1, Some(Target::AtMost(1.02))).contains("unmet"));
        let suite = SuiteResult { name: "s".to_owned(), series: all.to_vec(), ..SuiteResult::default() };
        let page = page(&ResultFile { schema: SCHEMA, environment: BTreeMap::new(), suites: vec![suite] });
        assert_eq!(page.matches("<figure>").count(), 6);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn tracks_of_one_subject_share_a_plot() {
        let track = |name: &str| Track {
            name: name.to_owned(),
            unit: Unit::Nanoseconds,
            points: vec![(0.0, 5.0), (10.0, 9e6)],
        };
        let tracks = vec![track("latency/p50"), track("latency/p99"), track("open/<b>")];
        let suite = SuiteResult { name: "s".to_owned(), tracks, ..SuiteResult::default() };
        let page = page(&ResultFile { schema: SCHEMA, environment: BTreeMap::new(), suites: vec![suite] });
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(
            page.contains("latency, over the run<i") && page.contains("</i>p99") && !page.contains("<b>")
        );
    }

    #[test]
    fn the_style_replaces_the_colours_that_plots_leave_open() {
        for colour in [plot::INK, plot::GRID] {
            assert!(STYLE.contains(&format!("[stroke=\"{colour}\"]")));
        }
    }
}
