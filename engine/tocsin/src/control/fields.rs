//! A request's JSON body and query, read so that an error names the field at fault.
//!
//! Contract: a body is one object of the request type's fields, which its schema lists: the OpenAPI
//! document and the errors come from the same type. A field that is not known is an error that names
//! the nearest one that is; a field of another type is an error that says what it takes. Any bytes
//! are taken. Owner: control thread; allocates, never blocks.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest as _, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tocsin_core::http1::request::QueryPairs;
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{Object, RefOr};

use super::reply::ApiError;
use crate::store::Page;

/// A body as axum hands it over.
pub(super) type Body = Result<Bytes, BytesRejection>;

fn bad(detail: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}

/// Reads a body; an empty one is an object without fields.
///
/// # Errors
/// It is too long or was not sent whole, is no object, or the first field at fault.
pub(super) fn read_body<T: DeserializeOwned + utoipa::PartialSchema>(body: Body) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| {
        let detail = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => format!("a body has at most {} bytes", limits::ADMIN_BODY_BYTES),
            _ => rejection.body_text(),
        };
        ApiError::new(rejection.status(), "bad_request", detail)
    })?;
    read(&body)
}

/// As [`read_body`], of a request whose head has been looked at.
pub(super) async fn read_request<T: DeserializeOwned + utoipa::PartialSchema>(
    request: Request,
) -> Result<T, ApiError> {
    read_body(Bytes::from_request(request, &()).await)
}

/// As [`read_body`], of bytes.
pub(super) fn read<T: DeserializeOwned + utoipa::PartialSchema>(body: &[u8]) -> Result<T, ApiError> {
    let fields = if body.is_empty() {
        Map::new()
    } else {
        let value: Value = serde_json::from_slice(body).map_err(|e| bad(format!("not JSON: {e}")))?;
        let Value::Object(fields) = value else { return Err(bad("not a JSON object".to_owned())) };
        fields
    };
    let RefOr::T(Schema::Object(schema)) = T::schema() else { return Err(bad("not a request".to_owned())) };
    let known: Vec<&str> = schema.properties.keys().map(String::as_str).collect();
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(unknown_name(unknown, &known, "field"));
    }
    let missing = |name: &&String| fields.get(*name).is_none_or(Value::is_null);
    if let Some(name) = schema.required.iter().find(missing) {
        return Err(ApiError::field(name, "must be given"));
    }
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let name: String = path.chars().take_while(|c| !matches!(c, '.' | '[')).collect();
        match takes(&schema, &name) {
            Some(takes) => ApiError::field(name, format!("takes {takes}")),
            None => bad(error.inner().to_string()),
        }
    })
}

/// What a field takes, in words.
fn takes(schema: &Object, name: &str) -> Option<&'static str> {
    let kind = match schema.properties.get(name)? {
        RefOr::T(Schema::Array(_)) => return Some("a list of strings"),
        RefOr::T(Schema::Object(field)) => &field.schema_type,
        _ => return None,
    };
    let is = |wanted: Type| match kind {
        SchemaType::Type(kind) => *kind == wanted,
        SchemaType::Array(kinds) => kinds.contains(&wanted),
        SchemaType::AnyValue => false,
    };
    [(Type::String, "a string"), (Type::Integer, "a whole number"), (Type::Boolean, "true or false")]
        .into_iter()
        .find_map(|(kind, takes)| is(kind).then_some(takes))
}

/// An error that names the nearest of the names there are.
fn unknown_name(given: &str, known: &[&str], what: &str) -> ApiError {
    let shown: String = given.chars().take(64).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, &shown), name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let detail = match nearest {
        Some((_, name)) => format!("there is no such {what}; did you mean {name:?}?"),
        None if known.is_empty() => format!("there is no such {what}; it takes none"),
        None => format!("there is no such {what}; there are {}", known.join(", ")),
    };
    ApiError { code: "unknown_field", ..ApiError::field(shown, detail) }
}

/// The parameters of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it; `known` are the parameters it may have. An empty value counts as not given.
    ///
    /// # Errors
    /// It cannot be decoded, or names a parameter that there is not.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Query, ApiError> {
        let mut pairs = Vec::new();
        for pair in QueryPairs::new(query.unwrap_or_default()) {
            let (name, value) = pair.map_err(|e| bad(e.detail().to_owned()))?;
            if !known.contains(&&*name) {
                return Err(unknown_name(&name, known, "parameter"));
            }
            if !value.trim().is_empty() {
                pairs.push((name.into_owned(), value.trim().to_owned()));
            }
        }
        Ok(Query(pairs))
    }

    /// The last value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A number above zero.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.map_or_else(|| Err(ApiError::field(name, "takes a whole number above zero")), |n| Ok(Some(n)))
    }

    /// The page that `limit` and `after` name.
    ///
    /// # Errors
    /// One of them is out of bounds.
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        let limit = self.limit(limits::ADMIN_ROWS, limits::ADMIN_ROWS)?;
        let after = match self.text("after") {
            None => 0,
            Some(text) => text
                .parse()
                .ok()
                .filter(|after| *after >= 0)
                .ok_or_else(|| ApiError::field("after", "takes the `next` of the page before"))?,
        };
        Ok(Page { after, limit })
    }

    /// A number from 1 to `most`.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.text("limit") else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| ApiError::field("limit", format!("between 1 and {most}")))
    }
}

/// Where the list goes on behind a page, if it may.
pub(super) fn next_of<T>(rows: &[T], page: Page, number: impl Fn(&T) -> i64) -> Option<i64> {
    rows.last().filter(|_| rows.len() >= page.limit).map(number)
}

/// An instant as RFC 3339, or as seconds since 1970 (the `timestamp` of events).
///
/// # Errors
/// It is neither.
pub(super) fn read_instant(field: &'static str, text: &str) -> Result<WallUs, ApiError> {
    if let Some(secs) = text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(WallUs::from_secs(i64::from(secs)));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(WallUs(at.as_microsecond())),
        Err(_) => Err(ApiError::field(
            field,
            "takes an instant like 2027-01-31T00:00:00Z, or seconds since 1970 like 1801353600",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read, not used")]
    struct Example {
        title: String,
        tickers: Option<Vec<String>>,
        count: Option<i64>,
        sure: Option<bool>,
    }

    fn refusal(body: &str) -> (&'static str, Option<String>, String) {
        let error = read::<Example>(body.as_bytes()).unwrap_err();
        (error.code, error.field, error.detail)
    }

    #[test]
    fn errors_name_the_field_and_what_it_takes() {
        assert_eq!(refusal("{").0, "bad_request");
        assert_eq!(refusal("[]").2, "not a JSON object");
        let (code, field, detail) = refusal(r#"{"tilte":"x"}"#);
        assert_eq!((code, field.as_deref()), ("unknown_field", Some("tilte")));
        assert!(detail.contains("\"title\""), "{detail}");
        assert!(refusal(r#"{"zzzzzzzzzz":1}"#).2.contains("count, sure, tickers, title"));
        assert_eq!(refusal("").1.as_deref(), Some("title"));
        assert_eq!(refusal(r#"{"title":null}"#).2, "must be given");
        assert_eq!(refusal(r#"{"title":1}"#).2, "takes a string");
        assert_eq!(refusal(r#"{"title":"x","tickers":[1]}"#).2, "takes a list of strings");
        assert_eq!(refusal(r#"{"title":"x","tickers":"y"}"#).2, "takes a list of strings");
        assert_eq!(refusal(r#"{"title":"x","count":1.5}"#).2, "takes a whole number");
        assert_eq!(refusal(r#"{"title":"x","sure":0}"#).1.as_deref(), Some("sure"));
        assert!(read::<Example>(br#"{"title":"x","count":null}"#).is_ok());
    }

    #[test]
    fn queries_are_read_strictly() {
        let query = Query::read(Some("limit=5&event=&limit=7"), &["limit", "event"]).unwrap();
        assert_eq!((query.limit(1, 10).unwrap(), query.text("event")), (7, None));
        assert!(query.limit(1, 6).unwrap_err().detail.contains("between 1 and 6"));
        let why = |query| Query::read(Some(query), &["limit", "event"]).err().unwrap();
        assert!(why("limt=5").detail.contains("did you mean \"limit\""));
        assert_eq!(why("limit=%zz").code, "bad_request");
    }

    #[test]
    fn instants_in_both_forms() {
        let at = |text| read_instant("since", text).map(|at| at.0).map_err(|e| e.field);
        assert_eq!(at("1970-01-01T00:00:01Z"), Ok(1_000_000));
        assert_eq!(at("1710432000"), Ok(1_710_432_000_000_000));
        for wrong in ["", "yesterday", "-1", "+5", "99999999999999"] {
            assert_eq!(at(wrong), Err(Some("since".to_owned())), "{wrong}");
        }
    }
}
