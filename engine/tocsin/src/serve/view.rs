//! The engine as the control plane may see it: counters that the threads publish, as typed values.
//!
//! Readers: control thread, main thread. Nothing here waits for a hot thread; two numbers may be of
//! different moments. The one lock is between the main and the control thread.

mod read;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tocsin_core::source::SourceState;
use tocsin_core::time::{Mono, WallUs};

use crate::control::EngineView;
use crate::control::metrics::Host;
use crate::control::snapshot::{NotReady, Snapshot, ThreadSnapshot, Unready};
use crate::logging;
use crate::net::tls::SharedTls;
use crate::os::clock;
use crate::os::process::ProcessUse;
use crate::os::timesync::{self, KernelClock};
use crate::store::StoreSize;
use crate::supervise;
use crate::threads::Pulse;
use crate::threads::accept::AcceptStats;
use crate::threads::feed::FeedStats;
use crate::threads::journal::JournalCounters;
use crate::threads::mail::MailCounters;
use crate::threads::market::MarketStats;
use crate::threads::recorder::RecorderCounters;
use crate::threads::source::publish::Losses;
use crate::threads::source::stats::SourceStats;
use crate::threads::webhook::WebhookStats;

/// A thread's recent longest gap is that of this window and of the one before.
const GAP_WINDOW: Duration = Duration::from_secs(30);

/// A thread's name, its pulse and the longest gaps between two of its turns: so far, in the window that
/// runs, and in the one before.
struct ThreadView {
    name: String,
    pulse: Option<Arc<Pulse>>,
    longest_gap_ns: u64,
    window_gap_ns: u64,
    last_window_gap_ns: u64,
}

impl ThreadView {
    fn is_stuck(&self, now: Mono) -> bool {
        self.pulse.as_ref().is_some_and(|pulse| supervise::is_stuck(pulse, now))
    }

    fn snapshot(&self, now: Mono) -> ThreadSnapshot {
        ThreadSnapshot {
            name: self.name.clone(),
            still_us: self.pulse.as_ref().map(|p| now.since(p.last_turn()).as_micros() as u64),
            longest_gap_us: self.longest_gap_ns / 1_000,
            recent_gap_us: self.window_gap_ns.max(self.last_window_gap_ns) / 1_000,
        }
    }
}

#[derive(Default)]
struct Threads {
    all: Vec<ThreadView>,
    window_began: Mono,
}

/// See the module head.
pub(super) struct View {
    parts: ViewParts,
    started_at: WallUs,
    threads: Mutex<Threads>,
    /// What was last logged of each source.
    told: Mutex<Vec<Option<SourceState>>>,
    draining: AtomicBool,
}

/// What a [`View`] is made of: the counters, and what is asked of the machine.
pub(super) struct ViewParts {
    pub(super) epoch: u64,
    pub(super) sources: Vec<Arc<SourceStats>>,
    pub(super) losses: Vec<Arc<Losses>>,
    pub(super) feeds: Vec<Arc<FeedStats>>,
    pub(super) accept: Arc<AcceptStats>,
    pub(super) journal: Arc<JournalCounters>,
    pub(super) webhooks: Arc<WebhookStats>,
    /// Where markets are watched.
    pub(super) market: Option<Arc<MarketStats>>,
    /// Where a mail server is configured.
    pub(super) mail: Option<Arc<MailCounters>>,
    /// Where something is recorded.
    pub(super) recorder: Option<Arc<RecorderCounters>>,
    pub(super) machine: Machine,
}

/// What is asked beside the counters.
pub(super) struct Machine {
    /// Where the feed or the admin listener serves TLS.
    pub(super) certificate: Option<SharedTls>,
    pub(super) data_dir: PathBuf,
    /// `clock.require_synchronised`.
    pub(super) require_clock: bool,
}

impl View {
    pub(super) fn new(parts: ViewParts) -> View {
        let (threads, draining) = (Mutex::default(), AtomicBool::new(false));
        let told = Mutex::new(vec![None; parts.sources.len()]);
        View { parts, started_at: clock::wall(), threads, told, draining }
    }

    /// What the recorder has done, as the status has it; null without one.
    pub(super) fn recorder(&self) -> serde_json::Value {
        let recorder = self.parts.recorder.as_deref().map(read::recorder);
        // Cannot fail: numbers under names.
        serde_json::to_value(recorder).unwrap_or_default()
    }

    /// Before the thread starts.
    pub(super) fn note_thread(&self, name: &str, pulse: Option<&Arc<Pulse>>) {
        if let Some(pulse) = pulse {
            pulse.begin(clock::mono());
        }
        self.threads.lock().all.push(ThreadView {
            name: name.to_owned(),
            pulse: pulse.cloned(),
            longest_gap_ns: 0,
            window_gap_ns: 0,
            last_window_gap_ns: 0,
        });
    }

    /// Takes the longest gaps since the last call into account. Main thread, every tick.
    pub(super) fn note_gaps(&self) {
        self.note_gaps_at(clock::mono());
    }

    fn note_gaps_at(&self, now: Mono) {
        let mut threads = self.threads.lock();
        let next_window = now.since(threads.window_began) >= GAP_WINDOW;
        if next_window {
            threads.window_began = now;
        }
        for thread in &mut threads.all {
            let gap = thread.pulse.as_ref().map_or(0, |pulse| pulse.take_longest_gap_ns());
            thread.longest_gap_ns = thread.longest_gap_ns.max(gap);
            if next_window {
                thread.last_window_gap_ns = std::mem::take(&mut thread.window_gap_ns);
            }
            thread.window_gap_ns = thread.window_gap_ns.max(gap);
        }
    }

    /// Logs sources whose state has changed since the last call. Main thread, every tick.
    pub(super) fn note_sources(&self) {
        for (stats, told) in self.parts.sources.iter().zip(self.told.lock().iter_mut()) {
            let (source, state) = (stats.source, stats.state());
            if *told == Some(state) {
                continue;
            }
            let failures = read::source(stats).failures_that_happened();
            // A source that has not been asked yet is down, and nobody needs to hear it.
            if state == SourceState::Down && failures.is_empty() {
                continue;
            }
            *told = Some(state);
            let failures = serde_json::Value::Object(failures);
            match state {
                SourceState::Live => tracing::info!(source, state = state.name(), "source changed state"),
                _ => tracing::warn!(source, state = state.name(), %failures, "source changed state"),
            }
        }
    }

    /// Sessions on their way to or with a feed writer.
    pub(super) fn live_sessions(&self) -> u64 {
        self.parts.accept.sessions.get()
    }

    fn standing(&self) -> Vec<String> {
        let now = clock::mono();
        self.threads.lock().all.iter().filter(|t| t.is_stuck(now)).map(|t| t.name.clone()).collect()
    }
}

/// What stands against being ready, worst first.
fn not_ready(
    draining: bool,
    standing: &[String],
    sources: &[(&str, SourceState)],
    clock: Option<&std::io::Result<KernelClock>>,
) -> Vec<NotReady> {
    let mut reasons = Vec::new();
    let mut say = |code, detail: String| reasons.push(NotReady { code, detail });
    if draining {
        say(Unready::Draining, "the service stops or restarts".to_owned());
    }
    if !standing.is_empty() {
        say(Unready::ThreadStands, format!("no turn for 5 s: {}", standing.join(", ")));
    }
    // Without any source there is nothing to be live: manual alerts and history are served.
    if !sources.is_empty() && sources.iter().all(|(_, state)| *state != SourceState::Live) {
        let states: Vec<String> = sources.iter().map(|(n, state)| format!("{n} {}", state.name())).collect();
        say(Unready::NoSourceLive, states.join(", "));
    }
    match clock {
        None | Some(Ok(KernelClock { synchronised: true, .. })) => {}
        Some(Ok(_)) => say(
            Unready::ClockUnsynchronised,
            "the kernel's clock is not kept by a time service: start chrony, or set clock.require_synchronised to false".to_owned(),
        ),
        Some(Err(error)) => say(
            Unready::ClockUnsynchronised,
            format!("the kernel does not tell ({error}): allow adjtimex, or set clock.require_synchronised to false"),
        ),
    }
    reasons
}

impl EngineView for View {
    fn snapshot(&self) -> Snapshot {
        let now = clock::mono();
        let threads = self.threads.lock().all.iter().map(|thread| thread.snapshot(now)).collect();
        Snapshot {
            epoch: self.parts.epoch,
            draining: self.draining.load(Ordering::Relaxed),
            started_at: self.started_at,
            not_ready: self.not_ready(),
            sources: self.parts.sources.iter().map(|stats| read::source(stats)).collect(),
            feed: read::feed(&self.parts),
            accept: read::accept(&self.parts.accept),
            journal: read::journal(&self.parts),
            webhooks: read::webhooks(&self.parts),
            market: self.parts.market.as_deref().map(|stats| read::market(stats, &self.parts)),
            mail: self.parts.mail.as_deref().map(read::mail),
            errors: logging::reported().list(),
            recorder: self.parts.recorder.as_deref().map(read::recorder),
            threads,
            certificate_not_after: self
                .parts
                .machine
                .certificate
                .as_ref()
                .and_then(|tls| tls.get().expires_at()),
        }
    }

    fn host(&self) -> Host {
        Host {
            process: ProcessUse::read().ok(),
            clock: timesync::read().ok(),
            store: StoreSize::read(&self.parts.machine.data_dir).ok(),
        }
    }

    fn is_alive(&self) -> bool {
        self.standing().is_empty()
    }

    fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn connections(&self) -> u64 {
        self.parts.feeds.iter().map(|feed| feed.connections.load(Ordering::Relaxed)).sum()
    }

    fn not_ready(&self) -> Vec<NotReady> {
        let sources: Vec<_> = self.parts.sources.iter().map(|stats| (stats.source, stats.state())).collect();
        let clock = self.parts.machine.require_clock.then(timesync::read);
        not_ready(self.draining.load(Ordering::Relaxed), &self.standing(), &sources, clock.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(reasons: &[NotReady]) -> Vec<&'static str> {
        reasons.iter().map(|reason| reason.code.name()).collect()
    }

    #[test]
    fn every_reason_of_not_being_ready_is_told() {
        use SourceState::{Blocked, Down, Live, Stale};
        let clock = |synchronised| {
            Ok(KernelClock { synchronised, estimated_error: Duration::ZERO, maximum_error: Duration::ZERO })
        };
        let (good, bad, forbidden) = (clock(true), clock(false), Err(std::io::Error::other("forbidden")));
        let live = [("a.web", Live), ("b.web", Down)];
        assert!(not_ready(false, &[], &live, Some(&good)).is_empty());
        assert!(not_ready(false, &[], &[], None).is_empty(), "without sources none has to be live");

        let dead = [("a.web", Stale), ("b.web", Blocked), ("c.web", Down)];
        let all = not_ready(true, &["feed-0".to_owned()], &dead, Some(&bad));
        assert_eq!(codes(&all), Unready::ALL.map(Unready::name));
        assert!(all[1].detail.contains("feed-0"));
        assert_eq!(all[2].detail, "a.web stale, b.web blocked, c.web down");
        let unsaid = not_ready(false, &[], &[], Some(&forbidden));
        assert_eq!(codes(&unsaid), ["clock_unsynchronised"]);
        assert!(unsaid[0].detail.contains("forbidden"));
        assert_eq!(serde_json::to_value(&unsaid).unwrap()[0]["code"], "clock_unsynchronised");
    }

    #[test]
    fn the_recent_gap_forgets_and_the_longest_does_not() {
        let pulse = Arc::new(Pulse::default());
        let view = View::new(ViewParts {
            epoch: 1,
            sources: Vec::new(),
            losses: Vec::new(),
            feeds: Vec::new(),
            accept: Arc::default(),
            journal: Arc::default(),
            webhooks: Arc::default(),
            market: None,
            mail: None,
            recorder: None,
            machine: Machine { certificate: None, data_dir: PathBuf::new(), require_clock: false },
        });
        view.note_thread("feed-0", Some(&pulse));
        assert!(view.is_alive(), "a thread that has not had its first turn does not stand");
        let gaps = |secs: u64, gap_ms: u64| {
            pulse.note_gap(Duration::from_millis(gap_ms));
            view.note_gaps_at(Mono(1_000 * 1_000_000_000) + Duration::from_secs(secs));
            let thread = view.snapshot().threads.remove(0);
            (thread.recent_gap_us, thread.longest_gap_us)
        };
        assert_eq!(gaps(0, 1), (1_000, 1_000));
        assert_eq!(gaps(10, 70), (70_000, 70_000));
        assert_eq!(gaps(20, 2), (70_000, 70_000));
        assert_eq!(gaps(35, 3), (70_000, 70_000), "the window before counts");
        assert_eq!(gaps(66, 4), (4_000, 70_000));
    }
}
