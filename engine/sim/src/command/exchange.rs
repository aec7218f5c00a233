//! `tocsin-sim exchange`: simulated exchanges, until killed.
//!
//! The first line on standard output is a JSON object saying where they are; then one JSON line for
//! each event.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tocsin_sim::{
    Action, AdminServer, Announced, CachePolicy, Event, Kind, Options, Script, SimError, SimExchange, TestCa,
};

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

/// Arguments of `tocsin-sim exchange`.
#[derive(Args)]
pub(crate) struct ExchangeArgs {
    /// Which exchange; may be given more than once.
    #[arg(long, value_enum, default_value = "default")]
    kind: Vec<KindArg>,
    /// Address of the first exchange; the next take the following ports. Port 0 takes free ones.
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
    every: Option<Duration>,
    /// Stop after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    run_for: Option<Duration>,
    /// Stop when standard input ends: an exchange started by another program ends with it.
    #[arg(long)]
    until_stdin_ends: bool,
    /// Decides identifiers and made-up titles.
    #[arg(long, default_value_t = 1)]
    seed: u64,
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
    let mut exchanges = Vec::new();
    for (at, kind) in kinds(&args.kind).into_iter().enumerate() {
        exchanges.push(Arc::new(SimExchange::start(kind, options(args, kind, at, &ca))?));
    }
    let mut announced = Announced::default();
    for sim in &exchanges {
        announced.add(sim, args.ca_out.as_deref());
    }
    let desk = AdminServer::start(exchanges.clone(), args.admin)?;
    announced.admin = desk.base_url();
    if let Some(path) = &args.announce_to {
        announced.write_to(path)?;
    }
    if say(&announced.to_json()).is_err() {
        return Ok(());
    }
    if args.until_stdin_ends {
        end_with_stdin()?;
    }
    play(args, &script, &exchanges, &desk)
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

fn options(args: &ExchangeArgs, kind: Kind, at: usize, ca: &Arc<TestCa>) -> Options {
    let mut listen = args.listen_base;
    if listen.port() != 0 {
        // Past the last port there is none: port 0 then takes a free one.
        let port = u16::try_from(at).ok().and_then(|at| listen.port().checked_add(at));
        listen.set_port(port.unwrap_or(0));
    }
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

/// Plays the script and the periodic announcements until the time is over, or for ever. An event
/// that cannot be done is reported on its line and does not end the run.
fn play(
    args: &ExchangeArgs,
    script: &[Event],
    exchanges: &[Arc<SimExchange>],
    desk: &AdminServer,
) -> Result<(), SimError> {
    let start = Instant::now();
    let end = args.run_for.map(|time| start + time);
    let mut script = script.iter().peekable();
    let mut periodic = args.every.map(|every| (start + every, every, 0_usize));
    loop {
        let next_event = script.peek().map(|e| start + Duration::from_millis(e.at_ms));
        let next = [next_event, periodic.map(|(at, ..)| at), end].into_iter().flatten().min();
        let Some(next) = next else {
            // Nothing left to do but serve; the process ends by a signal.
            thread::park();
            continue;
        };
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            return Ok(());
        }
        if let Some(event) = script.next_if(|_| next_event.is_some_and(|at| at <= now))
            && say(&line(event.exchange, &desk.apply(event))).is_err()
        {
            return Ok(());
        }
        if let Some((at, every, count)) = &mut periodic
            && *at <= now
        {
            *at += *every;
            let event = periodic_event(exchanges, *count);
            *count += 1;
            if let Some(event) = event
                && say(&line(event.exchange, &desk.apply(&event))).is_err()
            {
                return Ok(());
            }
        }
    }
}

/// The exchanges in turn make something up; now and then one of them edits its last notice.
fn periodic_event(exchanges: &[Arc<SimExchange>], count: usize) -> Option<Event> {
    let sim = exchanges.get(count % exchanges.len().max(1))?;
    let listed = sim.listed();
    let action = match listed.first() {
        Some(newest) if count % 7 == 6 => Action::Edit {
            notice: newest.clone(),
            title: if sim.kind().is_korean() {
                format!("모의 거래소 공지 {count} (내용 수정)")
            } else {
                format!("Updated Notice No. {count} of the Simulated Exchange")
            },
        },
        _ => Action::Invent { listing_type: None },
    };
    Some(Event { at_ms: 0, exchange: sim.kind(), action })
}

fn line(kind: Kind, result: &Result<Value, SimError>) -> String {
    match result {
        Ok(value) => json!({ "exchange": kind.name(), "result": value }).to_string(),
        Err(e) => json!({ "exchange": kind.name(), "error": e.to_string() }).to_string(),
    }
}
