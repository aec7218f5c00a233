//! `tocsin-sim exchange`: simulated exchanges, until killed.
//!
//! The first line on standard output is a JSON object saying where they are; then one JSON line for
//! each event.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use tocsin_sim::{
    AdminServer, Announced, CachePolicy, Kind, MarketOptions, Options, Script, SimError, SimExchange,
    SimMarket, SimStream, StreamKind, StreamOptions, TestCa, market,
};

use super::play::Play;
use super::{duration, end_with_stdin, say};

/// One exchange by its name in configuration, those enabled by default, or all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KindArg {
    One(Kind),
    Default,
    All,
}

impl ValueEnum for KindArg {
    fn value_variants<'a>() -> &'a [KindArg] {
        &[
            KindArg::One(Kind::Binance),
            KindArg::One(Kind::Upbit),
            KindArg::One(Kind::Bithumb),
            KindArg::One(Kind::Okx),
            KindArg::One(Kind::Bybit),
            KindArg::One(Kind::Bitget),
            KindArg::One(Kind::Kucoin),
            KindArg::One(Kind::Cryptocom),
            KindArg::One(Kind::Htx),
            KindArg::One(Kind::Bingx),
            KindArg::One(Kind::Mexc),
            KindArg::One(Kind::Coinone),
            KindArg::Default,
            KindArg::All,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            KindArg::One(kind) => kind.name(),
            KindArg::Default => "default",
            KindArg::All => "all",
        }))
    }
}

/// One push stream, or all.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StreamArg {
    Binance,
    Upbit,
    /// Of an exchange whose notices are simulated here alone: `--every` publishes them.
    Gate,
    All,
}

impl StreamArg {
    fn is(self, kind: StreamKind) -> bool {
        match self {
            StreamArg::Binance => kind == StreamKind::Binance,
            StreamArg::Upbit => kind == StreamKind::Upbit,
            StreamArg::Gate => kind == StreamKind::Gate,
            StreamArg::All => true,
        }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let told = "takes 0.001 to 1000000";
    text.parse().ok().filter(|times| (0.001..=1_000_000.0).contains(times)).ok_or_else(|| told.to_owned())
}

/// Arguments of `tocsin-sim exchange`.
#[derive(Args)]
pub(crate) struct ExchangeArgs {
    /// Which exchange; may be given more than once.
    #[arg(long, value_enum, default_value = "default")]
    kind: Vec<KindArg>,
    /// Address of the first exchange; the next, then markets and streams, take the following ports. Port 0
    /// takes free ones.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen_base: SocketAddr,
    /// Where to write the certificate of the authority to trust.
    #[arg(long, value_name = "FILE", required_unless_present = "plain")]
    ca_out: Option<PathBuf>,
    /// Plain HTTP instead of TLS.
    #[arg(long, conflicts_with = "ca_out")]
    plain: bool,
    /// Write the addresses also to this file, at once and whole.
    #[arg(long, value_name = "FILE")]
    announce_to: Option<PathBuf>,
    /// Take events over plain HTTP here: POST /events, GET /requests, GET /counters.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Play this script of events (JSON).
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Publish a made-up announcement this often, the exchanges in turn.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) every: Option<Duration>,
    /// Stop after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(super) run_for: Option<Duration>,
    /// Stop when standard input ends: an exchange started by another program ends with it.
    #[arg(long)]
    until_stdin_ends: bool,
    /// Let the markets live, this many times as fast as real ones: sums of volumes move, and every ten hours
    /// of their time an instrument appears, opens, is traded far more than usual and ends, with notices.
    #[arg(long, value_name = "TIMES", value_parser = speed)]
    pub(super) market_speed: Option<f64>,
    /// Serve a push stream too, of what the exchange publishes; may be given more than once.
    #[arg(long, value_enum)]
    stream: Vec<StreamArg>,
    /// Where to write the key and the secret that the streams of Binance and Upbit take.
    #[arg(long, value_name = "FILE", requires = "stream")]
    credentials_out: Option<PathBuf>,
    /// Decides identifiers, made-up titles and markets.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Old notices each catalogue starts with.
    #[arg(long, default_value_t = 40)]
    old: usize,
    /// Give Binance an edge cache that keeps answers this long, stale once more after it.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    cache: Option<Duration>,
    /// Hold Bithumb's readers to one request a second.
    #[arg(long)]
    enforce_rate: bool,
}

/// Everything that runs.
pub(super) struct Running {
    pub(super) exchanges: Vec<Arc<SimExchange>>,
    pub(super) markets: Vec<Arc<SimMarket>>,
    pub(super) streams: Vec<Arc<SimStream>>,
}

/// Runs it.
///
/// # Errors
/// What could not be started, read or written.
pub(crate) fn run(args: &ExchangeArgs) -> Result<(), SimError> {
    let script = match &args.script {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| SimError::File(path.clone(), e))?;
            Script::parse(&text)?.events
        }
    };
    let ca = Arc::new(TestCa::new()?);
    if let Some(path) = &args.ca_out {
        ca.write_to(path)?;
    }
    let running = start(args, &ca)?;
    if let Some((path, stream)) = args.credentials_out.as_ref().zip(running.streams.first()) {
        write_private(path, &stream.credentials_text()).map_err(|e| SimError::File(path.clone(), e))?;
    }
    let mut announced = announce(args, &running);
    let desk = AdminServer::start(running.exchanges.clone(), args.admin)?;
    announced.admin = desk.base_url();
    let mut play = Play::new(args, script, running, desk)?;
    if let Some(path) = &args.announce_to {
        announced.write_to(path)?;
    }
    if say(&announced.to_json()).is_err() {
        return Ok(());
    }
    if args.until_stdin_ends {
        end_with_stdin()?;
    }
    // An output that nobody reads any more ends it.
    let _ = play.run();
    Ok(())
}

fn announce(args: &ExchangeArgs, running: &Running) -> Announced {
    let mut announced = Announced { market_speed: args.market_speed, ..Announced::default() };
    let ca_file = args.ca_out.as_deref();
    running.exchanges.iter().for_each(|sim| announced.add(sim, ca_file));
    running.markets.iter().for_each(|sim| announced.add_market(sim, ca_file));
    for sim in &running.streams {
        announced.add_stream(sim, ca_file, args.credentials_out.as_deref());
    }
    announced
}

fn kinds(asked: &[KindArg]) -> Vec<Kind> {
    let wanted = |kind: Kind| {
        asked.iter().any(|arg| match arg {
            KindArg::All => true,
            KindArg::Default => Kind::DEFAULT.contains(&kind),
            KindArg::One(one) => kind == *one,
        })
    };
    Kind::ALL.into_iter().filter(|kind| wanted(*kind)).collect()
}

/// Starts exchanges, then markets, then streams, each on the port after the last one's.
fn start(args: &ExchangeArgs, ca: &Arc<TestCa>) -> Result<Running, SimError> {
    let mut next = args.listen_base;
    let mut listen = || {
        let this = next;
        if next.port() != 0 {
            // Past the last port there is none: port 0 then takes a free one.
            next.set_port(next.port().checked_add(1).unwrap_or(0));
        }
        this
    };
    let kinds = kinds(&args.kind);
    let mut running = Running { exchanges: Vec::new(), markets: Vec::new(), streams: Vec::new() };
    for kind in &kinds {
        let options = options(args, *kind, listen(), ca);
        running.exchanges.push(Arc::new(SimExchange::start(*kind, options)?));
    }
    for exchange in kinds.iter().map(|kind| kind.exchange()).filter(|name| market::EXCHANGES.contains(name)) {
        let options = MarketOptions {
            listen: listen(),
            plain: args.plain,
            ca: Some(Arc::clone(ca)),
            seed: args.seed,
            ..MarketOptions::default()
        };
        running.markets.push(Arc::new(SimMarket::start(exchange, options)?));
    }
    for kind in StreamKind::ALL.into_iter().filter(|kind| args.stream.iter().any(|arg| arg.is(*kind))) {
        let options = StreamOptions {
            listen: listen(),
            plain: args.plain,
            ca: Some(Arc::clone(ca)),
            ..StreamOptions::default()
        };
        let stream = Arc::new(SimStream::start(kind, options)?);
        let polled = running.exchanges.iter().find(|sim| sim.kind().name() == kind.name());
        if let Some(sim) = polled {
            sim.stream_to(Arc::clone(&stream));
        } else if kind != StreamKind::Gate {
            let name = kind.name();
            return Err(SimError::Script(format!("--stream {name} pushes what --kind {name} publishes")));
        }
        running.streams.push(stream);
    }
    Ok(running)
}

fn options(args: &ExchangeArgs, kind: Kind, listen: SocketAddr, ca: &Arc<TestCa>) -> Options {
    Options {
        listen,
        plain: args.plain,
        ca: Some(Arc::clone(ca)),
        seed: args.seed,
        old_notices: args.old,
        cache: args.cache.map(|ttl| CachePolicy { ttl, refresh_hit: true }),
        rate_limit: (args.enforce_rate && kind == Kind::Bithumb).then_some(Options::BITHUMB_RATE),
        ..Options::default()
    }
}

/// A file that only its owner may read, from its first moment.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}
