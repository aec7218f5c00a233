//! Name resolution for webhook receivers, on a thread of its own.
//!
//! Contract: the asking thread never blocks: [`EgressClient::ask`] puts a question into a bounded
//! ring, [`EgressClient::poll`] takes an answer out of another, and the asker's waker is woken for
//! every answer. A name is asked for as an absolute one, of the name servers alone: no hosts file, no
//! search list. A and AAAA are always both asked and an answer holds what both gave, or the lookup
//! fails: an address that is not known cannot be vetted ("every address must pass"). Both come from one
//! name server: the one that answered last, and when it fails or is silent the next. Nothing is kept
//! here; the asker may use an answer for [`EgressAnswer::fresh_for`] and asks again after that
//! ("Re-resolve every 5 to 60 s"). It vets and connects to the addresses of one and the same answer.
//! Bounds: [`limits::WEBHOOK_DNS_QUESTIONS`] unanswered questions, beyond which one is refused;
//! [`limits::WEBHOOK_DNS_IN_FLIGHT`] lookups at once, the others wait;
//! [`limits::WEBHOOK_DNS_TIMEOUT`] from asking to answer, waiting included;
//! [`limits::WEBHOOK_DNS_ADDRESSES`] addresses of a name, beyond which the lookup fails.
//! Owner: the webhook thread has the client; the resolver thread runs a tokio runtime and allocates.
//! Failure: a [`DnsFailure`] in the answer, never silence; starting fails when the name servers of
//! this machine cannot be read.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf;
use tocsin_core::limits;
use tocsin_core::time::Mono;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinError, JoinSet};

use crate::os::clock;

/// Where the name servers of this machine are written down.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why a name has no addresses for us. The attempt fails and is retried by its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFailure {
    /// The name does not exist, or has neither an A nor an AAAA record.
    NoName,
    /// No answer to both questions within [`limits::WEBHOOK_DNS_TIMEOUT`].
    Timeout,
    /// A name server said that it cannot or will not answer, or none could be reached.
    ServerFailure,
    /// The name cannot be asked for, or the answer cannot be read.
    Malformed,
    /// More than [`limits::WEBHOOK_DNS_ADDRESSES`] addresses.
    TooMany,
}

impl DnsFailure {
    /// Stable name for logs and counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DnsFailure::NoName => "no_name",
            DnsFailure::Timeout => "timeout",
            DnsFailure::ServerFailure => "server_failure",
            DnsFailure::Malformed => "malformed",
            DnsFailure::TooMany => "too_many",
        }
    }
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DnsFailure::NoName => "the name does not exist or has no address",
            DnsFailure::Timeout => "the name servers did not answer in time",
            DnsFailure::ServerFailure => {
                "the name servers could not answer (SERVFAIL, REFUSED or unreachable)"
            }
            DnsFailure::Malformed => "the answer of the name server cannot be read",
            DnsFailure::TooMany => "the name has more addresses than are looked at",
        })
    }
}

impl std::error::Error for DnsFailure {}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressAnswer {
    /// The asker's number of the question.
    pub id: u64,
    /// Every address of the name, at least one, each once: those of A records first.
    pub result: Result<Vec<IpAddr>, DnsFailure>,
    /// How long the result may be used: the records' shortest time to live, but 5 to 60 s; 5 s for a
    /// failure.
    pub fresh_for: Duration,
    /// From asking to the answer.
    pub took: Duration,
}

struct Question {
    id: u64,
    host: Box<str>,
    asked: Mono,
}

/// The asking thread's end. Not shared.
pub struct EgressClient {
    questions: mpsc::Sender<Question>,
    answers: rtrb::Consumer<EgressAnswer>,
    unanswered: usize,
}

impl EgressClient {
    /// Asks for the addresses of `host`, a name without a dot at its end; the answer carries `id`. An
    /// address is answered by itself. False when [`limits::WEBHOOK_DNS_QUESTIONS`] are unanswered or
    /// the resolver is gone: ask again later.
    pub fn ask(&mut self, id: u64, host: &str) -> bool {
        if self.unanswered >= limits::WEBHOOK_DNS_QUESTIONS {
            return false;
        }
        let sent = self.questions.try_send(Question { id, host: host.into(), asked: clock::mono() }).is_ok();
        self.unanswered += usize::from(sent);
        sent
    }

    /// The next answer, if there is one. Answers come in the order in which lookups end.
    pub fn poll(&mut self) -> Option<EgressAnswer> {
        let answer = self.answers.pop().ok()?;
        self.unanswered = self.unanswered.saturating_sub(1);
        Some(answer)
    }
}

/// The running resolver thread. Dropping it ends the thread at once; questions without an answer then
/// never get one.
pub struct EgressResolver {
    stop: Arc<Notify>,
}

impl EgressResolver {
    /// Starts the thread. `servers` are the name servers to ask; none means those that
    /// `/etc/resolv.conf` names at this moment. `wake` is woken after every answer.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is needed and missing, unreadable or without a name server, or the thread
    /// cannot be started.
    pub fn start(
        servers: &[SocketAddr],
        wake: Arc<mio::Waker>,
    ) -> io::Result<(EgressResolver, EgressClient)> {
        EgressResolver::start_with(servers, Path::new(RESOLV_CONF), wake)
    }

    fn start_with(
        servers: &[SocketAddr],
        resolv_conf: &Path,
        wake: Arc<mio::Waker>,
    ) -> io::Result<(EgressResolver, EgressClient)> {
        if servers.len() > limits::WEBHOOK_DNS_SERVERS {
            let text =
                format!("egress.resolvers: takes at most {} name servers", limits::WEBHOOK_DNS_SERVERS);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let servers = if servers.is_empty() {
            system_servers(resolv_conf)?
        } else {
            servers.iter().map(|server| name_server(*server)).collect()
        };
        let servers = Servers::new(servers)?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (questions_in, questions) = mpsc::channel(limits::WEBHOOK_DNS_QUESTIONS);
        let (answers, answers_out) = rtrb::RingBuffer::new(limits::WEBHOOK_DNS_QUESTIONS);
        let stop = Arc::new(Notify::new());
        let service = Service { servers, questions, answers, wake, in_flight: HashMap::new() };
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("webhook-dns".into())
            .spawn(move || run(runtime, service, &stopped))?;
        let client = EgressClient { questions: questions_in, answers: answers_out, unanswered: 0 };
        Ok((EgressResolver { stop }, client))
    }
}

impl Drop for EgressResolver {
    fn drop(&mut self) {
        // Not joined: the thread may be in the middle of a lookup's bookkeeping and is not needed.
        self.stop.notify_one();
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .into();
    NameServerConfig::new(address.ip(), true, connections)
}

/// The name servers of `resolv.conf`; its search list, options and sort orders are left aside.
fn system_servers(path: &Path) -> io::Result<Vec<NameServerConfig>> {
    let said = |e: &dyn fmt::Display, kind| {
        let text = format!("{}: {e}; name the servers to ask in egress.resolvers instead", path.display());
        io::Error::new(kind, text)
    };
    let text = std::fs::read(path).map_err(|e| said(&e, e.kind()))?;
    let (config, _) = system_conf::parse_resolv_conf(text)
        .map_err(|e| said(&e.to_string().trim_start_matches("io error: "), io::ErrorKind::InvalidData))?;
    Ok(config.name_servers().iter().take(limits::WEBHOOK_DNS_SERVERS).cloned().collect())
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    // A datagram lost is sent again within this; the whole lookup is bounded by its own clock.
    options.timeout = limits::WEBHOOK_DNS_TIMEOUT;
    options.attempts = 1;
    // Both questions of every lookup may go over one TCP connection.
    options.max_active_requests = 2 * limits::WEBHOOK_DNS_IN_FLIGHT;
    options
}

fn run(runtime: Runtime, mut service: Service, stop: &Notify) {
    runtime.block_on(service.serve(stop));
    runtime.shutdown_background();
}

/// What a lookup comes to: the addresses, and how long they may be used.
type Found = Result<(Vec<IpAddr>, Duration), DnsFailure>;

struct Service {
    servers: Arc<Servers>,
    questions: mpsc::Receiver<Question>,
    /// As long as the ring of questions and what is in flight together: the client counts both.
    answers: rtrb::Producer<EgressAnswer>,
    wake: Arc<mio::Waker>,
    /// Who asked, kept apart from the lookup so that one that ends in a panic is answered too.
    in_flight: HashMap<Id, (u64, Mono)>,
}

impl Service {
    async fn serve(&mut self, stop: &Notify) {
        let mut lookups = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => return,
                Some(done) = lookups.join_next_with_id() => self.answer(done),
                question = self.questions.recv(), if lookups.len() < limits::WEBHOOK_DNS_IN_FLIGHT => {
                    let Some(Question { id, host, asked }) = question else { return };
                    let lookup = lookup(Arc::clone(&self.servers), host, asked);
                    self.in_flight.insert(lookups.spawn(lookup).id(), (id, asked));
                }
            }
        }
    }

    fn answer(&mut self, done: Result<(Id, Found), JoinError>) {
        let (task, found) = done.unwrap_or_else(|e| (e.id(), Err(DnsFailure::Malformed)));
        let Some((id, asked)) = self.in_flight.remove(&task) else { return };
        let (result, fresh_for) = match found {
            Ok((addresses, fresh_for)) => (Ok(addresses), fresh_for),
            Err(failure) => (Err(failure), limits::WEBHOOK_DNS_FRESH_AT_LEAST),
        };
        let took = clock::mono().since(asked);
        let _ = self.answers.push(EgressAnswer { id, result, fresh_for, took });
        let _ = self.wake.wake();
    }
}

/// The name servers, each with a resolver of its own: a pool of several would take the SERVFAIL of one
/// for the answer of all.
struct Servers {
    list: Vec<TokioResolver>,
    /// The one that gave an answer last.
    good: AtomicUsize,
}

impl Servers {
    fn new(servers: Vec<NameServerConfig>) -> io::Result<Arc<Servers>> {
        let resolver = |server| {
            // Neither the system's search list nor its domain comes along.
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                .with_options(options())
                .build()
                .map_err(|e| io::Error::other(format!("resolver for webhooks: {e}")))
        };
        let list = servers.into_iter().map(resolver).collect::<io::Result<_>>()?;
        Ok(Arc::new(Servers { list, good: AtomicUsize::new(0) }))
    }

    /// What the first server says that knows: that there is no such name is an answer too.
    async fn find(&self, name: &Name) -> Found {
        let good = self.good.load(Ordering::Relaxed);
        let mut asked = JoinSet::new();
        let mut order = self.list.iter().enumerate().cycle().skip(good).take(self.list.len()).peekable();
        let mut failed = Err(DnsFailure::ServerFailure);
        loop {
            if let Some((at, resolver)) = order.next() {
                let (resolver, name) = (resolver.clone(), name.clone());
                asked.spawn(async move { (at, ask(&resolver, name).await) });
            }
            tokio::select! {
                biased;
                Some(done) = asked.join_next() => match done {
                    Ok((at, found @ (Ok(_) | Err(DnsFailure::NoName | DnsFailure::TooMany)))) => {
                        self.good.store(at, Ordering::Relaxed);
                        return found;
                    }
                    done => failed = done.map_or(Err(DnsFailure::Malformed), |(_, found)| found),
                },
                () = tokio::time::sleep(limits::WEBHOOK_DNS_NEXT_SERVER), if order.peek().is_some() => {}
                else => return failed,
            }
        }
    }
}

/// One lookup within its time, which runs since `asked`.
async fn lookup(servers: Arc<Servers>, host: Box<str>, asked: Mono) -> Found {
    if let Ok(address) = host.parse() {
        return Ok((vec![address], limits::WEBHOOK_DNS_FRESH_AT_MOST));
    }
    let mut name = Name::from_ascii(&*host).map_err(|_| DnsFailure::Malformed)?;
    if name.num_labels() == 0 {
        return Err(DnsFailure::Malformed);
    }
    // Absolute: no search list, whatever the number of dots.
    name.set_fqdn(true);
    let left = limits::WEBHOOK_DNS_TIMEOUT.saturating_sub(clock::mono().since(asked));
    tokio::time::timeout(left, servers.find(&name)).await.unwrap_or(Err(DnsFailure::Timeout))
}

/// Both questions to one server.
async fn ask(resolver: &TokioResolver, name: Name) -> Found {
    let (v4, v6) = tokio::try_join!(
        records(resolver, name.clone(), RecordType::A),
        records(resolver, name, RecordType::AAAA),
    )?;
    addresses(v4.iter().chain(&v6))
}

/// The answer to one of the two questions; none when there is no such record, which is no failure.
async fn records(
    resolver: &TokioResolver,
    name: Name,
    kind: RecordType,
) -> Result<Option<Lookup>, DnsFailure> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(Some(lookup)),
        Err(e) if e.is_no_records_found() => match failure(&e) {
            DnsFailure::NoName => Ok(None),
            other => Err(other),
        },
        Err(e) => Err(failure(&e)),
    }
}

fn failure(error: &NetError) -> DnsFailure {
    use hickory_resolver::proto::op::ResponseCode;
    match error {
        NetError::Timeout => DnsFailure::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            DnsFailure::NoName
        }
        NetError::Proto(_)
        | NetError::Truncated
        | NetError::ForeignClassRecord { .. }
        | NetError::QueryCaseMismatch => DnsFailure::Malformed,
        _ => DnsFailure::ServerFailure,
    }
}

/// Every address the answers hold, and how long all of their records live.
fn addresses<'a>(lookups: impl Iterator<Item = &'a Lookup>) -> Found {
    let mut found = Vec::new();
    let mut fresh_for = limits::WEBHOOK_DNS_FRESH_AT_MOST;
    for record in lookups.flat_map(Lookup::answers) {
        fresh_for = fresh_for.min(Duration::from_secs(u64::from(record.ttl)));
        let address = match &record.data {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        if found.contains(&address) {
            continue;
        }
        // Not cut short: the one left out could be the private one.
        if found.len() == limits::WEBHOOK_DNS_ADDRESSES {
            return Err(DnsFailure::TooMany);
        }
        found.push(address);
    }
    if found.is_empty() {
        return Err(DnsFailure::NoName);
    }
    Ok((found, fresh_for.max(limits::WEBHOOK_DNS_FRESH_AT_LEAST)))
}

#[cfg(test)]
mod tests;
