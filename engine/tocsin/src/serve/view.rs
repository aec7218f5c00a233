//! The engine as the control plane may see it: counters that the threads publish, as JSON.
//!
//! Readers: control thread, main thread. Nothing here waits for a hot thread; two numbers may be of
//! different moments. The one lock is between the main and the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tocsin_core::feed::admission::refusal::RefusalCode;
use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::counters::Distribution;
use tocsin_core::source::SourceState;
use tocsin_core::source::backoff::Failure;
use tocsin_core::webhook::attempt::FailureClass;

use crate::control::EngineView;
use crate::net::tls::TlsFailure;
use crate::os::clock;
use crate::supervise;
use crate::threads::Pulse;
use crate::threads::accept::AcceptStats;
use crate::threads::feed::{FeedStats, SharedDistribution};
use crate::threads::journal::JournalCounters;
use crate::threads::mail::MailCounters;
use crate::threads::source::publish::Losses;
use crate::threads::source::stats::{Count, SourceStats};
use crate::threads::webhook::WebhookStats;

/// A thread's name, its pulse and the longest gap between two of its turns so far.
struct ThreadView {
    name: String,
    pulse: Option<Arc<Pulse>>,
    longest_gap_ns: u64,
}

/// See the module head.
pub(super) struct View {
    epoch: u64,
    sources: Vec<Arc<SourceStats>>,
    losses: Vec<Arc<Losses>>,
    feeds: Vec<Arc<FeedStats>>,
    accept: Arc<AcceptStats>,
    journal: Arc<JournalCounters>,
    webhooks: Arc<WebhookStats>,
    /// Where a mail server is configured.
    mail: Option<Arc<MailCounters>>,
    threads: Mutex<Vec<ThreadView>>,
    /// What was last logged of each source.
    told: Mutex<Vec<Option<SourceState>>>,
    draining: AtomicBool,
}

/// The counters a [`View`] is made of.
pub(super) struct ViewParts {
    pub(super) epoch: u64,
    pub(super) sources: Vec<Arc<SourceStats>>,
    pub(super) losses: Vec<Arc<Losses>>,
    pub(super) feeds: Vec<Arc<FeedStats>>,
    pub(super) accept: Arc<AcceptStats>,
    pub(super) journal: Arc<JournalCounters>,
    pub(super) webhooks: Arc<WebhookStats>,
    pub(super) mail: Option<Arc<MailCounters>>,
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Failures by class, those that have happened.
fn failures_of(stats: &SourceStats) -> Map<String, Value> {
    let classes = Failure::ALL.iter().map(|f| (f.name().to_owned(), stats.failures(*f)));
    let tls = TlsFailure::ALL.iter().map(|f| (format!("tls_{}", f.name()), stats.tls_failures(*f)));
    classes.chain(tls).filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.into())).collect()
}

/// Count, and the 50th, 99th and highest value, rounded up to the distribution's buckets.
fn summary<'a>(parts: impl Iterator<Item = &'a SharedDistribution>) -> Value {
    let mut all = Distribution::default();
    for part in parts {
        all.merge(&part.read());
    }
    json!({
        "count": all.count(),
        "p50": all.quantile(500),
        "p99": all.quantile(990),
        "max": all.quantile(1_000),
    })
}

impl View {
    pub(super) fn new(parts: ViewParts) -> View {
        let ViewParts { epoch, sources, losses, feeds, accept, journal, webhooks, mail } = parts;
        let (threads, draining) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let told = Mutex::new(vec![None; sources.len()]);
        View { epoch, sources, losses, feeds, accept, journal, webhooks, mail, threads, told, draining }
    }

    pub(super) fn note_thread(&self, name: &str, pulse: Option<&Arc<Pulse>>) {
        let thread = ThreadView { name: name.to_owned(), pulse: pulse.cloned(), longest_gap_ns: 0 };
        self.threads.lock().push(thread);
    }

    /// Takes the longest gaps since the last call into account. Main thread, every tick.
    pub(super) fn note_gaps(&self) {
        for thread in self.threads.lock().iter_mut() {
            let gap = thread.pulse.as_ref().map_or(0, |pulse| pulse.take_longest_gap_ns());
            thread.longest_gap_ns = thread.longest_gap_ns.max(gap);
        }
    }

    /// Logs sources whose state has changed since the last call. Main thread, every tick.
    pub(super) fn note_sources(&self) {
        for (stats, told) in self.sources.iter().zip(self.told.lock().iter_mut()) {
            let (source, state) = (stats.source, stats.state());
            let failures = failures_of(stats);
            // A source that has not been asked yet is down, and nobody needs to hear it.
            if *told == Some(state) || state == SourceState::Down && failures.is_empty() {
                continue;
            }
            *told = Some(state);
            let failures = Value::Object(failures);
            match state {
                SourceState::Live => tracing::info!(source, state = state.name(), "source changed state"),
                _ => tracing::warn!(source, state = state.name(), %failures, "source changed state"),
            }
        }
    }

    /// Sessions on their way to or with a feed writer.
    pub(super) fn live_sessions(&self) -> u64 {
        self.accept.sessions.get()
    }

    fn sources(&self) -> Value {
        let source = |stats: &Arc<SourceStats>| {
            let mut counts: Map<String, Value> =
                Count::ALL.iter().map(|c| (c.name().to_owned(), stats.count(*c).into())).collect();
            let (cold, hot) = stats.rates();
            counts.insert("name".into(), stats.source.into());
            counts.insert("state".into(), stats.state().name().into());
            counts.insert("last_poll_us".into(), stats.last_poll().map(|at| at.0).into());
            counts.insert("last_item_us".into(), stats.last_item().map(|at| at.0).into());
            counts.insert("connections".into(), stats.connections().into());
            counts.insert("requests_per_second".into(), json!({"between_windows": cold, "within": hot}));
            counts.insert("failures".into(), failures_of(stats).into());
            Value::Object(counts)
        };
        self.sources.iter().map(source).collect()
    }

    fn feed(&self) -> Value {
        let sum = |of: fn(&FeedStats) -> &AtomicU64| self.feeds.iter().map(|f| load(of(f))).sum::<u64>();
        let closed: Map<String, Value> = CloseReason::ALL
            .iter()
            .enumerate()
            .map(|(i, reason)| {
                let count: u64 = self.feeds.iter().filter_map(|f| f.closes.get(i)).map(load).sum();
                (reason.name().to_owned(), count.into())
            })
            .collect();
        let losses = |of: fn(&Losses) -> &AtomicU64| self.losses.iter().map(|l| load(of(l))).sum::<u64>();
        json!({
            "connections": sum(|f| &f.connections),
            "joins": sum(|f| &f.joins),
            "closed": closed,
            "announcements": sum(|f| &f.announcements),
            "late": sum(|f| &f.late),
            "out_of_order": sum(|f| &f.out_of_order),
            "messages": sum(|f| &f.messages),
            "from_history": sum(|f| &f.from_history),
            "heartbeats": sum(|f| &f.heartbeats),
            "bytes": sum(|f| &f.bytes),
            "blocked": sum(|f| &f.blocked),
            "client_messages": sum(|f| &f.client_messages),
            "rtt_us": summary(self.feeds.iter().map(|f| &f.rtt_us)),
            "fanout_first_ns": summary(self.feeds.iter().map(|f| &f.fanout_first_ns)),
            "fanout_last_ns": summary(self.feeds.iter().map(|f| &f.fanout_last_ns)),
            "ring_waited": losses(|l| &l.feed_waited),
            "ring_dropped": losses(|l| &l.feed_dropped),
        })
    }

    fn accept(&self) -> Value {
        let a = &self.accept;
        let refused: Map<String, Value> =
            RefusalCode::ALL.iter().map(|c| (c.name().to_owned(), a.refused(*c).into())).collect();
        let tls_failed: Map<String, Value> =
            TlsFailure::ALL.iter().map(|f| (f.name().to_owned(), a.tls_failed(*f).into())).collect();
        json!({
            "accepted": a.accepted.get(),
            "admitted": a.admitted.get(),
            "sessions": a.sessions.get(),
            "handshakes_in_progress": a.in_progress.get(),
            "refused": refused,
            "tls_failed": tls_failed,
            "tls_full": a.tls_full.get(),
            "tls_resumed": a.tls_resumed.get(),
            "timeouts": a.timeouts.get(),
            "gone": a.gone.get(),
            "not_proxied": a.not_proxied.get(),
            "over_share": a.over_share.get(),
            "out_of_descriptors": a.out_of_descriptors.get(),
            "history_answers": a.history_answers.get(),
            "invalid_keys_remembered": a.invalid_keys_remembered.get(),
            "waiting_for_writers": a.waiting_for_writers.get(),
        })
    }

    fn webhooks(&self) -> Value {
        let w = &self.webhooks;
        let failed: Map<String, Value> = FailureClass::ALL
            .iter()
            .zip(&w.failed)
            .map(|(class, count)| (class.name().to_owned(), load(count).into()))
            .collect();
        let losses = |of: fn(&Losses) -> &AtomicU64| self.losses.iter().map(|l| load(of(l))).sum::<u64>();
        json!({
            "endpoints": load(&w.endpoints),
            "connections": load(&w.connections),
            "pending": load(&w.pending),
            "in_flight": load(&w.in_flight),
            "events": load(&w.events),
            "delivered": load(&w.delivered),
            "failed": failed,
            "given_up": load(&w.given_up),
            "expired": load(&w.expired),
            "resent": load(&w.resent),
            "opened": load(&w.opened),
            "resumed": load(&w.resumed),
            "lookups": load(&w.lookups),
            "first_write_ns": summary(std::iter::once(&w.first_write_ns)),
            "first_byte_us": summary(std::iter::once(&w.first_byte_us)),
            "ring_dropped": losses(|l| &l.webhook_dropped),
            "shared_memory_full": load(&w.log_full),
            "journal_dropped": load(&w.journal_dropped),
        })
    }

    fn mail(&self) -> Value {
        let Some(mail) = &self.mail else { return Value::Null };
        json!({
            "sent": load(&mail.sent),
            "deferred": load(&mail.deferred),
            "given_up": load(&mail.given_up),
            "server_failures": load(&mail.server_failures),
        })
    }

    fn journal(&self) -> Value {
        let j = &self.journal;
        let losses = |of: fn(&Losses) -> &AtomicU64| self.losses.iter().map(|l| load(of(l))).sum::<u64>();
        json!({
            "rows": load(&j.rows),
            "commits": load(&j.commits),
            "failures": load(&j.failures),
            "rejected": load(&j.rejected),
            "recovered": load(&j.recovered),
            "backlog_rows": load(&j.backlog_rows),
            "ring_waited": losses(|l| &l.journal_waited),
            "ring_dropped": losses(|l| &l.journal_dropped),
            "shared_memory_full": losses(|l| &l.log_full),
        })
    }
}

impl EngineView for View {
    fn status(&self) -> Value {
        let now = clock::mono();
        let thread = |t: &ThreadView| {
            let still = t.pulse.as_ref().map(|p| now.since(p.last_turn()).as_micros() as u64);
            json!({"name": t.name, "still_us": still, "longest_gap_us": t.longest_gap_ns / 1_000})
        };
        json!({
            "epoch": self.epoch,
            "draining": self.draining.load(Ordering::Relaxed),
            "sources": self.sources(),
            "feed": self.feed(),
            "accept": self.accept(),
            "journal": self.journal(),
            "webhooks": self.webhooks(),
            "mail": self.mail(),
            "threads": self.threads.lock().iter().map(thread).collect::<Value>(),
        })
    }

    fn is_alive(&self) -> bool {
        let now = clock::mono();
        self.threads.lock().iter().all(|t| t.pulse.as_ref().is_none_or(|p| !supervise::is_stuck(p, now)))
    }

    fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn connections(&self) -> u64 {
        self.feeds.iter().map(|feed| load(&feed.connections)).sum()
    }

    fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && self.is_alive()
    }
}
