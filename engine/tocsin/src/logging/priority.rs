//! Priorities of log lines for the journal: sd-daemon(3), "Logging".
//!
//! Contract: [`Prioritized`] writes `<N>` before what the format inside writes, N being the syslog level.
//! A line break inside a message would begin a line without one; no message of ours has any. Owner:
//! whoever logs.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether standard error leads to the journal: `JOURNAL_STREAM` holds its device and inode.
pub(super) fn stderr_is_the_journal() -> bool {
    // `/proc/self/fd/2` followed: what standard error is, whoever opened it.
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|named| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}

const fn syslog(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// A format with the priority before it.
pub(super) struct Prioritized<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Prioritized<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", syslog(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}
