//! Every key of default.toml: documented, read, and named when it is misspelt. Every field of [`Config`]: set
//! by some key. A key that is added here without a way to vary it makes these tests say so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use toml::Value;

use super::*;

/// Values other than the default, where one cannot be made from the default's form, and what else must be set
/// beside them.
const VARIED: &[(&str, &str, &str)] = &[
    ("admin.forwarded_for_from", "[\"10.9.0.0/16\"]", ""),
    ("admin.listen", "\"127.0.0.1:7\"", ""),
    ("market.spike_slot", "\"1s\"", "market.enabled = false"),
    ("record.dir", "\"/varied\"", ""),
    ("record.max_size", "\"32MiB\"", "record.dir = \"/x\""),
    ("egress.allow_nets", "[\"10.9.0.0/16\"]", ""),
    ("egress.resolvers", "[\"192.0.2.7\"]", ""),
    ("feed.cert_file", "\"/varied\"", "feed.key_file = \"/varied.key\""),
    ("feed.forwarded_for_from", "[\"10.9.0.0/16\"]", ""),
    ("feed.key_file", "\"/varied\"", "feed.cert_file = \"/varied.pem\""),
    ("feed.limits.exempt", "[\"10.9.0.0/16\"]", ""),
    ("feed.listen", "\"127.0.0.1:7\"", ""),
    ("feed.proxy_protocol_from", "[\"10.9.0.0/16\"]", ""),
    ("log.level", "\"warn\"", ""),
    ("smtp.ca_file", "\"/varied\"", MAIL),
    ("smtp.from", "\"varied@example.com\"", "smtp.url = \"smtp://127.0.0.1:7\""),
    ("smtp.password_file", "\"/varied\"", "smtp.url = \"smtps://u@m\"\nsmtp.from = \"a@b.example\""),
    ("smtp.url", "\"smtp://varied\"", "smtp.from = \"a@b.example\""),
    ("streams.binance.enabled", "true", "streams.binance.credentials_file = \"/x\""),
    ("streams.binance.parameter_order", "\"topic_second\"", ""),
    ("streams.upbit.enabled", "true", "streams.upbit.credentials_file = \"/x\""),
    ("topology.feed_cores", "[7]", "topology.source_cores = [6]"),
    ("topology.idle", "\"block\"", ""),
    ("topology.mode", "\"compact\"", "topology.source_cores = [6]\ntopology.feed_cores = [7]"),
    ("topology.source_cores", "[7]", "topology.feed_cores = [6]"),
    ("webhooks.brand", "[\"Varied\"]", ""),
    ("webhooks.plans", "[\"varied\"]", ""),
];

const MAIL: &str = "smtp.url = \"smtp://127.0.0.1:7\"\nsmtp.from = \"a@b.example\"";

/// Another value for a key, by the form of its default.
fn another(key: &str, default: &Value) -> Option<String> {
    let field = key.rsplit('.').next()?;
    Some(match default {
        Value::Boolean(is) => (!is).to_string(),
        Value::Integer(i) => (i + 1).to_string(),
        Value::Float(f) => (f / 2.0).to_string(),
        Value::String(_) if field.ends_with("_file") || field.ends_with("_dir") || field == "socket" => {
            "\"/varied\"".to_owned()
        }
        Value::String(text) if humantime::parse_duration(text).is_ok() => "\"7s\"".to_owned(),
        Value::String(text) if text.parse::<bytesize::ByteSize>().is_ok() => "\"32KiB\"".to_owned(),
        Value::String(_) if field == "base_url" => "\"http://127.0.0.1:7\"".to_owned(),
        Value::Array(_) if field == "bind" => "[\"127.0.0.7\"]".to_owned(),
        _ => return None,
    })
}

/// Every key with its varied value, and what must be set beside it.
fn varied() -> BTreeMap<String, (String, &'static str)> {
    let layers = Layers::defaults().unwrap();
    let row = |(key, default, _): (&str, &Value, &Origin)| {
        let (value, beside) = match VARIED.iter().find(|(named, ..)| *named == key) {
            Some((_, value, beside)) => ((*value).to_owned(), *beside),
            None => {
                let value = another(key, default);
                (value.unwrap_or_else(|| panic!("say in VARIED how to vary `{key}`")), "")
            }
        };
        (key.to_owned(), (value, beside))
    };
    layers.iter().map(row).collect()
}

fn from_text(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::from_layers(&Layers::defaults().unwrap().with_file(file.path())?)
}

/// The fields of a configuration with their values, by path, as its `Debug` shows them.
fn fields(config: &Config) -> BTreeMap<String, String> {
    let (mut path, mut found) = (Vec::<String>::new(), BTreeMap::new());
    for line in format!("{config:#?}").lines().skip(1) {
        let depth = (line.len() - line.trim_start().len()) / 4;
        path.truncate(depth.saturating_sub(1));
        let line = line.trim().trim_end_matches(',');
        let (name, value) = line.split_once(": ").unwrap_or(("", line));
        if line.ends_with(['{', '[', '(']) {
            path.push(name.trim_matches('"').to_owned());
        } else if !matches!(line, "}" | "]" | ")") {
            let full = path.iter().map(String::as_str).chain([name]).filter(|part| !part.is_empty());
            *found.entry(full.collect::<Vec<_>>().join(".")).or_insert_with(String::new) += value;
        }
    }
    found
}

#[test]
fn every_key_is_read_from_file_and_environment_and_every_field_is_set_by_one() {
    let default = from_text("").unwrap();
    let before = fields(&default);
    let mut changed = BTreeSet::new();
    for (key, (value, beside)) in varied() {
        let base = from_text(beside).unwrap_or_else(|e| {
            // What stands beside a key may need it: then the difference is to the defaults.
            assert!(["together", "needed"].iter().any(|word| e.problem.contains(word)), "{e}");
            default.clone()
        });
        let config =
            from_text(&format!("{beside}\n{key} = {value}\n")).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_ne!(config, base, "`{key} = {value}` changes nothing");
        let after = fields(&config);
        changed.extend(
            before.iter().filter(|(path, was)| after.get(*path) != Some(was)).map(|(p, _)| p.clone()),
        );

        let mut variables = vec![(key.as_str(), value.as_str())];
        variables.extend(beside.lines().filter_map(|line| line.split_once(" = ")));
        let variables = variables.into_iter().map(|(key, value)| {
            let text = value.trim_matches('"').to_owned();
            (format!("TOCSIN_{}", key.to_ascii_uppercase().replace('.', "__")), text)
        });
        let layers = Layers::defaults().unwrap().with_environment(variables).unwrap();
        assert_eq!(Config::from_layers(&layers).unwrap(), config, "{key} in the environment");
    }
    let unset: Vec<_> = before.keys().filter(|path| !changed.contains(*path)).collect();
    assert!(unset.is_empty(), "no key sets {unset:?}");
}

#[test]
fn every_misspelt_key_is_named_with_its_nearest() {
    for key in varied().keys() {
        let (last, doubled) = (key.chars().last().unwrap(), key.clone());
        let misspelt = format!("{doubled}{last}");
        let problem = from_text(&format!("{misspelt} = 1")).unwrap_err().problem;
        assert_eq!(problem, format!("there is no key `{misspelt}`; the nearest is `{key}`"));
    }
}

#[test]
fn every_key_is_documented() {
    let comments: String = DEFAULT_TOML.lines().filter(|line| line.starts_with('#')).collect();
    let mut documented = false;
    for line in DEFAULT_TOML.lines() {
        match line.split_once(" = ") {
            _ if line.starts_with('#') => documented = true,
            // A run of keys shares the comment above it.
            Some((key, _)) => assert!(
                documented || comments.contains(&format!("`{key}")),
                "`{key}` has no comment in default.toml"
            ),
            None => documented = false,
        }
    }
}

#[test]
fn credentials_are_files_of_the_service_manager() {
    let config = from_text("admin.token_file = \"credential:admin.token\"").unwrap();
    let dir = std::env::var("CREDENTIALS_DIRECTORY").unwrap_or("/run/credentials/tocsin.service".to_owned());
    assert_eq!(config.admin.token_file, Some(PathBuf::from(dir).join("admin.token")));
    for bad in ["credential:", "credential:../x", "credential:/etc/passwd", "credential:.."] {
        let error = from_text(&format!("admin.token_file = \"{bad}\"")).unwrap_err();
        assert!(error.problem.contains("takes credential:NAME"), "{error}");
    }
}
