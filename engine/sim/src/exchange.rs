//! The handle of one simulated exchange: everything a test or a script can do to it.
//!
//! Contract: every method takes effect before it returns; a request answered afterwards shows it
//! (unless [`SimExchange::cache_lag`] or the edge cache holds it back). Any thread may call. Dropping
//! the handle closes the listener and every connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;

use crate::catalogue::{Change, Draft, Notice, Published};
use crate::certificate::{CertChange, TestCa};
use crate::clock;
use crate::error::SimError;
use crate::fault::Fault;
use crate::http::{Framing, RecordedRequest};
use crate::invent::{Asset, Invented};
use crate::options::{CachePolicy, Kind, Options, RateLimit};
use crate::server::{Counters, Handler, Limits, Server};
use crate::state::{Shared, State};
use crate::stream::SimStream;

/// A running simulated exchange.
pub struct SimExchange {
    shared: Arc<Shared>,
    ca: Arc<TestCa>,
    plain: bool,
    server: Server,
}

impl std::fmt::Debug for SimExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimExchange").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

impl SimExchange {
    /// Starts an exchange of `kind` on its own listener.
    ///
    /// # Errors
    /// [`SimError`] when the listener, the certificate or the thread cannot be had.
    pub fn start(kind: Kind, options: Options) -> Result<SimExchange, SimError> {
        let ca = match &options.ca {
            Some(ca) => Arc::clone(ca),
            None => Arc::new(TestCa::new()?),
        };
        let tls = if options.plain { None } else { Some(ca.server_config(CertChange::Renewed)?) };
        let (listen, plain) = (options.listen, options.plain);
        let shared = Arc::new(Shared::new(kind, options, tls));
        let site: Arc<dyn Handler> = Arc::<Shared>::clone(&shared);
        let server = Server::start(listen, kind.name(), Limits::EXCHANGE, site)?;
        Ok(SimExchange { shared, ca, plain, server })
    }

    /// Which exchange it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What goes into `sources.NAME.base_url`: `https://127.0.0.1:PORT`, no slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", self.addr())
    }

    /// The authority to trust: the content of `sources.NAME.ca_file`.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.pem()
    }

    /// The authority itself, to be shared with another exchange or written to a file.
    #[must_use]
    pub const fn ca(&self) -> &Arc<TestCa> {
        &self.ca
    }

    // What is published.

    /// Publishes a notice.
    pub fn publish(&self, draft: Draft) -> Published {
        self.publish_in(&mut self.shared.state.lock(), draft)
    }

    /// Makes up and publishes one announcement of a type.
    pub fn publish_invented(&self, listing_type: ListingType) -> (Published, Invented) {
        let mut state = self.shared.state.lock();
        let invented = state.inventor.of_type(listing_type, clock::wall_now());
        (self.publish_in(&mut state, invented.draft.clone()), invented)
    }

    /// Makes up an asset that no other invention of this exchange is about.
    pub fn invent_asset(&self) -> Asset {
        self.shared.state.lock().inventor.asset()
    }

    /// Makes up and publishes one announcement of a type about these assets.
    pub fn publish_about(&self, listing_type: ListingType, assets: &[Asset]) -> (Published, Invented) {
        let mut state = self.shared.state.lock();
        let invented = state.inventor.about(listing_type, assets, clock::wall_now());
        (self.publish_in(&mut state, invented.draft.clone()), invented)
    }

    /// Makes up and publishes one announcement of any type.
    pub fn publish_any(&self) -> (Published, Invented) {
        let mut state = self.shared.state.lock();
        let invented = state.inventor.any(clock::wall_now());
        (self.publish_in(&mut state, invented.draft.clone()), invented)
    }

    /// Publishes `n` made-up announcements in one instant: a reader sees all of them or none.
    pub fn burst(&self, n: usize) -> Vec<Published> {
        let mut state = self.shared.state.lock();
        (0..n)
            .map(|_| {
                let invented = state.inventor.any(clock::wall_now());
                self.publish_in(&mut state, invented.draft)
            })
            .collect()
    }

    /// Pushes on `stream` too whatever is published from now on. Edits of it are not pushed.
    pub fn stream_to(&self, stream: Arc<SimStream>) {
        self.shared.state.lock().stream = Some(stream);
    }

    fn publish_in(&self, state: &mut State, draft: Draft) -> Published {
        let now = clock::wall_now();
        let notice = state.catalogue.prepare(draft, now);
        if let Some(stream) = &state.stream {
            let _ = stream.publish_dated(notice.category, &notice.title, notice.published);
        }
        let published = published(&notice, self.kind(), visible_after(now, state.lag));
        state.schedule(Change::Publish(notice), Instant::now());
        published
    }

    /// Edits a notice as its exchange does: a new title and a new edit time. Upbit moves it to the
    /// top of its list.
    ///
    /// # Errors
    /// [`SimError::NoSuchNotice`].
    pub fn edit(&self, notice_id: &str, title: &str) -> Result<(), SimError> {
        let (id, title, at) = (notice_id.to_owned(), title.to_owned(), clock::wall_now());
        self.change(notice_id, Change::Edit { notice_id: id, title, at })
    }

    /// Puts another title under the same identifier and changes nothing else.
    ///
    /// # Errors
    /// [`SimError::NoSuchNotice`].
    pub fn same_id_new_title(&self, notice_id: &str, title: &str) -> Result<(), SimError> {
        let (id, title) = (notice_id.to_owned(), title.to_owned());
        self.change(notice_id, Change::Retitle { notice_id: id, title })
    }

    /// Pins a notice: into `fixed_notices` at Upbit, to the top of the list elsewhere.
    ///
    /// # Errors
    /// [`SimError::NoSuchNotice`].
    pub fn pin(&self, notice_id: &str) -> Result<(), SimError> {
        self.change(notice_id, Change::Pin(notice_id.to_owned()))
    }

    /// Takes a notice down.
    ///
    /// # Errors
    /// [`SimError::NoSuchNotice`].
    pub fn delete(&self, notice_id: &str) -> Result<(), SimError> {
        self.change(notice_id, Change::Delete(notice_id.to_owned()))
    }

    fn change(&self, notice_id: &str, change: Change) -> Result<(), SimError> {
        let mut state = self.shared.state.lock();
        if !state.knows(notice_id, self.kind()) {
            return Err(SimError::NoSuchNotice(notice_id.to_owned()));
        }
        state.schedule(change, Instant::now());
        Ok(())
    }

    /// The identifiers listed now, in the list's order, pinned ones apart at Upbit.
    #[must_use]
    pub fn listed(&self) -> Vec<String> {
        self.shared.state.lock().catalogue.listed().map(|n| n.notice_id(self.kind())).collect()
    }

    /// Holds later changes back from readers for `lag`, as a content delivery network does.
    pub fn cache_lag(&self, lag: Duration) {
        self.shared.state.lock().lag = lag;
    }

    /// Changes the edge cache (Binance) and empties it.
    pub fn set_cache(&self, policy: Option<CachePolicy>) {
        let mut state = self.shared.state.lock();
        state.options.cache = policy;
        state.cache.clear();
    }

    /// Serves `bytes` to every request whose target (path and query) starts with `path_prefix`,
    /// instead of what the exchange would answer. The longest prefix wins.
    pub fn serve_bytes(&self, path_prefix: &str, bytes: impl Into<Arc<[u8]>>) {
        self.shared.state.lock().served.insert(path_prefix.to_owned(), bytes.into());
    }

    /// Ends what [`SimExchange::serve_bytes`] began.
    pub fn stop_serving(&self) {
        self.shared.state.lock().served.clear();
    }

    // How it is delivered.

    /// Shows `fault` to every request (or connection) until [`SimExchange::clear_fault`].
    pub fn set_fault(&self, fault: Fault) {
        self.shared.state.lock().set_fault(fault, None);
    }

    /// Shows `fault` to the next `requests` requests (or connections); 0 clears it.
    pub fn fault_next(&self, requests: u32, fault: Fault) {
        let mut state = self.shared.state.lock();
        if requests == 0 {
            state.clear_fault();
        } else {
            state.set_fault(fault, Some(requests));
        }
    }

    /// Behaves again.
    pub fn clear_fault(&self) {
        self.shared.state.lock().clear_fault();
    }

    /// Shows another certificate to new connections. Without effect in plain mode.
    ///
    /// # Errors
    /// [`SimError::Certificate`].
    pub fn set_certificate(&self, change: CertChange) -> Result<(), SimError> {
        if !self.plain {
            let config = self.ca.server_config(change)?;
            *self.shared.tls.lock() = Some(config);
        }
        Ok(())
    }

    /// Closes every connection open now.
    pub fn drop_connections(&self) {
        self.server.drop_connections();
    }

    /// Closes each connection after so many answers; `None` keeps them.
    pub fn close_after(&self, answers: Option<u32>) {
        self.shared.state.lock().options.close_after = answers;
    }

    /// Delimits bodies so, in turn.
    pub fn set_framing(&self, framing: &[Framing]) {
        self.shared.state.lock().options.framing = framing.to_vec();
    }

    /// Switches entity tags on or off (Upbit).
    pub fn set_etag(&self, on: bool) {
        self.shared.state.lock().options.etag = on;
    }

    /// Enforces a request rate, or none.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        self.shared.state.lock().options.rate_limit = limit;
    }

    // What has been seen.

    /// The last 4,096 requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.state.lock().log.iter().cloned().collect()
    }

    /// How many requests there have been.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.shared.state.lock().requests
    }

    /// Forgets the requests seen; [`SimExchange::request_count`] goes on.
    pub fn clear_requests(&self) {
        self.shared.state.lock().log.clear();
    }

    /// Waits until there have been `count` requests in all; false when `patience` ran out first.
    #[must_use]
    pub fn wait_for_requests(&self, count: u64, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.shared.state.lock();
        while state.requests < count {
            if self.shared.answered.wait_until(&mut state, end).timed_out() {
                return state.requests >= count;
            }
        }
        true
    }

    /// Connections, requests and bytes so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.counters()
    }
}

fn published(notice: &Notice, kind: Kind, visible: WallUs) -> Published {
    Published {
        notice_id: notice.notice_id(kind),
        title: notice.title.clone(),
        published: notice.published,
        visible,
    }
}

fn visible_after(now: WallUs, lag: Duration) -> WallUs {
    WallUs(now.0.saturating_add(i64::try_from(lag.as_micros()).unwrap_or(i64::MAX)))
}
