//! Suite `storm`: announcements to live subscribers while thousands of TLS clients come back at once, and
//! handshakes a second beside nginx.
//!
//! Contract: an engine whose hot threads have the first core, live subscribers in this process, the storm
//! in a process of its own on the second core; with one core for all it says so. Announcements are due at
//! fixed instants whatever happens, and a latency counts from its instant. Quiet and stormy phases take
//! turns, as do full and resumed handshakes, and as do engine and nginx. Owner: the runner's thread. Fails
//! when an engine or the clients do not start; without nginx the comparison is `missing`.

mod clients;
mod latency;
mod nginx;
mod tls;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitCode, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tocsin::net::tls::{GENERATED_CERT, GENERATED_KEY};
use tocsin::os::cores;

use self::nginx::Nginx;
use super::Context;
use crate::engine::{self, Engine, Outcome, Setup};
use crate::result::{Comparison, Missing, Series, SuiteResult, Target, Unit, new_histogram, ratio};

/// The hidden part of the storm's clients.
pub const CLIENTS: &str = "storm-clients";
/// Both ways to shake hands.
const HOW: [&str; 2] = ["full", "resumed"];
/// Promised: handshakes a second beside nginx's.
const NGINX_PART: f64 = 0.9;

/// Plays [`CLIENTS`].
#[must_use]
pub fn play_clients() -> ExitCode {
    clients::play()
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Clients of the storm.
    pub clients: usize,
    /// Live subscribers.
    pub live: usize,
    /// Storms of each kind.
    pub storms: usize,
    /// Length of a quiet phase.
    pub quiet: Duration,
    /// Between two announcements.
    pub interval: Duration,
    /// Rounds of the handshake comparison, and the length of each part of one.
    pub handshakes: (usize, Duration),
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        match context.quick {
            true => Sizes {
                clients: 300,
                live: 20,
                storms: 1,
                quiet: Duration::from_secs(3),
                interval: Duration::from_millis(50),
                handshakes: (2, Duration::from_secs(1)),
            },
            false => Sizes {
                clients: 5_000,
                live: 100,
                storms: 4,
                quiet: Duration::from_secs(6),
                interval: Duration::from_millis(25),
                handshakes: (7, Duration::from_secs(2)),
            },
        }
    }
}

/// The suite's entry.
///
/// # Errors
/// See the module head.
pub fn run(context: &Context) -> Result<SuiteResult, String> {
    measure(&Sizes::of(context)).map_err(|e| e.to_string())
}

/// Where the two sides run.
#[derive(Clone, Copy, Debug)]
struct Cores {
    server: Option<usize>,
    load: Option<usize>,
}

/// Measures with these sizes.
///
/// # Errors
/// See the module head.
pub fn measure(sizes: &Sizes) -> Outcome<SuiteResult> {
    let limit = tocsin::os::memory::raise_descriptor_limit()?;
    let mut result = SuiteResult { name: "storm".to_owned(), ..SuiteResult::default() };
    let cores = match cores::available()[..] {
        [server, load, ..] => Cores { server: Some(server), load: Some(load) },
        _ => Cores { server: None, load: None },
    };
    if cores.load.is_none() {
        result.notes.push("one core for servers and load: no figure here says much".to_owned());
    }
    let settings = [
        ("clients", json!(sizes.clients)),
        ("live", json!(sizes.live)),
        ("storms_of_each_kind", json!(sizes.storms)),
        ("interval_ms", json!(sizes.interval.as_millis() as u64)),
        ("server_core", json!(cores.server)),
        ("load_core", json!(cores.load)),
        ("cipher", json!("TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, ECDSA P-256 certificate")),
        ("nginx", json!(nginx::version())),
    ];
    result.settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if limit < sizes.clients as u64 + 512 {
        let why = format!("{limit} descriptors are too few; raise `ulimit -n`");
        result.missing.push(Missing { what: format!("a storm of {}", sizes.clients), why });
    } else {
        latency::measure(sizes, cores, &mut result)?;
    }
    handshakes(sizes, cores, &mut result)?;
    Ok(result)
}

/// The storm's clients, in their process.
struct Far {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Drop for Far {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with this one's pipes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Far {
    fn start(address: SocketAddr, count: usize, key: &str, core: Option<usize>) -> Outcome<Far> {
        let mut command = engine::part(CLIENTS)?;
        command.args([address.to_string(), count.to_string()]).stdin(Stdio::piped());
        let mut child = engine::spawn_on(core, command)?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = child.stdout.take().ok_or("no pipe")?;
        let (told, answers) = std::sync::mpsc::channel();
        let mut far = Far { child, input, answers };
        std::thread::Builder::new().name("storm-answers".to_owned()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        })?;
        far.say(key)?;
        Ok(far)
    }

    fn say(&mut self, line: &str) -> Outcome<()> {
        Ok(writeln!(self.input, "{line}")?)
    }

    /// Waits for the answer to the last command.
    fn answer(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.answers.recv().map_err(|_| "the clients have gone")?)?)
    }
}

fn number(answer: &Value, field: &str) -> Outcome<u64> {
    Ok(answer.get(field).and_then(Value::as_u64).ok_or_else(|| format!("no {field} in {answer}"))?)
}

/// What one server showed in one way of shaking hands.
struct Side {
    pid: u32,
    far: Far,
    rates: [Vec<u64>; 2],
    server_cpu_ns: [Vec<u64>; 2],
    client_cpu_ns: [Vec<u64>; 2],
    /// The load generator's busiest second, in thousandths of a core.
    busiest: u64,
    resumed_permille: u64,
}

impl Side {
    fn new(pid: u32, address: SocketAddr, core: Option<usize>) -> Outcome<Side> {
        Ok(Side {
            pid,
            far: Far::start(address, 0, "", core)?,
            rates: Default::default(),
            server_cpu_ns: Default::default(),
            client_cpu_ns: Default::default(),
            busiest: 0,
            resumed_permille: 1_000,
        })
    }

    fn round(&mut self, how: usize, lasts: Duration) -> Outcome<()> {
        let before = engine::cpu_time(self.pid)?;
        let name = HOW.get(how).copied().unwrap_or("full");
        self.far.say(&format!("churn {name} {}", lasts.as_millis()))?;
        let answer = self.far.answer()?;
        let server_ns = engine::cpu_time(self.pid)?.saturating_sub(before).as_nanos() as u64;
        let (done, took) = (number(&answer, "done")?, number(&answer, "took_ns")?);
        let (client_ns, resumed) = (number(&answer, "cpu_ns")?, number(&answer, "resumed")?);
        if done == 0 {
            return Err(format!("no handshake: {answer}").into());
        }
        let push = |to: &mut [Vec<u64>; 2], value| to.get_mut(how).map(|to| to.push(value));
        push(&mut self.rates, (done as f64 / took as f64 * 1e9) as u64);
        push(&mut self.server_cpu_ns, server_ns / done);
        push(&mut self.client_cpu_ns, client_ns / done);
        self.busiest = self.busiest.max(client_ns * 1_000 / took.max(1));
        if name == "resumed" {
            self.resumed_permille = self.resumed_permille.min(resumed * 1_000 / done);
        }
        Ok(())
    }
}

/// Handshakes a second, and what one costs the server.
fn handshakes(sizes: &Sizes, cores: Cores, result: &mut SuiteResult) -> Outcome<()> {
    let (rounds, lasts) = sizes.handshakes;
    let setup = Setup { tls: true, idle: "block", core: cores.server, ..Setup::default() };
    let engine = Engine::running(&setup)?;
    let (cert, key): (PathBuf, PathBuf) =
        (engine.data().join(GENERATED_CERT), engine.data().join(GENERATED_KEY));
    let other =
        if nginx::version().is_some() { Some(Nginx::start(&cert, &key, cores.server)?) } else { None };
    let mut sides = vec![("engine", Side::new(engine.pid(), engine.feed(), cores.load)?)];
    match &other {
        Some(nginx) => sides.push(("nginx", Side::new(nginx.pid(), nginx.address(), cores.load)?)),
        None => result.missing.push(Missing {
            what: "handshakes beside nginx".to_owned(),
            why: "nginx is not installed (scripts/setup-peers-suites)".to_owned(),
        }),
    }
    // Tickets for those who come back, and warm caches; not counted.
    for (_, side) in &mut sides {
        side.round(0, lasts)?;
        side.rates = Default::default();
        side.server_cpu_ns = Default::default();
        side.client_cpu_ns = Default::default();
    }
    for round in 0..rounds {
        for how in 0..HOW.len() {
            let turns = sides.len();
            for turn in 0..turns {
                // Nobody always comes first.
                if let Some((_, side)) = sides.get_mut((turn + round) % turns) {
                    side.round(how, lasts)?;
                }
            }
        }
    }
    for (who, side) in &sides {
        report_side(who, side, result);
    }
    if let [(_, ours), (_, theirs)] = &sides[..] {
        compare(ours, theirs, result);
    }
    Ok(())
}

fn histogram(values: &[u64]) -> Histogram<u64> {
    let mut histogram = new_histogram();
    values.iter().for_each(|value| histogram.saturating_record(*value));
    histogram
}

fn report_side(who: &str, side: &Side, result: &mut SuiteResult) {
    for (how, name) in HOW.iter().enumerate() {
        let all = [
            ("rate", Unit::PerSecond, &side.rates),
            ("server cpu each", Unit::Nanoseconds, &side.server_cpu_ns),
            ("client cpu each", Unit::Nanoseconds, &side.client_cpu_ns),
        ];
        for (of, unit, values) in all {
            let values = values.get(how).map_or(&[][..], Vec::as_slice);
            let name = format!("handshakes/{name}/{who}/{of}");
            result.series.push(Series::new(name, unit, &histogram(values)));
        }
    }
    result.notes.push(format!(
        "handshakes with {who}: the load generator used up to {:.2} of its core; of the resumed ones at least \
         {:.1} % were",
        side.busiest as f64 / 1e3,
        side.resumed_permille as f64 / 10.0
    ));
}

fn compare(ours: &Side, theirs: &Side, result: &mut SuiteResult) {
    let all = [
        ("rate", &ours.rates, &theirs.rates, Some(Target::AtLeast(NGINX_PART))),
        ("server cpu each", &ours.server_cpu_ns, &theirs.server_cpu_ns, None),
    ];
    for (of, ours, theirs, target) in all {
        for (how, (ours, theirs)) in HOW.iter().zip(ours.iter().zip(theirs)) {
            let rounds: Vec<_> = ours.iter().copied().zip(theirs.iter().copied()).collect();
            let Some((ratio, quartiles)) = ratio(&rounds) else { continue };
            result.comparisons.push(Comparison {
                name: format!("{how} handshakes, {of}, engine against nginx"),
                ours: format!("handshakes/{how}/engine/{of}"),
                other: format!("handshakes/{how}/nginx/{of}"),
                ratio,
                quartiles,
                rounds: rounds.len(),
                target,
            });
        }
    }
}
