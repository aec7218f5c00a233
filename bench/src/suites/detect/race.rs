//! The engine and plain clients before one simulated exchange, with the same rate of requests, at once.
//!
//! Contract: each contender has a warm connection over TLS and asks at even distances; the exchange
//! publishes at instants that are even over the spacing ([`Instants`]); each publication gives every
//! contender one delay, from the instant readers could see it. A client's ends when it has parsed the
//! answer, the engine's when it has found the notice in it (`detectedTimestampUs`); when a subscriber has
//! read the announcement off its socket is a delay of its own. The exchange counts each one's requests.
//! Owner: the caller's thread; one more reads each client's output and the subscriber's socket. Fails when
//! the engine does not start; a client that cannot be had is `missing`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tocsin_sim::{Category, Draft, Kind, Options, SimExchange};

use super::POLLER;
use crate::crowd::{Crowd, number_of};
use crate::engine::{self, Engine, Outcome, Setup};
use crate::random::Random;
use crate::result::{Comparison, Figure, Missing, Series, SuiteResult, Target, Unit, new_histogram, ratio};

/// What everybody asks for: the only list of this exchange.
const TARGET: &str = "/v1/notices?count=20";
/// Contenders are warm within this.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the last publication, until the slowest has it.
const SETTLE: Duration = Duration::from_secs(1);
/// Requests are counted this often; the exchange remembers four thousand.
const COUNTING: Duration = Duration::from_secs(2);
/// Blocks that make up a comparison's rounds.
const BLOCKS: usize = 10;
/// The engine as it is here; the first in every list.
const ENGINE: &str = "engine";
/// Its subscriber, who is told what the clients have to find.
const SUBSCRIBER: &str = "subscriber of the engine";

/// How long, how fast.
#[derive(Clone, Debug)]
pub struct RaceSizes {
    /// Requests a second of each contender.
    pub rate: f64,
    /// One publication in each of so many stretches.
    pub publications: usize,
    /// Length of a stretch; the instant within it is random.
    pub stretch: Duration,
}

/// When somebody had a publication.
struct Found {
    who: &'static str,
    /// Number of the notice.
    notice: String,
    at_us: i64,
}

/// A client's process, ended when dropped.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with this one's pipes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn measure(sizes: &RaceSizes, cache: &Path, seed: u64, result: &mut SuiteResult) -> Outcome<()> {
    let exchange = SimExchange::start(Kind::Bithumb, Options { seed, ..Options::default() })?;
    let dir = tempfile::tempdir()?;
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, exchange.ca_pem())?;
    let engine = start_engine(&exchange, &ca_file, sizes.rate)?;
    let (told, found) = channel();
    let subscriber = Subscriber::start(&engine, told.clone())?;
    let clients = clients(&exchange, &ca_file, sizes.rate, cache, &told, result)?;
    let who: Vec<&str> = std::iter::once(ENGINE).chain(clients.iter().map(|(name, _)| *name)).collect();
    warm(&exchange, &who)?;

    let (published, asked) = publish(&exchange, sizes, seed);
    std::thread::sleep(SETTLE);
    subscriber.stop()?;
    drop(clients);
    drop(told);
    report(sizes, &who, &published, &asked, &found, result)
}

fn start_engine(exchange: &SimExchange, ca_file: &Path, rate: f64) -> Outcome<Engine> {
    let source = format!(
        "base_url = {:?}\nca_file = {ca_file:?}\nconnections = 2\nrequests_per_second = {rate:.1}\nflat = true",
        exchange.base_url()
    );
    Engine::running(&Setup { sources: vec![("bithumb", source)], ..Setup::default() })
}

/// One subscriber of the engine, read by a thread of its own.
struct Subscriber {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Subscriber {
    fn start(engine: &Engine, told: Sender<Found>) -> Outcome<Subscriber> {
        let mut crowd = Crowd::new(engine.feed(), &engine.key(1)?, false)?;
        crowd.connect(1, "fields=full", PATIENCE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("subscriber".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                crowd.listen(
                    Instant::now() + Duration::from_millis(200),
                    |message| {
                        let (Some(notice), Some(_)) =
                            (text_of(message.json, "id"), number_of(message.json, "seq"))
                        else {
                            return;
                        };
                        // `bithumb:NUMBER`. Whoever listened may have gone.
                        let notice = notice.rsplit(':').next().unwrap_or_default().to_owned();
                        if let Some(at_us) = number_of(message.json, "detectedTimestampUs") {
                            let _ = told.send(Found { who: ENGINE, notice: notice.clone(), at_us });
                        }
                        let _ = told.send(Found { who: SUBSCRIBER, notice, at_us: message.at.0 });
                    },
                    || false,
                )?;
            }
            Ok(())
        })?;
        Ok(Subscriber { stop, thread })
    }

    fn stop(self) -> Outcome<()> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the subscriber's thread panicked")??)
    }
}

/// The text after `"name":"` in a JSON text.
fn text_of<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(json).ok()?;
    let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

/// Starts the plain clients there are.
fn clients(
    exchange: &SimExchange,
    ca_file: &Path,
    rate: f64,
    cache: &Path,
    told: &Sender<Found>,
    result: &mut SuiteResult,
) -> Outcome<Vec<(&'static str, Client)>> {
    let url = format!("{}{TARGET}", exchange.base_url());
    let mut all = Vec::new();
    let python = cache.join("peers-suites/python/bin/python");
    if python.exists() {
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/detect_aiohttp.py"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        all.push(("aiohttp", command));
    } else {
        result.missing.push(Missing {
            what: "aiohttp".to_owned(),
            why: format!("{} is not there (scripts/setup-peers-suites)", python.display()),
        });
    }
    all.push(("reqwest", engine::part(POLLER)?));
    let mut started = Vec::new();
    for (who, mut command) in all {
        command.arg(&url).arg(ca_file).arg(rate.to_string());
        let mut client = Client(command.spawn()?);
        let output = client.0.stdout.take().ok_or("no pipe")?;
        started.push((who, client));
        let told = told.clone();
        std::thread::Builder::new().name(who.to_owned()).spawn(move || relay(who, output, &told))?;
    }
    Ok(started)
}

/// `ADDRESS INSTANT` a line.
fn relay(who: &'static str, output: impl Read, told: &Sender<Found>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Some((address, at)) = line.split_once(' ') else { continue };
        let notice = address.rsplit('/').next().unwrap_or_default().to_owned();
        if let Ok(at_us) = at.parse()
            && told.send(Found { who, notice, at_us }).is_err()
        {
            return;
        }
    }
}

/// Who sent a request.
fn sender(user_agent: Option<&str>) -> &'static str {
    match user_agent {
        Some("bench-aiohttp") => "aiohttp",
        Some("bench-reqwest") => "reqwest",
        _ => ENGINE,
    }
}

fn count(exchange: &SimExchange, asked: &mut BTreeMap<&'static str, u64>) {
    let requests = exchange.requests();
    exchange.clear_requests();
    for request in requests {
        *asked.entry(sender(request.header("user-agent"))).or_default() += 1;
    }
}

/// Waits until everybody asks.
fn warm(exchange: &SimExchange, who: &[&str]) -> Outcome<()> {
    let (end, mut asked) = (Instant::now() + PATIENCE, BTreeMap::new());
    while who.iter().any(|who| asked.get(who).is_none_or(|count| *count < 20)) {
        if Instant::now() > end {
            return Err(format!("not everybody asks: {asked:?}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
        count(exchange, &mut asked);
    }
    std::thread::sleep(SETTLE);
    exchange.clear_requests();
    Ok(())
}

/// A notice and when readers could see it.
struct Published {
    notice: String,
    at_us: i64,
}

/// How long it took, and who asked how often.
struct Asked {
    took: Duration,
    by: BTreeMap<&'static str, u64>,
}

/// Instants of publications, one in each stretch of whole spacings: a random number of whole spacings into it, and a part of one
/// that goes round by the golden ratio. Every phase of whoever asks at even distances meets all parts of its
/// spacing alike, so that chance alone does not decide a race: independent instants would leave a few per cent.
struct Instants {
    random: Random,
    part: f64,
}

impl Instants {
    fn new(seed: u64) -> Instants {
        let mut random = Random::new(seed);
        let part = random.part();
        Instants { random, part }
    }

    /// Into the next stretch.
    fn next(&mut self, sizes: &RaceSizes) -> Duration {
        const GOLDEN: f64 = 0.618_033_988_749_894_8;
        self.part = (self.part + GOLDEN).fract();
        let spacings = (sizes.stretch.as_secs_f64() * sizes.rate).floor().max(1.0);
        let whole = (self.random.part() * spacings).floor();
        Duration::from_secs_f64((whole + self.part) / sizes.rate)
    }
}

fn publish(exchange: &SimExchange, sizes: &RaceSizes, seed: u64) -> (Vec<Published>, Asked) {
    let mut instants = Instants::new(seed);
    let begin = Instant::now();
    let (mut published, mut by, mut counted) = (Vec::new(), BTreeMap::new(), Instant::now());
    for number in 0..sizes.publications {
        let into = sizes.stretch.mul_f64(number as f64) + instants.next(sizes);
        std::thread::sleep((begin + into).saturating_duration_since(Instant::now()));
        let title = format!("레이스(R{number:05}) 원화 마켓 추가");
        let notice = exchange.publish(Draft::new(Category::Listing, title));
        published.push(Published { notice: notice.notice_id, at_us: notice.visible.0 });
        if counted.elapsed() > COUNTING {
            count(exchange, &mut by);
            counted = Instant::now();
        }
    }
    count(exchange, &mut by);
    (published, Asked { took: begin.elapsed(), by })
}

fn report(
    sizes: &RaceSizes,
    who: &[&'static str],
    published: &[Published],
    asked: &Asked,
    found: &Receiver<Found>,
    result: &mut SuiteResult,
) -> Outcome<()> {
    let mut instants: BTreeMap<(&str, String), i64> = BTreeMap::new();
    // The senders have gone or go with their processes; what they said is here.
    while let Ok(Found { who, notice, at_us }) = found.recv_timeout(SETTLE) {
        instants.entry((who, notice)).or_insert(at_us);
    }
    let stem = format!("race/{}", sizes.rate);
    let delay = |who: &'static str, one: &Published| {
        let at = instants.get(&(who, one.notice.clone()))?;
        Some(u64::try_from(at - one.at_us).unwrap_or(0).saturating_mul(1_000))
    };
    let mut medians: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut means = BTreeMap::new();
    for who in who.iter().copied().chain([SUBSCRIBER]) {
        let mut all = new_histogram();
        for block in published.chunks(published.len().div_ceil(BLOCKS).max(1)) {
            let mut histogram = new_histogram();
            block.iter().filter_map(|one| delay(who, one)).for_each(|ns| histogram.saturating_record(ns));
            medians.entry(who).or_default().push(histogram.value_at_quantile(0.5));
            all.add(&histogram)?;
        }
        let asks = if who == SUBSCRIBER { ENGINE } else { who };
        let requests = asked.by.get(asks).copied().unwrap_or(0) as f64;
        let lost = published.len() as u64 - all.len();
        let rate = requests / asked.took.as_secs_f64();
        let figures = [
            ("mean delay", Unit::Nanoseconds, all.mean()),
            ("mean delay over half the spacing", Unit::Plain, all.mean() / (0.5e9 / rate)),
            ("requests", Unit::PerSecond, rate),
            ("publications never found", Unit::Plain, lost as f64),
        ];
        for (of, unit, value) in figures {
            result.figures.push(Figure { name: format!("{stem}/{who}/{of}"), unit, value, target: None });
        }
        result.series.push(Series::new(format!("{stem}/{who}/delay"), Unit::Nanoseconds, &all));
        means.insert(who, all.mean());
    }
    // Detection against detection is promised; what a subscriber has to wait besides is shown.
    let own = [(ENGINE, Some(Target::AtMost(1.0))), (SUBSCRIBER, None)];
    for (&other, (own, target)) in who.iter().skip(1).flat_map(|other| own.map(|own| (other, own))) {
        let pairs: Vec<(u64, u64)> = match (medians.get(own), medians.get(other)) {
            (Some(ours), Some(theirs)) => ours.iter().copied().zip(theirs.iter().copied()).collect(),
            _ => continue,
        };
        let Some((ratio, quartiles)) = ratio(&pairs) else { continue };
        result.comparisons.push(Comparison {
            name: format!("{} requests a second, delay, {own} against {other}", sizes.rate),
            ours: format!("{stem}/{own}/delay"),
            other: format!("{stem}/{other}/delay"),
            ratio,
            quartiles,
            rounds: pairs.len(),
            target,
        });
        let (Some(ours), Some(theirs)) = (means.get(own), means.get(other)) else { continue };
        result.figures.push(Figure {
            name: format!("{stem}/mean delay, {own} over {other}"),
            unit: Unit::Plain,
            value: ours / theirs,
            target,
        });
    }
    result.settings.insert(format!("race_{}_requests", sizes.rate), json!(asked.by));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_lines_are_read() {
        let (told, found) = channel();
        relay("aiohttp", &b"ready\nhttps://x/notice/12 99\nnonsense x\n"[..], &told);
        drop(told);
        let all: Vec<_> = found.iter().map(|f| (f.notice, f.at_us)).collect();
        assert_eq!(all, [("12".to_owned(), 99)]);
    }

    #[test]
    fn publications_meet_every_part_of_a_spacing_alike() {
        let sizes = RaceSizes { rate: 10.0, publications: 300, stretch: Duration::from_millis(300) };
        let mut instants = Instants::new(3);
        let parts: Vec<f64> = (0..sizes.publications)
            .map(|_| (instants.next(&sizes).as_secs_f64() * sizes.rate).fract())
            .collect();
        for phase in [0.0, 0.3, 0.77] {
            // What one who asks at this part of every spacing waits, in spacings.
            let waits = parts.iter().map(|part| (phase + 1.0 - part).fract());
            let mean = waits.sum::<f64>() / parts.len() as f64;
            assert!((mean - 0.5).abs() < 0.01, "phase {phase}: {mean}");
        }
        assert_eq!(instants.next(&sizes), {
            let mut again = Instants::new(3);
            (0..sizes.publications).for_each(|_| _ = again.next(&sizes));
            again.next(&sizes)
        });
    }

    #[test]
    fn texts_are_found() {
        assert_eq!(text_of(br#"{"a":1,"id":"bithumb:7"}"#, "id"), Some("bithumb:7"));
        assert_eq!(text_of(b"{}", "id"), None);
    }
}
