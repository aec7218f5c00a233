//! What the stages are fed: pages as long as the exchanges' are, about assets that do not exist.
//!
//! Contract: a function of its arguments; the same bytes on every machine and in every run.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tocsin_core::classify::classify;
use tocsin_core::detect::race::{Candidate, Race, Verdict};
use tocsin_core::detect::{Detected, Detector, Findings, ListHistory, Outcome, SeenRecord, fingerprint};
use tocsin_core::feed::history::History;
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::socket::{Broken, Offer, Socket};
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::feed::writer::Writer;
use tocsin_core::model::{
    Action, Announcement, CategoryHint, Exchange, ExchangeSet, FeedPosition, ListingTypeSet,
};
use tocsin_core::source::exchange::{binance, upbit};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::body;
use tocsin_core::webhook::event::{Event, IdKey};
use tocsin_core::webhook::signature::{Brand, Delivery, RequestHead, Secret, Signers};
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_core::wire::extra::Extras;
use tocsin_core::wire::{EncodedAnnouncement, encode};
use tocsin_core::ws::Opcode;
use tocsin_core::ws::frame::write_frame;

/// Notices on a page, as the sources ask for.
pub(crate) const ROWS: usize = 20;
/// Notices known besides those on the page: what some months of an exchange leave.
const KNOWN: usize = 600;
/// The instant of every stage.
pub(crate) const NOW: Now = Now { mono: Mono(5_000_000_000), wall: WallUs(1_795_000_000_123_456) };

pub(crate) const ENGLISH_LISTING: &str = "Binance Will List Northlight (NLT) with Seed Tag Applied";
pub(crate) const KOREAN_LISTING: &str = "노스라이트(NLT) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)";
pub(crate) const CHINESE_LISTING: &str = "欧易将上线 NLT (Northlight) 现货交易";
pub(crate) const NO_LISTING: &str =
    "Notice on the Completion of the Wallet Upgrade for Northlight (NLT) and Scheduled Service Windows";
pub(crate) const SUBSCRIBE: &str = r#"{"type":"subscribe","cex":"binance,upbit,bithumb","types":"spot_listing,futures_listing,spot_delisting","tickers":"NLT,EMBR,QUAY,TARN,WOLD,FJORD,MERE"}"#;

/// Titles of every kind, long and short, as a page mixes them.
const ENGLISH: [&str; 10] = [
    "Binance Will List Embergate (EMBR) and Quayside (QUAY)",
    "Binance Futures Will Launch USDⓈ-Margined TARNUSDT Perpetual Contract with up to 75x Leverage",
    "Notice of Removal of Spot Trading Pairs - 2026-11-20",
    "Binance Will Delist WOLD, FJORD, MERE on 2026-12-03",
    "Introducing Fenwick (FEN) on Launchpool: Farm FEN by Locking Two Assets",
    "Binance Completes the Network Upgrade of Corrie (COR)",
    "Updates on Collateral Ratio Under Portfolio Margin",
    "Binance Adds GLEN, BRAE & STRATH on Earn, Convert, Margin & Futures",
    "Earn up to 12.9% APR with Selected Products",
    "Binance Margin Will Add New Pairs - 2026-11-19",
];

const KOREAN: [&str; 10] = [
    "엠버게이트(EMBR) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)",
    "키사이드(QUAY) 거래지원 종료 안내 (12/3 15:00)",
    "탄(TARN) 입출금 일시 중단 안내 (네트워크 업그레이드)",
    "월드(WOLD) 유의 종목 지정 안내",
    "피오르(FJORD) BTC 마켓 디지털 자산 추가",
    "서버 점검 안내 (11/20 02:00 ~ 04:00)",
    "미어(MERE) 에어드랍 지원 안내",
    "펜윅(FEN) 유의 종목 지정 기간 연장 안내",
    "코리(COR) 리브랜딩 및 티커 변경 안내",
    "은행 점검에 따른 원화 입출금 일시 중지 안내",
];

/// Which exchange's page.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    Binance,
    Upbit,
}

/// What a poll brings after the page is known.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Same,
    OtherBadges,
    OneMore,
}

/// Number `newest` is on top; one more than the page before means that its last has left the page.
fn page(site: Site, newest: usize, badge: bool) -> Vec<u8> {
    let mut page = String::new();
    let numbers = (0..ROWS).map(|row| newest - row);
    match site {
        Site::Binance => {
            page.push_str(concat!(
                r#"{"code":"000000","message":null,"messageDetail":null,"data":{"catalogs":[{"catalogId":48,"#,
                r#""parentCatalogId":null,"icon":"https://cdn.example/icons/listing.png","#,
                r#""catalogName":"New Cryptocurrency Listing","description":null,"catalogType":1,"total":1935,"#,
                r#""articles":["#
            ));
            for number in numbers {
                let (id, at) = (180_000 + number, published(number).0 / 1_000);
                let title = ENGLISH[number % ENGLISH.len()];
                let code = code(number);
                let _ = write!(
                    page,
                    r#"{{"id":{id},"code":"{code}","title":"{title}","type":1,"releaseDate":{at}}},"#
                );
            }
            page.pop();
            page.push_str(r#"],"catalogs":[]}]},"success":true}"#);
        }
        Site::Upbit => {
            page.push_str(r#"{"success":true,"data":{"total_pages":214,"total_count":4267,"notices":["#);
            for number in numbers {
                let (id, uuid) = (5_000 + number, code(number));
                let title = KOREAN[number % KOREAN.len()];
                let (hour, minute) = (number / 60 % 24, number % 60);
                let _ = write!(
                    page,
                    concat!(
                        r#"{{"listed_at":"2026-11-18T{:02}:{:02}:00+09:00","#,
                        r#""first_listed_at":"2026-11-18T{:02}:{:02}:00+09:00","id":{},"uuid":"{}","title":"{}","#,
                        r#""category":"거래","need_new_badge":{},"need_update_badge":false}},"#
                    ),
                    hour, minute, hour, minute, id, uuid, title, badge
                );
            }
            page.pop();
            page.push_str(r#"],"fixed_notices":[]}}"#);
        }
    }
    page.into_bytes()
}

/// 32 hex digits without a pattern.
fn code(number: usize) -> String {
    let mixed = (number as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    format!("{mixed:032x}")
}

/// A minute apart, the newest of the first page some minutes before [`NOW`].
fn published(number: usize) -> WallUs {
    WallUs(NOW.wall.0 / 1_000_000 * 1_000_000 + (number as i64 - FIRST_NEWEST as i64 - 5) * 60_000_000)
}

const FIRST_NEWEST: usize = KNOWN + ROWS - 1;

/// A detector in the steady state, and the answer it is about to read.
pub(crate) struct Poll {
    detector: Detector,
    body: Vec<u8>,
    pub(crate) findings: Findings,
}

impl Poll {
    pub(crate) fn ready(site: Site, answer: Answer) -> Poll {
        let spec = match site {
            Site::Binance => &binance::CMS,
            Site::Upbit => &upbit::WEB,
        };
        // Upbit's times are of a fixed day: what counts as fresh reaches back to it.
        let mut detector = Detector::new(spec, Duration::from_secs(10_000 * 3_600));
        detector.load_list(0, ListHistory { first_start: WallUs::from_secs(1_700_000_000), baselined: true });
        for number in 0..KNOWN {
            let (title, published) = (ENGLISH[number % ENGLISH.len()], published(number));
            detector.load_seen(&SeenRecord {
                source: spec.name,
                notice_id: code(number).into(),
                title: title.into(),
                fingerprint: fingerprint(title, published),
                published,
            });
        }
        let mut findings = Findings::default();
        // The first is read in full, and twice so that both kept bodies and the parser have grown.
        for (newest, badge) in [(FIRST_NEWEST - 1, true), (FIRST_NEWEST, true)] {
            let outcome = detector.on_body(0, &mut page(site, newest, badge), NOW, &mut findings).unwrap();
            assert!(matches!(outcome, Outcome::Parsed(parsed) if parsed.rows == ROWS));
        }
        findings.clear();
        detector.prepare(0);
        let body = match answer {
            Answer::Same => page(site, FIRST_NEWEST, true),
            Answer::OtherBadges => page(site, FIRST_NEWEST, false),
            Answer::OneMore => page(site, FIRST_NEWEST + 1, true),
        };
        Poll { detector, body, findings }
    }

    pub(crate) fn read(&mut self) -> Outcome {
        self.detector.on_body(0, &mut self.body, NOW, &mut self.findings).unwrap()
    }

    /// As a source thread does, up to the announcement.
    pub(crate) fn look_ahead(&mut self) -> bool {
        let known = self.detector.recognise(0, &self.body, NOW);
        known.is_none() && self.detector.look_ahead(0, &self.body, NOW, &mut self.findings)
    }
}

/// A race that knows as many notices as a detector, and what one of its two paths has just found.
pub(crate) struct Heat {
    race: Race,
    path: u8,
    candidate: Option<Candidate>,
    verdicts: Vec<Verdict>,
}

impl Heat {
    /// `second`: the other path has shown it already.
    pub(crate) fn ready(second: bool) -> Heat {
        let mut race = Race::new(Exchange::Binance, ["binance.cms", "binance.stream"]);
        let mut verdicts = Vec::with_capacity(1);
        for number in 0..KNOWN {
            let title = format!("{} {number}", ENGLISH[number % ENGLISH.len()]);
            race.enter(0, candidate(&code(number), &title, published(number)), &mut verdicts);
            verdicts.clear();
        }
        if second {
            race.enter(0, candidate(&code(KNOWN), ENGLISH_LISTING, NOW.wall), &mut verdicts);
            verdicts.clear();
        }
        let stream = candidate("1795000000123-a1b2c3", ENGLISH_LISTING, NOW.wall);
        Heat { race, path: 1, candidate: Some(stream), verdicts }
    }

    pub(crate) fn run(&mut self) {
        if let Some(candidate) = self.candidate.take() {
            self.race.enter(self.path, candidate, &mut self.verdicts);
        }
    }

    pub(crate) fn announced(&self) -> usize {
        assert_eq!(self.verdicts.len(), 1);
        self.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Announce { .. })).count()
    }
}

fn candidate(id: &str, title: &str, published: WallUs) -> Candidate {
    let record = SeenRecord {
        source: "",
        notice_id: id.into(),
        title: title.into(),
        fingerprint: fingerprint(title, published),
        published,
    };
    let classification = classify(Exchange::Binance, title, CategoryHint::None);
    let found = Detected {
        record,
        modified: None,
        url: format!("https://www.binance.com/en/support/announcement/{id}"),
        hint: CategoryHint::None,
        action: Action::Created,
        late: false,
    };
    Candidate { found, classification, received: NOW.wall, detected: NOW.wall }
}

/// An announcement of a listing, classified.
pub(crate) fn announcement(site: Site) -> Announcement {
    let (exchange, title, source) = match site {
        Site::Binance => (Exchange::Binance, ENGLISH_LISTING, "binance.cms"),
        Site::Upbit => (Exchange::Upbit, KOREAN_LISTING, "upbit.web"),
    };
    let at = |us| WallUs(NOW.wall.0 - us);
    Announcement {
        id: format!("{}:{}", exchange.name(), code(7)),
        position: FeedPosition { epoch: 3, seq: 1 },
        exchange,
        title: title.to_owned(),
        classification: classify(exchange, title, CategoryHint::Listing),
        action: Action::Created,
        late: false,
        url: format!("https://www.binance.com/en/support/announcement/{}", code(7)),
        notice_id: code(7),
        source: source.to_owned(),
        published: at(900_000),
        received: at(40),
        detected: at(20),
        classified: at(10),
        effective_at: None,
    }
}

/// A client's frame.
pub(crate) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, opcode, payload, Some([0x5A, 0xC3, 0x0F, 0x96]));
    frame
}

/// A socket that has room for everything: it counts bytes and offers.
pub(crate) struct Sink {
    bytes: usize,
    offers: usize,
}

impl Socket for Sink {
    fn offer(&mut self, bytes: &[u8]) -> Result<Offer, Broken> {
        self.bytes += bytes.len();
        self.offers += 1;
        Ok(Offer { accepted: bytes.len(), held: false })
    }

    fn settle(&mut self) -> Result<bool, Broken> {
        Ok(true)
    }

    fn widen(&mut self) {}

    fn finish(&mut self) {}
}

/// A writer, its subscribers, and the announcement they are about to get.
pub(crate) struct Crowd {
    writer: Writer<Sink>,
    subscribers: u32,
    next: Option<Arc<EncodedAnnouncement>>,
    frame_bytes: usize,
    before: Vec<(usize, usize)>,
}

impl Crowd {
    pub(crate) fn new(subscribers: u32) -> Crowd {
        let key = Arc::new(KeyShared::new(KeyId(1)));
        let subscription = Subscription {
            key,
            allowed: ExchangeSet::ALL,
            expires_at: None,
            filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers: None },
            frames: FrameKind::Binary,
            fields: FieldSet::Basic,
            sources: false,
            extras: Extras::default(),
            redact: false,
            delay: Duration::ZERO,
            resume: None,
        };
        let mut writer = Writer::new(NOW.mono, History::new(3, 1_024, [], true), 42);
        for slot in 0..subscribers {
            let sink = Sink { bytes: 0, offers: 0 };
            assert_eq!(writer.join(NOW, sink, subscription.clone(), b"\x82\x02{}", &mut []), slot);
        }
        let encoded = |seq| {
            let mut announcement = announcement(Site::Binance);
            announcement.position.seq = seq;
            Arc::new(encode(announcement))
        };
        let first = encoded(1);
        // A header of four bytes: the text is longer than 125.
        let frame_bytes = first.basic.json.len() + 4;
        let mut crowd = Crowd { writer, subscribers, next: Some(first), frame_bytes, before: Vec::new() };
        assert_eq!(crowd.broadcast(), subscribers as usize);
        crowd.before = crowd.counted();
        crowd.next = Some(encoded(2));
        crowd
    }

    fn counted(&mut self) -> Vec<(usize, usize)> {
        let Crowd { writer, subscribers, .. } = self;
        let sinks = (0..*subscribers).filter_map(|slot| writer.socket_mut(slot).map(|s| (s.bytes, s.offers)));
        sinks.collect()
    }

    pub(crate) fn broadcast(&mut self) -> usize {
        let Some(next) = self.next.take() else { return 0 };
        self.writer.broadcast(NOW, next, &mut |_| {}).deliveries
    }

    /// Each socket was offered one whole frame since [`Crowd::new`].
    pub(crate) fn everyone_has_the_second_frame(&mut self) -> bool {
        let after = self.counted();
        let frame = self.frame_bytes;
        let got = |(before, after): (&(usize, usize), &(usize, usize))| {
            after.0 - before.0 == frame && after.1 - before.1 == 1
        };
        after.len() == self.subscribers as usize && self.before.iter().zip(&after).all(got)
    }
}

/// A webhook request about to be written.
pub(crate) struct Signing {
    head: RequestHead,
    signers: Signers,
    event: Event,
    body: Vec<u8>,
    out: Vec<u8>,
}

impl Signing {
    pub(crate) fn new(rotating: bool) -> Signing {
        let url = "https://hooks.acme.io/v2/listings?tenant=4711";
        let url = EndpointUrl::parse(url, &AddressPolicy::default()).unwrap();
        let (new, old) = (Secret::from_random([0x3C; 32]), Secret::from_random([0xA5; 32]));
        let grace_until = WallUs(NOW.wall.0 + 3_600_000_000);
        let signers = if rotating { Signers::rotated(&new, &old, grace_until) } else { Signers::new(&new) };
        let event = Event::of(&announcement(Site::Binance), &IdKey::new(&[7; 32])).swap_remove(0);
        let mut body = Vec::new();
        body::write(&event, &mut body).unwrap();
        Signing {
            head: RequestHead::new(&url, &Brand::default()),
            signers,
            event,
            body,
            out: Vec::with_capacity(4_096),
        }
    }

    pub(crate) fn write(&mut self) {
        let delivery = Delivery {
            id: &self.event.id,
            kind: self.event.kind,
            attempt: 1,
            sent_at: NOW.wall,
            body: &self.body,
        };
        self.head.write(&self.signers, &delivery, &mut self.out);
    }

    pub(crate) fn is_signed(&self) -> bool {
        let text = String::from_utf8_lossy(&self.out);
        text.contains("-Signature: sha256=") && text.contains("webhook-signature: v1,")
    }
}
