//! From the threads' counters to typed values. Reads, sums over threads, decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use tocsin_core::feed::admission::refusal::RefusalCode;
use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::counters::Distribution;
use tocsin_core::market::MarketEventKind;
use tocsin_core::source::SourceState;
use tocsin_core::source::backoff::Failure;
use tocsin_core::webhook::attempt::FailureClass;

use super::ViewParts;
use crate::control::snapshot::{
    AcceptSnapshot, ByName, FeedSnapshot, JournalSnapshot, MailSnapshot, MarketRequestSnapshot,
    MarketSnapshot, SourceSnapshot, WebhookSnapshot,
};
use crate::control::snapshot::{RecorderLost, RecorderSnapshot};
use crate::net::tls::TlsFailure;
use crate::threads::accept::AcceptStats;
use crate::threads::feed::{FeedStats, SharedDistribution};
use crate::threads::mail::MailCounters;
use crate::threads::market::{MarketStats, RequestReport};
use crate::threads::recorder::RecorderCounters;
use crate::threads::source::publish::Losses;
use crate::threads::source::stats::{Count, SourceStats};

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn merged<'a>(parts: impl Iterator<Item = &'a SharedDistribution>) -> Distribution {
    let mut all = Distribution::default();
    for part in parts {
        all.merge(&part.read());
    }
    all
}

impl ViewParts {
    fn lost(&self, of: fn(&Losses) -> &AtomicU64) -> u64 {
        self.losses.iter().map(|losses| load(of(losses))).sum()
    }
}

pub(super) fn source(stats: &SourceStats) -> SourceSnapshot {
    SourceSnapshot {
        name: stats.source,
        state: stats.state(),
        last_poll: stats.last_poll(),
        last_item: stats.last_item(),
        connections: stats.connections(),
        requests_per_second: stats.rates(),
        counts: Count::ALL.iter().map(|count| (count.name(), stats.count(*count))).collect(),
        failures: Failure::ALL.iter().map(|class| (class.name(), stats.failures(*class))).collect(),
        tls_failures: TlsFailure::ALL.iter().map(|why| (why.name(), stats.tls_failures(*why))).collect(),
        delay_us: stats.delay_us.read(),
        processing_us: stats.processing_us.read(),
        behind_us: stats.behind_us.read(),
        last_won: stats.last_won(),
    }
}

pub(super) fn feed(parts: &ViewParts) -> FeedSnapshot {
    let sum = |of: fn(&FeedStats) -> &AtomicU64| parts.feeds.iter().map(|f| load(of(f))).sum::<u64>();
    let spread = |of: fn(&FeedStats) -> &SharedDistribution| merged(parts.feeds.iter().map(|f| of(f)));
    let closed = |(i, reason): (usize, &CloseReason)| {
        (reason.name(), parts.feeds.iter().filter_map(|f| f.closes.get(i)).map(load).sum())
    };
    FeedSnapshot {
        connections: sum(|f| &f.connections),
        joins: sum(|f| &f.joins),
        closed: CloseReason::ALL.iter().enumerate().map(closed).collect(),
        announcements: sum(|f| &f.announcements),
        late: sum(|f| &f.late),
        out_of_order: sum(|f| &f.out_of_order),
        too_large: sum(|f| &f.too_large),
        messages: sum(|f| &f.messages),
        from_history: sum(|f| &f.from_history),
        heartbeats: sum(|f| &f.heartbeats),
        bytes: sum(|f| &f.bytes),
        blocked: sum(|f| &f.blocked),
        extras: sum(|f| &f.extras),
        extras_missed: sum(|f| &f.extras_missed),
        extras_dropped: sum(|f| &f.extras_dropped),
        client_messages: sum(|f| &f.client_messages),
        rtt_us: spread(|f| &f.rtt_us),
        fanout_first_ns: spread(|f| &f.fanout_first_ns),
        fanout_last_ns: spread(|f| &f.fanout_last_ns),
        ring_waited: parts.lost(|l| &l.feed_waited),
        ring_dropped: parts.lost(|l| &l.feed_dropped),
        history_ring_dropped: parts.lost(|l| &l.history_dropped),
    }
}

pub(super) fn accept(stats: &AcceptStats) -> AcceptSnapshot {
    AcceptSnapshot {
        accepted: stats.accepted.get(),
        admitted: stats.admitted.get(),
        sessions: stats.sessions.get(),
        handshakes_in_progress: stats.in_progress.get(),
        refused: RefusalCode::ALL.iter().map(|code| (code.name(), stats.refused(*code))).collect(),
        tls_failed: TlsFailure::ALL.iter().map(|why| (why.name(), stats.tls_failed(*why))).collect(),
        tls_full: stats.tls_full.get(),
        tls_resumed: stats.tls_resumed.get(),
        timeouts: stats.timeouts.get(),
        gone: stats.gone.get(),
        not_proxied: stats.not_proxied.get(),
        over_share: stats.over_share.get(),
        out_of_descriptors: stats.out_of_descriptors.get(),
        history_answers: stats.history_answers.get(),
        invalid_keys_remembered: stats.invalid_keys_remembered.get(),
        waiting_for_writers: stats.waiting_for_writers.get(),
    }
}

pub(super) fn journal(parts: &ViewParts) -> JournalSnapshot {
    let journal = &parts.journal;
    JournalSnapshot {
        rows: load(&journal.rows),
        commits: load(&journal.commits),
        failures: load(&journal.failures),
        rejected: load(&journal.rejected),
        recovered: load(&journal.recovered),
        log_lines_dropped: load(&journal.log_lines_dropped),
        backlog_rows: load(&journal.backlog_rows),
        ring_waited: parts.lost(|l| &l.journal_waited),
        ring_dropped: parts.lost(|l| &l.journal_dropped),
        shared_memory_full: parts.lost(|l| &l.log_full),
    }
}

pub(super) fn webhooks(parts: &ViewParts) -> WebhookSnapshot {
    let stats = &parts.webhooks;
    let failed = FailureClass::ALL.iter().zip(&stats.failed);
    WebhookSnapshot {
        endpoints: load(&stats.endpoints),
        connections: load(&stats.connections),
        pending: load(&stats.pending),
        in_flight: load(&stats.in_flight),
        events: load(&stats.events),
        delivered: load(&stats.delivered),
        failed: failed.map(|(class, count)| (class.name(), load(count))).collect::<ByName>(),
        given_up: load(&stats.given_up),
        expired: load(&stats.expired),
        resent: load(&stats.resent),
        opened: load(&stats.opened),
        resumed: load(&stats.resumed),
        lookups: load(&stats.lookups),
        first_write_ns: stats.first_write_ns.read(),
        first_byte_us: stats.first_byte_us.read(),
        ring_dropped: parts.lost(|l| &l.webhook_dropped),
        shared_memory_full: load(&stats.log_full),
        journal_dropped: load(&stats.journal_dropped),
    }
}

pub(super) fn recorder(counters: &RecorderCounters) -> RecorderSnapshot {
    let (polls, bodies, announcements) = counters.lost();
    let unwritten = load(&counters.unwritten);
    RecorderSnapshot {
        polls: load(&counters.polls),
        bodies: load(&counters.bodies),
        unchanged: load(&counters.unchanged),
        announcements: load(&counters.announcements),
        unwritten,
        failures: load(&counters.failures),
        lost: RecorderLost { polls, bodies, announcements },
        dropped: polls + bodies + announcements + unwritten,
    }
}

pub(super) fn market(stats: &MarketStats, parts: &ViewParts) -> MarketSnapshot {
    let requests: Vec<_> = stats.requests().into_iter().map(market_request).collect();
    let states = [SourceState::Live, SourceState::Stale, SourceState::Blocked, SourceState::Down];
    let states = states.map(|state| {
        let count = requests.iter().filter(|request| request.state == state.name()).count();
        (state.name(), count as u64)
    });
    MarketSnapshot {
        states: states.into_iter().collect(),
        requests,
        events: MarketEventKind::ALL.iter().map(|kind| (kind.name(), stats.events(*kind))).collect(),
        contexts: load(&stats.contexts),
        assets: load(&stats.assets),
        ring_dropped: parts.lost(|l| &l.market_dropped),
        feed_dropped: load(&stats.feed_dropped),
        webhook_dropped: load(&stats.webhook_dropped),
        journal_waiting: load(&stats.waiting),
    }
}

fn market_request(report: RequestReport) -> MarketRequestSnapshot {
    let RequestReport { stats, asked, bytes, rows_skipped, rows_beyond, problem } = report;
    MarketRequestSnapshot {
        source: stats.source,
        request: stats.request,
        exchange: stats.exchange.name(),
        state: stats.state.name(),
        problem,
        last_answer_us: stats.last_answer,
        baselined: stats.baselined,
        instruments: stats.instruments as u64,
        volumes: stats.volumes as u64,
        list: stats.list.name(),
        asked,
        answers: stats.answers,
        bytes,
        failures: Failure::ALL
            .iter()
            .zip(stats.failures)
            .map(|(class, count)| (class.name(), count))
            .collect(),
        held: stats.book.held,
        believed: stats.book.believed,
        undecided: stats.book.undecided,
        withheld: stats.withheld,
        rows_skipped: rows_skipped + stats.book.unusable,
        beyond_limit: rows_beyond + stats.book.beyond_limit,
    }
}

pub(super) fn mail(counters: &MailCounters) -> MailSnapshot {
    MailSnapshot {
        sent: load(&counters.sent),
        deferred: load(&counters.deferred),
        given_up: load(&counters.given_up),
        server_failures: load(&counters.server_failures),
    }
}
