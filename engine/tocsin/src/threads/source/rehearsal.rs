//! What a source that waits goes through now and then, so that it is quick when something comes.
//!
//! Contract: announcements are minutes or hours apart, and what a core has not used lately is in none of its
//! caches: the same code takes twice as long then (docs/benchmarks.md, `wire`). A rehearsal finds an invented row in an invented
//! answer, classifies its title and serializes it, with the code and the tables that a real one meets; it
//! sends nothing, stores nothing and changes nothing. Owner: the source thread, while it spins with nothing
//! to do. Allocates and frees what an announcement would. Fails never.

use std::hint::black_box;

use tocsin_core::classify::classify;
use tocsin_core::detect::Detector;
use tocsin_core::limits;
use tocsin_core::model::{Action, Announcement, CategoryHint, FeedPosition};
use tocsin_core::time::Now;
use tocsin_core::wire::encode;

/// See the module head.
#[derive(Debug)]
pub(super) struct Rehearsal {
    list: usize,
    title: String,
}

impl Rehearsal {
    pub(super) fn new() -> Rehearsal {
        Rehearsal { list: 0, title: String::with_capacity(limits::TITLE_BYTES) }
    }

    /// Rehearses with the next list of the source. Whether there was something to rehearse with.
    pub(super) fn run(&mut self, detector: &mut Detector, now: Now) -> bool {
        let spec = detector.spec();
        self.list = (self.list + 1) % spec.lists.len().max(1);
        if !detector.rehearse(self.list, &mut self.title) {
            return false;
        }
        let classification = classify(spec.exchange, &self.title, CategoryHint::None);
        let encoded = encode(Announcement {
            id: [spec.exchange.name(), ":0"].concat(),
            position: FeedPosition::default(),
            exchange: spec.exchange,
            title: self.title.clone(),
            classification,
            action: Action::Created,
            late: true,
            url: String::new(),
            notice_id: String::new(),
            source: spec.name.to_owned(),
            published: now.wall,
            received: now.wall,
            detected: now.wall,
            classified: now.wall,
            effective_at: None,
        });
        black_box(&encoded);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tocsin_core::detect::{Findings, ListHistory};
    use tocsin_core::source::exchange::bithumb;
    use tocsin_core::time::{Mono, WallUs};

    use super::*;

    #[test]
    fn every_list_has_its_turn_and_an_unknown_page_is_passed_over() {
        let now = Now { mono: Mono(1), wall: WallUs::from_secs(1_795_000_000) };
        let mut detector = Detector::new(&bithumb::API, Duration::from_secs(60));
        detector.load_list(0, ListHistory { first_start: now.wall, baselined: false });
        let mut rehearsal = Rehearsal::new();
        assert!(!rehearsal.run(&mut detector, now));
        let page = br#"[{"id":7,"title":"[\uC548\uB0B4] Example","categories":["x"],"pc_url":"https://feed.bithumb.com/notice/7","published_at":"2026-11-18 10:00:00","modified_at":"2026-11-18 10:00:00"}]"#;
        let mut findings = Findings::default();
        detector.on_body(0, &mut page.to_vec(), now, &mut findings).unwrap();
        detector.prepare(0);
        assert!(rehearsal.run(&mut detector, now));
        assert!(rehearsal.run(&mut detector, now));
    }
}
