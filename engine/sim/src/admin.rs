//! A small plain HTTP listener to work simulated exchanges by hand:
//! `POST /events` (one event of a script), `GET /requests?exchange=NAME`, `GET /counters`.
//!
//! Contract: loopback use only, no authentication. Answers JSON; 400 with `{"error":…}` says what is
//! wrong with an event.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::error::SimError;
use crate::exchange::SimExchange;
use crate::http::{Request, Response};
use crate::options::Kind;
use crate::script::Event;
use crate::server::{Handler, Limits, Server};
use crate::site::{Answer, Site};

/// Most requests `GET /requests` shows.
const SHOWN: usize = 100;

/// A set of exchanges that events are applied to, from a script or over HTTP.
struct Desk {
    exchanges: Vec<Arc<SimExchange>>,
    last: Mutex<BTreeMap<Kind, Option<String>>>,
}

impl Desk {
    fn find(&self, kind: Kind) -> Option<&SimExchange> {
        self.exchanges.iter().find(|sim| sim.kind() == kind).map(Arc::as_ref)
    }

    fn apply(&self, event: &Event) -> Result<Value, SimError> {
        let sim = self
            .find(event.exchange)
            .ok_or_else(|| SimError::Script(format!("{} is not simulated here", event.exchange.name())))?;
        event.action.apply(sim, self.last.lock().entry(event.exchange).or_default())
    }

    fn requests(&self, name: &str) -> Option<Value> {
        let sim = self.exchanges.iter().find(|sim| sim.kind().name() == name)?;
        let shown: Vec<Value> = sim
            .requests()
            .iter()
            .rev()
            .take(SHOWN)
            .map(|r| json!({ "at_us": r.at.0, "connection": r.connection, "target": r.target, "status": r.status }))
            .collect();
        Some(Value::Array(shown))
    }

    fn counters(&self) -> Value {
        let all = self.exchanges.iter().map(|sim| {
            let c = sim.counters();
            let counters = json!({
                "connections": c.connections, "open": c.open, "refused": c.refused, "requests": c.requests,
                "tls_failures": c.tls_failures, "not_modified": c.not_modified, "bytes_out": c.bytes_out,
            });
            (sim.kind().name().to_owned(), counters)
        });
        Value::Object(all.collect())
    }
}

impl Site for Desk {
    fn resets_on_accept(&self) -> bool {
        false
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        None
    }

    fn answer(&self, _peer: IpAddr, _connection: u64, _nth: u32, request: &Request) -> Answer {
        let (status, body) = match (request.method.as_str(), request.path()) {
            ("POST", "/events") => {
                match Event::parse(&String::from_utf8_lossy(&request.body)).and_then(|e| self.apply(&e)) {
                    Ok(value) => (200, value),
                    Err(e) => (400, json!({ "error": e.to_string() })),
                }
            }
            ("GET", "/counters") => (200, self.counters()),
            ("GET", "/requests") => match request.query("exchange").and_then(|name| self.requests(name)) {
                Some(value) => (200, value),
                None => (400, json!({ "error": "name one with ?exchange=" })),
            },
            _ => (404, json!({ "error": "POST /events, GET /requests?exchange=NAME, GET /counters" })),
        };
        Answer::whole(Response::json(status, body.to_string().into_bytes()))
    }
}

/// Exchanges worked by events; see the module.
pub struct AdminServer {
    desk: Arc<Desk>,
    server: Option<Server>,
}

impl std::fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminServer").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

impl AdminServer {
    /// Takes charge of `exchanges`, and listens for events if `listen` is given.
    ///
    /// # Errors
    /// [`SimError::Listen`], [`SimError::Thread`].
    pub fn start(
        exchanges: Vec<Arc<SimExchange>>,
        listen: Option<SocketAddr>,
    ) -> Result<AdminServer, SimError> {
        let desk = Arc::new(Desk { exchanges, last: Mutex::default() });
        let site: Arc<dyn Handler> = Arc::<Desk>::clone(&desk);
        let server = listen.map(|addr| Server::start(addr, "admin", Limits::EXCHANGE, site)).transpose()?;
        Ok(AdminServer { desk, server })
    }

    /// `http://127.0.0.1:PORT`, if it listens.
    #[must_use]
    pub fn base_url(&self) -> Option<String> {
        self.server.as_ref().map(|s| format!("http://{}", s.addr()))
    }

    /// Applies one event.
    ///
    /// # Errors
    /// [`SimError`], saying what the event names that does not exist.
    pub fn apply(&self, event: &Event) -> Result<Value, SimError> {
        self.desk.apply(event)
    }
}
