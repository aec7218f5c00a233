//! From what a source found to announcements: classify, compare with what was told, publish.
//!
//! Contract: one [`Teller`] a source, whatever brings its findings (polled lists, a stream).
//! [`Teller::tell`] sends the announcements of one answer to the publisher, oldest first, before it does
//! anything else, then has the store remember the rest; it never waits. Owner: a source thread. Allocates
//! per announcement and per item to remember, and nothing for findings that are empty. Fails never.

use tocsin_core::classify::classify;
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detected, Findings};
use tocsin_core::model::{Action, Announcement, CategoryHint, Exchange, FeedPosition};
use tocsin_core::time::WallUs;

use super::lane::Context;
use super::stats::{Count, Local};

/// What tells the news of one source.
pub(super) struct Teller {
    source: &'static str,
    exchange: Exchange,
    told: Told,
}

impl Teller {
    /// Of the source called `source`, with what it has told before.
    pub(super) fn new(source: &'static str, exchange: Exchange, told: Told) -> Teller {
        Teller { source, exchange, told }
    }

    /// What an answer of `list`, complete at `received`, brought goes out: announcements first. The
    /// findings are empty afterwards.
    pub(super) fn tell(
        &mut self,
        list: &'static str,
        received: WallUs,
        findings: &mut Findings,
        local: &mut Local,
        cx: &mut Context<'_>,
    ) {
        if findings.is_empty() {
            return;
        }
        let detected = (cx.clock)().wall;
        for found in findings.detected.drain(..) {
            let late = found.late;
            let mut announcement = self.announcement(found, received, detected);
            announcement.classified = (cx.clock)().wall;
            let news = announcement.action == Action::Created && !late;
            let (published, classified) = (announcement.published, announcement.classified);
            cx.publisher.announce(announcement);
            if news {
                local.found(published, received, detected, classified);
            }
            local.add(Count::Announced, 1);
            local.add(Count::Late, u64::from(late));
        }
        cx.publisher.settle();
        for record in findings.seen.drain(..) {
            let known = classify(self.exchange, &record.title, CategoryHint::None);
            self.told.note(&record.notice_id, false, known.listing_type, &known.tickers);
            cx.publisher.seen(record);
        }
        if findings.baselined {
            cx.publisher.baselined(self.source, list);
        }
        findings.clear();
    }

    /// Classified; when that was done is for the caller to say.
    fn announcement(&mut self, found: Detected, received: WallUs, detected: WallUs) -> Announcement {
        let record = found.record;
        let classification = classify(self.exchange, &record.title, found.hint);
        let edited = found.action != Action::Created;
        let action =
            self.told.note(&record.notice_id, edited, classification.listing_type, &classification.tickers);
        Announcement {
            id: [self.exchange.name(), ":", &record.notice_id].concat(),
            position: FeedPosition::default(),
            exchange: self.exchange,
            title: record.title.into(),
            classification,
            action,
            late: found.late,
            url: found.url,
            notice_id: record.notice_id.into(),
            source: self.source.to_owned(),
            published: record.published,
            received,
            detected,
            classified: detected,
            effective_at: None,
        }
    }
}
