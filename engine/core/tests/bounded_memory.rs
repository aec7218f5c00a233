//! What is kept of notices has a bound in bytes: once the tables are full, a notice takes the room of one
//! that is forgotten, however many come.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod armed;

use std::sync::Arc;
use std::time::Duration;

use armed::held;
use tocsin_core::classify::classify;
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detected, Detector, Findings, ListHistory};
use tocsin_core::feed::history::History;
use tocsin_core::limits;
use tocsin_core::model::{Action, Announcement, FeedPosition};
use tocsin_core::source::exchange::upbit;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire;

const START: WallUs = WallUs::from_secs(1_795_000_000);
/// Notices that a page shows.
const SHOWN: u64 = 5;

/// What a source and a feed writer keep of the notices of one exchange.
struct Kept {
    detector: Detector,
    told: Told,
    history: History,
    findings: Findings,
    came: u64,
}

impl Kept {
    fn new() -> Kept {
        let mut detector = Detector::new(&upbit::WEB, Duration::from_secs(300));
        detector.load_list(0, ListHistory { first_start: START, baselined: true });
        Kept {
            detector,
            told: Told::new(),
            history: History::new(1, limits::HISTORY_IN_MEMORY, [], true),
            findings: Findings::default(),
            came: 0,
        }
    }

    /// One notice more comes, as a source thread takes it and a writer remembers it.
    fn next(&mut self) {
        self.came += 1;
        let wall = WallUs(START.0 + 1_000_000);
        let now = Now { mono: Mono(self.came), wall };
        self.detector.on_body(0, &mut page(self.came), now, &mut self.findings).unwrap();
        assert_eq!(self.findings.detected.len(), 1, "notice {}", self.came);
        for found in self.findings.detected.drain(..) {
            let announcement = announcement(found, &mut self.told, self.came, wall);
            self.history.push(Arc::new(wire::encode(announcement)), now.mono);
        }
        self.findings.clear();
    }

    /// So many more; how many bytes more are held after it.
    fn grows_by(&mut self, count: usize) -> i64 {
        let before = held();
        (0..count).for_each(|_| self.next());
        held() - before
    }
}

/// Numbers of one width, so that every notice is as long as every other.
fn page(newest: u64) -> Vec<u8> {
    let rows: Vec<String> = (newest.saturating_sub(SHOWN) + 1..=newest)
        .rev()
        .map(|id| {
            let id = id + 100_000;
            format!(
                "{{\"listed_at\":\"2026-11-18T20:06:41+09:00\",\
                 \"first_listed_at\":\"2026-11-18T20:06:41+09:00\",\"id\":{id},\"uuid\":\"{id}\",\
                 \"title\":\"노스라이트(N{id}) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)\",\"category\":\"거래\",\
                 \"need_new_badge\":false,\"need_update_badge\":false}}"
            )
        })
        .collect();
    let rows = rows.join(",");
    format!("{{\"success\":true,\"data\":{{\"total_count\":20,\"notices\":[{rows}],\"fixed_notices\":[]}}}}")
        .into()
}

fn announcement(found: Detected, told: &mut Told, seq: u64, at: WallUs) -> Announcement {
    let exchange = upbit::WEB.exchange;
    let classification = classify(exchange, &found.record.title, found.hint);
    let (id, edited) = (&found.record.notice_id, found.action != Action::Created);
    let action = told.note(id, edited, classification.listing_type, &classification.tickers);
    assert_eq!(action, Action::Created);
    Announcement {
        id: [exchange.name(), ":", id].concat(),
        position: FeedPosition { epoch: 1, seq },
        exchange,
        title: found.record.title.into(),
        classification,
        action,
        late: found.late,
        url: found.url,
        notice_id: found.record.notice_id.into(),
        source: found.record.source.to_owned(),
        published: found.record.published,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }
}

#[test]
fn full_tables_hold_no_more_however_many_come() {
    let mut kept = Kept::new();
    let full = limits::SEEN_ITEMS.max(limits::TOLD_ITEMS).max(limits::HISTORY_IN_MEMORY);
    // Buffers grow to the size of the answers.
    kept.grows_by(2 * SHOWN as usize);
    let filling = kept.grows_by(full);
    assert!(filling > 200 * full as i64, "{filling} bytes for {full} notices");
    let first = kept.grows_by(full);
    let second = kept.grows_by(full);
    // The nodes of a tree are not always equally full.
    let slack = filling / 100;
    assert!(first.abs() < slack && second.abs() < slack, "{filling}, then {first} and {second} bytes");
    println!("{} bytes a notice until {full} are known, then {first} and {second}", filling / full as i64);
}
