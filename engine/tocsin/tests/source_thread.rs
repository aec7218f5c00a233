//! The source thread, turn by turn, against simulated exchanges and a scripted server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::rig::{Options, Rig};
use support::{Reply, Server, ok, with_headers};
use tocsin::rings::{Inject, ToSource};
use tocsin::threads::source::stats::Count;
use tocsin_core::model::{Action, Exchange, ListingType, Ticker};
use tocsin_core::source::backoff::Failure;
use tocsin_core::source::exchange::{binance, bithumb, upbit};
use tocsin_core::source::{SourceSpec, SourceState};
use tocsin_sim::{Category, Draft, Fault, Framing, Kind, SimExchange};

const NOTHING_NEW: &str =
    r#"{"success":true,"data":{"total_pages":1,"total_count":0,"notices":[],"fixed_notices":[]}}"#;

fn sim(kind: Kind) -> SimExchange {
    SimExchange::start(kind, tocsin_sim::Options::plain()).unwrap()
}

fn draft(title: &str) -> Draft {
    Draft::new(Category::Listing, title)
}

#[test]
fn each_exchange_is_taken_as_known_at_first_and_its_news_is_announced_once() {
    for (kind, spec) in
        [(Kind::Binance, &binance::CMS), (Kind::Upbit, &upbit::WEB), (Kind::Bithumb, &bithumb::API)]
    {
        let sim = sim(kind);
        let mut rig = Rig::new(vec![Options::new(spec, &sim.base_url())]);
        let lists = spec.lists.len();
        let mut baselines = 0;
        let mut seen = 0;
        rig.until("baseline", |rig| {
            let got = rig.journalled();
            assert_eq!(got.0, 0);
            seen += got.1;
            baselines += got.2;
            baselines == lists
        });
        assert!(seen > 0 && rig.announced.is_empty(), "{kind:?}");
        rig.answers(0, 5);
        assert!(rig.announced.is_empty(), "{kind:?}");

        let published = sim.publish(draft("Will List Something (SMTH)"));
        rig.until("announcement", |rig| !rig.announced.is_empty());
        rig.answers(0, 10);
        assert_eq!(rig.titles(), ["Will List Something (SMTH)"]);
        let a = &rig.announced[0];
        assert_eq!(a.id, format!("{}:{}", kind.exchange().name(), published.notice_id));
        assert_eq!((a.position.epoch, a.position.seq, a.late, a.action), (3, 1, false, Action::Created));
        assert!(a.published <= a.received && a.received <= a.detected && a.detected <= a.classified);
        assert_eq!(rig.journalled().0, 1);
        assert_eq!(rig.history.slots(), 1);
        assert_eq!(rig.logged.load(Ordering::Relaxed), 1);
        assert_eq!(rig.states, [(spec.name, "down"), (spec.name, "live")]);
        assert_eq!(rig.stats[0].count(Count::Announced), 1);
        assert_eq!(rig.stats[0].count(Count::Opened), 1, "one warm connection carried all of it");
        assert!(sim.request_count() >= 16);
    }
}

#[test]
fn a_burst_in_one_answer_is_announced_in_order_without_gaps() {
    let sim = sim(Kind::Upbit);
    let mut rig = Rig::new(vec![Options::new(&upbit::WEB, &sim.base_url())]);
    rig.answers(0, 1);
    let burst = sim.burst(8);
    rig.until("announcements", |rig| rig.announced.len() == burst.len());
    let seqs: Vec<u64> = rig.announced.iter().map(|a| a.position.seq).collect();
    assert_eq!(seqs, (1..=8).collect::<Vec<u64>>());
}

#[test]
fn an_unchanged_list_is_answered_304_and_its_edit_still_shows() {
    let sim = sim(Kind::Upbit);
    let mut rig = Rig::new(vec![Options::new(&upbit::WEB, &sim.base_url())]);
    rig.answers(0, 3);
    assert!(rig.stats[0].count(Count::NotModified) >= 2);
    let published = sim.publish(draft("가나다(GND) 신규 거래지원 안내 (KRW 마켓)"));
    rig.until("announcement", |rig| rig.announced.len() == 1);
    sim.edit(&published.notice_id, "가나다(GND) 신규 거래지원 안내 (KRW, BTC 마켓)").unwrap();
    rig.until("edit", |rig| rig.announced.len() == 2);
    assert_ne!(rig.announced[1].action, Action::Created);
    assert_eq!(rig.announced[0].id, rig.announced[1].id);
}

#[test]
fn over_tls_new_connections_resume_and_every_framing_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = tocsin_sim::Options {
        framing: vec![Framing::Chunked(7), Framing::ContentLength, Framing::CloseDelimited],
        etag: false,
        ..tocsin_sim::Options::default()
    };
    let sim = SimExchange::start(Kind::Upbit, options).unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, sim.ca_pem()).unwrap();
    let mut rig =
        Rig::new(vec![Options { ca_file: Some(ca_file), ..Options::new(&upbit::WEB, &sim.base_url()) }]);
    rig.answers(0, 9);
    assert!(rig.stats[0].count(Count::Opened) >= 3);
    assert!(rig.stats[0].count(Count::Resumed) >= 2);
    assert_eq!(rig.states.last(), Some(&("upbit.web", "live")));
}

#[test]
fn a_refused_connection_rests_and_the_other_goes_on() {
    let refusal = with_headers("429 Too Many Requests", &["Retry-After: 3600"], "{}");
    let server = Server::start(None, move |seen| match seen.connection {
        0 => Reply::Send(refusal.clone()),
        _ => Reply::Send(ok(NOTHING_NEW)),
    });
    let options = Options { connections: 2, ..Options::new(&upbit::WEB, &server.url("http")) };
    let mut rig = Rig::new(vec![options]);
    rig.answers(0, 20);
    assert_eq!(rig.stats[0].failures(Failure::TooManyRequests), 1);
    assert_eq!((rig.stats[0].state(), server.connections()), (SourceState::Live, 2));
}

#[test]
fn a_banned_address_rests_whole_and_another_address_goes_on() {
    let banned = IpAddr::from([127, 0, 0, 2]);
    let refusal = with_headers("418 I'm a teapot", &["Retry-After: 3600"], "{}");
    let server = Server::start(None, move |seen| match seen.from.ip() == banned {
        true => Reply::Send(refusal.clone()),
        false => Reply::Send(ok(NOTHING_NEW)),
    });
    let options = |bind| Options { connections: 4, bind, ..Options::new(&upbit::WEB, &server.url("http")) };
    let mut rig = Rig::new(vec![options(vec![banned, IpAddr::from([127, 0, 0, 3])])]);
    rig.answers(0, 20);
    // What was on its way when the first refusal came is refused too; none is asked again.
    assert!((1..=2).contains(&rig.stats[0].failures(Failure::Banned)));
    assert_eq!(rig.stats[0].state(), SourceState::Live);

    let mut rig = Rig::new(vec![options(vec![banned])]);
    rig.until("blocked", |rig| rig.stats[0].state() == SourceState::Blocked);
    assert!((1..=4).contains(&rig.stats[0].failures(Failure::Banned)));
}

#[test]
fn faults_are_counted_by_class_and_got_over() {
    let cases = [
        (Fault::Status { code: 503, retry_after_secs: None }, Failure::ServerError),
        (Fault::Status { code: 429, retry_after_secs: Some(0) }, Failure::TooManyRequests),
        (Fault::RedirectLoop, Failure::Status),
        (Fault::HtmlChallenge, Failure::Status),
        (Fault::ResetInHead, Failure::Closed),
        (Fault::ResetInBody { after_bytes: 100 }, Failure::Closed),
        (Fault::ShortBody, Failure::Closed),
        (Fault::Garbage, Failure::Protocol),
        (Fault::HugeBody { bytes: 1_000_000_000, chunked: false }, Failure::Protocol),
        (Fault::HugeBody { bytes: 1_000_000_000, chunked: true }, Failure::Protocol),
        (Fault::GarbageBody, Failure::Unusable),
        (Fault::TruncatedJson, Failure::Unusable),
        (Fault::Gzip, Failure::Unusable),
    ];
    for (fault, class) in cases {
        let sim = sim(Kind::Upbit);
        sim.set_etag(false);
        let mut rig = Rig::new(vec![Options::new(&upbit::WEB, &sim.base_url())]);
        rig.answers(0, 2);
        sim.fault_next(1, fault.clone());
        rig.until(&format!("{fault:?}"), |rig| rig.stats[0].failures(class) > 0);
        rig.answers(0, 2);
        let all: u64 = Failure::ALL.into_iter().map(|f| rig.stats[0].failures(f)).sum();
        assert_eq!((rig.stats[0].failures(class), all), (1, 1), "{fault:?}");
        sim.publish(draft("Will List Afterwards (AFT)"));
        rig.until("announcement", |rig| rig.titles() == ["Will List Afterwards (AFT)"]);
        assert!(sim.counters().requests > 0);
    }
}

#[test]
fn a_connection_near_the_servers_limit_is_replaced() {
    let server = Server::start(None, |seen| {
        let left = 3_usize.saturating_sub(seen.request);
        Reply::Send(with_headers("200 OK", &[&format!("Keep-Alive: max={left}")], NOTHING_NEW))
    });
    let mut rig = Rig::new(vec![Options::new(&upbit::WEB, &server.url("http"))]);
    rig.until("rotation", |rig| rig.stats[0].count(Count::Rotated) >= 2);
    rig.answers(0, 2);
    let failures: u64 = Failure::ALL.into_iter().map(|f| rig.stats[0].failures(f)).sum();
    assert_eq!((failures, rig.stats[0].count(Count::Lapsed)), (0, 0));
}

#[test]
fn an_edge_that_lags_behind_announces_nothing_twice() {
    let page = |titles: &[(u32, &str)]| {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
        let rows: Vec<String> = titles
            .iter()
            .map(|(id, title)| {
                format!(r#"{{"listed_at":"{at}","first_listed_at":"{at}","id":{id},"title":"{title}","category":"거래"}}"#)
            })
            .collect();
        format!(
            r#"{{"success":true,"data":{{"total_pages":1,"notices":[{}],"fixed_notices":[]}}}}"#,
            rows.join(",")
        )
    };
    let (old, new) = (page(&[(1, "first")]), page(&[(2, "second"), (1, "first")]));
    let published = Arc::new(AtomicBool::new(false));
    let visible = Arc::clone(&published);
    // The edge of the first connection is always behind.
    let server = Server::start(None, move |seen| {
        let current = visible.load(Ordering::Relaxed) && seen.connection > 0;
        Reply::Send(ok(if current { &new } else { &old }))
    });
    let options = Options { connections: 2, ..Options::new(&upbit::WEB, &server.url("http")) };
    let mut rig = Rig::new(vec![options]);
    rig.answers(0, 4);
    let before = rig.announced.len();
    published.store(true, Ordering::Relaxed);
    rig.until("announcement", |rig| rig.announced.len() > before);
    rig.answers(0, 12);
    assert_eq!(rig.titles().iter().filter(|t| **t == "second").count(), 1);
    assert_eq!(rig.announced.len(), before + 1);
}

#[test]
fn a_name_is_resolved_and_its_dead_address_passed_over() {
    let server = Server::start(None, |_| Reply::Send(ok(NOTHING_NEW)));
    let url = format!("http://exchange.test:{}", server.address.port());
    let lookup = |_: &str| [[127, 0, 0, 2], [127, 0, 0, 1]].into_iter().map(IpAddr::from).collect();
    let mut rig = Rig::with_resolver(vec![Options::new(&upbit::WEB, &url)], lookup);
    rig.answers(0, 3);
    assert_eq!(rig.stats[0].state(), SourceState::Live);

    let mut rig = Rig::new(vec![Options::new(&upbit::WEB, &url)]);
    rig.until("failed lookup", |rig| rig.stats[0].failures(Failure::Connect) > 0);
    assert_eq!(rig.stats[0].state(), SourceState::Down);
}

#[test]
fn a_source_that_is_down_does_not_disturb_another() {
    let sim = sim(Kind::Bithumb);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::new(vec![
        Options::new(&upbit::WEB, &format!("http://{nobody}")),
        Options::new(&bithumb::API, &sim.base_url()),
    ]);
    rig.answers(1, 1);
    sim.publish(draft("가나다(GND) 원화 마켓 추가"));
    rig.until("announcement", |rig| rig.announced.len() == 1);
    assert!(rig.stats[0].failures(Failure::Connect) > 0);
    assert!(rig.states.contains(&("bithumb.api", "live")) && !rig.states.contains(&("upbit.web", "live")));
}

#[test]
fn a_manual_alert_takes_the_same_path() {
    let mut rig = Rig::new(Vec::new());
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let inject = Inject {
        exchange: Exchange::Okx,
        title: "OKX will list something".into(),
        listing_type: Some(ListingType::SpotListing),
        tickers: Some(vec![Ticker::new("SMTH").unwrap()]),
        published: None,
        reply,
    };
    rig.commands.push(ToSource::Inject(Box::new(inject))).unwrap();
    rig.step();
    assert_eq!(rig.titles(), ["OKX will list something"]);
    let a = answer.try_recv().unwrap();
    assert_eq!(a.announcement.id, "okx:manual-3-1");
    assert_eq!((a.announcement.position.seq, a.announcement.source.as_str()), (1, "manual"));
    assert_eq!(a.announcement.classification.listing_type, ListingType::SpotListing);
    assert_eq!(a.announcement.classification.tickers, [Ticker::new("SMTH").unwrap()]);
    assert_eq!(rig.journalled(), (1, 0, 0));
}

/// A second source of Upbit.
static MIRROR: SourceSpec = SourceSpec { name: "upbit.mirror", ..upbit::WEB };

#[test]
fn two_sources_of_one_exchange_announce_each_notice_and_each_edit_once() {
    let sims = [
        sim(Kind::Upbit),
        SimExchange::start(Kind::Upbit, tocsin_sim::Options { seed: 77, ..tocsin_sim::Options::plain() })
            .unwrap(),
    ];
    let mut rig = Rig::new(vec![
        Options::new(&upbit::WEB, &sims[0].base_url()),
        Options::new(&MIRROR, &sims[1].base_url()),
    ]);
    rig.answers(0, 2);
    rig.answers(1, 2);
    assert!(rig.announced.is_empty());
    let mut expected = Vec::new();
    for (n, first) in [0, 1, 1, 0].into_iter().enumerate() {
        let second = 1 - first;
        let title = format!("가나다(GN{n}) 신규 거래지원 안내 (KRW 마켓)");
        let ids = [first, second].map(|path| {
            let published = sims[path].publish(draft(&title));
            let confirmed = rig.stats[path].count(Count::Confirmed);
            let announced = rig.announced.len();
            rig.until("arrival", |rig| {
                rig.announced.len() > announced || rig.stats[path].count(Count::Confirmed) > confirmed
            });
            published.notice_id
        });
        expected.push(title.clone());
        let edited = format!("{title} (변경)");
        // The edit comes through the slower one first.
        for (path, id) in [(second, &ids[1]), (first, &ids[0])] {
            sims[path].edit(id, &edited).unwrap();
            let confirmed = rig.stats[path].count(Count::Confirmed);
            let announced = rig.announced.len();
            rig.until("edit", |rig| {
                rig.announced.len() > announced || rig.stats[path].count(Count::Confirmed) > confirmed
            });
        }
        expected.push(edited);
        let [.., a, edit] = rig.announced.as_slice() else { panic!("{:?}", rig.titles()) };
        let sources = ["upbit.web", "upbit.mirror"];
        assert_eq!((a.source.as_str(), a.action), (sources[first], Action::Created));
        assert_eq!((edit.source.as_str(), edit.action), (sources[second], Action::Updated));
        assert_eq!((&a.id, &a.id), (&edit.id, &format!("upbit:{}", ids[0])));
        assert_eq!(edit.notice_id, ids[1], "the source's own identifier");
    }
    rig.answers(0, 5);
    rig.answers(1, 5);
    assert_eq!(rig.titles(), expected);
    for stats in &rig.stats {
        assert_eq!((stats.count(Count::Won), stats.count(Count::Confirmed)), (2, 4), "{}", stats.source);
        assert_eq!(stats.behind_us.read().count(), 4);
        assert!(stats.last_won().is_some());
    }
}
