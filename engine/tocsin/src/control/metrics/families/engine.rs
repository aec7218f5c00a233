//! Of the service as a whole: readiness, threads, rings, the store, the process and the machine's clock.

use std::time::Duration;

use super::super::{Readings, Samples, Section};
use super::{COMMIT, RING, STORE_FILE, THREAD, UNREADY, VERSION, WRITER, counter, gauge};
use crate::control::snapshot::Unready;
use crate::os::process::ProcessUse;
use crate::os::timesync::KernelClock;
use crate::store::StoreSize;

pub(super) const SERVICE: Section = Section {
    title: "Service",
    intro: "Readiness is that of `GET /readyz`.",
    families: &[
        gauge("tocsin_build_info", &[VERSION, COMMIT], "Always 1; the labels tell what runs.", |_, out| {
            out.with(&[env!("CARGO_PKG_VERSION"), env!("TOCSIN_COMMIT")], true);
        }),
        gauge("tocsin_ready", &[], "1 when the service is ready, else 0.", |r, out| {
            out.one(r.engine.not_ready.is_empty());
        }),
        gauge("tocsin_not_ready_reason", &[UNREADY], "Why it is not ready.", |r, out| {
            for reason in Unready::ALL {
                out.with(&[reason.name()], r.engine.not_ready.iter().any(|n| n.code == reason));
            }
        }),
        gauge("tocsin_epoch", &[], "How often this data directory was started.", |r, out| {
            out.one(r.engine.epoch);
        }),
        gauge(
            "tocsin_certificate_not_after_timestamp_seconds",
            &[],
            "End of the certificate that feed and admin listener serve; none where neither serves TLS.",
            |r, out| out.maybe(r.engine.certificate_not_after),
        ),
    ],
};

pub(super) const THREADS: Section = Section {
    title: "Threads",
    intro: "A thread with a core of its own turns all the time; one that may sleep has gaps as long as its sleep.",
    families: &[
        gauge(
            "tocsin_thread_still_seconds",
            &[THREAD],
            "Since the thread last started a turn; none for threads that wait for input alone.",
            |r, out| {
                for thread in &r.engine.threads {
                    if let Some(still) = thread.still_us {
                        out.with(&[&thread.name], Duration::from_micros(still));
                    }
                }
            },
        ),
        gauge(
            "tocsin_thread_longest_gap_seconds",
            &[THREAD],
            "Longest time between two turns since the start.",
            |r, out| gaps(r, out, |thread| thread.longest_gap_us),
        ),
        gauge(
            "tocsin_thread_recent_gap_seconds",
            &[THREAD],
            "Longest time between two turns in the last 30 to 60 seconds.",
            |r, out| gaps(r, out, |thread| thread.recent_gap_us),
        ),
    ],
};

fn gaps(r: &Readings, out: &mut Samples<'_>, of: fn(&crate::control::snapshot::ThreadSnapshot) -> u64) {
    for thread in r.engine.threads.iter().filter(|thread| thread.still_us.is_some()) {
        out.with(&[&thread.name], Duration::from_micros(of(thread)));
    }
}

pub(super) const RINGS: Section = Section {
    title: "Rings and shared memory",
    intro: "A full ring drops rather than hold up its sender; `engine/tocsin/src/rings.rs` tells what that costs. None is expected.",
    families: &[
        counter(
            "tocsin_ring_waited_total",
            &[RING],
            "Messages that found a ring full and had to wait.",
            |r, out| {
                out.with(&["source_to_feed"], r.engine.feed.ring_waited);
                out.with(&["source_to_journal"], r.engine.journal.ring_waited);
            },
        ),
        counter("tocsin_ring_dropped_total", &[RING], "Messages that a full ring never took.", |r, out| {
            out.with(&["source_to_feed"], r.engine.feed.ring_dropped);
            out.with(&["source_to_journal"], r.engine.journal.ring_dropped);
            out.with(&["source_to_accept"], r.engine.feed.history_ring_dropped);
            out.with(&["source_to_webhook"], r.engine.webhooks.ring_dropped);
            out.with(&["webhook_to_journal"], r.engine.webhooks.journal_dropped);
            if let Some(market) = &r.engine.market {
                out.with(&["source_to_market"], market.ring_dropped);
                out.with(&["market_to_feed"], market.feed_dropped);
                out.with(&["market_to_webhook"], market.webhook_dropped);
            }
        }),
        counter(
            "tocsin_shared_memory_full_total",
            &[WRITER],
            "Announcements and outcomes that did not fit into shared memory: kill -9 could lose them.",
            |r, out| {
                out.with(&["source"], r.engine.journal.shared_memory_full);
                out.with(&["webhook"], r.engine.webhooks.shared_memory_full);
            },
        ),
    ],
};

fn store(r: &Readings, out: &mut Samples<'_>, of: fn(&StoreSize) -> u64) {
    out.maybe(r.host.store.as_ref().map(of));
}

pub(super) const STORE: Section = Section {
    title: "Store",
    intro: "The journal thread, the database and the file system of data_dir.",
    families: &[
        counter("tocsin_journal_rows_total", &[], "Rows brought to disk.", |r, out| {
            out.one(r.engine.journal.rows);
        }),
        counter("tocsin_journal_commits_total", &[], "Transactions that brought them there.", |r, out| {
            out.one(r.engine.journal.commits);
        }),
        counter("tocsin_journal_commit_failures_total", &[], "Commits that the disk refused.", |r, out| {
            out.one(r.engine.journal.failures);
        }),
        counter(
            "tocsin_journal_rejected_rows_total",
            &[],
            "Rows dropped because they can never be stored; none is expected.",
            |r, out| out.one(r.engine.journal.rejected),
        ),
        counter(
            "tocsin_journal_recovered_total",
            &[],
            "Announcements and outcomes found in shared memory only.",
            |r, out| out.one(r.engine.journal.recovered),
        ),
        counter(
            "tocsin_journal_log_lines_dropped_total",
            &[],
            "Lines of the delivery log dropped because the disk was behind.",
            |r, out| out.one(r.engine.journal.log_lines_dropped),
        ),
        gauge("tocsin_journal_backlog_rows", &[], "Rows that wait for the disk.", |r, out| {
            out.one(r.engine.journal.backlog_rows);
        }),
        gauge(
            "tocsin_store_size_bytes",
            &[STORE_FILE],
            "Size of the database and of its write-ahead log.",
            |r, out| {
                if let Some(size) = &r.host.store {
                    out.with(&["database"], size.database);
                    out.with(&["log"], size.log);
                }
            },
        ),
        gauge("tocsin_store_free_bytes", &[], "What may still be written to its file system.", |r, out| {
            store(r, out, |size| size.free);
        }),
        gauge("tocsin_store_file_system_bytes", &[], "Size of that file system.", |r, out| {
            store(r, out, |size| size.total);
        }),
    ],
};

fn process(r: &Readings, out: &mut Samples<'_>, of: fn(&ProcessUse) -> u64) {
    out.maybe(r.host.process.as_ref().map(of));
}

pub(super) const PROCESS: Section = Section {
    title: "Process",
    intro: "",
    families: &[
        gauge("tocsin_process_start_time_seconds", &[], "When the process started.", |r, out| {
            out.one(r.engine.started_at);
        }),
        counter(
            "tocsin_process_cpu_seconds_total",
            &[],
            "Processor time of all threads. A thread that spins takes a whole core.",
            |r, out| out.maybe(r.host.process.map(|p| p.processor_time)),
        ),
        gauge("tocsin_process_resident_memory_bytes", &[], "Memory in RAM.", |r, out| {
            process(r, out, |p| p.resident_bytes);
        }),
        gauge("tocsin_process_threads", &[], "Threads.", |r, out| process(r, out, |p| p.threads)),
        gauge("tocsin_process_open_fds", &[], "Open descriptors.", |r, out| {
            process(r, out, |p| p.open_descriptors);
        }),
        gauge("tocsin_process_max_fds", &[], "Limit on them; none where there is no limit.", |r, out| {
            out.maybe(r.host.process.and_then(|p| p.descriptor_limit));
        }),
    ],
};

fn clock(r: &Readings, out: &mut Samples<'_>, of: fn(&KernelClock) -> f64) {
    out.maybe(r.host.clock.as_ref().map(of));
}

pub(super) const CLOCK: Section = Section {
    title: "Clock",
    intro: "The kernel's word (adjtimex), which a time service keeps up to date. Timestamps in messages are as good as this. None where a sandbox forbids the question.",
    families: &[
        gauge(
            "tocsin_clock_synchronised",
            &[],
            "1 while a time service keeps the clock right, else 0.",
            |r, out| {
                clock(r, out, |c| f64::from(u8::from(c.synchronised)));
            },
        ),
        gauge(
            "tocsin_clock_estimated_error_seconds",
            &[],
            "How far the time service thinks it is off.",
            |r, out| {
                clock(r, out, |c| c.estimated_error.as_secs_f64());
            },
        ),
        gauge("tocsin_clock_maximum_error_seconds", &[], "How far it may be off at most.", |r, out| {
            clock(r, out, |c| c.maximum_error.as_secs_f64());
        }),
    ],
};
