//! Push sources: what is sent for a session, what their messages are read as, sessions on a clock moved by hand.

use ring::hmac;

use super::relay::{Order, Relay};
use super::session::{Conversation, Step};
use super::*;
use crate::limits;
use crate::model::CategoryHint;
use crate::source::{Link, ParseError};
use crate::time::Mono;

const RANDOM: [u8; 16] = [0x0f; 16];

fn fresh() -> Fresh {
    Fresh { wall: WallUs::from_millis(1_795_000_000_123), random: RANDOM }
}

fn ask(credentials: &Credentials, order: ParameterOrder) -> Ask<'_> {
    Ask { credentials: Some(credentials), order, fresh: fresh() }
}

fn at(millis: u64) -> Mono {
    Mono(1_000_000_000_000 + millis * 1_000_000)
}

/// What a message is, and its items: channel, id, title, url, hint, publish time in seconds.
type Row = (usize, String, String, String, CategoryHint, Option<i64>);

fn read(spec: &StreamSpec, message: &str) -> (Result<Incoming, ParseError>, Vec<Row>) {
    let mut rows = Vec::new();
    let mut bytes = message.as_bytes().to_vec();
    let outcome = (spec.read)(&mut Scratch::default(), &mut bytes, &mut |channel, item| {
        rows.push((
            channel,
            item.notice_id.to_string(),
            item.title.to_owned(),
            item.link.to_url(),
            item.hint,
            item.published.map(WallUs::secs),
        ));
        assert!(!matches!(item.link, Link::Whole("")));
    });
    (outcome, rows)
}

#[test]
fn specs_are_consistent() {
    for spec in ALL {
        assert_eq!(spec.config_name, spec.exchange.name());
        assert_eq!(spec.name, format!("{}.stream", spec.config_name));
        assert!((1..=limits::LISTS_PER_SOURCE).contains(&spec.channels.len()));
        assert!(spec.base_url.starts_with("wss://") && spec.path.starts_with('/'));
        assert!(spec.keepalive.every * 2 < spec.keepalive.patience);
        assert!(!spec.frames.is_empty() && !spec.connects.is_empty());
        // The whole greeting fits the time it may take.
        let mut text = String::new();
        let messages = (0..20).take_while(|n| (spec.greet)(*n, fresh(), &mut text)).count();
        let second = spec.frames.iter().find(|rule| rule.per <= Duration::from_secs(1)).unwrap();
        assert!(messages < second.count * limits::STREAM_GREETING.as_secs() as usize);
    }
    assert_eq!(by_config_name("gate").map(|spec| spec.name), Some("gate.stream"));
    assert!(by_config_name("bithumb").is_none());
}

#[test]
fn binance_signs_its_query_in_either_order() {
    let credentials = Credentials::parse("the-key\nthe-secret\n").unwrap();
    let hex = "0f".repeat(16);
    for (order, query) in [
        (
            ParameterOrder::Alphabetical,
            format!("random={hex}&recvWindow=30000&timestamp=1795000000123&topic=com_announcement_en"),
        ),
        (
            ParameterOrder::TopicSecond,
            format!("random={hex}&topic=com_announcement_en&recvWindow=30000&timestamp=1795000000123"),
        ),
    ] {
        let within = binance::STREAM.clock_within.unwrap().as_millis();
        assert!(query.contains(&format!("recvWindow={within}&")), "what is asked for is what is said of it");
        let upgrade = (binance::STREAM.upgrade)(&ask(&credentials, order));
        let (start, signature) = upgrade.target.split_once("&signature=").unwrap();
        assert_eq!(start, format!("/sapi/wss?{query}"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"the-secret");
        let mut expected = String::new();
        push_hex(&mut expected, hmac::sign(&key, query.as_bytes()).as_ref());
        assert_eq!(signature, expected);
        let (name, value) = upgrade.header.unwrap();
        assert_eq!((name, value.as_str()), ("X-MBX-APIKEY", "the-key"));
        assert!(!upgrade.target.contains("the-secret"));
        assert_eq!(ParameterOrder::parse(order.name()), Some(order));
    }
    assert_eq!(ParameterOrder::parse("random"), None);
}

#[test]
fn upbit_brings_a_token_that_verifies() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let credentials = Credentials::parse("access\nsecret\n").unwrap();
    let upgrade = (upbit::STREAM.upgrade)(&ask(&credentials, ParameterOrder::default()));
    assert_eq!(upgrade.target.as_str(), "/websocket/v1/private");
    let (name, value) = upgrade.header.unwrap();
    let token = value.strip_prefix("Bearer ").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let plain = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!((name, plain(header).as_str()), ("Authorization", r#"{"alg":"HS256","typ":"JWT"}"#));
    let nonce = "0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f";
    assert_eq!(plain(payload), format!(r#"{{"access_key":"access","nonce":"{nonce}"}}"#));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
    hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let mut text = String::new();
    assert!((upbit::STREAM.greet)(0, fresh(), &mut text));
    let asked: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(asked[0]["ticket"], nonce);
    assert_eq!(asked[1]["type"], "announcement");
    assert_eq!(asked[2]["format"], "DEFAULT");
}

#[test]
fn binance_messages() {
    let article = r#"{"catalogId":48,"catalogName":"New","publishDate":1795000000123,"title":"Binance Will List Bell (BELX)","body":"b","disclaimer":"d"}"#;
    let as_text = format!(
        r#"{{"type":"DATA","topic":"com_announcement_en","data":{}}}"#,
        serde_json::to_string(article).unwrap()
    );
    let as_json = format!(r#"{{"type":"DATA","topic":"com_announcement_en","data":{article}}}"#);
    for message in [as_text, as_json] {
        let (outcome, rows) = read(&binance::STREAM, &message);
        assert_eq!(outcome, Ok(Incoming::Items(Parsed { rows: 1, ..Parsed::default() })));
        let (channel, id, title, url, hint, published) = rows[0].clone();
        assert_eq!((channel, title.as_str(), url.as_str()), (0, "Binance Will List Bell (BELX)", ""));
        assert_eq!(id, format!("1795000000123-{:016x}", fnv1a("Binance Will List Bell (BELX)")));
        assert_eq!((hint, published), (CategoryHint::Listing, Some(1_795_000_000)));
    }
    let refused = Incoming::Refused(Failure::Status, ShortText::cut("-1130"));
    for (message, want) in [
        (
            r#"{"type":"COMMAND","data":"SUCCESS","subType":"SUBSCRIBE","code":"00000000"}"#,
            Ok(Incoming::Accepted(0)),
        ),
        (r#"{"type":"COMMAND"}"#, Ok(Incoming::Accepted(0))),
        (r#"{"type":"COMMAND","code":"-1130","msg":"bad"}"#, Ok(refused)),
        (r#"{"type":"DATA","topic":"another","data":"{}"}"#, Ok(Incoming::Other)),
        (r#"{"hello":1}"#, Ok(Incoming::Other)),
        (r#"{"type":"DATA","topic":"com_announcement_en"}"#, Err(ParseError::Missing("data"))),
        (r#"{"type":"DATA","data":7}"#, Err(ParseError::Missing("data"))),
        (
            r#"{"type":"DATA","data":{"title":" "}}"#,
            Ok(Incoming::Items(Parsed { skipped: 1, ..Parsed::default() })),
        ),
        ("", Err(ParseError::Empty)),
    ] {
        assert_eq!(read(&binance::STREAM, message), (want, vec![]), "{message}");
    }
    assert!(matches!(
        read(&binance::STREAM, r#"{"type":"DATA","data":"{"}"#).0,
        Err(ParseError::NotJson { .. })
    ));
}

#[test]
fn upbit_messages() {
    let notice = |title: &str, more: &str| {
        format!(
            r#"{{"type":"announcement","event_type":"CREATED","uuid":"81","title":"{title}","category":"trade",
            "first_listed_at":"2026-11-18T17:00:00+09:00","listed_at":"2026-11-18T17:30:00+09:00",
            "timestamp":1,"stream_type":"REALTIME"{more}}}"#
        )
    };
    let (outcome, rows) =
        read(&upbit::STREAM, &notice("[거래] 종탑(BELX) 신규 거래지원 안내 (KRW 마켓)", ""));
    assert!(matches!(outcome, Ok(Incoming::Items(_))));
    let (_, id, title, url, hint, published) = rows[0].clone();
    assert_eq!((id.as_str(), title.as_str()), ("81", "종탑(BELX) 신규 거래지원 안내 (KRW 마켓)"));
    assert_eq!(url, "https://www.upbit.com/service_center/notice?id=81&view=share");
    assert_eq!((hint, published), (CategoryHint::None, Some(1_794_988_800)));
    let whole = r#","url":"https://upbit.example/81","body":null"#;
    let title = |title: &str| read(&upbit::STREAM, &notice(title, whole)).1[0].2.clone();
    assert_eq!(title("[필독] 종탑"), "[필독] 종탑", "no category");
    assert_eq!(title("[거래]"), "[거래]");
    assert_eq!(title("종탑 [거래]"), "종탑 [거래]");
    assert_eq!(read(&upbit::STREAM, &notice("x", whole)).1[0].3, "https://upbit.example/81");
    for (name, failure) in [
        ("INVALID_AUTH", Failure::Unauthorized),
        ("expired_access_key", Failure::Unauthorized),
        ("no_authorization_ip", Failure::Unauthorized),
        ("too_many_requests", Failure::TooManyRequests),
        ("WRONG_FORMAT", Failure::Status),
    ] {
        let (outcome, _) = read(&upbit::STREAM, &format!(r#"{{"error":{{"name":"{name}","message":"m"}}}}"#));
        assert_eq!(outcome, Ok(Incoming::Refused(failure, ShortText::cut(name))));
    }
    assert_eq!(read(&upbit::STREAM, r#"{"status":"UP"}"#).0, Ok(Incoming::Other));
    assert_eq!(read(&upbit::STREAM, "[]").0, Err(ParseError::Missing("type")));
}

#[test]
fn gate_messages() {
    let update = |url: &str| {
        format!(
            r#"{{"time":1,"channel":"announcement.summary_delisting","event":"update",
            "result":{{"lang":"en","origin_url":"{url}","title":"Gate will delist BELX","brief":"b","published_at":1795000000}}}}"#
        )
    };
    for url in [
        "https://www.gate.com/article/228103",
        "https://www.gate.io/en/article/228103/?ref=1",
        "https://www.gate.com/announcements/article/0228103#top",
    ] {
        let (outcome, rows) = read(&gate::STREAM, &update(url));
        assert_eq!(outcome, Ok(Incoming::Items(Parsed { rows: 1, ..Parsed::default() })));
        let row = (
            1,
            "228103".into(),
            "Gate will delist BELX".into(),
            url.into(),
            CategoryHint::Delisting,
            Some(1_795_000_000),
        );
        assert_eq!(rows, [row]);
    }
    let (outcome, rows) = read(&gate::STREAM, &update("https://www.gate.com/article/"));
    assert_eq!((outcome, rows.len()), (Ok(Incoming::Items(Parsed { skipped: 1, ..Parsed::default() })), 0));
    let refusal = r#"{"code":2,"message":"invalid argument"}"#;
    let why = ShortText::cut("invalid argument");
    for (message, want) in [
        (
            r#"{"channel":"announcement.summary_listing","event":"subscribe","result":{"status":"success"}}"#
                .to_owned(),
            Ok(Incoming::Accepted(0)),
        ),
        (
            format!(
                r#"{{"channel":"announcement.summary_all","event":"subscribe","error":{refusal},"result":null}}"#
            ),
            Ok(Incoming::Rejected(5, why)),
        ),
        (
            format!(r#"{{"channel":"announcement.summary_none","event":"","error":{refusal}}}"#),
            Ok(Incoming::Refused(Failure::Status, why)),
        ),
        (r#"{"channel":"announcement.pong","event":"","result":null}"#.to_owned(), Ok(Incoming::Pong)),
        (
            r#"{"channel":"announcement.summary_fee","event":"update","result":{}}"#.to_owned(),
            Ok(Incoming::Other),
        ),
        (
            r#"{"channel":"announcement.summary_all","event":"update","result":5}"#.to_owned(),
            Err(ParseError::Missing("result")),
        ),
        ("{}".to_owned(), Err(ParseError::Missing("channel"))),
    ] {
        assert_eq!(read(&gate::STREAM, &message).0, want, "{message}");
    }
    let mut text = String::new();
    assert!((gate::STREAM.greet)(0, fresh(), &mut text));
    assert_eq!(
        text,
        r#"{"time":1795000000,"channel":"announcement.summary_listing","event":"subscribe","payload":["en"]}"#
    );
    text.clear();
    gate::STREAM.keepalive.text.unwrap()(fresh(), &mut text);
    assert_eq!(text, r#"{"time":1795000000,"channel":"announcement.ping"}"#);
}

#[test]
fn refusals_of_the_upgrade_have_classes() {
    let rows: [(&StreamSpec, u16, &str, Failure); 8] = [
        (
            &binance::STREAM,
            400,
            r#"{"code":-1022,"msg":"Signature for this request is not valid."}"#,
            Failure::Unauthorized,
        ),
        (&binance::STREAM, 401, r#"{"code":-2015}"#, Failure::Unauthorized),
        (&binance::STREAM, 400, r#"{"code":-1021}"#, Failure::Status),
        (&binance::STREAM, 418, "", Failure::Banned),
        (&upbit::STREAM, 401, "", Failure::Unauthorized),
        (&upbit::STREAM, 429, "", Failure::TooManyRequests),
        (&gate::STREAM, 502, "", Failure::ServerError),
        (&gate::STREAM, 200, "", Failure::Status),
    ];
    for (spec, status, body, failure) in rows {
        assert_eq!((spec.refused)(status, body.as_bytes()), failure, "{} {status} {body}", spec.name);
    }
}

/// Polls until it waits; what it sent.
fn run(conversation: &mut Conversation, now: Mono) -> (Vec<String>, Step) {
    let (mut sent, mut text) = (Vec::new(), String::new());
    loop {
        match conversation.poll(now, fresh(), false, &mut text) {
            Step::Text => sent.push(text.clone()),
            Step::Ping => sent.push("ping".to_owned()),
            step => return (sent, step),
        }
    }
}

#[test]
fn a_session_greets_waits_for_its_confirmation_and_is_kept_open() {
    let mut upbit = Conversation::new(&upbit::STREAM, at(0));
    let (sent, step) = run(&mut upbit, at(0));
    assert_eq!((sent.len(), sent[1].as_str()), (2, "ping"));
    assert_eq!(step, Step::Wait(at(0) + limits::STREAM_GREETING));
    assert!(upbit.live_since().is_none());
    upbit.on_bytes(at(90));
    upbit.on_pong(at(90));
    assert_eq!(upbit.live_since(), Some(at(90)));
    assert_eq!(run(&mut upbit, at(100)), (vec![], Step::Wait(at(30_000))));
    assert_eq!(run(&mut upbit, at(30_000)), (vec!["ping".to_owned()], Step::Wait(at(60_000))));
    run(&mut upbit, at(60_000));
    assert_eq!(run(&mut upbit, at(75_090)), (vec![], Step::Fail(Failure::Timeout)), "silent since 90 ms");
    // Never confirmed.
    let mut mute = Conversation::new(&upbit::STREAM, at(0));
    run(&mut mute, at(0));
    assert_eq!(run(&mut mute, at(0) + limits::STREAM_GREETING).1, Step::Fail(Failure::Timeout));
    // A server that never answers pings is not taken for dead on that account.
    let mut binance = Conversation::new(&binance::STREAM, at(0));
    assert_eq!(binance.live_since(), Some(at(0)));
    for round in 0..10 {
        assert_eq!(run(&mut binance, at(round * 30_000)).0, ["ping"], "{round}");
    }
}

#[test]
fn channels_confirm_a_session_and_one_refused_does_not_end_it() {
    let mut gate = Conversation::new(&gate::STREAM, at(0));
    assert_eq!(run(&mut gate, at(0)).0.len(), 7, "six channels and a ping");
    for channel in 0..5 {
        assert_eq!(gate.on_message(&Incoming::Accepted(channel), at(1)), None);
        assert!(gate.live_since().is_none() && gate.may_be_replay(at(1)));
    }
    assert_eq!(gate.on_message(&Incoming::Rejected(5, ShortText::EMPTY), at(2)), None);
    assert_eq!(gate.live_since(), Some(at(2)));
    assert!(gate.may_be_replay(at(10_001)) && !gate.may_be_replay(at(10_002)));
    let mut none = Conversation::new(&gate::STREAM, at(0));
    let failures: Vec<_> =
        (0..6).map(|c| none.on_message(&Incoming::Rejected(c, ShortText::EMPTY), at(1))).collect();
    assert_eq!(failures, [None, None, None, None, None, Some(Failure::Status)]);
    let refused = Incoming::Refused(Failure::Unauthorized, ShortText::EMPTY);
    assert_eq!(none.on_message(&refused, at(2)), Some(Failure::Unauthorized));
}

#[test]
fn no_second_sees_more_frames_than_are_allowed() {
    let mut binance = Conversation::new(&binance::STREAM, at(0));
    let (mut sent, mut text) = (Vec::new(), String::new());
    // A server that pings without end: a pong is owed all the time.
    for millis in 0..5_000 {
        while let Step::Owed | Step::Ping = binance.poll(at(millis), fresh(), true, &mut text) {
            sent.push(millis);
        }
    }
    assert!(sent.windows(3).all(|three| three[2] - three[0] >= 1_000), "{sent:?}");
    assert_eq!(sent.len(), 10);
}

#[test]
fn a_relay_replaces_a_session_with_one_that_is_live() {
    let life = Duration::from_secs(60);
    let mut relay = Relay::new(&binance::STREAM, Some(life));
    assert_eq!(relay.next(at(0), false), Order::Wait(Mono::NEVER), "nowhere to connect to");
    assert_eq!(relay.next(at(0), true), Order::Open(0));
    assert_eq!(relay.next(at(0), true), Order::Wait(Mono::NEVER), "one at a time");
    relay.live(0, at(10));
    assert_eq!(relay.next(at(10), true), Order::Wait(at(60_010)));
    assert_eq!(relay.next(at(60_010), true), Order::Open(1));
    relay.live(1, at(60_500));
    let over = at(60_500) + limits::STREAM_OVERLAP;
    assert_eq!(relay.next(at(60_500), true), Order::Wait(over));
    assert_eq!(relay.next(over, true), Order::Leave(0));
    assert_eq!(relay.next(over, true), Order::Wait(over + limits::STREAM_LEAVE));
    assert!(relay.is_live());
    assert_eq!(relay.next(over + limits::STREAM_LEAVE, true), Order::Drop(0));
    assert_eq!(relay.next(over + limits::STREAM_LEAVE, true), Order::Wait(at(60_500) + life));
    assert_eq!(relay.next(at(60_500) + life, true), Order::Open(0), "and so on");
}

#[test]
fn a_session_that_is_left_fails_nobody() {
    let mut relay = Relay::new(&binance::STREAM, Some(Duration::from_secs(60)));
    relay.next(at(0), true);
    relay.live(0, at(0));
    assert_eq!(relay.next(at(60_000), true), Order::Open(1));
    // The successor fails: the old one stays, the next attempt rests.
    assert!(relay.lost(1, at(60_100), Failure::Connect, None, 0));
    let Order::Wait(until) = relay.next(at(60_100), true) else { panic!() };
    assert!(until > at(60_100) && relay.is_live());
    assert_eq!(relay.next(until, true), Order::Open(1));
    relay.live(1, until);
    let leave = until + limits::STREAM_OVERLAP;
    assert_eq!(relay.next(leave, true), Order::Leave(0));
    assert!(!relay.lost(0, leave, Failure::Closed, None, 0), "it was asked to go");
    // One that was live long and is closed by its server is no failure, one that just began is.
    assert!(!relay.lost(1, leave + limits::STREAM_STABLE, Failure::Closed, None, 0));
    assert!(!relay.is_live());
}

#[test]
fn no_server_makes_a_storm_of_connections() {
    // It accepts, confirms and closes at once, for an hour.
    let mut relay = Relay::new(&upbit::STREAM, None);
    let (mut opened, mut now) = (0, at(0));
    while now < at(3_600_000) {
        match relay.next(now, true) {
            Order::Open(place) => {
                opened += 1;
                relay.live(place, now);
                relay.lost(place, now, Failure::Closed, None, 0);
            }
            Order::Wait(until) => now = until.max(now + Duration::from_millis(1)),
            other => panic!("{other:?}"),
        }
    }
    assert!(opened < 400, "{opened}");
    // Wrong credentials: a minute first, then longer.
    let mut relay = Relay::new(&upbit::STREAM, None);
    assert_eq!(relay.next(at(0), true), Order::Open(0));
    assert!(relay.lost(0, at(1), Failure::Unauthorized, None, 0));
    assert!(relay.is_refused(at(2)));
    let Order::Wait(until) = relay.next(at(2), true) else { panic!() };
    assert!(until >= at(60_001));
}

proptest::proptest! {
    #[test]
    fn any_message_is_read_or_refused(text in "\\PC{0,120}", which in 0_usize..3) {
        let _ = read(ALL[which], &text);
    }
}
