//! Simulated push sources: Binance's signed announcement stream, Upbit's private one, Gate's channels.
//!
//! Contract: [`SimStream::start`] opens one listener on a free loopback port and speaks as the named exchange is
//! documented to: it checks signatures and tokens, holds clients to their limits, answers subscriptions, and ends
//! sessions. It misbehaves when told to ([`StreamFault`]). What a client did wrong is in
//! [`SimStream::violations`]. Every method takes effect before it returns; a session acts on it within a few
//! milliseconds. Any thread may call. Bounded by [`MAX_LOG`] entries of each log and the listener's connections.
//! Dropping the handle closes everything. The server's role of RFC 6455 is the engine's own (`tocsin-core`).

mod check;
mod session;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tocsin_core::source::stream::ParameterOrder;
use tocsin_core::time::WallUs;
use tocsin_core::ws::CloseCode;

use crate::catalogue::Category;
use crate::certificate::{CertChange, TestCa};
use crate::clock;
use crate::error::SimError;
use crate::invent::Rng;
use crate::server::{Counters, Handler, Limits, Server};

/// What Upbit writes on its stream of a notice, if it does: its number and title, when it was published and
/// listed, and whether it had been there before.
pub(crate) fn upbit_message(
    id: u64,
    title: &str,
    category: Category,
    (published, listed): (WallUs, WallUs),
    edited: bool,
) -> Option<String> {
    words::upbit(&Article { id, title: title.to_owned(), category, published, listed, edited }, listed)
}

/// Entries kept of each log; the oldest are forgotten.
const MAX_LOG: usize = 4_096;
/// Nonces remembered.
const MAX_NONCES: usize = 65_536;

/// Which push source is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `/sapi/wss`, signed.
    Binance,
    /// `/websocket/v1/private`, with a token.
    Upbit,
    /// `/ws/v4/ann`, open to all.
    Gate,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [StreamKind; 3] = [StreamKind::Binance, StreamKind::Upbit, StreamKind::Gate];

    /// Its section in the configuration, `[streams.NAME]`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StreamKind::Binance => "binance",
            StreamKind::Upbit => "upbit",
            StreamKind::Gate => "gate",
        }
    }
}

/// How a simulated push source behaves from the start. [`StreamOptions::default`] is a well-behaved one over
/// TLS, with the documented limits.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Plain instead of TLS.
    pub plain: bool,
    /// The authority that signs the certificate; `None` makes one.
    pub ca: Option<Arc<TestCa>>,
    /// The key it knows, and its secret.
    pub credentials: (String, String),
    /// Accept Binance's signature over the parameters in this order alone; `None`: as they were sent.
    pub strict_order: Option<ParameterOrder>,
    /// A session is ended after this.
    pub session_life: Option<Duration>,
    /// A session without a ping for so long is ended (Binance).
    pub ping_timeout: Duration,
    /// Client frames in a second; one more ends the session.
    pub frames_per_second: usize,
    /// Connections in a second; one more is answered 429.
    pub connects_per_second: usize,
    /// Open sessions; one more is answered 429.
    pub sessions: usize,
    /// After a subscription the last article follows so much later (Gate).
    pub replay_after: Duration,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            plain: false,
            ca: None,
            credentials: ("sim-key".to_owned(), "sim-secret".to_owned()),
            strict_order: None,
            session_life: Some(Duration::from_secs(24 * 3_600)),
            ping_timeout: Duration::from_secs(60),
            frames_per_second: 5,
            connects_per_second: 5,
            sessions: 5,
            replay_after: Duration::from_millis(50),
        }
    }
}

/// How it misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// Upgrades are answered with this status.
    Refuse {
        /// So many; `None`: all.
        times: Option<u32>,
        /// The status.
        status: u16,
        /// `Retry-After`, in seconds.
        retry_after_secs: Option<u32>,
    },
    /// Every upgrade is answered with bytes that are no HTTP.
    GarbageUpgrade,
    /// Half of the next announcement's frame, then a reset. Over after one session.
    ResetMidFrame,
    /// Announcements in fragments of so many bytes, each byte of a frame in a write of its own at first.
    Fragments(usize),
    /// Nothing is sent and nothing answered any more.
    Silence,
    /// Every announcement is sent twice.
    Twice,
    /// Instead of the next announcement, the header of a frame of 64 MiB. Over after one session.
    Oversized,
    /// Instead of the next announcement, text that is no UTF-8. Over after one session.
    InvalidUtf8,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The exchange's number of it; empty at Binance, whose stream has none.
    pub id: String,
    /// Its title, without a category in front.
    pub title: String,
    /// The publish time shown, as precisely as it is shown.
    pub published: WallUs,
}

/// An upgrade request as it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// When.
    pub at: WallUs,
    /// The status: 101 when it became a session.
    pub status: u16,
}

/// Something for a session to send.
#[derive(Clone, Debug)]
enum Push {
    /// An announcement on these channels, of which a session sends those it subscribed to.
    Article(Arc<Article>),
    Text(Arc<str>),
    Close(CloseCode),
}

/// An announcement, as the stream's messages are made of it.
#[derive(Clone, Debug)]
struct Article {
    id: u64,
    title: String,
    category: Category,
    published: WallUs,
    listed: WallUs,
    edited: bool,
}

#[derive(Default)]
struct SessionState {
    queue: VecDeque<Push>,
    subscribed: bool,
}

struct State {
    options: StreamOptions,
    expired: bool,
    fault: Option<StreamFault>,
    sessions: BTreeMap<u64, SessionState>,
    connects: VecDeque<Instant>,
    nonces: BTreeSet<String>,
    /// What each channel sent last, by its name.
    last: BTreeMap<&'static str, Arc<Article>>,
    articles: BTreeMap<u64, Arc<Article>>,
    rng: Rng,
    next_id: u64,
    upgrades: VecDeque<Upgraded>,
    violations: VecDeque<String>,
    frames: u64,
}

struct Shared {
    kind: StreamKind,
    state: Mutex<State>,
    tls: Option<Arc<ServerConfig>>,
}

/// A running simulated push source.
pub struct SimStream {
    shared: Arc<Shared>,
    ca: Arc<TestCa>,
    server: Server,
}

impl std::fmt::Debug for SimStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimStream").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

impl SimStream {
    /// Starts one on its own listener.
    ///
    /// # Errors
    /// [`SimError`] when the listener, the certificate or the thread cannot be had.
    pub fn start(kind: StreamKind, options: StreamOptions) -> Result<SimStream, SimError> {
        let ca = match &options.ca {
            Some(ca) => Arc::clone(ca),
            None => Arc::new(TestCa::new()?),
        };
        let tls = if options.plain { None } else { Some(ca.server_config(CertChange::Renewed)?) };
        let listen = options.listen;
        let state = State {
            options,
            expired: false,
            fault: None,
            sessions: BTreeMap::new(),
            connects: VecDeque::new(),
            nonces: BTreeSet::new(),
            last: BTreeMap::new(),
            articles: BTreeMap::new(),
            rng: Rng::new(0x5ea1),
            next_id: 228_200,
            upgrades: VecDeque::new(),
            violations: VecDeque::new(),
            frames: 0,
        };
        let shared = Arc::new(Shared { kind, state: Mutex::new(state), tls });
        let handler: Arc<dyn Handler> = Arc::<Shared>::clone(&shared);
        let server = Server::start(listen, kind.name(), Limits::EXCHANGE, handler)?;
        Ok(SimStream { shared, ca, server })
    }

    /// Which one it is.
    #[must_use]
    pub fn kind(&self) -> StreamKind {
        self.shared.kind
    }

    /// What goes into `streams.NAME.base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}", self.server.addr())
    }

    /// The authority to trust.
    #[must_use]
    pub const fn ca(&self) -> &Arc<TestCa> {
        &self.ca
    }

    /// What its credentials file holds: the key, the secret.
    #[must_use]
    pub fn credentials_text(&self) -> String {
        let (key, secret) = &self.shared.state.lock().options.credentials;
        format!("{key}\n{secret}\n")
    }

    /// Publishes an announcement now.
    pub fn publish(&self, category: Category, title: &str) -> Pushed {
        self.publish_dated(category, title, clock::wall_now())
    }

    /// Publishes one with another publish time.
    pub fn publish_dated(&self, category: Category, title: &str, published: WallUs) -> Pushed {
        let mut state = self.shared.state.lock();
        let id = match self.shared.kind {
            StreamKind::Upbit => 100_000_000 + state.rng.below(800_000_000),
            StreamKind::Binance | StreamKind::Gate => state.next_id,
        };
        state.next_id += 1;
        let article =
            Article { id, title: title.to_owned(), category, published, listed: published, edited: false };
        self.push_article(&mut state, article)
    }

    /// Sends an announcement again under another title, as an edit.
    ///
    /// # Errors
    /// [`SimError::NoSuchNotice`].
    pub fn edit(&self, id: &str, title: &str) -> Result<Pushed, SimError> {
        let mut state = self.shared.state.lock();
        let known = id.parse().ok().and_then(|id: u64| state.articles.get(&id).cloned());
        let known = known.ok_or_else(|| SimError::NoSuchNotice(id.to_owned()))?;
        let article = Article {
            title: title.to_owned(),
            listed: clock::wall_now(),
            edited: true,
            ..Article::clone(&known)
        };
        Ok(self.push_article(&mut state, article))
    }

    fn push_article(&self, state: &mut State, article: Article) -> Pushed {
        let pushed = Pushed {
            id: if self.shared.kind == StreamKind::Binance { String::new() } else { article.id.to_string() },
            title: article.title.clone(),
            published: words::shown(self.shared.kind, article.published),
        };
        let article = Arc::new(article);
        for channel in words::channels(article.category) {
            state.last.insert(channel, Arc::clone(&article));
        }
        state.articles.insert(article.id, Arc::clone(&article));
        state.push(&Push::Article(article));
        pushed
    }

    /// Sends a text to every session, whatever it is.
    pub fn send_text(&self, text: &str) {
        self.shared.state.lock().push(&Push::Text(text.into()));
    }

    /// Ends every session with this close code.
    pub fn close_sessions(&self, code: u16) {
        self.shared.state.lock().push(&Push::Close(CloseCode(code)));
    }

    /// Closes every connection without a word.
    pub fn drop_connections(&self) {
        self.server.drop_connections();
    }

    /// Misbehaves, or behaves again.
    pub fn set_fault(&self, fault: Option<StreamFault>) {
        self.shared.state.lock().fault = fault;
    }

    /// The key has come to its end, or not.
    pub fn expire_key(&self, expired: bool) {
        self.shared.state.lock().expired = expired;
    }

    /// Sessions that are subscribed now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.state.lock().sessions.values().filter(|session| session.subscribed).count()
    }

    /// The last upgrade requests, oldest first.
    #[must_use]
    pub fn upgrades(&self) -> Vec<Upgraded> {
        self.shared.state.lock().upgrades.iter().copied().collect()
    }

    /// What clients did against the rules, oldest first.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.state.lock().violations.iter().cloned().collect()
    }

    /// Frames that came from clients.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.shared.state.lock().frames
    }

    /// Connections and bytes so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.counters()
    }
}

impl State {
    fn push(&mut self, push: &Push) {
        for session in self.sessions.values_mut() {
            if session.queue.len() >= MAX_LOG {
                session.queue.pop_front();
            }
            session.queue.push_back(push.clone());
        }
    }

    fn note_upgrade(&mut self, status: u16) {
        if self.upgrades.len() >= MAX_LOG {
            self.upgrades.pop_front();
        }
        self.upgrades.push_back(Upgraded { at: clock::wall_now(), status });
    }

    fn note_violation(&mut self, what: &str) {
        if self.violations.len() >= MAX_LOG {
            self.violations.pop_front();
        }
        self.violations.push_back(what.to_owned());
    }
}
