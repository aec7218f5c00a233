//! A request's JSON body, read field by field, so that an error names the field at fault.
//!
//! Contract: a body is one object; a field that is not known is an error that names the nearest one
//! that is; a field of another type is an error that says what it takes. Any bytes are taken.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::reply::ApiError;

/// The fields of a body.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads `body`; an empty one is an object without fields. `known` are the fields it may have.
    pub(super) fn read(body: &[u8], known: &[&str]) -> Result<Fields, ApiError> {
        let bad = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", detail);
        if body.is_empty() {
            return Ok(Fields(Map::new()));
        }
        let value: Value = serde_json::from_slice(body).map_err(|e| bad(format!("not JSON: {e}")))?;
        let Value::Object(fields) = value else { return Err(bad("not a JSON object".to_owned())) };
        if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(64).collect();
            let nearest = known
                .iter()
                .map(|name| (strsim::damerau_levenshtein(name, &shown), name))
                .min()
                .filter(|(distance, _)| *distance <= 3);
            let detail = match nearest {
                Some((_, name)) => format!("there is no such field; did you mean {name:?}?"),
                None => format!("there is no such field; there are {}", known.join(", ")),
            };
            return Err(ApiError { code: "unknown_field", ..ApiError::field(shown, detail) });
        }
        Ok(Fields(fields))
    }

    /// Whether a field is given, null included.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text; null is as if not given.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        self.get(name, "a string", Value::as_str)
    }

    /// A text that must be given.
    pub(super) fn required_text(&self, name: &'static str) -> Result<&str, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::field(name, "must be given"))
    }

    /// A whole number.
    pub(super) fn integer(&self, name: &'static str) -> Result<Option<i64>, ApiError> {
        self.get(name, "a whole number", Value::as_i64)
    }

    /// A truth value.
    pub(super) fn boolean(&self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.get(name, "true or false", Value::as_bool)
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &'static str) -> Result<Option<Vec<&str>>, ApiError> {
        self.get(name, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    fn get<'a, T>(
        &'a self,
        name: &'static str,
        takes: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(ApiError::field(name, format!("takes {takes}"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> (&'static str, Option<String>, String) {
        let fields = Fields::read(body.as_bytes(), &["title", "tickers", "count"]);
        let error = fields
            .and_then(|f| {
                f.required_text("title")?;
                f.texts("tickers")?;
                f.integer("count").map(drop)
            })
            .unwrap_err();
        (error.code, error.field, error.detail)
    }

    #[test]
    fn errors_name_the_field_and_what_it_takes() {
        assert_eq!(refusal("{").0, "bad_request");
        assert_eq!(refusal("[]").2, "not a JSON object");
        let (code, field, detail) = refusal(r#"{"tilte":"x"}"#);
        assert_eq!((code, field.as_deref()), ("unknown_field", Some("tilte")));
        assert!(detail.contains("\"title\""), "{detail}");
        assert!(refusal(r#"{"zzzzzzzzzz":1}"#).2.contains("title, tickers, count"));
        assert_eq!(refusal("").1.as_deref(), Some("title"));
        assert_eq!(refusal(r#"{"title":null}"#).2, "must be given");
        assert_eq!(refusal(r#"{"title":1}"#).2, "takes a string");
        assert_eq!(refusal(r#"{"title":"x","tickers":[1]}"#).2, "takes a list of strings");
        assert_eq!(refusal(r#"{"title":"x","count":1.5}"#).2, "takes a whole number");
    }
}
