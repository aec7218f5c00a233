//! Simulated webhook receivers: real TLS servers that record what they are sent and answer as badly
//! as they are told to.
//!
//! Contract: [`SimReceiver::start`] opens one listener. A request meets the next [`Behaviour`] of its
//! path's script ([`SimReceiver::behave`]), or the one its path names (`/status/503`, `/late/11s`: see
//! [`behaviours`]; a query keeps apart what behaves alike), or [`ReceiverOptions::otherwise`]. A
//! connection meets the next [`Greeting`]. Every request is recorded with its signatures' verdict,
//! before it is answered. Redirects lead to a trap, whose visits are counted.
//!
//! Threads: one per listener and one per connection; all of them end when the handle is dropped. Any
//! thread may call. How it fails: starting returns [`SimError`]; after that a connection's troubles
//! end that connection and are counted in [`Counters`].

mod bomb;
mod catalogue;
mod greeting;
mod record;
mod serve;
mod signature;
mod step;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use catalogue::{Entry, behaviours};
pub use greeting::{Greeting, greetings};
pub use record::{KEPT, Received};
pub use signature::{KnownSecret, SignatureFault, SignatureVerdict};
pub use step::{Behaviour, Reply, Step};

use crate::certificate::TestCa;
use crate::error::SimError;
use crate::server::{After, Counters, Handler, Limits, Link, Server};
use serve::Desk;

/// Enough for a TLS handshake without optimization.
const STACK_BYTES: usize = 512 * 1024;
/// Most connections the trap takes at a time.
const TRAP_CONNECTIONS: usize = 64;

/// How a receiver behaves from the start. [`ReceiverOptions::default`] is a well-behaved one on a free
/// port of 127.0.0.1 that knows no secret.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses its certificate is for; the first stands in its URLs.
    pub hosts: Vec<String>,
    /// The authority that signs the certificate; `None` makes one. Share one between receivers so
    /// that one CA file serves all of them.
    pub ca: Option<Arc<TestCa>>,
    /// Where to write the authority's certificate: what `egress.ca_file` names.
    pub ca_file: Option<PathBuf>,
    /// What requests meet whose path has no script and names no behaviour.
    pub otherwise: Behaviour,
    /// How connections are met, in turn; the last repeats.
    pub greetings: Vec<Greeting>,
    /// Secrets any of which may sign.
    pub secrets: Vec<String>,
    /// Names in `X-<name>-Signature` that must each carry the signature.
    pub brands: Vec<String>,
    /// Answers 401 where the signatures are invalid, as the specification's receivers do.
    pub refuses_unsigned: bool,
    /// Most connections at a time, a thread each; one more is closed at once.
    pub connections: usize,
    /// A connection that says nothing for this long is closed.
    pub idle: Duration,
}

impl Default for ReceiverOptions {
    fn default() -> ReceiverOptions {
        ReceiverOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            ca: None,
            ca_file: None,
            otherwise: Behaviour::ok(),
            greetings: vec![Greeting::Good],
            secrets: Vec::new(),
            brands: vec!["CEXPing".to_owned(), "CEXPingz".to_owned()],
            refuses_unsigned: false,
            connections: 4_096,
            idle: Duration::from_secs(600),
        }
    }
}

/// Where redirects lead: whoever connects has followed one. Its connections are counted, that is all.
struct Trap;

impl Handler for Trap {
    fn serve(&self, _link: &Link) -> After {
        After::Close
    }
}

/// A running simulated receiver.
pub struct SimReceiver {
    desk: Arc<Desk>,
    ca_file: Option<PathBuf>,
    trap: Server,
    server: Server,
}

impl std::fmt::Debug for SimReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimReceiver").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

impl SimReceiver {
    /// An authority to share between receivers.
    ///
    /// # Errors
    /// [`SimError::Certificate`].
    pub fn new_ca() -> Result<Arc<TestCa>, SimError> {
        TestCa::new().map(Arc::new)
    }

    /// Starts a receiver.
    ///
    /// # Errors
    /// [`SimError`] when a listener, a certificate, a thread or the CA file cannot be had, or a secret
    /// is none.
    pub fn start(options: ReceiverOptions) -> Result<SimReceiver, SimError> {
        let ca = match &options.ca {
            Some(ca) => Arc::clone(ca),
            None => SimReceiver::new_ca()?,
        };
        let ca_file = options.ca_file.clone();
        if let Some(path) = &ca_file {
            ca.write_to(path)?;
        }
        let limits =
            Limits { connections: options.connections, stack_bytes: STACK_BYTES, idle: options.idle };
        let beside = SocketAddr::new(options.listen.ip(), 0);
        let trap_limits = Limits { connections: TRAP_CONNECTIONS, ..limits };
        let trap = Server::start(beside, "trap", trap_limits, Arc::new(Trap))?;
        let trap_url = format!("https://{}/trap", trap.addr());
        let listen = options.listen;
        let desk = Arc::new(Desk::new(ca, trap_url, options)?);
        let handler: Arc<dyn Handler> = Arc::<Desk>::clone(&desk);
        let server = Server::start(listen, "receiver", limits, handler)?;
        Ok(SimReceiver { desk, ca_file, trap, server })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// `https://HOST:PORT`, no slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let addr = self.addr();
        match self.desk.hosts.first() {
            Some(host) if !host.contains(':') => format!("https://{host}:{}", addr.port()),
            _ => format!("https://{addr}"),
        }
    }

    /// The URL of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.base_url() + path
    }

    /// The authority, to be shared with another receiver or written to a file.
    #[must_use]
    pub fn ca(&self) -> &Arc<TestCa> {
        &self.desk.ca
    }

    /// The file its certificate was written to, if one was named.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    // How it behaves.

    /// Has requests on `path` (without query) meet these behaviours in turn; the last repeats. None
    /// ends the script of that path.
    pub fn behave(&self, path: &str, behaviours: Vec<Behaviour>) {
        self.desk.behave(path, behaviours);
    }

    /// Reads a behaviour's text; redirects lead to this receiver's trap.
    ///
    /// # Errors
    /// [`SimError::Behaviour`].
    pub fn parse(&self, text: &str) -> Result<Behaviour, SimError> {
        Behaviour::parse(text, &self.desk.trap_url)
    }

    /// What requests meet whose path has no script and names no behaviour.
    pub fn otherwise(&self, behaviour: Behaviour) {
        self.desk.set_otherwise(behaviour);
    }

    /// Meets the connections from now on so, in turn; the last repeats.
    ///
    /// # Errors
    /// [`SimError::Certificate`].
    pub fn greet(&self, greetings: Vec<Greeting>) -> Result<(), SimError> {
        self.desk.greet(greetings)
    }

    /// Closes every connection open now.
    pub fn drop_connections(&self) {
        self.server.drop_connections();
    }

    // What it has been sent.

    /// The secrets any of which may sign, on all paths without some of their own. Deliveries kept
    /// unchecked are judged anew.
    ///
    /// # Errors
    /// [`SimError::Secret`].
    pub fn know(&self, secrets: &[&str]) -> Result<(), SimError> {
        self.desk.know(None, secrets)
    }

    /// The secrets of one path.
    ///
    /// # Errors
    /// [`SimError::Secret`].
    pub fn know_on(&self, path: &str, secrets: &[&str]) -> Result<(), SimError> {
        self.desk.know(Some(path), secrets)
    }

    /// Judges a delivery with the secrets known now.
    #[must_use]
    pub fn verdict(&self, delivery: &Received) -> SignatureVerdict {
        self.desk.verdict(delivery)
    }

    /// The deliveries kept, oldest first: the last [`KEPT`] that were not taken.
    #[must_use]
    pub fn records(&self) -> Vec<Received> {
        self.desk.ledger.all()
    }

    /// Those on one path (without query).
    #[must_use]
    pub fn records_on(&self, path: &str) -> Vec<Received> {
        self.records().into_iter().filter(|delivery| delivery.path() == path).collect()
    }

    /// The deliveries kept, and forgets them.
    #[must_use]
    pub fn take(&self) -> Vec<Received> {
        self.desk.ledger.take()
    }

    /// Deliveries in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.desk.ledger.total()
    }

    /// Deliveries in all on one path (without query).
    #[must_use]
    pub fn total_on(&self, path: &str) -> u64 {
        self.desk.ledger.on(path)
    }

    /// Deliveries forgotten for want of room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.desk.ledger.forgotten()
    }

    /// Waits until `count` deliveries have come since the last [`SimReceiver::take`] (or the start);
    /// false when `patience` ran out first.
    #[must_use]
    pub fn wait_for(&self, count: u64, patience: Duration) -> bool {
        self.desk.ledger.wait_for(count, patience)
    }

    /// Waits until `count` deliveries have come on one path since the start.
    #[must_use]
    pub fn wait_for_on(&self, path: &str, count: u64, patience: Duration) -> bool {
        self.desk.ledger.wait_for_on(path, count, patience)
    }

    /// How many have followed a redirect: connections to the trap. Must stay 0.
    #[must_use]
    pub fn trap(&self) -> u64 {
        self.trap.counters().connections
    }

    /// Where redirects lead.
    #[must_use]
    pub fn trap_url(&self) -> &str {
        &self.desk.trap_url
    }

    /// The addresses that connections have come to, whatever came of these, and forgets them: of
    /// interest where it listens on all of them.
    #[must_use]
    pub fn take_reached(&self) -> BTreeSet<SocketAddr> {
        self.desk.take_reached()
    }

    /// Connections, requests and bytes so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.counters()
    }
}
