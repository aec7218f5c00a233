//! The command line's way to a running service: HTTP/1.1 over the admin socket.
//!
//! Contract: one request a connection, blocking, bounded in time and size. A socket file on which
//! nobody listens means that no service runs, the same as no file.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::CliError;
use crate::config::Config;
use crate::store::{Store, StoreError};

/// Longer than the service takes for any request.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Longest answer: a list of as many keys as the store takes.
const ANSWER_BYTES: u64 = 64 * 1_024 * 1_024;

/// Who does the work of a verb.
pub enum Reach {
    /// The running service.
    Service(AdminClient),
    /// This process: no service runs and the store is ours.
    Store(Box<Store>),
}

impl Reach {
    /// The service if it runs, else the store under its lock.
    ///
    /// # Errors
    /// The socket may not be opened, or the store cannot be.
    pub fn find(config: &Config) -> Result<Reach, CliError> {
        if let Some(client) = AdminClient::connect(&config.admin.socket)? {
            return Ok(Reach::Service(client));
        }
        match Store::open(&config.data_dir) {
            Ok(store) => Ok(Reach::Store(Box::new(store))),
            Err(error @ StoreError::Locked { .. }) => Err(CliError::failed(format!(
                "{error}. If that is the service, it does not answer at admin.socket = {}: it is starting or \
                 stopping, or runs with another configuration (give the same --config)",
                config.admin.socket.display()
            ))),
            Err(error) => Err(CliError::failed(error)),
        }
    }
}

/// A connection to the admin socket.
pub struct AdminClient {
    stream: UnixStream,
    path: PathBuf,
}

impl AdminClient {
    /// `None` when nobody listens.
    ///
    /// # Errors
    /// The socket is there but may not be opened.
    pub fn connect(path: &Path) -> Result<Option<AdminClient>, CliError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(CliError::failed(format!(
                    "{}: no permission; run as the user of the service (sudo -u tocsin) or as root",
                    path.display()
                )));
            }
            Err(e) => return Err(CliError::failed(format!("{}: {e}", path.display()))),
        };
        let timed =
            stream.set_read_timeout(Some(TIMEOUT)).and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
        timed.map_err(|e| CliError::failed(format!("{}: {e}", path.display())))?;
        Ok(Some(AdminClient { stream, path: path.to_owned() }))
    }

    /// Sends one request and returns the answer's body.
    ///
    /// # Errors
    /// The service's refusal (exit code 2 when the request was wrong), or no usable answer.
    pub fn request(mut self, method: &str, target: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let no_answer = |e: io::Error| {
            CliError::failed(format!("{}: no answer from the service: {e}", self.path.display()))
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        // The service may refuse and close before it has read all: its answer is there all the same.
        let written = self.stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let read = (&self.stream).take(ANSWER_BYTES).read_to_end(&mut answer);
        let Some((status, value)) = read_answer(&answer) else {
            written.and(read.map(drop)).map_err(no_answer)?;
            return Err(CliError::failed(format!(
                "{}: what listens there is no Tocsin service, or it is stopping",
                self.path.display()
            )));
        };
        match status {
            200..300 => Ok(value),
            400 => Err(CliError::usage(refusal(&value))),
            _ => Err(CliError::failed(refusal(&value))),
        }
    }
}

impl AdminClient {
    /// A list over all its pages, as `{"FIELD":[..]}`.
    ///
    /// # Errors
    /// As [`AdminClient::request`].
    pub fn whole_list(self, target: &str, field: &str) -> Result<Value, CliError> {
        let path = self.path.clone();
        let mut client = Some(self);
        let mut rows = Vec::new();
        let mut after = 0;
        loop {
            let client = match client.take() {
                Some(client) => client,
                None => AdminClient::connect(&path)?.ok_or_else(|| {
                    CliError::failed(format!("{}: the service has stopped", path.display()))
                })?,
            };
            let mut page = client.request("GET", &format!("{target}?after={after}"), None)?;
            if let Some(Value::Array(part)) = page.get_mut(field).map(Value::take) {
                rows.extend(part);
            }
            match page.get("next").and_then(Value::as_i64) {
                Some(next) => after = next,
                None => return Ok(serde_json::json!({ field: rows })),
            }
        }
    }
}

/// Status and JSON body; `None` when it is not a whole answer.
fn read_answer(answer: &[u8]) -> Option<(u16, Value)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(answer).ok()? else { return None };
    let status = response.code?;
    if status == 204 {
        return Some((status, Value::Null));
    }
    let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = core::str::from_utf8(length.value).ok()?.parse().ok()?;
    let body = answer.get(head_bytes..)?.get(..length)?;
    Some((status, serde_json::from_slice(body).ok()?))
}

/// `field: detail` of an error body.
fn refusal(body: &Value) -> String {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let detail = text("detail").or(text("error")).unwrap_or("refused without a reason");
    text("field").map_or_else(|| detail.to_owned(), |field| format!("{field}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 11\r\n\r\n{\"a\": true}";
        assert_eq!(read_answer(answer).unwrap().0, 404);
        for cut in 0..answer.len() {
            assert!(read_answer(&answer[..cut]).is_none(), "{cut}");
        }
        assert!(read_answer(b"SSH-2.0-x\r\n").is_none());
    }

    #[test]
    fn refusals_name_the_field() {
        let body = serde_json::json!({"error": "invalid_value", "detail": "must be given", "field": "title"});
        assert_eq!(refusal(&body), "title: must be given");
        assert_eq!(refusal(&Value::Null), "refused without a reason");
    }

    #[test]
    fn a_socket_nobody_listens_on_is_no_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        assert!(AdminClient::connect(&path).unwrap().is_none());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(AdminClient::connect(&path).unwrap().is_none());
    }
}
