//! What is new on a push source.
//!
//! Contract: one [`StreamDetector`] a source; its channels share the seen set. It is given every item as it
//! comes and answers as [`super::Detector`] does. What comes may be a replay: an exchange sends the last article
//! of a channel again on every subscription, and it looks like any other. The item itself decides:
//!
//! - known under its number: nothing, or an edit if its title changed;
//! - unknown, before the channel's baseline (the first session ever): known from now on, unless it was
//!   published after that first start;
//! - unknown later: it was published while nobody listened. Fresh by its publish time, it is announced, once;
//!   older, it goes to history; from before the first start, it is only remembered.
//!
//! Owner: the source thread. An item that is known allocates nothing. Fails never.

use core::time::Duration;

use super::seen::{Entry, SeenSet, Version};
use super::{Diff, Findings, ListHistory, SeenRecord};
use crate::limits;
use crate::model::CategoryHint;
use crate::source::Item;
use crate::source::stream::StreamSpec;
use crate::time::WallUs;

/// See the module head.
pub struct StreamDetector {
    spec: &'static StreamSpec,
    fresh_for: Duration,
    seen: SeenSet,
    channels: Box<[ListHistory]>,
    newest: Option<WallUs>,
}

impl StreamDetector {
    /// A detector that knows nothing yet; see [`super::Detector::new`].
    #[must_use]
    pub fn new(spec: &'static StreamSpec, fresh_for: Duration) -> StreamDetector {
        let unknown = ListHistory { first_start: WallUs(i64::MIN), baselined: false };
        StreamDetector {
            spec,
            fresh_for,
            seen: SeenSet::with_capacity(limits::SEEN_ITEMS),
            channels: spec.channels.iter().take(limits::LISTS_PER_SOURCE).map(|_| unknown).collect(),
            newest: None,
        }
    }

    /// Sets what is durable about a channel; an index the source does not have is ignored.
    pub fn load_channel(&mut self, channel: usize, history: ListHistory) {
        if let Some(state) = self.channels.get_mut(channel) {
            *state = history;
        }
    }

    /// As [`super::Detector::load_seen`].
    pub fn load_seen(&mut self, record: &SeenRecord) {
        self.newest = self.newest.max(Some(record.published));
        let version = Version::new(&record.title, Some(record.published));
        self.seen.tick();
        self.seen.insert(Entry::new(&record.notice_id, version, None), None);
    }

    /// As [`super::Detector::load_announced`].
    pub fn load_announced(&mut self, notice_id: &str, title: &str, published: WallUs) {
        let version = Version::new(title, Some(published));
        if let Some(entry) = self.seen.entry(notice_id)
            && !entry.version.agrees(version)
            && !entry.was(version)
        {
            entry.replace(version);
        }
    }

    /// When the newest item known was published.
    #[must_use]
    pub const fn newest(&self) -> Option<WallUs> {
        self.newest
    }

    /// Takes one item of a channel and adds what it brings to `findings`. `gap`: for longer than `fresh_for`
    /// nobody had listened before this session, and it may be a replay: a change in it may be old.
    pub fn on_item(
        &mut self,
        channel: usize,
        item: &Item<'_>,
        gap: bool,
        wall: WallUs,
        findings: &mut Findings,
    ) {
        let Some(history) = self.channels.get(channel).copied() else { return };
        let mut diff = Diff {
            source: self.spec.name,
            list: None,
            filed: CategoryHint::None,
            history,
            gap,
            fresh_for: self.fresh_for,
            wall,
            seen: &mut self.seen,
            newest: &mut self.newest,
            findings,
            begun: false,
        };
        diff.on_item(item);
    }

    /// The time in which a channel replays what is known is over: the next channel that has its baseline by
    /// this, if there is one left; `findings` then say so.
    pub fn baseline(&mut self, findings: &mut Findings) -> Option<usize> {
        let channel = self.channels.iter().position(|history| !history.baselined)?;
        self.channels.get_mut(channel)?.baselined = true;
        findings.baselined = true;
        Some(channel)
    }

    /// Whether a channel is without its baseline.
    #[must_use]
    pub fn wants_baseline(&self) -> bool {
        self.channels.iter().any(|history| !history.baselined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, CategoryHint};
    use crate::source::stream::gate;
    use crate::source::{Link, ShortText};

    const START: WallUs = WallUs::from_secs(1_795_000_000);

    fn after(secs: i64) -> WallUs {
        WallUs(START.0 + secs * 1_000_000)
    }

    fn item(id: u64, title: &str, published: WallUs) -> Item<'_> {
        Item {
            notice_id: ShortText::decimal(id),
            title,
            link: Link::None,
            hint: CategoryHint::None,
            published: Some(published),
            modified: None,
            pinned: false,
        }
    }

    fn knowing(baselined: bool) -> StreamDetector {
        let mut detector = StreamDetector::new(&gate::STREAM, Duration::from_secs(300));
        for channel in 0..gate::STREAM.channels.len() {
            detector.load_channel(channel, ListHistory { first_start: START, baselined });
        }
        detector
    }

    /// Announced (action, late) and remembered ids of one item.
    fn take(
        detector: &mut StreamDetector,
        channel: usize,
        item: &Item<'_>,
        wall: WallUs,
    ) -> (Vec<(Action, bool)>, usize) {
        let mut findings = Findings::default();
        detector.on_item(channel, item, true, wall, &mut findings);
        (findings.detected.iter().map(|d| (d.action, d.late)).collect(), findings.seen.len())
    }

    #[test]
    fn the_first_replay_is_known_and_what_follows_is_news() {
        let mut detector = knowing(false);
        assert_eq!(take(&mut detector, 0, &item(1, "old", after(-30)), after(2)), (vec![], 1));
        assert_eq!(
            take(&mut detector, 1, &item(1, "old", after(-30)), after(2)),
            (vec![], 0),
            "on two channels"
        );
        let news = take(&mut detector, 0, &item(2, "new", after(1)), after(3));
        assert_eq!(news, (vec![(Action::Created, false)], 0), "published after the first start");
        let mut findings = Findings::default();
        let channels: Vec<usize> = std::iter::from_fn(|| detector.baseline(&mut findings)).collect();
        assert_eq!((channels, findings.baselined), ((0..6).collect(), true));
        assert!(!detector.wants_baseline());
        assert_eq!(take(&mut detector, 5, &item(2, "new", after(1)), after(4)), (vec![], 0));
    }

    #[test]
    fn a_replay_after_a_reconnect_tells_what_was_missed_once() {
        let mut detector = knowing(true);
        let known = item(1, "known", after(10));
        assert_eq!(take(&mut detector, 0, &known, after(11)).0.len(), 1);
        for _ in 0..2 {
            assert_eq!(take(&mut detector, 0, &known, after(4_000)), (vec![], 0));
        }
        let fresh = item(2, "missed a minute ago", after(3_940));
        assert_eq!(take(&mut detector, 0, &fresh, after(4_000)).0, [(Action::Created, false)]);
        assert_eq!(take(&mut detector, 5, &fresh, after(4_001)), (vec![], 0));
        let stale = item(3, "missed an hour ago", after(400));
        assert_eq!(take(&mut detector, 1, &stale, after(4_000)).0, [(Action::Created, true)]);
        let ancient = item(4, "from before the first start", after(-90_000));
        assert_eq!(take(&mut detector, 2, &ancient, after(4_000)), (vec![], 1));
        let edited = item(1, "known, in other words", after(10));
        assert_eq!(take(&mut detector, 0, &edited, after(4_002)).0, [(Action::Updated, true)]);
    }

    #[test]
    fn a_restart_remembers_and_the_set_is_bounded() {
        let mut detector = knowing(true);
        for id in 1_000..1_010 + limits::SEEN_ITEMS as u64 {
            assert_eq!(take(&mut detector, 0, &item(id, "x", after(1)), after(2)).0.len(), 1);
        }
        assert_eq!(
            take(&mut detector, 0, &item(1_000 + limits::SEEN_ITEMS as u64, "x", after(1)), after(2)).0.len(),
            0
        );
        let record = |title: &str| SeenRecord {
            source: gate::STREAM.name,
            notice_id: "7".into(),
            title: title.into(),
            fingerprint: 0,
            published: after(5),
        };
        let mut again = knowing(true);
        again.load_seen(&record("second"));
        again.load_announced("7", "first", after(5));
        for title in ["second", "first"] {
            assert_eq!(take(&mut again, 0, &item(7, title, after(5)), after(6)), (vec![], 0), "{title}");
        }
        assert_eq!(again.newest(), Some(after(5)));
    }
}
