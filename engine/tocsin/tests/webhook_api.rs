//! The customer's API, the administrator's, and the command line of webhooks, against the running
//! engine and a real receiver: what each does, and what each refuses with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::net::Ipv4Addr;

use harness::shop::{Account, Endpoint, Shop};
use harness::{Engine, Mode, wait_for};
use serde_json::{Value, json};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_sim::receiver::{Behaviour, Received, ReceiverOptions};

fn hook(endpoint: &Endpoint, what: &str) -> String {
    format!("/v1/webhooks/{}{what}", endpoint.id)
}

fn symbols(received: &[Received]) -> Vec<String> {
    received.iter().map(|r| r.json().unwrap()["symbol"].as_str().unwrap().to_owned()).collect()
}

fn by_id(events: &[Value]) -> std::collections::BTreeMap<&str, &Value> {
    ids(events).into_iter().zip(events).collect()
}

fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_id"].as_str().unwrap()).collect()
}

/// "it answers that first ping with 401, and the endpoint stays pending ... Ask for the ping again."
#[test]
fn an_endpoint_from_registration_to_removal() {
    let shop = Shop::open_with(ReceiverOptions { refuses_unsigned: true, ..Default::default() }, "");
    // A secret it knows, so that it has something to refuse by.
    shop.receiver.know(&["whsec_dG9jc2luLXRlc3QtdmVjdG9ycy1ub3QtYS1zZWNyZXQ="]).unwrap();
    let desk = shop.account();
    let body =
        json!({"url": shop.receiver.url("/a"), "label": "bot", "events": ["new_listing", "delisting"]});
    let (status, head, made) = shop.raw(Some(&desk.token), "POST", "/v1/webhooks", &body.to_string());
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((status, &made["state"]), (201, &json!("pending")), "{made}");
    assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
    assert_eq!(made["verification"]["status"], 401, "{made}");
    assert!(made["verification"]["phases"]["tls_us"].is_u64(), "{made}");
    assert_eq!(
        (&made["verification"]["class"], &made["verification"]["failed"]),
        (&json!("unauthorized"), &json!("response"))
    );
    assert_eq!((&made["label"], &made["exchanges"]), (&json!("bot"), &json!(["*"])));
    let endpoint =
        Endpoint { id: made["id"].as_u64().unwrap(), secret: made["secret"].as_str().unwrap().to_owned() };
    let ask = |method: &str, what: &str, body| shop.ask(&desk.token, method, &hook(&endpoint, what), body);
    for what in ["/disable", "/enable", "/test"] {
        assert_eq!(ask("POST", what, Value::Null).1["error"], "not_verified", "{what}");
    }
    let still = ask("POST", "/verify", Value::Null).1;
    assert_eq!((&still["state"], &still["verification"]["ok"]), (&json!("pending"), &json!(false)));

    shop.receiver.know(&[&endpoint.secret]).unwrap();
    let (status, verified) = ask("POST", "/verify", Value::Null);
    assert_eq!((status, &verified["state"]), (200, &json!("active")), "{verified}");
    assert!(verified["verified_at"].is_string(), "{verified}");
    let (status, again) = ask("POST", "/verify", Value::Null);
    assert_eq!((status, &again["error"]), (409, &json!("already_verified")));

    let (status, test) = ask("POST", "/test", json!({"type": "delisting"}));
    assert_eq!((status, &test["ok"], &test["tests_left"]), (200, &json!(true), &json!(49)), "{test}");
    let sent = shop.deliveries("/a", 1).remove(0);
    assert!(shop.receiver.verdict(&sent).is_valid());
    let body = sent.json().unwrap();
    assert_eq!(
        (&body["exchange"], &body["symbol"], &body["type"]),
        (&json!("Tocsin"), &json!("TESTUSDT"), &json!("delisting"))
    );
    assert_eq!(body["event_id"], test["event_id"]);

    assert_eq!(ask("DELETE", "", Value::Null), (204, Value::Null));
    assert_eq!(ask("GET", "", Value::Null).0, 404);
    let left = shop.get_done(&desk.token, "GET", "/v1/webhooks", Value::Null);
    assert_eq!(left, json!({"webhooks": [], "next": null}));
}

#[test]
fn a_switched_off_endpoint_holds_events_and_a_removed_one_gets_none() {
    let shop = Shop::open();
    let desk = shop.account();
    let (kept, removed) = (shop.add(&desk, "/kept"), shop.add(&desk, "/removed"));
    let off = shop.get_done(&desk.token, "POST", &hook(&kept, "/disable"), Value::Null);
    assert_eq!(off["state"], "disabled_user");
    shop.announce(&desk, "binance", "Binance Will List Held Coin (HELD)");
    assert_eq!(symbols(&shop.deliveries("/removed", 1)), ["HELDUSDT"]);
    assert_eq!(shop.ask(&desk.token, "DELETE", &hook(&removed, ""), Value::Null).0, 204);
    let held = shop.get_done(&desk.token, "GET", &hook(&kept, ""), Value::Null);
    assert_eq!((&held["state"], &held["pending"]), (&json!("disabled_user"), &json!(1)), "{held}");
    assert_eq!(shop.receiver.total_on("/kept"), 1, "the verification alone");
    let on = shop.get_done(&desk.token, "POST", &hook(&kept, "/enable"), Value::Null);
    assert_eq!(on["state"], "active");
    assert_eq!(symbols(&shop.deliveries("/kept", 1)), ["HELDUSDT"]);
    shop.announce(&desk, "binance", "Binance Will List Next Coin (NEXT)");
    assert_eq!(symbols(&shop.deliveries("/kept", 2)), ["HELDUSDT", "NEXTUSDT"]);
    assert_eq!(shop.deliveries("/removed", 1).len(), 1);
}

#[test]
fn a_changed_filter_takes_effect_at_once() {
    let shop = Shop::open();
    let desk = shop.account();
    let endpoint = shop.add(&desk, "/f");
    let change = |body: Value| shop.get_done(&desk.token, "PATCH", &hook(&endpoint, ""), body);
    let changed = change(json!({"events": ["delisting"], "label": "only the end"}));
    assert_eq!((&changed["events"], &changed["label"]), (&json!(["delisting"]), &json!("only the end")));
    shop.announce(&desk, "binance", "Binance Will List Coin One (ONE)");
    assert_eq!(change(json!({"events": ["*"], "exchanges": ["upbit"]}))["events"], json!(["*"]));
    shop.announce(&desk, "binance", "Binance Will List Coin Two (TWO)");
    shop.announce(&desk, "upbit", "[거래] 쓰리(THREE) 신규 거래지원 안내 (KRW 마켓)");
    let changed = change(json!({"exchanges": ["binance", "upbit"]}));
    assert_eq!((&changed["events"], &changed["label"]), (&json!(["*"]), &json!("only the end")));
    shop.announce(&desk, "binance", "Binance Will List Coin Four (FOUR)");
    assert_eq!(symbols(&shop.deliveries("/f", 2)), ["THREEKRW", "FOURUSDT"]);
}

/// "Replay everything since an instant ... Resend one event ... GET /v1/events?after= ..."
#[test]
fn what_was_missed_is_listed_replayed_and_sent_again() {
    let shop = Shop::open();
    let desk = shop.account();
    let nothing = shop.get_done(&desk.token, "GET", "/v1/events", Value::Null);
    assert_eq!(nothing, json!({"events": [], "next": null}));
    for ticker in ["AAA", "BBB"] {
        shop.announce(&desk, "binance", &format!("Binance Will List Coin {ticker} ({ticker})"));
    }
    // Detected long after its publication: in the list and in replays, never sent by itself.
    let old = json!({"exchange": "binance", "title": "Binance Will Delist CCC on 2026-12-04",
        "published_us": 1_700_000_000_000_000_i64});
    shop.get_done(&shop.admin_token(), "POST", "/admin/v1/announcements", old);
    wait_for("the late event", || shop.all_events(&desk).len() == 3);
    let endpoint = shop.add(&desk, "/r");
    shop.announce(&desk, "binance", "Binance Will List Coin DDD (DDD)");
    let all = shop.all_events(&desk);
    assert_eq!(symbols(&shop.deliveries("/r", 1)), ["DDDUSDT"]);

    pages_follow_one_another(&shop, &desk, &all);

    let replay = |body| shop.get_done(&desk.token, "POST", &hook(&endpoint, "/replay"), body);
    assert_eq!(replay(json!({"since": "2020-01-01T00:00:00Z"})), json!({"queued": 4, "next_since": null}));
    let came = shop.deliveries("/r", 5);
    // Several are under way at a time and may overtake one another.
    let replayed: Vec<Value> = came[1..].iter().map(|r| r.json().unwrap()).collect();
    assert_eq!(by_id(&replayed), by_id(&all));
    // Byte for byte as they are listed.
    let listed = shop.raw(Some(&desk.token), "GET", "/v1/events", "").2;
    assert!(came.iter().all(|r| listed.contains(std::str::from_utf8(&r.body).unwrap())), "{listed}");
    assert!(came.iter().all(|r| shop.receiver.verdict(r) == shop.receiver.verdict(&came[0])));

    assert_eq!(replay(json!({"since": "2020-01-01T00:00:00Z", "types": ["delisting"]}))["queued"], 1);
    assert_eq!(replay(json!({"since": "0", "until": "1710432000"}))["queued"], 0);
    assert_eq!(replay(json!({"since": "2099-01-01T00:00:00Z"}))["queued"], 0);
    assert_eq!(symbols(&shop.deliveries("/r", 6))[5], "CCCUSDT");
    let resend = hook(&endpoint, &format!("/deliveries/{}/resend", ids(&all)[0]));
    let (status, answer) = shop.ask(&desk.token, "POST", &resend, Value::Null);
    assert_eq!((status, answer), (202, json!({"queued": 1, "next_since": null})));
    assert_eq!(symbols(&shop.deliveries("/r", 7))[6], "AAAUSDT");

    let id = endpoint.id.to_string();
    let by_hand = shop.cli_json(&["webhooks", "replay", &id, "--since", "1h", "--types", "new_listing"]);
    assert_eq!(by_hand["queued"], 3);
    let mut by_hand = symbols(&shop.deliveries("/r", 10)[7..]);
    by_hand.sort();
    assert_eq!(by_hand, ["AAAUSDT", "BBBUSDT", "DDDUSDT"]);
    // The log lists every attempt of one event, newest first.
    let log = hook(&endpoint, &format!("/deliveries?event={}", ids(&all)[0]));
    wait_for("the delivery log", || {
        let log = shop.get_done(&desk.token, "GET", &log, Value::Null);
        let lines = log["deliveries"].as_array().unwrap();
        lines.len() == 3 && lines.iter().all(|line| line["ok"] == true && line["purpose"] == "event")
    });
}

fn pages_follow_one_another(shop: &Shop, desk: &Account, all: &[Value]) {
    let get = |query: &str| shop.get_done(&desk.token, "GET", &format!("/v1/events{query}"), Value::Null);
    let (mut seen, mut query) = (Vec::new(), "?limit=1".to_owned());
    while seen.len() < all.len() {
        let page = get(&query);
        assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
        seen.push(page["events"][0].clone());
        query = format!("?limit=1&after={}", page["next"]);
    }
    assert_eq!(seen, all);
    // At the end the place to go on from stays.
    let end = get(&query);
    assert_eq!(end["events"], json!([]));
    assert!(query.ends_with(&end["next"].to_string()));
    assert_eq!(get("?since=2020-01-01T00:00:00Z")["events"].as_array().unwrap().len(), all.len());
    assert_eq!(get("?since=2099-01-01T00:00:00Z")["events"], json!([]));
}

#[test]
fn both_secrets_sign_during_the_grace() {
    let shop = Shop::open();
    let desk = shop.account();
    let endpoint = shop.add(&desk, "/k");
    let rotate = |body| shop.get_done(&desk.token, "POST", &hook(&endpoint, "/rotate"), body);
    let test = |count: usize| {
        shop.get_done(&desk.token, "POST", &hook(&endpoint, "/test"), Value::Null);
        shop.deliveries("/k", count).remove(count - 1)
    };
    let signatures = |r: &Received| r.header("webhook-signature").unwrap().split(' ').count();
    assert_eq!(signatures(&test(1)), 1);
    let rotated = rotate(Value::Null);
    assert!(rotated["previous_secret_until"].is_string(), "{rotated}");
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(second, endpoint.secret);
    let during = test(2);
    assert_eq!(signatures(&during), 2);
    assert!(during.header("X-CEXPing-Signature-Next").is_some());
    // The receiver still has the old one, and every signature must be right.
    shop.receiver.know(&[&endpoint.secret]).unwrap();
    assert!(shop.receiver.verdict(&during).is_valid());
    let third = rotate(json!({"grace_secs": 0}));
    assert_eq!(third["previous_secret_until"], Value::Null);
    let after = test(3);
    assert_eq!((signatures(&after), after.header("X-CEXPing-Signature-Next")), (1, None));
    shop.receiver.know(&[third["secret"].as_str().unwrap()]).unwrap();
    assert!(shop.receiver.verdict(&after).is_valid());
    let id = endpoint.id.to_string();
    let by_hand = shop.cli_text(&["webhooks", "rotate", &id, "--grace", "7d"]);
    assert!(by_hand.starts_with("whsec_"), "{by_hand}");
    assert_eq!(shop.cli_refused(&["webhooks", "rotate", &id, "--grace", "8d"]).0, 2);
}

#[test]
fn a_plan_without_webhooks_has_none() {
    let shop = Shop::open();
    let poor = shop.account_on("basic");
    let url = json!({"url": shop.receiver.url("/p")});
    for (method, path, body) in [
        ("GET", "/v1/webhooks", Value::Null),
        ("POST", "/v1/webhooks", url.clone()),
        ("GET", "/v1/webhooks/1", Value::Null),
        ("GET", "/v1/events", Value::Null),
    ] {
        let (status, code, detail) = shop.refused(&poor.token, method, path, body);
        assert_eq!((status, code.as_str()), (403, "plan_has_no_webhooks"), "{method} {path}");
        assert!(detail.contains("plan \"basic\" has no webhooks; there is phantom"), "{detail}");
    }
    assert_eq!(shop.get_done(&poor.token, "GET", "/v1/account", Value::Null)["webhooks"], false);
    let number = poor.id.to_string();
    let add = ["webhooks", "add", "--account", &number, "--url", url["url"].as_str().unwrap()];
    let (code, said) = shop.cli_refused(&add);
    assert!(code == 1 && said.contains("plan \"basic\" has no webhooks"), "{code} {said}");
    assert_eq!(shop.receiver.total(), 0, "nobody was called");

    // Promoted, it may; put back, its endpoints are switched off and stay its.
    shop.cli_json(&["accounts", "set-plan", &number, "phantom"]);
    let endpoint = shop.add(&poor, "/p");
    let back = shop.cli_json(&["accounts", "set-plan", &number, "basic"]);
    assert_eq!((&back["webhooks"], &back["endpoints_disabled"]), (&json!(false), &json!(1)));
    let id = endpoint.id.to_string();
    assert_eq!(shop.cli_json(&["webhooks", "show", &id])["state"], "disabled_user");
    for verb in ["enable", "test"] {
        let (code, said) = shop.cli_refused(&["webhooks", verb, &id]);
        assert!(code == 1 && said.contains("has no webhooks"), "{verb}: {said}");
    }
}

/// URLs and the code of the rule each breaks.
const BAD_URLS: [(&str, &str); 26] = [
    ("https://127.0.0.1:8443/ünlaut", "char"),
    ("https://hooks.yourdomain.com/a b", "char"),
    ("https://hooks.yourdomain.com\\@evil.com/", "char"),
    ("http://hooks.yourdomain.com/", "scheme"),
    ("HTTPS://hooks.yourdomain.com/", "scheme"),
    ("hooks.yourdomain.com", "scheme"),
    ("", "scheme"),
    ("https://", "empty-host"),
    ("https:///path", "empty-host"),
    ("https://user:pw@hooks.yourdomain.com/", "userinfo"),
    ("https://hooks.yourdomain.com/#part", "fragment"),
    ("https://Hooks.yourdomain.com/", "host"),
    ("https://hooks.yourdomain.com./", "host"),
    ("https://intranet/", "host"),
    ("https://hooks%2eyourdomain.com/", "host"),
    ("https://2130706433/", "ip-noncanonical"),
    ("https://0x7f.1/", "ip-noncanonical"),
    ("https://127.1/", "ip-noncanonical"),
    ("https://service.internal/", "special-name"),
    ("https://printer.local/", "special-name"),
    ("https://hooks.yourdomain.com:80/", "port"),
    ("https://hooks.yourdomain.com:6379/", "port"),
    ("https://192.0.2.1/", "addr"),
    ("https://169.254.169.254/latest/meta-data/", "addr"),
    ("https://[2001:db8::1]/", "addr"),
    ("https://xn--a/", "host"),
];

#[test]
fn a_bad_url_is_refused_by_the_rule_it_breaks() {
    let shop = Shop::open();
    let desk = shop.account();
    let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
    let long = format!("https://hooks.yourdomain.com/{}", "x".repeat(2_048));
    let all = BAD_URLS
        .iter()
        .copied()
        .chain([(long.as_str(), "length"), ("https://xn--a.yourdomain.com/", "parsers-disagree")]);
    let mut codes = std::collections::BTreeSet::new();
    for (url, code) in all {
        let rule = EndpointUrl::parse(url, &policy).unwrap_err();
        assert_eq!(rule.code(), code, "{url}");
        codes.insert(code);
        let (status, error, detail) = shop.refused(&desk.token, "POST", "/v1/webhooks", json!({"url": url}));
        assert_eq!((status, error.as_str()), (400, "invalid_value"), "{url}");
        assert_eq!(detail, format!("url: {rule}"), "{url}");
    }
    assert_eq!(codes.len(), 12, "every rule: {codes:?}");
    let account = desk.id.to_string();
    let (code, said) = shop.cli_refused(&[
        "webhooks",
        "add",
        "--account",
        &account,
        "--url",
        "http://hooks.yourdomain.com/",
    ]);
    assert!(code == 2 && said.contains("url must begin with https://"), "{code} {said}");
    // None of them counted as a registration, and a name that nobody answers for is one that failed.
    let named = json!({"url": "https://hooks.yourdomain.com/"});
    let made = shop.get_done(&desk.token, "POST", "/v1/webhooks", named);
    assert_eq!(
        (&made["state"], &made["verification"]["failed"]),
        (&json!("pending"), &json!("dns")),
        "{made}"
    );
    let refused = json!({"url": format!("https://127.0.0.1:{}/", closed_port())});
    let made = shop.get_done(&desk.token, "POST", "/v1/webhooks", refused);
    assert_eq!(made["verification"]["failed"], "connect", "{made}");
}

/// A port of this machine that nobody listens on: one from which a connection has just gone out.
fn closed_port() -> u16 {
    loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        if EndpointUrl::parse(&format!("https://93.184.215.14:{port}/"), &AddressPolicy::default()).is_ok() {
            return port;
        }
    }
}

#[test]
fn five_endpoints_ten_registrations_fifty_tests() {
    let shop = Shop::open();
    let desk = shop.account();
    let five: Vec<Endpoint> = (0..5).map(|i| shop.add(&desk, &format!("/{i}"))).collect();
    let another = json!({"url": shop.receiver.url("/another")});
    let (status, code, detail) = shop.refused(&desk.token, "POST", "/v1/webhooks", another.clone());
    assert_eq!((status, code.as_str()), (409, "too_many_endpoints"));
    assert!(detail.contains("at most 5 endpoints"), "{detail}");
    // Both endpoints take of one budget; a day may end meanwhile.
    let mut last = 50;
    let mut sent = 0;
    let refused = loop {
        let endpoint = &five[sent % 2];
        let (status, answer) = shop.ask(&desk.token, "POST", &hook(endpoint, "/test"), Value::Null);
        if status != 200 {
            break answer;
        }
        sent += 1;
        let left = answer["tests_left"].as_u64().unwrap();
        assert!(answer["ok"] == true && (left + 1 == last || left == 49), "{answer}");
        last = left;
        assert!(sent <= 100);
    };
    assert!(sent == 50 || last == 0 && sent > 50, "{sent}");
    assert_eq!(refused["error"], "tests_used_up", "{refused}");
    assert!((1..=86_400).contains(&refused["retry_after"].as_u64().unwrap()));
    let (code, said) = shop.cli_refused(&["webhooks", "test", &five[2].id.to_string()]);
    assert!(code == 1 && said.contains("at most 50 test events a day"), "{said}");
    // Tests are not counted against an endpoint, and each was one attempt.
    assert_eq!(shop.deliveries("/0", sent.div_ceil(2)).len(), sent.div_ceil(2));
    assert_eq!(shop.state(&desk, &five[0]), "active");

    for endpoint in &five {
        assert_eq!(shop.ask(&desk.token, "DELETE", &hook(endpoint, ""), Value::Null).0, 204);
    }
    for i in 5..10 {
        let endpoint = shop.add(&desk, &format!("/{i}"));
        shop.ask(&desk.token, "DELETE", &hook(&endpoint, ""), Value::Null);
    }
    let (status, head, answer) = shop.raw(Some(&desk.token), "POST", "/v1/webhooks", &another.to_string());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["error"]), (429, &json!("too_many_registrations")));
    let secs = answer["retry_after"].as_u64().unwrap();
    assert!((1..=3_600).contains(&secs) && head.to_lowercase().contains(&format!("retry-after: {secs}")));
    // Other accounts are not held back by it.
    let other = shop.account();
    assert_eq!(shop.state(&other, &shop.add(&other, "/other")), "active");
}

/// Every route of the served OpenAPI document: nothing without its token, nothing of others.
#[test]
fn every_route_asks_who_it_is() {
    // Each stranger comes from an address of its own: ten wrong credentials from one close it for a minute.
    let proxied = "[admin]\nforwarded_for_from = [\"127.0.0.1/32\"]\n";
    let shop = Shop::open_with(ReceiverOptions::default(), proxied);
    let mut addresses = (1_u32..).map(|n| Ipv4Addr::from(0x0A00_0000 + n));
    let (owner, other) = (shop.account(), shop.account());
    let endpoint = shop.add(&owner, "/o");
    let document: Value = serde_json::from_str(&shop.raw(None, "GET", "/openapi.json", "").2).unwrap();
    let near = format!("{}0", &owner.token[..owner.token.len() - 1]);
    let near = if near == owner.token { format!("{}1", &near[..near.len() - 1]) } else { near };
    let admin = shop.admin_token();
    let (mut customers, mut administrators) = (0, 0);
    for (template, item) in document["paths"].as_object().unwrap() {
        // Open to loopback unless configured otherwise; and history, which takes keys of the feed as well and
        // refuses in its words. Each has tests of its own.
        if template == "/metrics" || template == "/v1/announcements" {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            let path = template
                .replace("{id}", &endpoint.id.to_string())
                .replace("{account}", &other.id.to_string())
                .replace("{event_id}", "cxp_01HRYV2600Y7PN147371YW66XB");
            let security = operation["security"].to_string();
            let strangers: Vec<Option<&str>> = if security.contains("account_token") {
                customers += 1;
                vec![None, Some(""), Some("act_1"), Some(near.as_str()), Some(admin.as_str())]
            } else if security.contains("admin_token") {
                administrators += 1;
                vec![None, Some(""), Some(owner.token.as_str()), Some("0123456789abcdef")]
            } else {
                continue;
            };
            for token in strangers {
                let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
                let from = format!("X-Forwarded-For: {}\r\n", addresses.next().unwrap());
                let headers = from + &bearer.unwrap_or_default();
                let (status, head, body) = shop.with_headers(&method, &path, &headers);
                let refusal: Value = serde_json::from_str(&body).unwrap();
                assert_eq!((status, &refusal["error"]), (401, &json!("unauthorized")), "{method} {path}");
                assert!(head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
            }
            if path.contains("/webhooks/") && !path.starts_with("/admin/v1/webhooks") {
                // The path names the other account, or its owner asks.
                let token = if path.starts_with("/admin") { &admin } else { &other.token };
                let body = if path.ends_with("/replay") { json!({"since": "0"}) } else { json!({}) };
                let (status, code, _) = shop.refused(token, &method, &path, body);
                assert_eq!(status, 404, "{method} {path}: {code}");
                assert_eq!(code, "no_such_endpoint", "{method} {path}");
            }
        }
    }
    assert!(customers >= 14 && administrators >= 30, "{customers} {administrators}");
    assert_eq!(shop.state(&owner, &endpoint), "active", "nobody has touched it");
    // A token that was replaced is a stranger's too.
    let renewed = shop.cli_json(&["accounts", "rotate-token", &owner.id.to_string()]);
    assert_eq!(shop.ask(&owner.token, "GET", "/v1/account", Value::Null).0, 401);
    let renewed = renewed["token"].as_str().unwrap();
    assert_eq!(shop.ask(renewed, "GET", "/v1/account", Value::Null).1["id"], owner.id);
}

/// Method, path with ID for the endpoint, body with URL for the receiver's, code, and a part of
/// `field: detail`. All are 400.
const WRONG: [[&str; 5]; 26] = [
    ["POST", "", r#"{"ulr": "URL"}"#, "unknown_field", "ulr: there is no such field; did you mean \"url\"?"],
    ["POST", "", "{}", "invalid_value", "url: must be given"],
    ["POST", "", r#"{"url": 5}"#, "invalid_value", "url: takes a string"],
    ["POST", "", r#"{"url": "URL", "events": ["listing"]}"#, "invalid_value", "events: \"listing\""],
    ["POST", "", r#"{"url": "URL", "events": ["ping"]}"#, "invalid_value", "events: "],
    ["POST", "", r#"{"url": "URL", "events": "*"}"#, "invalid_value", "events: takes a list of strings"],
    ["POST", "", r#"{"url": "URL", "exchanges": ["mtgox"]}"#, "invalid_value", "exchanges: \"mtgox\""],
    ["POST", "", r#"{"url": "URL", "label": "a\nb"}"#, "invalid_value", "label: takes at most"],
    ["PATCH", "/ID", r#"{"exchange": ["upbit"]}"#, "unknown_field", "did you mean \"exchanges\"?"],
    ["PATCH", "/ID", r#"{"url": "URL"}"#, "unknown_field", "url: there is no such field"],
    ["PATCH", "/ID", r#"{"events": []}"#, "invalid_value", "events: name at least one"],
    ["POST", "/ID/rotate", r#"{"grace": 5}"#, "unknown_field", "grace: there is no such field"],
    ["POST", "/ID/rotate", r#"{"grace_secs": 604801}"#, "invalid_value", "grace_secs: between 0 and 604800"],
    ["POST", "/ID/rotate", r#"{"grace_secs": -1}"#, "invalid_value", "grace_secs: between"],
    ["POST", "/ID/test", r#"{"type": "listing"}"#, "invalid_value", "type: takes one of new_listing"],
    ["POST", "/ID/test", r#"{"typ": "ping"}"#, "unknown_field", "did you mean \"type\"?"],
    ["POST", "/ID/replay", "{}", "invalid_value", "since: must be given"],
    ["POST", "/ID/replay", r#"{"since": "noon"}"#, "invalid_value", "since: takes an instant"],
    ["POST", "/ID/replay", r#"{"since": "5", "until": "5"}"#, "invalid_value", "until: must be later"],
    ["POST", "/ID/replay", r#"{"since": "5", "types": ["x"]}"#, "invalid_value", "types: \"x\""],
    ["GET", "/ID/deliveries?limt=5", "", "unknown_field", "no such parameter; did you mean \"limit\"?"],
    ["GET", "/ID/deliveries?limit=201", "", "invalid_value", "limit: between 1 and 200"],
    ["GET", "/ID/deliveries?event=x", "", "invalid_value", "event: takes an event_id"],
    ["GET", "/../events?after=-1", "", "invalid_value", "after: takes a number"],
    ["GET", "/../events?limit=1001", "", "invalid_value", "limit: between 1 and 1000"],
    ["GET", "/../events?afer=1", "", "unknown_field", "did you mean \"after\"?"],
];

#[test]
fn refusals_name_the_field_and_the_nearest_name() {
    let shop = Shop::open();
    let desk = shop.account();
    let endpoint = shop.add(&desk, "/n");
    let one = |what: &str| hook(&endpoint, what);
    for [method, what, body, code, part] in WRONG {
        let path = format!("/v1/webhooks{what}").replace("ID", &endpoint.id.to_string());
        let path = path.replace("/webhooks/..", "");
        let body = body.replace("URL", &shop.receiver.url("/n"));
        let (status, _, answer) = shop.raw(Some(&desk.token), method, &path, &body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, answer["error"].as_str()), (400, Some(code)), "{method} {path} {body}: {answer}");
        let said = format!("{}: {}", answer["field"].as_str().unwrap(), answer["detail"].as_str().unwrap());
        assert!(said.contains(part), "{method} {path} {body}: {said}");
    }
    for (method, path, status, code) in [
        ("GET", "/v1/webhooks/999".to_owned(), 404, "no_such_endpoint"),
        ("GET", "/v1/webhooks/x".to_owned(), 404, "no_such_endpoint"),
        ("PUT", "/v1/webhooks".to_owned(), 405, "method_not_allowed"),
        ("GET", "/v1/webhoks".to_owned(), 404, "not_found"),
        ("POST", one("/deliveries/cxp_01HRYV2600Y7PN147371YW66XB/resend"), 404, "no_such_event"),
        ("POST", one("/deliveries/x/resend"), 404, "no_such_event"),
    ] {
        let (got, error, _) = shop.refused(&desk.token, method, &path, Value::Null);
        assert_eq!((got, error.as_str()), (status, code), "{method} {path}");
    }
    let (status, _, body) = shop.raw(Some(&desk.token), "POST", "/v1/webhooks", "{\"url\":");
    assert!(status == 400 && body.contains("not JSON"), "{body}");
    assert_eq!(shop.receiver.total(), 1, "the verification alone");
}

/// Every route below an account, and those over all accounts.
#[test]
fn the_administrator_acts_for_an_account() {
    let shop = Shop::open();
    let (desk, other) = (shop.account(), shop.account());
    let admin = shop.admin_token();
    let base = format!("/admin/v1/accounts/{}/webhooks", desk.id);
    let body = json!({"url": shop.receiver.url("/x"), "exchanges": ["binance"]});
    let made = shop.get_done(&admin, "POST", &base, body);
    assert_eq!((&made["account"], &made["state"]), (&json!(desk.id), &json!("active")), "{made}");
    let id = &made["id"];
    let event = shop.announce(&desk, "binance", "Binance Will List Coin One (ONE)");
    shop.deliveries("/x", 1);
    let other_s = shop.add(&other, "/y");
    for one in [format!("{base}/{id}"), format!("/admin/v1/webhooks/{id}")] {
        let act =
            |method: &str, what: &str, body| shop.get_done(&admin, method, &format!("{one}{what}"), body);
        assert_eq!(act("GET", "", Value::Null)["url"], made["url"]);
        assert_eq!(act("PATCH", "", json!({"label": one}))["label"], one);
        assert_eq!(act("POST", "/disable", Value::Null)["state"], "disabled_user");
        assert_eq!(act("POST", "/enable", Value::Null)["state"], "active");
        assert!(act("POST", "/rotate", Value::Null)["secret"].is_string());
        assert_eq!(act("POST", "/test", json!({"type": "ping"}))["ok"], true);
        assert_eq!(act("POST", "/replay", json!({"since": "0"}))["queued"], 1);
        let resend = format!("/deliveries/{}/resend", event["event_id"].as_str().unwrap());
        assert_eq!(act("POST", &resend, Value::Null)["queued"], 1);
        wait_for("the delivery log", || {
            let log = act("GET", "/deliveries", Value::Null);
            log["deliveries"].as_array().unwrap().iter().filter(|line| line["purpose"] == "test").count() > 0
        });
        assert_eq!(shop.refused(&admin, "POST", &format!("{one}/verify"), Value::Null).1, "already_verified");
    }
    let list = |path: &str| {
        let all = shop.get_done(&admin, "GET", path, Value::Null);
        all["webhooks"].as_array().unwrap().iter().map(|e| e["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list("/admin/v1/webhooks"), [id.as_u64().unwrap(), other_s.id]);
    assert_eq!(list(&base), [id.as_u64().unwrap()]);
    let page = |path: &str| shop.get_done(&admin, "GET", path, Value::Null);
    let first = page("/admin/v1/webhooks?limit=1");
    assert_eq!((first["webhooks"].as_array().unwrap().len(), &first["next"]), (1, id));
    let second = page(&format!("/admin/v1/webhooks?limit=1&after={}", first["next"]));
    assert_eq!((&second["webhooks"][0]["id"], &second["next"]), (&json!(other_s.id), &json!(other_s.id)));
    let third = page(&format!("/admin/v1/webhooks?limit=1&after={}", second["next"]));
    assert_eq!(third, json!({"webhooks": [], "next": null}));
    assert_eq!(page("/admin/v1/webhooks")["next"], Value::Null);
    let wrong = shop.refused(&admin, "GET", "/admin/v1/webhooks?after=-1", Value::Null);
    assert_eq!((wrong.0, wrong.1.as_str()), (400, "invalid_value"));
    assert_eq!(shop.ask(&admin, "DELETE", &format!("{base}/{id}"), Value::Null).0, 204);
    let theirs = format!("/admin/v1/webhooks/{}", other_s.id);
    assert_eq!(shop.ask(&admin, "DELETE", &theirs, Value::Null).0, 204);
    assert!(list("/admin/v1/webhooks").is_empty());
}

/// The same verbs say the same, whether the service answers or the store is opened.
#[test]
fn the_command_line_with_the_service_up_and_down() {
    let mut shop = Shop::open();
    let desk = shop.account();
    let account = desk.id.to_string();
    let url = shop.receiver.url("/c");
    let made = shop.cli_json(&[
        "webhooks",
        "add",
        "--account",
        &account,
        "--url",
        &url,
        "--label",
        "one",
        "--events",
        "new_listing,delisting",
        "--exchanges",
        "binance",
    ]);
    let id = made["id"].to_string();
    shop.announce(&desk, "binance", "Binance Will List Coin One (ONE)");
    shop.deliveries("/c", 1);
    shop.receiver.behave("/c", vec![Behaviour::status(500)]);
    let output = shop.cli(&["webhooks", "test", &id, "--json"]);
    assert_eq!(output.status.code(), Some(1), "a test that failed was not done");
    assert!(String::from_utf8_lossy(&output.stdout).contains("server_error"));
    shop.receiver.behave("/c", vec![Behaviour::ok()]);
    for up in [true, false] {
        if !up {
            assert_eq!(shop.engine.stop(), Some(0));
        }
        let shown = shop.cli_json(&["webhooks", "show", &id]);
        assert_eq!(shown["pending"].is_null(), !up);
        assert_eq!(
            (&shown["state"], &shown["label"], &shown["events"], &shown["exchanges"]),
            (&json!("active"), &json!("one"), &json!(["new_listing", "delisting"]), &json!(["binance"]))
        );
        for list in [vec!["webhooks", "list"], vec!["webhooks", "list", "--account", &account]] {
            let listed = shop.cli_json(&list);
            assert_eq!(listed["webhooks"][0]["url"], shown["url"], "up: {up}");
        }
        let log = shop.cli_json(&["webhooks", "deliveries", &id, "--limit", "10"]);
        let lines: Vec<(&str, bool)> = log["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| (line["purpose"].as_str().unwrap(), line["ok"].as_bool().unwrap()))
            .collect();
        assert_eq!(lines, [("test", false), ("event", true), ("verification", true)], "up: {up}");
        assert_eq!(shop.cli_json(&["webhooks", "disable", &id])["state"], "disabled_user");
        assert_eq!(shop.cli_json(&["webhooks", "enable", &id])["state"], "active");
        let (code, said) = shop.cli_refused(&["webhooks", "show", "4711"]);
        assert!(code == 1 && said.contains("there is no endpoint 4711"), "up: {up}: {said}");
        let (code, said) = shop.cli_refused(&["webhooks", "list", "--account", "4711"]);
        assert!(code == 1 && said.contains("there is no account 4711"), "up: {up}: {said}");
    }
    let (code, said) = shop.cli_refused(&["webhooks", "test", &id]);
    assert!(code == 1 && said.contains("needs the running service"), "{said}");
    let later =
        shop.cli_json(&["webhooks", "add", "--account", &account, "--url", &shop.receiver.url("/later")]);
    assert_eq!(later["state"], "pending");
    assert_eq!(shop.cli_json(&["webhooks", "replay", &id, "--since", "1h"])["queued"], 1);
    let rotated = shop.cli_json(&["webhooks", "rotate", &id, "--grace", "0s"]);
    shop.engine.start_again();
    // The next start verifies what was added, and sends what was asked for, signed with the new secret.
    shop.receiver.know_on("/c", &[rotated["secret"].as_str().unwrap()]).unwrap();
    let again = shop.deliveries("/c", 3);
    assert_eq!(again[2].json().unwrap()["symbol"], "ONEUSDT");
    assert!(shop.receiver.verdict(&again[2]).is_valid());
    let endpoint = Endpoint { id: later["id"].as_u64().unwrap(), secret: String::new() };
    wait_for("its verification", || shop.state(&desk, &endpoint) == "active");
    assert_eq!(shop.cli_json(&["webhooks", "remove", &id]), json!({"removed": made["id"]}));
}

/// Nobody listens there: the endpoint is stored all the same, for its owner has to deploy the secret
/// before a receiver that checks signatures can answer.
#[test]
fn an_endpoint_that_does_not_answer_waits_for_its_owner() {
    let shop = Shop::open();
    let desk = shop.account();
    let url = format!("https://127.0.0.1:{}/hook", closed_port());
    let body = json!({"url": url, "events": ["delisting"], "label": "bot"});
    let made = shop.get_done(&desk.token, "POST", "/v1/webhooks", body);
    assert_eq!((&made["state"], &made["verification"]["ok"]), (&json!("pending"), &json!(false)));
    let listed = shop.cli_json(&["webhooks", "list"]);
    assert_eq!(
        (&listed["webhooks"][0]["url"], &listed["webhooks"][0]["label"]),
        (&json!(url), &json!("bot"))
    );
    let shown = shop.cli_json(&["webhooks", "show", "1"]);
    assert_eq!((&shown["state"], &shown["events"]), (&json!("pending"), &json!(["delisting"])));
    for verb in ["test", "enable", "disable"] {
        let (code, said) = shop.cli_refused(&["webhooks", verb, "1"]);
        assert!(code == 1 && said.contains("has not been verified"), "{verb}: {said}");
    }
    assert_eq!(shop.cli_json(&["webhooks", "remove", "1"]), json!({"removed": 1}));
    assert_eq!(shop.cli_json(&["webhooks", "list"]), json!({"webhooks": []}));
}

#[test]
fn private_addresses_need_the_operators_leave() {
    let engine = Engine::start(Mode::Plain, "");
    engine.cli_json(&["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
    for url in ["https://127.0.0.1:8443/", "https://10.1.2.3/", "https://[::1]/", "http://bot.example.com/"] {
        let refused = engine.cli(&["webhooks", "add", "--account", "1", "--url", url]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("url: "), "{url}: {said}");
    }
    assert_eq!(engine.cli_json(&["webhooks", "list"]), json!({"webhooks": []}));
}

/// Names of all fields, those within others too.
fn field_names(value: &Value) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .flat_map(|(name, value)| {
            let below = field_names(value).into_iter().map(move |below| format!("{name}.{below}"));
            std::iter::once(name.clone()).chain(below)
        })
        .collect()
}

#[test]
fn the_page_shows_the_answer_of_a_registration() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/webhooks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown = page.lines().find(|line| line.starts_with("{\"id\":")).expect("the page shows one");
    let shop = Shop::open_with(ReceiverOptions { refuses_unsigned: true, ..Default::default() }, "");
    shop.receiver.know(&["whsec_dG9jc2luLXRlc3QtdmVjdG9ycy1ub3QtYS1zZWNyZXQ="]).unwrap();
    let desk = shop.account();
    let body = json!({"url": shop.receiver.url("/a"), "events": ["new_listing"], "exchanges": ["binance"]});
    let made = shop.get_done(&desk.token, "POST", "/v1/webhooks", body);
    let shown: Value = serde_json::from_str(shown).unwrap();
    assert_eq!(field_names(&shown), field_names(&made));
    for name in ["label", "state", "events", "exchanges", "failures", "slow", "p95_ms", "verified_at"] {
        assert_eq!(shown[name], made[name], "{name}");
    }
    for name in ["ok", "failed", "class", "status"] {
        assert_eq!(shown["verification"][name], made["verification"][name], "{name}");
    }
    // Every route is one that is served.
    let document = shop.raw(None, "GET", "/openapi.json", "").2;
    for row in page.lines().filter(|line| line.starts_with("| `GET /v1") || line.starts_with("| `POST /v1")) {
        let path = row.split('`').nth(1).unwrap().split(' ').nth(1).unwrap();
        let path = path.replace("EVENT_ID", "{event_id}").replace("ID", "{id}");
        assert!(document.contains(&format!("\"{path}\"")), "{path}");
    }
}
