//! Errors and warnings, each distinct one written once and then counted.
//!
//! Contract: two are the same when place, message and every field agree. The first is written as it is; what
//! repeats it is counted and not written, until [`Errors::sum_up`] says how often in one line, every
//! [`SUM_UP`]. One that was quiet for [`FORGET`] is written anew. What an operator asked for himself, a reload,
//! is always written. `status` shows the table.
//!
//! Owner: shared, behind one lock; hot threads do not log and never take it. Allocates. Bound: [`TABLE`]
//! entries of at most [`WHAT_CHARS`] characters; at the bound the one that was quiet longest goes.

use std::fmt::{self, Write as _};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tocsin_core::time::{Mono, Now, WallUs};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::os::clock;

/// Distinct errors remembered.
pub const TABLE: usize = 128;
/// Longest text of one.
pub const WHAT_CHARS: usize = 300;
/// Between two summaries of what repeated.
pub const SUM_UP: Duration = Duration::from_secs(600);
/// Quiet for so long, an error is new again.
pub const FORGET: Duration = Duration::from_secs(3_600);
/// Errors that one summary names; the others it counts.
const NAMED: usize = 8;

/// Modules whose lines are always written: answers to an operator, and the summary itself.
const ALWAYS: [&str; 2] = ["tocsin::reload", "tocsin::logging::errors"];

/// One distinct error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    level: Level,
    what: String,
    count: u64,
    first: WallUs,
    last: WallUs,
    last_mono: Mono,
    /// Repeats that were not written and not yet summed up.
    unsaid: u64,
}

/// What `status` shows of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// `error` or `warn`.
    pub level: &'static str,
    /// Message and fields.
    pub what: String,
    /// How often since the start, or since it was forgotten.
    pub count: u64,
    /// When first, in microseconds since 1970.
    pub first_us: i64,
    /// When last.
    pub last_us: i64,
}

#[derive(Debug)]
struct Table {
    entries: Vec<Entry>,
    summed_up: Mono,
}

/// See the module head.
#[derive(Debug)]
pub struct Errors(Mutex<Table>);

impl Errors {
    pub(super) const fn new() -> Errors {
        Errors(Mutex::new(Table { entries: Vec::new(), summed_up: Mono(0) }))
    }

    /// Counts one; whether it is to be written.
    fn note(&self, level: Level, what: String, now: Now) -> bool {
        let mut table = self.0.lock();
        if let Some(known) = table.entries.iter_mut().find(|known| known.level == level && known.what == what)
        {
            let forgotten = now.mono.since(known.last_mono) >= FORGET;
            known.count += 1;
            (known.last, known.last_mono) = (now.wall, now.mono);
            if !forgotten {
                known.unsaid += 1;
            }
            return forgotten;
        }
        if table.entries.len() >= TABLE {
            let quietest = table.entries.iter().enumerate().min_by_key(|(_, known)| known.last_mono);
            if let Some((at, _)) = quietest {
                table.entries.swap_remove(at);
            }
        }
        let (first, last, last_mono) = (now.wall, now.wall, now.mono);
        table.entries.push(Entry { level, what, count: 1, first, last, last_mono, unsaid: 0 });
        true
    }

    /// Everything remembered, the latest first.
    #[must_use]
    pub fn list(&self) -> Vec<Reported> {
        let mut entries = self.0.lock().entries.clone();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        let shown = |entry: Entry| Reported {
            level: if entry.level == Level::ERROR { "error" } else { "warn" },
            what: entry.what,
            count: entry.count,
            first_us: entry.first.0,
            last_us: entry.last.0,
        };
        entries.into_iter().map(shown).collect()
    }

    /// Says what repeated since the last summary, when one is due: for the main thread, every tick.
    pub fn sum_up_when_due(&self, now: Mono) {
        let due = {
            let mut table = self.0.lock();
            if table.summed_up == Mono(0) {
                table.summed_up = now;
            }
            now.since(table.summed_up) >= SUM_UP
        };
        if due {
            self.sum_up(now);
        }
    }

    /// Says what repeated since the last summary, in one line; nothing when nothing did.
    pub fn sum_up(&self, now: Mono) {
        if let Some((repeats, text)) = self.take_unsaid(now) {
            tracing::warn!(repeats, errors = text, "errors and warnings that repeated");
        }
    }

    fn take_unsaid(&self, now: Mono) -> Option<(u64, String)> {
        let mut table = self.0.lock();
        table.summed_up = now;
        let mut unsaid: Vec<(u64, String)> = Vec::new();
        for entry in table.entries.iter_mut().filter(|entry| entry.unsaid > 0) {
            unsaid.push((std::mem::take(&mut entry.unsaid), entry.what.clone()));
        }
        drop(table);
        unsaid.sort_by_key(|(repeats, _)| std::cmp::Reverse(*repeats));
        let all = unsaid.iter().map(|(repeats, _)| repeats).sum();
        let mut text = String::new();
        for (repeats, what) in unsaid.iter().take(NAMED) {
            let between = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{between}{repeats} times {what}");
        }
        if unsaid.len() > NAMED {
            let _ = write!(text, "; and {} others", unsaid.len() - NAMED);
        }
        (!unsaid.is_empty()).then_some((all, text))
    }
}

/// The layer that counts, and holds back what repeats.
pub(super) struct Counting(pub(super) &'static Errors);

impl<S: Subscriber> Layer<S> for Counting {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let module = metadata.module_path().unwrap_or_default();
        if *metadata.level() > Level::WARN || ALWAYS.contains(&module) {
            return true;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.0.note(*metadata.level(), text.whole(), clock::now())
    }
}

/// Message and fields as one text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(self) -> String {
        let whole = format!("{}{}", self.message, self.fields);
        whole.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHAT_CHARS).collect()
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn at(secs: u64) -> Now {
        Now { mono: Mono(secs * 1_000_000_000), wall: WallUs(i64::try_from(secs).unwrap() * 1_000_000) }
    }

    #[test]
    fn each_is_written_once_counted_summed_up_and_new_again_when_it_was_quiet() {
        let errors = Errors::new();
        let note = |what: &str, secs| errors.note(Level::ERROR, what.to_owned(), at(secs));
        assert!(note("disk", 10) && !note("disk", 11) && !note("disk", 12) && note("net", 13));
        let (repeats, text) = errors.take_unsaid(at(20).mono).unwrap();
        assert_eq!((repeats, text.as_str()), (2, "2 times disk"));
        assert_eq!(errors.take_unsaid(at(21).mono), None, "said already");
        assert!(note("disk", 12 + 3_600), "quiet for an hour");
        let list = errors.list();
        assert_eq!((list[0].what.as_str(), list[0].count), ("disk", 4));
        assert_eq!((list[0].first_us, list[1].last_us), (10_000_000, 13_000_000));
    }

    #[test]
    fn the_table_is_bounded_and_the_quietest_goes() {
        let errors = Errors::new();
        let note = |n: usize| errors.note(Level::WARN, format!("w{n}"), at(n as u64 + 1));
        for n in 0..TABLE + 10 {
            assert!(note(n), "each is new");
        }
        let list = errors.list();
        assert_eq!(list.len(), TABLE);
        assert!(list.iter().all(|known| known.what != "w0") && list[0].what == format!("w{}", TABLE + 9));
        for _ in 0..2 {
            (10..TABLE + 10).for_each(|n| assert!(!note(n)));
        }
        let (repeats, text) = errors.take_unsaid(at(500).mono).unwrap();
        assert_eq!(repeats, 2 * TABLE as u64);
        assert!(text.ends_with(&format!("; and {} others", TABLE - NAMED)), "{text}");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_layer_holds_repeats_back_and_nothing_else() {
        let errors: &'static Errors = Box::leak(Box::new(Errors::new()));
        let lines = Lines::default();
        let into = lines.clone();
        let writer = tracing_subscriber::fmt::layer().with_writer(move || into.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(Counting(errors)).with(writer);
        tracing::subscriber::with_default(subscriber, || {
            for code in [1, 2, 1, 1] {
                tracing::error!(code, "it broke");
                tracing::info!("said each time");
            }
        });
        let written = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(written.matches("it broke").count(), 2, "{written}");
        assert_eq!(written.matches("said each time").count(), 4, "{written}");
        let list = errors.list();
        assert_eq!(list.iter().map(|known| known.count).max(), Some(3), "{list:?}");
        assert!(list.iter().any(|known| known.what == "it broke code=1" && known.level == "error"));
    }
}
