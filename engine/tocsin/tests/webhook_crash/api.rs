//! Requests to an engine that may die at any moment: then there is no answer, which is no failure.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Longer than the slowest answer, a registration whose ping is not answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the engine is now; `None` while it is down.
pub(crate) type Whereabouts = Arc<Mutex<Option<Api>>>;

/// The admin API of one life of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Api {
    /// Status and body; `None` when the engine died first.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let body = body.map_or_else(String::new, Value::to_string);
        let mut tcp = TcpStream::connect(self.address).ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        tcp.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        // What came before a reset may be a whole answer.
        let _ = tcp.read_to_string(&mut answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        if status == 204 {
            return Some((status, Value::Null));
        }
        Some((status, serde_json::from_str(body).ok()?))
    }

    /// An answer that must be a success, if it comes.
    pub(crate) fn succeed(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let (status, answer) = self.ask(method, path, body)?;
        // An engine that is asked to stop says so.
        if status == 503 {
            return None;
        }
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        Some(answer)
    }
}
