//! Tests of the decision: order of checks, what an admitted session may have, what counts.

use super::*;
use crate::feed::admission::address::{AddressLimits, AddressRefusal};
use crate::feed::admission::keys::{KeyRefusal, key_hash};
use crate::feed::admission::refusal::RefusalCode;
use crate::feed::key::AllowedExchanges;
use crate::feed::subscription::FieldSet;
use crate::model::{Exchange, ExchangeSet, FeedPosition};
use crate::time::{Mono, WallUs};

const GOOD: u64 = 1;
const EXPIRED: u64 = 2;
const REVOKED: u64 = 3;

fn text(n: u64) -> String {
    format!("dsk_{n:064x}")
}

fn at(secs: u64) -> Now {
    let wall = WallUs::from_secs(1_700_000_000 + i64::try_from(secs).unwrap());
    Now { mono: Mono((secs + 100) * 1_000_000_000), wall }
}

fn record(n: u64) -> KeyRecord {
    KeyRecord {
        id: KeyId(i64::try_from(n).unwrap()),
        hash: key_hash(text(n).as_bytes()).unwrap(),
        label: String::new(),
        tier: Tier::Premium,
        max_connections: 2,
        allowed: AllowedExchanges::parse("upbit,binance").unwrap(),
        created_at: WallUs(0),
        expires_at: (n == EXPIRED).then_some(at(0).wall),
        revoked_at: (n == REVOKED).then_some(at(0).wall),
        delay: Duration::ZERO,
        redact: false,
        account: None,
    }
}

fn admission() -> Admission {
    let keys = KeyTable::new([record(GOOD), record(EXPIRED), record(REVOKED)]);
    Admission::new(keys, AddressTable::new(AddressLimits::default(), 100), 1_000)
}

/// An upgrade request for `target` with `more` headers.
fn request(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: feed\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

fn with_key(n: u64) -> String {
    format!("X-API-Key: {}\r\n", text(n))
}

fn decide(admission: &mut Admission, head: &str, from: &str, secs: u64) -> Decision {
    admission.decide(&RequestHead::parse(head.as_bytes()).unwrap(), from.parse().unwrap(), at(secs))
}

fn refused(admission: &mut Admission, head: &str, from: &str, secs: u64) -> (u16, &'static str) {
    match decide(admission, head, from, secs) {
        Decision::Refuse(refusal) => (refusal.status(), refusal.code().name()),
        other => panic!("{other:?}"),
    }
}

fn admitted(admission: &mut Admission, head: &str, from: &str, secs: u64) -> Admitted {
    match decide(admission, head, from, secs) {
        Decision::Admit(admitted) => *admitted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn greeting_is_the_101_and_the_welcome_frame() {
    let mut a = admission();
    a.keys.upsert(KeyRecord { expires_at: Some(at(86_400).wall), ..record(9) });
    let got = admitted(&mut a, &request("/?cex=binance,upbit,nope", &with_key(9)), "192.0.2.1", 0);
    let welcome = r#"{"type":"welcome","tier":"premium","maxConnections":2,"allowedCex":"upbit,binance","expiresInSecs":86400,"ignoredCex":"nope"}"#;
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let mut expected = head.as_bytes().to_vec();
    expected.extend([0x82, 125]);
    assert_eq!(welcome.len(), 125, "the longest that fits a two-byte header");
    expected.extend(welcome.as_bytes());
    assert_eq!(got.greeting, expected);
    let text_frames = admitted(&mut a, &request("/ws?frames=text", &with_key(GOOD)), "192.0.2.1", 0);
    assert_eq!(text_frames.greeting[head.len()], 0x81);
    assert!(text_frames.greeting.ends_with(br#""expiresInSecs":null}"#));
}

#[test]
fn subscription_is_what_was_asked_within_what_the_key_may() {
    let mut a = admission();
    a.keys.upsert(KeyRecord {
        tier: Tier::Basic,
        delay: Duration::from_secs(7_000),
        redact: true,
        ..record(8)
    });
    a.keys.upsert(KeyRecord { delay: Duration::from_secs(5), ..record(9) });
    let target = "/?cex=binance,okx&fields=full&sources=1&resume=2:5";
    let s = admitted(&mut a, &request(target, &with_key(8)), "192.0.2.1", 0).subscription;
    assert_eq!(s.filter.exchanges, ExchangeSet::EMPTY.with(Exchange::Binance));
    assert_eq!(s.allowed, ExchangeSet::EMPTY.with(Exchange::Binance).with(Exchange::Upbit));
    assert_eq!((s.fields, s.sources, s.redact), (FieldSet::Full, true, true));
    assert_eq!(s.resume, Some(FeedPosition { epoch: 2, seq: 5 }));
    assert_eq!(s.delay, limits::KEY_DELAY);
    let premium = admitted(&mut a, &request("/", &with_key(9)), "192.0.2.1", 0).subscription;
    assert_eq!(premium.delay, Duration::ZERO, "premium is never delayed");
    assert_eq!(premium.key.id, KeyId(9));
    let none = admitted(&mut a, &request("/?cex=okx", &with_key(9)), "192.0.2.1", 0);
    assert!(none.subscription.filter.exchanges.is_empty());
    assert!(String::from_utf8_lossy(&none.greeting).contains(r#""allowedCex":"""#));
}

#[test]
fn messages_beside_announcements_are_granted_to_keys_that_see_all_at_once() {
    let mut a = admission();
    let basic = || KeyRecord { tier: Tier::Basic, max_connections: 9, ..record(7) };
    let asked = "/?events=market&context=1";
    let both = Extras { market: true, context: true };
    let refused = r#"null,"events":"","context":false}"#;
    let rows = [
        (basic(), asked, both, r#"null,"events":"market","context":true}"#),
        (basic(), "/?context=1", Extras { market: false, ..both }, r#"null,"context":true}"#),
        (
            basic(),
            "/?events=market&context=0",
            Extras { context: false, ..both },
            r#"null,"events":"market"}"#,
        ),
        (basic(), "/", Extras::default(), r#""expiresInSecs":null}"#),
        (KeyRecord { redact: true, ..basic() }, asked, Extras::default(), refused),
        (KeyRecord { delay: Duration::from_millis(1), ..basic() }, asked, Extras::default(), refused),
        // "Premium and enterprise are never delayed."
        (
            KeyRecord { tier: Tier::Premium, delay: Duration::from_secs(5), ..basic() },
            asked,
            both,
            r#"null,"events":"market","context":true}"#,
        ),
    ];
    for (key, target, granted, welcome) in rows {
        a.keys.upsert(key);
        let got = admitted(&mut a, &request(target, &with_key(7)), "192.0.2.1", 0);
        assert_eq!(got.subscription.extras, granted, "{target}");
        let greeting = String::from_utf8_lossy(&got.greeting);
        assert!(greeting.ends_with(welcome), "{greeting}");
    }
}

#[test]
fn checks_come_in_their_order() {
    // Each row has every fault of the rows below it too.
    let mut a = admission();
    let from = "192.0.2.1";
    for _ in 0..2 {
        admitted(&mut a, &request("/", &with_key(GOOD)), "192.0.2.9", 0);
    }
    for _ in 0..10 {
        a.addresses.admit(from.parse().unwrap(), at(0).mono);
    }
    let no_upgrade = "GET / HTTP/1.1\r\nHost: feed\r\n\r\n";
    let unversioned = request("/?frames=x", "").replace("Version: 13", "Version: 8");
    let rows = [
        ("GET /other HTTP/1.1\r\n\r\n".to_owned(), (404, "not_found")),
        (request("/", "").replace("GET", "POST"), (405, "method_not_allowed")),
        (no_upgrade.to_owned(), (400, "bad_request")),
        (unversioned, (426, "upgrade_required")),
        (request("/?frames=x", ""), (400, "bad_request")),
        (request("/", ""), (401, "missing_api_key")),
        (request("/", "X-API-Key:\r\n"), (401, "missing_api_key")),
        (request("/?api_key=", ""), (401, "missing_api_key")),
        (request("/", "X-API-Key: dsk_your_key_here\r\n"), (403, "invalid_api_key")),
        (request("/", &with_key(77)), (403, "invalid_api_key")),
        (request("/", &with_key(REVOKED)), (403, "key_revoked")),
        (request("/", &with_key(EXPIRED)), (403, "key_expired")),
        (request("/", &with_key(GOOD)), (429, "ip_rate_limited")),
    ];
    for (head, expected) in rows {
        assert_eq!(refused(&mut a, &head, from, 0), expected, "{head}");
    }
    for _ in 0..10 {
        a.addresses.admit(from.parse().unwrap(), at(0).mono);
    }
    assert_eq!(refused(&mut a, &request("/", &with_key(GOOD)), from, 61), (429, "ip_connections_reached"));
    assert_eq!(
        refused(&mut a, &request("/", &with_key(GOOD)), "192.0.2.2", 0),
        (429, "max_connections_reached")
    );
    a.max_connections = 2;
    assert_eq!(refused(&mut a, &request("/", &with_key(GOOD)), from, 0), (503, "server_full"));
}

#[test]
fn header_wins_over_the_parameter_and_either_works() {
    let mut a = admission();
    let both =
        |header: u64, parameter: u64| request(&format!("/?api_key={}", text(parameter)), &with_key(header));
    assert_eq!(refused(&mut a, &both(77, GOOD), "192.0.2.1", 0), (403, "invalid_api_key"));
    admitted(&mut a, &both(GOOD, 77), "192.0.2.1", 0);
    admitted(&mut a, &request(&format!("/?api_key={}", text(GOOD)), ""), "192.0.2.1", 0);
}

#[test]
fn ten_failures_refuse_even_a_good_key_for_the_rest_of_the_minute() {
    let mut a = admission();
    let (bad, good) = (request("/", &with_key(77)), request("/", &with_key(GOOD)));
    for i in 0..10 {
        assert_eq!(refused(&mut a, &bad, "2001:db8::1", i), (403, "invalid_api_key"));
    }
    match decide(&mut a, &good, "2001:db8::2", 20) {
        Decision::Refuse(refusal) => {
            assert_eq!(refusal, Refusal::AuthFailures { retry_after: Duration::from_secs(40) });
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&mut a, &request("/", ""), "2001:db8::1", 20), (401, "missing_api_key"));
    admitted(&mut a, &good, "2001:db8:0:1::1", 20);
    for i in 21..60 {
        assert_eq!(refused(&mut a, &bad, "2001:db8::1", i).1, "auth_failures");
    }
    admitted(&mut a, &good, "2001:db8::1", 60);
}

#[test]
fn refused_attempts_take_nothing_and_release_gives_all_back() {
    let mut a = admission();
    let good = request("/", &with_key(GOOD));
    let first = admitted(&mut a, &good, "192.0.2.1", 0);
    admitted(&mut a, &good, "192.0.2.1", 0);
    for _ in 0..100 {
        match decide(&mut a, &good, "192.0.2.1", 0) {
            Decision::Refuse(r) => assert_eq!(r, Refusal::KeyConnections { limit: 2, current: 2 }),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(a.connections(), 2);
    a.release(first.bucket, KeyId(1));
    assert_eq!((a.connections(), a.addresses.open(first.bucket)), (1, 1));
    admitted(&mut a, &good, "192.0.2.1", 0);
    for n in 0..7 {
        a.release(first.bucket, KeyId(1));
        assert_eq!(a.addresses.check(first.bucket, at(0).mono), Ok(()), "{n}: only admitted ones count");
        admitted(&mut a, &good, "192.0.2.1", 0);
    }
    a.release(first.bucket, KeyId(1));
    let full = a.addresses.check(first.bucket, at(0).mono);
    assert_eq!(full, Err(AddressRefusal::RateLimited { limit: 10, retry_after: Duration::from_secs(60) }));
}

#[test]
fn history_takes_the_same_key_and_has_its_rights() {
    let mut a = admission();
    a.keys.upsert(KeyRecord { tier: Tier::Basic, delay: Duration::from_secs(30), redact: true, ..record(8) });
    let get = |target: &str, key: &str| format!("GET {target} HTTP/1.1\r\nHost: feed\r\n{key}\r\n");
    match decide(&mut a, &get("/v1/announcements?limit=7", &with_key(8)), "192.0.2.1", 0) {
        Decision::History(query, rights) => {
            assert_eq!(query.limit, 7);
            assert_eq!((rights.redact, rights.delay), (true, Duration::from_secs(30)));
            assert!(!rights.allowed.contains(Exchange::Okx) && rights.allowed.contains(Exchange::Upbit));
        }
        other => panic!("{other:?}"),
    }
    let rows = [
        (get("/v1/announcements", "").replace("GET", "PUT"), (405, RefusalCode::MethodNotAllowed)),
        (get("/v1/announcements?limit=x", ""), (400, RefusalCode::BadRequest)),
        (get("/v1/announcements", ""), (401, RefusalCode::MissingApiKey)),
        (get("/v1/announcements", &with_key(77)), (403, RefusalCode::InvalidApiKey)),
        (get("/v1/announcements/", &with_key(8)), (404, RefusalCode::NotFound)),
    ];
    for (head, (status, code)) in rows {
        assert_eq!(refused(&mut a, &head, "192.0.2.1", 0), (status, code.name()), "{head}");
    }
    for _ in 1..limits::HISTORY_QUERIES_PER_MINUTE {
        assert!(matches!(
            decide(&mut a, &get("/v1/announcements", &with_key(8)), "192.0.2.1", 0),
            Decision::History(..)
        ));
    }
    assert_eq!(
        refused(&mut a, &get("/v1/announcements", &with_key(8)), "192.0.2.1", 0),
        (429, "ip_rate_limited")
    );
    assert_eq!(a.connections(), 0);
}

#[test]
fn key_refusals_map_to_their_codes() {
    for (refusal, code) in [
        (KeyRefusal::Invalid, RefusalCode::InvalidApiKey),
        (KeyRefusal::Revoked, RefusalCode::KeyRevoked),
        (KeyRefusal::Expired, RefusalCode::KeyExpired),
    ] {
        assert_eq!(Refusal::Key(refusal).code(), code);
    }
}
