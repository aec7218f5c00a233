//! Layers of configuration: which keys exist, who set each, and which value wins.
//!
//! Keys are flat dotted paths (`feed.limits.exempt`). The compiled-in `default.toml` is the list of
//! keys that exist and of their types; anything else is refused with the nearest key named. Runs at
//! start and on reload only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

/// The manual and the defaults in one.
pub const DEFAULT_TOML: &str = include_str!("../../default.toml");

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `default.toml`.
    Default,
    /// A line of the configuration file, from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "${name}"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What is wrong with a configuration, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the offending text stands.
    pub origin: Origin,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.problem)
    }
}

impl std::error::Error for ConfigError {}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    origin: Origin,
}

/// All layers, merged.
#[derive(Clone, Debug)]
pub struct Layers {
    entries: BTreeMap<String, Entry>,
}

impl Layers {
    /// The defaults alone.
    ///
    /// # Errors
    /// Only if the compiled-in `default.toml` does not parse, which a test rules out.
    pub fn defaults() -> Result<Layers, ConfigError> {
        let mut layers = Layers { entries: BTreeMap::new() };
        for (key, value, _) in flatten(DEFAULT_TOML, &|_| Origin::Default)? {
            layers.entries.insert(key, Entry { value, origin: Origin::Default });
        }
        Ok(layers)
    }

    /// Puts a file over what is there.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or sets a key that does not exist or with another type.
    pub fn with_file(self, path: &Path) -> Result<Layers, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            origin: Origin::File(path.to_owned(), 0),
            problem: format!("cannot read the configuration file: {e}"),
        })?;
        self.with_text(&text, path)
    }

    /// Puts what a file holds over what is there; `path` is where it came from.
    ///
    /// # Errors
    /// It is no TOML, or sets a key that does not exist or with another type.
    pub fn with_text(mut self, text: &str, path: &Path) -> Result<Layers, ConfigError> {
        let origin = |line| Origin::File(path.to_owned(), line);
        for (key, value, line) in flatten(text, &origin)? {
            self.set(&key, value, origin(line))?;
        }
        Ok(self)
    }

    /// Puts `TOCSIN_SECTION__KEY` variables over what is there. Variables with the prefix but
    /// without `__` count only when they name a top-level key (`TOCSIN_DATA_DIR`).
    ///
    /// # Errors
    /// A variable names a key that does not exist, or its text is not of the key's type.
    pub fn with_environment(
        mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Layers, ConfigError> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("TOCSIN_") else { continue };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            if !key.contains('.') && !self.entries.contains_key(&key) {
                continue;
            }
            let value = self.parse_as_default(&key, &text);
            self.set(&key, value, Origin::Environment(name))?;
        }
        Ok(self)
    }

    /// Puts one flag over what is there.
    ///
    /// # Errors
    /// As for a file.
    pub fn with_flag(mut self, flag: &'static str, key: &str, text: &str) -> Result<Layers, ConfigError> {
        let value = self.parse_as_default(key, text);
        self.set(key, value, Origin::Flag(flag))?;
        Ok(self)
    }

    /// Every key with its value as TOML and its origin, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value, &Origin)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), &entry.value, &entry.origin))
    }

    /// Keys whose value differs from `other`'s: key, the value there, the value here.
    #[must_use]
    pub fn changed_from(&self, other: &Layers) -> Vec<(String, Value, Value)> {
        self.iter()
            .filter_map(|(key, value, _)| {
                let was = &other.entries.get(key)?.value;
                (was != value).then(|| (key.to_owned(), was.clone(), value.clone()))
            })
            .collect()
    }

    /// These layers with the entries that `other` has under `keys`.
    #[must_use]
    pub fn with_entries_of<'k>(&self, other: &Layers, keys: impl Iterator<Item = &'k str>) -> Layers {
        let mut mixed = self.clone();
        for key in keys {
            if let Some(entry) = other.entries.get(key) {
                mixed.entries.insert(key.to_owned(), entry.clone());
            }
        }
        mixed
    }

    /// The second part of all keys that start with `section.`: the names of its tables.
    pub(super) fn names_in(&self, section: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .entries
            .keys()
            .filter_map(|key| key.strip_prefix(section)?.strip_prefix('.')?.split('.').next())
            .map(str::to_owned)
            .collect();
        names.dedup();
        names
    }

    pub(super) fn get(&self, key: &str) -> Result<(&Value, &Origin), ConfigError> {
        self.entries.get(key).map(|e| (&e.value, &e.origin)).ok_or_else(|| ConfigError {
            origin: Origin::Default,
            problem: format!("`{key}` is missing from default.toml"),
        })
    }

    /// Text of an environment variable or flag as a TOML value: a bare word where the key is text.
    fn parse_as_default(&self, key: &str, text: &str) -> Value {
        let is_text = matches!(self.entries.get(key), Some(Entry { value: Value::String(_), .. }));
        let parsed = if is_text { None } else { format!("v = {text}").parse::<toml::Table>().ok() };
        parsed.and_then(|mut table| table.remove("v")).unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let Some(entry) = self.entries.get_mut(key) else {
            return Err(ConfigError { origin, problem: self.unknown_key(key) });
        };
        let value = match (&entry.value, value) {
            // A whole number is a fine value for a key whose default has a fraction.
            #[allow(clippy::cast_precision_loss, reason = "budgets are small numbers")]
            (Value::Float(_), Value::Integer(i)) => Value::Float(i as f64),
            (_, value) => value,
        };
        if entry.value.type_str() != value.type_str() {
            let problem = format!(
                "`{key}` takes {} such as {}, not {}",
                article(entry.value.type_str()),
                entry.value,
                value
            );
            return Err(ConfigError { origin, problem });
        }
        *entry = Entry { value, origin };
        Ok(())
    }

    fn unknown_key(&self, key: &str) -> String {
        let nearest = self
            .entries
            .keys()
            .map(|known| (strsim::damerau_levenshtein(known, key), known))
            .min_by_key(|(distance, _)| *distance);
        match nearest {
            Some((_, known)) => format!("there is no key `{key}`; the nearest is `{known}`"),
            None => format!("there is no key `{key}`"),
        }
    }
}

fn article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {type_name}")
}

/// Parses a TOML text into flat keys, values and line numbers.
fn flatten(text: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Vec<(String, Value, usize)>, ConfigError> {
    let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|b| *b == b'\n').count();
    let document = DeTable::parse(text).map_err(|e| ConfigError {
        origin: origin(e.span().map_or(1, |span| line_of(span.start))),
        problem: e.message().to_owned(),
    })?;
    let mut flat = Vec::new();
    flatten_table("", document.get_ref(), &line_of, &mut flat)
        .map_err(|(line, problem)| ConfigError { origin: origin(line), problem })?;
    Ok(flat)
}

fn flatten_table(
    prefix: &str,
    table: &DeTable<'_>,
    line_of: &dyn Fn(usize) -> usize,
    flat: &mut Vec<(String, Value, usize)>,
) -> Result<(), (usize, String)> {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        let line = line_of(key.span().start);
        if let DeValue::Table(inner) = value.get_ref() {
            flatten_table(&format!("{path}."), inner, line_of, flat)?;
        } else {
            let value =
                to_value(value.get_ref()).map_err(|problem| (line, format!("`{path}`: {problem}")))?;
            flat.push((path, value, line));
        }
    }
    Ok(())
}

fn to_value(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(s) => Value::String(s.clone().into_owned()),
        DeValue::Integer(i) => {
            let parsed = i64::from_str_radix(i.as_str(), i.radix());
            Value::Integer(parsed.map_err(|_| format!("{} is out of range", i.as_str()))?)
        }
        DeValue::Float(f) => {
            Value::Float(f.as_str().parse().map_err(|_| format!("{} is no number", f.as_str()))?)
        }
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(d) => Value::Datetime(*d),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_value(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(_) => return Err("a table is not a value here".to_owned()),
    })
}
