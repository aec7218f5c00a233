//! What a soak plays on: the engine, its exchanges, subscribers and endpoints.
//!
//! Contract: [`Stage::set`] starts everything with the history filled as far as the engine keeps it in memory,
//! and what each source and the webhook thread remember too, so that memory does not grow for that. A notice is
//! known by its number ([`ticker`]). Notices of one exchange that nobody has heard of are bounded: its page holds
//! twenty. Owner: the suite's thread. Blocks and allocates.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;
use tocsin::os::clock;
use tocsin::store::{Row, Store};
use tocsin_core::detect::{SeenRecord, fingerprint};
use tocsin_core::limits;
use tocsin_core::source::exchange;
use tocsin_core::webhook::endpoint::State;
use tocsin_sim::receiver::{Behaviour, ReceiverOptions, SimReceiver};
use tocsin_sim::{Category, Draft, Fault as ExchangeFault, Kind, Options, SimExchange};

use super::deliveries::Deliveries;
use super::subscribers::{Order, Thread, Who};
use super::{Fault, Sizes};
use crate::engine::{Outcome, Setup};
use crate::result::{Unit, new_histogram};
use crate::suites::webhook::filled::{Filled, urls};

/// Before the number in an endpoint's path.
pub(super) const STEM: &str = "soak";
/// Before the number in a ticker.
const TICKER: &[u8] = b"SOAK";
/// Notices of one exchange that nobody has heard yet.
const UNHEARD: usize = 6;
/// Every exchange has answered once within this.
const BASELINE_PATIENCE: Duration = Duration::from_secs(60);

/// The ticker of a notice.
fn ticker(number: u64) -> String {
    format!("SOAK{number}")
}

/// The number in the first ticker of a text.
pub(super) fn number_of_ticker(text: &[u8]) -> Option<u64> {
    let at = text.windows(TICKER.len()).position(|part| part == TICKER)? + TICKER.len();
    let digits = text.get(at..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// A simulated exchange, and its notices that nobody has heard yet.
struct Place {
    sim: SimExchange,
    unheard: BTreeSet<u64>,
}

/// See the module head.
pub(super) struct Stage {
    target: Filled,
    places: Vec<Place>,
    receiver: SimReceiver,
    staying: Thread,
    coming: Thread,
    deliveries: Deliveries,
    sizes: Sizes,
    published: u64,
    /// Notices that found no room.
    held_back: u64,
    /// Feed latencies of the whole run.
    whole: Histogram<u64>,
    whole_webhook: Histogram<u64>,
    _certificates: TempDir,
}

impl Stage {
    pub(super) fn set(sizes: &Sizes, seed: u64) -> Outcome<Stage> {
        let certificates = tempfile::tempdir()?;
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for kind in Kind::DEFAULT {
            let sim = SimExchange::start(kind, Options { seed: seed + kind as u64, ..Options::default() })?;
            let ca_file = certificates.path().join(format!("{}.pem", kind.name()));
            std::fs::write(&ca_file, sim.ca_pem())?;
            let lines = format!(
                "enabled = true\nbase_url = {:?}\nca_file = {ca_file:?}\nrequests_per_second = 5\nflat = true",
                sim.base_url()
            );
            sources.push((kind.name(), lines));
            places.push(Place { sim, unheard: BTreeSet::new() });
        }
        let receiver =
            SimReceiver::start(ReceiverOptions { connections: 32_768, ..ReceiverOptions::default() })?;
        let setup = Setup { tls: true, idle: "block", sources, count_heap: true, ..Setup::default() };
        let mut target = Filled::with(setup, receiver.ca().pem())?;
        target.fill(&urls(&receiver, STEM, sizes.endpoints), State::Active)?;
        fill_seen(&target)?;
        target.leave_events(&[], limits::WEBHOOK_IDENTITIES)?;
        target.engine.start()?;
        await_baselines(&target)?;
        fill_history(&target, sizes.history)?;
        target.warm(sizes.endpoints)?;
        let key = target.engine.key(sizes.staying + sizes.coming + 2 * sizes.deaf)?;
        let who = |count| Who { feed: target.engine.feed(), key: key.clone(), count };
        let staying = Thread::start("staying", who(sizes.staying))?;
        let coming = Thread::start("coming", who(sizes.coming))?;
        Ok(Stage {
            places,
            receiver,
            staying,
            coming,
            deliveries: Deliveries::new(sizes.endpoints),
            sizes: sizes.clone(),
            published: 0,
            held_back: 0,
            whole: new_histogram(),
            whole_webhook: new_histogram(),
            _certificates: certificates,
            target,
        })
    }

    /// Takes what came, and whether everybody is well.
    pub(super) fn look(&mut self) -> Outcome<()> {
        self.staying.check()?;
        self.coming.check()?;
        let heard = std::mem::take(&mut self.staying.shared.lock().heard);
        for number in heard {
            for place in &mut self.places {
                place.unheard.remove(&number);
            }
        }
        self.deliveries.take(&self.receiver);
        Ok(())
    }

    /// Publishes so many notices, on the exchanges in turn, where there is room.
    pub(super) fn publish(&mut self, count: usize) {
        let places = self.places.len().max(1);
        for _ in 0..count {
            let number = self.published + self.held_back;
            let at = usize::try_from(number).unwrap_or(0) % places;
            let room = |place: &Place| place.unheard.len() < UNHEARD;
            let (before, after) = self.places.split_at_mut(at);
            let Some(place) = after.iter_mut().chain(before).find(|place| room(place)) else {
                self.held_back += 1;
                continue;
            };
            // First, for it may be heard before the exchange's handle comes back.
            place.unheard.insert(number);
            let title = title(place.sim.kind(), &ticker(number));
            place.sim.publish(Draft::new(Category::Listing, title));
            self.published += 1;
        }
    }

    pub(super) fn inject(&mut self, fault: Fault, round: u32) -> Outcome<()> {
        let round = usize::try_from(round).unwrap_or(0);
        let places = self.places.len().max(1);
        let place = |behind: usize| self.places.get((round + behind) % places);
        match fault {
            Fault::Resets => self.coming.tell(Order::Reset)?,
            Fault::Refusal => {
                place(0).into_iter().for_each(|p| p.sim.fault_next(2, ExchangeFault::TooFrequent));
            }
            Fault::Dropped => place(1).into_iter().for_each(|p| p.sim.drop_connections()),
            Fault::Deaf => self.coming.tell(Order::Deaf(self.sizes.deaf))?,
            Fault::Burst => self.publish(self.sizes.burst * places),
            Fault::Receivers => {
                for n in 0..self.sizes.failing {
                    let endpoint = (round * self.sizes.failing + n) % self.sizes.endpoints.max(1);
                    let once = match n % 3 {
                        0 => Behaviour::status(503),
                        1 => Behaviour::reset(),
                        _ => Behaviour::hang_up(),
                    };
                    self.receiver.behave(&format!("/{STEM}{endpoint}"), vec![once, Behaviour::ok()]);
                }
            }
        }
        Ok(())
    }

    /// What is seen now: names as in [`super::judge`].
    pub(super) fn sample(&mut self) -> Outcome<Vec<(&'static str, Unit, f64)>> {
        let (feed, webhook) = self.take_latencies();
        let status = self.status()?;
        let mut seen = vec![
            ("memory/in use", Unit::Bytes, self.target.engine.heap()? as f64),
            ("memory/allocated", Unit::Bytes, self.target.engine.memory("VmData")? as f64),
            ("memory/resident", Unit::Bytes, self.target.engine.memory("VmRSS")? as f64),
            ("descriptors/open", Unit::Plain, self.descriptors()? as f64),
            ("webhooks/pending", Unit::Plain, number(&status, "/webhooks/pending")? as f64),
            ("webhooks/connections", Unit::Plain, number(&status, "/webhooks/connections")? as f64),
            ("subscribers/connected", Unit::Plain, number(&status, "/feed/connections")? as f64),
        ];
        let ns = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64;
        if !feed.is_empty() {
            seen.push(("feed latency/p50", Unit::Nanoseconds, ns(&feed, 0.5)));
            seen.push(("feed latency/p99", Unit::Nanoseconds, ns(&feed, 0.99)));
        }
        if !webhook.is_empty() {
            seen.push(("webhook latency/p50", Unit::Nanoseconds, ns(&webhook, 0.5)));
            seen.push(("webhook latency/p99", Unit::Nanoseconds, ns(&webhook, 0.99)));
        }
        Ok(seen)
    }

    /// Latencies since the last call; they are part of the whole run's then.
    fn take_latencies(&mut self) -> (Histogram<u64>, Histogram<u64>) {
        let feed = {
            let mut shared = self.staying.shared.lock();
            self.deliveries.match_up(&shared.detected);
            shared.take_latency()
        };
        // Those who come and go measure their own coming back: it is not judged.
        drop(self.coming.shared.lock().take_latency());
        let webhook = std::mem::replace(&mut self.deliveries.latency, new_histogram());
        // Alike by construction, so that they add up.
        let _ = self.whole.add(&feed);
        let _ = self.whole_webhook.add(&webhook);
        (feed, webhook)
    }

    fn descriptors(&self) -> Outcome<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.target.engine.pid()))?.count())
    }

    fn status(&self) -> Outcome<Value> {
        self.target.engine.admin("GET", "/admin/v1/status", None)
    }

    /// Whether all that was published is heard and delivered.
    pub(super) fn is_quiet(&mut self) -> Outcome<bool> {
        let unheard = self.places.iter().any(|place| !place.unheard.is_empty());
        let status = self.status()?;
        let waits = number(&status, "/webhooks/pending")? + number(&status, "/webhooks/in_flight")?;
        Ok(!unheard && waits == 0 && self.deliveries.open() == 0)
    }

    /// Counts of the whole run; `true`: there should be none.
    pub(super) fn totals(&mut self) -> Outcome<Vec<(&'static str, f64, bool)>> {
        let status = self.status()?;
        let of = |pointer: &str| number(&status, pointer).map(|count| count as f64);
        let unheard: usize = self.places.iter().map(|place| place.unheard.len()).sum();
        Ok(vec![
            ("notices published", self.published as f64, false),
            ("notices held back, for nobody had heard those before", self.held_back as f64, false),
            ("messages read by subscribers", self.messages() as f64, false),
            ("deliveries accepted", self.deliveries.accepted as f64, false),
            ("deliveries failed on purpose", self.deliveries.refused as f64, false),
            ("deliveries accepted once more, same id", self.deliveries.repeated as f64, false),
            ("closed, too slow", of("/feed/closed/too_slow")?, false),
            ("closed, no pong", of("/feed/closed/pong_timeout")?, false),
            ("connections accepted", of("/accept/accepted")?, false),
            ("notices nobody heard", unheard as f64, true),
            ("events not accepted by every endpoint", self.deliveries.open() as f64, true),
            ("deliveries pending at the end", of("/webhooks/pending")?, true),
            ("deliveries given up", of("/webhooks/given_up")?, true),
            ("deliveries expired", of("/webhooks/expired")?, true),
            ("feed ring, dropped", of("/feed/ring_dropped")?, true),
            ("journal ring, dropped", of("/journal/ring_dropped")?, true),
            ("journal, shared memory full", of("/journal/shared_memory_full")?, true),
            ("journal, commits refused", of("/journal/failures")?, true),
            ("webhook ring, dropped", of("/webhooks/ring_dropped")?, true),
            ("webhook journal, dropped", of("/webhooks/journal_dropped")?, true),
        ])
    }

    fn messages(&self) -> u64 {
        self.staying.shared.lock().messages + self.coming.shared.lock().messages
    }

    /// Ends the subscribers: every promise that was broken, and the latencies of the whole run.
    #[allow(clippy::type_complexity, reason = "named where it is used")]
    pub(super) fn end(mut self) -> Outcome<(Vec<String>, Vec<(&'static str, Histogram<u64>)>)> {
        self.take_latencies();
        self.staying.join()?;
        self.coming.join()?;
        let mut broken = std::mem::take(&mut self.deliveries.broken);
        for thread in [&self.staying, &self.coming] {
            broken.append(&mut thread.shared.lock().broken);
        }
        Ok((broken, vec![("soak/feed latency", self.whole), ("soak/webhook latency", self.whole_webhook)]))
    }
}

fn number(status: &Value, pointer: &str) -> Outcome<u64> {
    let found = status.pointer(pointer).and_then(Value::as_u64);
    Ok(found.ok_or_else(|| format!("no {pointer} in the status"))?)
}

fn title(kind: Kind, ticker: &str) -> String {
    match kind {
        Kind::Binance => format!("Binance Will List Soaked Token {ticker} ({ticker})"),
        Kind::Upbit => format!("소크 {ticker}({ticker}) KRW 마켓 디지털 자산 추가"),
        _ => format!("소크 {ticker}({ticker}) 원화 마켓 추가"),
    }
}

/// As many listings as each source remembers, in the store before the engine reads it: what a source keeps
/// of a new notice takes the place of what it kept of an old one.
fn fill_seen(target: &Filled) -> Outcome<()> {
    let mut store = Store::open(&target.engine.data())?;
    let now = clock::wall();
    for kind in Kind::DEFAULT {
        let spec = exchange::by_config_name(kind.name()).ok_or("no such source")?;
        let record = |number: usize| {
            let title = title(kind, &format!("OLD{number}"));
            let fingerprint = fingerprint(&title, now);
            let (source, notice_id) = (spec.name, format!("old{number:029}").into());
            SeenRecord { source, notice_id, title: title.into(), fingerprint, published: now }
        };
        let records: Vec<SeenRecord> = (0..limits::SEEN_ITEMS.max(limits::TOLD_ITEMS)).map(record).collect();
        store.commit(&records.iter().map(Row::Seen).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Until every source has taken its first page as known.
fn await_baselines(target: &Filled) -> Outcome<()> {
    let end = Instant::now() + BASELINE_PATIENCE;
    loop {
        let status = target.engine.admin("GET", "/admin/v1/status", None)?;
        let sources = status.get("sources").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let done = |kind: Kind| {
            let spec = exchange::by_config_name(kind.name())?;
            let source = sources.iter().find(|s| s.get("name").and_then(Value::as_str) == Some(spec.name))?;
            Some(source.get("parsed")?.as_u64()? >= spec.lists.len() as u64)
        };
        if Kind::DEFAULT.into_iter().all(|kind| done(kind) == Some(true)) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("a source has no first answer: {sources:?}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// As many announcements as are kept in memory, through the engine itself: what it reads back at its start lies
/// in memory that its source threads never use again, and resident memory would grow by as much once more.
/// They are no listings, so that no endpoint hears of them, and as long as the notices that will take their place
/// with addresses and markets.
fn fill_history(target: &Filled, count: usize) -> Outcome<()> {
    let long = "and of What Was Told Before ".repeat(4);
    for number in 0..count {
        let body = json!({
            "exchange": "binance", "title": format!("Binance Will Tell of Old Token {number} (OLD{number}) {long}"),
            "listing_type": "not_listing",
        });
        target.engine.admin("POST", "/admin/v1/announcements", Some(&body))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_known_by_its_number_in_every_language() {
        for kind in Kind::DEFAULT {
            assert_eq!(number_of_ticker(title(kind, &ticker(1_234)).as_bytes()), Some(1_234));
        }
        assert_eq!(number_of_ticker(b"SOAK7USDT"), Some(7));
        assert_eq!(number_of_ticker(b"SOAK"), None);
    }
}
