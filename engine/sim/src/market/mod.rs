//! Simulated instruments and tickers of the twelve exchanges whose markets are watched, over real loopback
//! TLS.
//!
//! Contract: [`SimMarket::start`] opens one listener that answers every request of an exchange's market
//! sources in that exchange's own shape, from one world of instruments. A method takes effect before it
//! returns. What a reader can learn of the world differs between exchanges (some show nothing before the
//! opening, some nothing after the end, few a time): [`SimMarket::shown`] says what this one shows. Any
//! thread may call. Dropping the handle closes the listener and every connection.

pub(crate) mod list;
mod shape;
mod site;
mod story;
mod tape;
mod world;

pub use story::{ACTS, Act, BURST, BURST_SLOTS, ROUND, Scene, Story, StoryOptions};
pub use world::{InstrumentId, Listing, Shown};

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;

use crate::certificate::TestCa;
use crate::error::SimError;
use crate::fault::Fault;
use crate::http::{Framing, RecordedRequest};
use crate::options::RateLimit;
use crate::server::{Counters, Handler, Limits, Server};
use crate::{CertChange, clock};
use site::{Shared, State};

/// The exchanges that have a simulated market.
pub const EXCHANGES: [Exchange; 12] = [
    Exchange::Binance,
    Exchange::Okx,
    Exchange::Bybit,
    Exchange::Gate,
    Exchange::Kucoin,
    Exchange::Bitget,
    Exchange::Htx,
    Exchange::Upbit,
    Exchange::Bithumb,
    Exchange::Coinbase,
    Exchange::Kraken,
    Exchange::Hyperliquid,
];

/// How a simulated market is from the start.
#[derive(Clone, Debug)]
pub struct MarketOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Plain HTTP instead of TLS.
    pub plain: bool,
    /// The authority that signs the certificate; `None` makes one.
    pub ca: Option<Arc<TestCa>>,
    /// Decides the made-up instruments and what is lost by [`SimMarket::lose`].
    pub seed: u64,
    /// Made-up open instruments of each kind the exchange lists.
    pub instruments: usize,
    /// How bodies are delimited.
    pub framing: Framing,
    /// Enforced request rate per peer address; `None` enforces nothing.
    pub rate_limit: Option<RateLimit>,
}

impl MarketOptions {
    /// The default options with plain HTTP.
    #[must_use]
    pub fn plain() -> MarketOptions {
        MarketOptions { plain: true, ..MarketOptions::default() }
    }
}

impl Default for MarketOptions {
    fn default() -> MarketOptions {
        MarketOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            plain: false,
            ca: None,
            seed: 1,
            instruments: 20,
            framing: Framing::ContentLength,
            rate_limit: None,
        }
    }
}

/// A running simulated market of one exchange.
pub struct SimMarket {
    shared: Arc<Shared>,
    ca: Arc<TestCa>,
    plain: bool,
    server: Server,
}

impl std::fmt::Debug for SimMarket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimMarket").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

impl SimMarket {
    /// Starts the market of `exchange` on a listener of its own.
    ///
    /// # Errors
    /// [`SimError`] when the exchange has no simulated market, or the listener, the certificate or the
    /// thread cannot be had.
    pub fn start(exchange: Exchange, options: MarketOptions) -> Result<SimMarket, SimError> {
        let shape = shape::of(exchange)
            .ok_or_else(|| SimError::Script(format!("{} has no simulated market", exchange.name())))?;
        let ca = match &options.ca {
            Some(ca) => Arc::clone(ca),
            None => Arc::new(TestCa::new()?),
        };
        let tls = if options.plain { None } else { Some(ca.server_config(CertChange::Renewed)?) };
        let (listen, plain) = (options.listen, options.plain);
        let shared = Arc::new(Shared::new(exchange, shape, options, tls)?);
        let site: Arc<dyn Handler> = Arc::<Shared>::clone(&shared);
        let server = Server::start(listen, exchange.name(), Limits::EXCHANGE, site)?;
        Ok(SimMarket { shared, ca, plain, server })
    }

    /// Whose market it is.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.shared.exchange
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What stands for the exchange's hosts: `https://127.0.0.1:PORT`, no slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", self.addr())
    }

    /// The authority to trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.pem()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    // What is listed.

    /// Lists an instrument; times are cut to whole seconds, as exchanges set them.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`] when the exchange lists none of its kind, and
    /// [`SimError::TooManyInstruments`].
    pub fn add(&self, listing: Listing) -> Result<InstrumentId, SimError> {
        self.shared.add(&mut self.state(), listing)
    }

    /// Lists several between two answers: no answer has some of them alone.
    ///
    /// # Errors
    /// As [`SimMarket::add`]; those before the one that fails are listed.
    pub fn add_together(&self, listings: impl IntoIterator<Item = Listing>) -> Result<(), SimError> {
        let mut state = self.state();
        listings.into_iter().try_for_each(|listing| self.shared.add(&mut state, listing).map(drop))
    }

    /// Changes an instrument; every other method that does is this one with a name.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn change(&self, id: InstrumentId, change: impl FnOnce(&mut Listing)) -> Result<(), SimError> {
        self.state().world.change(id, change)
    }

    /// Opens it now.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn open(&self, id: InstrumentId) -> Result<(), SimError> {
        let now = clock::wall_now();
        self.change(id, |listing| {
            listing.trading = Trading::Open;
            listing.opens_at = Some(listing.opens_at.map_or(now, |at| at.min(now)));
        })
    }

    /// Sets or moves its beginning.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn set_opening(&self, id: InstrumentId, at: Option<WallUs>) -> Result<(), SimError> {
        self.change(id, |listing| listing.opens_at = at)
    }

    /// Sets its end, or takes it back.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn set_end(&self, id: InstrumentId, at: Option<WallUs>) -> Result<(), SimError> {
        self.change(id, |listing| listing.closes_at = at)
    }

    /// Stops it for a while.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn halt(&self, id: InstrumentId) -> Result<(), SimError> {
        self.change(id, |listing| listing.trading = Trading::Halted)
    }

    /// Ends it as the exchange does: some mark it, some take it off the list.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn delist(&self, id: InstrumentId) -> Result<(), SimError> {
        let now = clock::wall_now();
        self.change(id, |listing| {
            listing.trading = Trading::Over;
            listing.closes_at = Some(listing.closes_at.unwrap_or(now));
        })
    }

    /// Takes it off the list without a trace.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn remove(&self, id: InstrumentId) -> Result<(), SimError> {
        self.state().world.remove(id)
    }

    /// Sets what was traded of it within 24 hours, in its quote, and its last price.
    ///
    /// # Errors
    /// [`SimError::NoSuchInstrument`].
    pub fn set_volume(&self, id: InstrumentId, quote_24h: f64, last: f64) -> Result<(), SimError> {
        self.change(id, |listing| {
            listing.quote_24h = Some(quote_24h);
            listing.last = Some(last);
        })
    }

    /// Leaves this share of the list (0 to 1) out of every answer, always the same ones, until
    /// [`SimMarket::restore`]. Says how many.
    pub fn lose(&self, share: f64) -> usize {
        let mut state = self.state();
        let seed = state.options.seed;
        state.world.lose(share, seed)
    }

    /// Ends [`SimMarket::lose`].
    pub fn restore(&self) {
        self.state().world.restore();
    }

    /// The exchange's own name of an instrument.
    #[must_use]
    pub fn symbol(&self, id: InstrumentId) -> Option<String> {
        self.state().world.get(id).map(|listing| (self.shared.shape.symbol)(listing))
    }

    /// Every instrument as it is, whatever is shown of it, in the order of identifiers.
    #[must_use]
    pub fn instruments(&self) -> Vec<(InstrumentId, Listing)> {
        self.state().world.listed().map(|(id, listing)| (id, listing.clone())).collect()
    }

    /// The kind of market in which this exchange tells a beginning and an end before they come, the first it
    /// lists if in none, and what it is priced in.
    fn foretold(&self) -> (InstrumentKind, String) {
        let shape = self.shared.shape;
        let quote = shape.quotes.first().copied().unwrap_or("USDT");
        let at = Some(WallUs::from_secs(1));
        let told = |kind: &InstrumentKind| {
            let ahead = (shape.shown)(&Listing::ahead(*kind, "", quote, at));
            let ending = (shape.shown)(&Listing { closes_at: at, ..Listing::open(*kind, "", quote) });
            ahead.is_some_and(|listing| listing.trading == Trading::Ahead && listing.opens_at == at)
                && ending.is_some_and(|listing| listing.closes_at == at)
        };
        let mut kinds = shape.kinds.iter().filter(|kind| **kind != InstrumentKind::Dated);
        let first = shape.kinds.first().copied().unwrap_or(InstrumentKind::Spot);
        (kinds.find(|kind| told(kind)).copied().unwrap_or(first), quote.to_owned())
    }

    /// Everything a reader of all of this exchange's lists can learn, in the order of identifiers.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let state = self.state();
        let shape = self.shared.shape;
        let rows = state.world.listed().filter_map(|(_, listing)| {
            Some(Shown { symbol: (shape.symbol)(listing), listing: (shape.shown)(listing)? })
        });
        rows.collect()
    }

    // How it is answered.

    /// Writes nothing where a number stands, in every row: an empty string, or `null`.
    pub fn empty_numbers(&self, on: bool) {
        self.state().empty = on;
    }

    /// Gives every key another name, as a new version of an interface would.
    pub fn drift(&self, on: bool) {
        self.state().drift = on;
    }

    /// Serves `bytes` to every request whose target starts with `path_prefix`; the longest prefix wins.
    pub fn serve_bytes(&self, path_prefix: &str, bytes: impl Into<Arc<[u8]>>) {
        self.state().served.insert(path_prefix.to_owned(), bytes.into());
    }

    /// Ends what [`SimMarket::serve_bytes`] began.
    pub fn stop_serving(&self) {
        self.state().served.clear();
    }

    /// Shows `fault` to every request (or connection) until [`SimMarket::clear_fault`].
    pub fn set_fault(&self, fault: Fault) {
        self.state().faults.set(fault, None);
    }

    /// Shows `fault` to the next `requests` requests (or connections); 0 clears it.
    pub fn fault_next(&self, requests: u32, fault: Fault) {
        self.state().faults.set(fault, Some(requests));
    }

    /// Behaves again.
    pub fn clear_fault(&self) {
        self.state().faults.clear();
    }

    /// Closes every connection open now.
    pub fn drop_connections(&self) {
        self.server.drop_connections();
    }

    // What has been seen.

    /// The last 4,096 requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state().log.iter().cloned().collect()
    }

    /// How many requests there have been.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.state().requests
    }

    /// Waits until there have been `count` requests in all; false when `patience` ran out first.
    #[must_use]
    pub fn wait_for_requests(&self, count: u64, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.state();
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
