//! What the market watchers' decisions turn on, with defaults: what the configuration may change.
//!
//! Contract: plain data. `docs/markets.md` says why each number; nothing here is checked, for every value
//! gives a lawful, if strange, watcher.

use core::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Parameters of a [`super::book::Book`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookRules {
    /// A time told before is told again when it moved by at least this; smaller shifts are followed in
    /// silence.
    pub moved: Duration,
    /// So many answers in a row must agree on a moved time, an end taken back, or that it is over: caches of
    /// different age take turns.
    pub agree_answers: u32,
    /// The end of an instrument further ahead than this is no delisting yet.
    pub near: Duration,
    /// A contract with an end is delisted where it ends at least this much before the end it had.
    pub dated_early: Duration,
    /// An instrument is gone after so many complete answers in a row without it,
    pub gone_answers: u32,
    /// and no sooner than this after the first of them. An end taken back must stand as long.
    pub gone_after: Duration,
    /// A listing notice explains a new pair so long afterwards.
    pub notice_before: Duration,
    /// The same for a notice that names no symbol, which explains every pair of its kind of market.
    pub unnamed_before: Duration,
    /// A pair nobody told of waits so long for its notice.
    pub grace: Duration,
    /// And so long while the notices of its exchange cannot be heard; then it is dropped untold.
    pub patience: Duration,
    /// A list that lost more than this part of what is traded, in per cent, is an outage;
    pub shrunk_percent: usize,
    /// so is one that lost more than this many,
    pub shrunk_at_most: usize,
    /// or in which more than this many, and the part above, are over or get their end at once.
    pub ended_at_most: usize,
    /// A shorter list that stands so long is believed, in silence;
    pub shrunk_stands: Duration,
    /// after at least so many answers.
    pub shrunk_answers: u32,
    /// More instruments than this, and than [`BookRules::grown_percent`] of what is traded, appear or go
    /// back to before their opening at once: another schema or region, not listings.
    pub grown_at_most: usize,
    /// See [`BookRules::grown_at_most`].
    pub grown_percent: usize,
    /// A longer list that stands so long is believed, in silence;
    pub grown_stands: Duration,
    /// after at least so many answers.
    pub grown_answers: u32,
    /// More previews than this in a baseline are not told.
    pub baseline_previews: usize,
    /// Events of one kind told of one instrument at most, for ever.
    pub told_at_most: u16,
}

impl Default for BookRules {
    fn default() -> Self {
        BookRules {
            moved: Duration::from_secs(10 * MINUTE),
            agree_answers: 2,
            near: Duration::from_secs(30 * DAY),
            dated_early: Duration::from_secs(DAY),
            gone_answers: 3,
            gone_after: Duration::from_secs(10 * MINUTE),
            notice_before: Duration::from_secs(7 * DAY),
            unnamed_before: Duration::from_secs(DAY),
            grace: Duration::from_secs(10 * MINUTE),
            patience: Duration::from_secs(HOUR),
            shrunk_percent: 20,
            shrunk_at_most: 30,
            ended_at_most: 20,
            shrunk_stands: Duration::from_secs(DAY),
            shrunk_answers: 10,
            grown_at_most: 20,
            grown_percent: 5,
            grown_stands: Duration::from_secs(15 * MINUTE),
            grown_answers: 3,
            baseline_previews: 32,
            told_at_most: 16,
        }
    }
}

impl BookRules {
    /// The same with every wait so many times shorter, for simulated exchanges that are asked as many times as
    /// often. What is compared with times that exchanges tell stays.
    #[must_use]
    pub fn faster(self, speed: f64) -> BookRules {
        let faster = |wait: Duration| wait.div_f64(if speed.is_finite() { speed.max(0.001) } else { 1.0 });
        BookRules {
            gone_after: faster(self.gone_after),
            grace: faster(self.grace),
            patience: faster(self.patience),
            shrunk_stands: faster(self.shrunk_stands),
            grown_stands: faster(self.grown_stands),
            ..self
        }
    }
}

/// A span in microseconds, the unit of [`crate::time::WallUs`].
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
