//! Accounts and webhooks over HTTP: who may what, what is told to which thread, every refusal, and
//! that secrets and tokens are shown once.

use super::*;
use crate::store::testing::{event_id, queued};
use crate::store::webhook::deliveries::WebhookRow;
use tocsin_core::webhook::board::EndpointId;

impl Engine {
    fn admin(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let header = format!("Authorization: Bearer {TOKEN}\r\n");
        let (status, _, body) = self.tcp(method, target, &header, &body_text(body));
        (status, body)
    }

    fn as_customer(&self, token: &str, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let header = format!("Authorization: Bearer {token}\r\n");
        let (status, _, body) = self.tcp(method, target, &header, &body_text(body));
        (status, body)
    }

    /// Number and token of a new account.
    fn account(&self, name: &str, plan: &str) -> (i64, String) {
        let (status, made) = self.admin(
            "POST",
            "/admin/v1/accounts",
            &json!({"name": name, "plan": plan, "email": "a@b.example"}),
        );
        assert_eq!(status, 201, "{made}");
        (made["id"].as_i64().unwrap(), made["token"].as_str().unwrap().to_owned())
    }

    /// The stand-ins, when they have taken all that was sent to them.
    fn turned(&self) -> parking_lot::MutexGuard<'_, Threads> {
        let mut threads = self.threads.lock();
        threads.turn();
        threads
    }

    fn add(&self, token: &str, path: &str) -> (u16, Value) {
        let body = json!({"url": format!("https://bot.example.com{path}"), "label": "bot"});
        self.as_customer(token, "POST", "/v1/webhooks", &body)
    }
}

fn body_text(body: &Value) -> String {
    if body.is_null() { String::new() } else { body.to_string() }
}

#[test]
fn an_account_from_creation_to_another_plan() {
    let engine = Engine::start(&[]);
    let header = format!("Authorization: Bearer {TOKEN}\r\n");
    let body = json!({"name": "Desk", "plan": "phantom"}).to_string();
    let (status, head, made) = engine.tcp("POST", "/admin/v1/accounts", &header, &body);
    let token = made["token"].as_str().unwrap().to_owned();
    assert_eq!((status, &made["webhooks"], &made["email"]), (201, &json!(true), &json!("")));
    assert!(token.starts_with("act_") && token.len() == 68 && head.contains("cache-control: no-store"));

    let (status, own) = engine.as_customer(&token, "GET", "/v1/account", &Value::Null);
    assert_eq!((status, &own["name"], &own["tests_left"]), (200, &json!("Desk"), &json!(50)));
    let (_, listed) = engine.admin("GET", "/admin/v1/accounts", &Value::Null);
    assert_eq!(listed["accounts"][0]["plan"], "phantom");
    assert!(!listed.to_string().contains(&token) && !own.to_string().contains(&token));

    let (status, renewed) = engine.admin("POST", "/admin/v1/accounts/1/token", &Value::Null);
    let new_token = renewed["token"].as_str().unwrap();
    assert_eq!((status, new_token == token), (200, false));
    assert_eq!(engine.as_customer(&token, "GET", "/v1/account", &Value::Null).0, 401);
    assert_eq!(engine.add(new_token, "/ok").0, 201);

    let (status, changed) = engine.admin("PATCH", "/admin/v1/accounts/1", &json!({"plan": "basic"}));
    assert_eq!(
        (status, &changed["webhooks"], &changed["endpoints_disabled"]),
        (200, &json!(false), &json!(1))
    );
    let (status, refused) = engine.as_customer(new_token, "GET", "/v1/webhooks", &Value::Null);
    assert_eq!((status, &refused["error"]), (403, &json!("plan_has_no_webhooks")));
    assert_eq!(engine.as_customer(new_token, "GET", "/v1/events", &Value::Null).0, 403);
    assert_eq!(engine.as_customer(new_token, "GET", "/v1/account", &Value::Null).1["plan"], "basic");
    let (_, endpoint) = engine.admin("GET", "/admin/v1/webhooks/1", &Value::Null);
    assert_eq!(endpoint["state"], "disabled_user");
    for action in ["verify", "enable", "test"] {
        let target = format!("/admin/v1/webhooks/1/{action}");
        assert_eq!(engine.admin("POST", &target, &Value::Null).0, 403, "{action}");
    }
}

#[test]
fn customers_need_their_token_at_both_doors() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    let near = format!("act_{}", "0".repeat(64));
    for header in [
        String::new(),
        "Authorization: Bearer act_1\r\n".to_owned(),
        format!("Authorization: Bearer {near}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer {TOKEN}\r\n"),
    ] {
        for target in ["/v1/account", "/v1/webhooks", "/v1/webhooks/1", "/v1/events"] {
            let (status, head, body) = engine.tcp("GET", target, &header, "");
            assert_eq!((status, &body["error"]), (401, &json!("unauthorized")), "{header}{target}");
            assert!(head.contains("www-authenticate: bearer"));
        }
    }
    assert_eq!(engine.as_customer(&token, "GET", "/admin/v1/accounts", &Value::Null).0, 401);
    assert_eq!(engine.as_customer(&token, "GET", "/admin/v1/webhooks", &Value::Null).0, 401);
    assert_eq!(engine.as_customer(&token, "GET", "/admin/v1/accounts/1/webhooks", &Value::Null).0, 401);
    let refused = engine.ask("GET", "/v1/webhooks", None).unwrap_err();
    assert!(refused.contains("account token"), "{refused}");
}

#[test]
fn a_registration_shows_its_secret_once_and_how_the_ping_went() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    let header = format!("Authorization: Bearer {token}\r\n");
    let body = json!({"url": "https://bot.example.com:8443/ok?x=1", "events": ["new_listing", "delisting"],
        "exchanges": ["upbit"]});
    let (status, head, made) = engine.tcp("POST", "/v1/webhooks", &header, &body.to_string());
    assert_eq!(status, 201, "{made}");
    assert!(head.contains("cache-control: no-store"));
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    assert_eq!(
        (&made["state"], &made["url"]),
        (&json!("active"), &json!("https://bot.example.com:8443/ok?x=1"))
    );
    assert_eq!(
        (&made["events"], &made["exchanges"]),
        (&json!(["new_listing", "delisting"]), &json!(["upbit"]))
    );
    assert_eq!((&made["verification"]["ok"], &made["verification"]["status"]), (&json!(true), &json!(200)));
    assert_eq!(made["verification"]["phases"]["dns_us"], 2);
    assert!(made["verified_at"].is_string());
    assert_eq!(engine.turned().endpoints[&1].0.secret.reveal(), secret);
    assert!(engine.turned().barriers > 0, "answered when it is on disk");

    let (_, shown) = engine.as_customer(&token, "GET", "/v1/webhooks/1", &Value::Null);
    assert_eq!(
        (&shown["p95_ms"], &shown["pending"], &shown["connections"]),
        (&json!(12), &json!(3), &json!(2))
    );
    let (_, listed) = engine.as_customer(&token, "GET", "/v1/webhooks", &Value::Null);
    assert_eq!(listed["webhooks"][0]["id"], 1);
    for text in [shown, listed] {
        assert!(!text.to_string().contains("whsec_") && text.get("secret").is_none());
    }
}

#[test]
fn a_failed_ping_leaves_it_pending_and_a_private_address_undoes_it() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    let (status, made) = engine.add(&token, "/unauthorized");
    let verification = &made["verification"];
    assert_eq!((status, &made["state"]), (201, &json!("pending")));
    assert_eq!((&verification["ok"], &verification["failed"]), (&json!(false), &json!("response")));
    assert_eq!((&verification["class"], &verification["status"]), (&json!("unauthorized"), &json!(401)));
    assert!(made["secret"].is_string());
    assert_eq!(engine.add(&token, "/dns").1["verification"]["failed"], "dns");
    let (status, silent) = engine.add(&token, "/silent");
    assert_eq!((status, &silent["verification"]["failed"]), (201, &json!("timeout")));
    assert!(silent["secret"].is_string(), "the secret is shown now or never");

    let (status, refused) = engine.add(&token, "/inside");
    assert_eq!(
        (status, &refused["error"], &refused["field"]),
        (422, &json!("address_refused"), &json!("url"))
    );
    assert!(refused["detail"].as_str().unwrap().contains("10.0.0.5: address is not public: private use"));
    assert!(!refused.to_string().contains("whsec_"));
    let threads = engine.turned();
    assert_eq!(threads.told_webhook.last().map(String::as_str), Some("remove 4"));
    assert!(threads.store.reader().unwrap().endpoint(EndpointId(4)).is_err());
    drop(threads);

    let (status, again) = engine.as_customer(&token, "POST", "/v1/webhooks/1/verify", &Value::Null);
    assert_eq!(
        (status, &again["state"], &again["verification"]["ok"]),
        (200, &json!("pending"), &json!(false))
    );
    assert!(again.get("secret").is_none());
    for (action, code) in [("enable", "not_verified"), ("test", "not_verified")] {
        let target = format!("/v1/webhooks/1/{action}");
        let (status, refused) = engine.as_customer(&token, "POST", &target, &Value::Null);
        assert_eq!((status, &refused["error"]), (409, &json!(code)));
    }
    assert_eq!(engine.as_customer(&token, "GET", "/v1/account", &Value::Null).1["tests_left"], 50);
}

#[test]
fn limits_of_registrations() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    for _ in 0..5 {
        assert_eq!(engine.add(&token, "/ok").0, 201);
    }
    let (status, refused) = engine.add(&token, "/ok");
    assert_eq!((status, &refused["error"]), (409, &json!("too_many_endpoints")));
    for id in 1..=5 {
        let (status, body) =
            engine.as_customer(&token, "DELETE", &format!("/v1/webhooks/{id}"), &Value::Null);
        assert_eq!((status, body), (204, Value::Null));
    }
    for _ in 0..5 {
        assert_eq!(engine.add(&token, "/inside").0, 422, "counted all the same");
    }
    let header = format!("Authorization: Bearer {token}\r\n");
    let body = json!({"url": "https://bot.example.com/ok"}).to_string();
    let (status, head, refused) = engine.tcp("POST", "/v1/webhooks", &header, &body);
    assert_eq!((status, &refused["error"]), (429, &json!("too_many_registrations")));
    let secs = refused["retry_after"].as_u64().unwrap();
    assert!((3_500..=3_600).contains(&secs) && head.contains(&format!("retry-after: {secs}")));
}

#[test]
fn another_accounts_endpoint_is_not_there() {
    let engine = Engine::start(&[]);
    let (_, owner) = engine.account("Owner", "phantom");
    let (_, other) = engine.account("Other", "phantom");
    assert_eq!(engine.add(&owner, "/ok").0, 201);
    let routes = [
        ("GET", "", Value::Null),
        ("PATCH", "", json!({"label": "mine"})),
        ("DELETE", "", Value::Null),
        ("POST", "/verify", Value::Null),
        ("POST", "/enable", Value::Null),
        ("POST", "/disable", Value::Null),
        ("POST", "/rotate", Value::Null),
        ("POST", "/test", Value::Null),
        ("POST", "/replay", json!({"since": "2026-01-01T00:00:00Z"})),
        ("GET", "/deliveries", Value::Null),
        ("POST", "/deliveries/cxp_01J9KR2MXTN4P8ZWH3QV000000/resend", Value::Null),
    ];
    let before = engine.turned().told_webhook.len();
    for (method, what, body) in routes {
        let (status, refused) = engine.as_customer(&other, method, &format!("/v1/webhooks/1{what}"), &body);
        assert_eq!((status, &refused["error"]), (404, &json!("no_such_endpoint")), "{method} {what}");
        let unknown = engine.as_customer(&other, method, &format!("/v1/webhooks/99{what}"), &body);
        assert_eq!(unknown.0, 404, "{method} {what}");
        let by_account = format!("/admin/v1/accounts/2/webhooks/1{what}");
        assert_eq!(engine.admin(method, &by_account, &body).0, 404, "{method} {what}");
    }
    assert_eq!(engine.turned().told_webhook.len(), before, "nobody was told anything");
    assert_eq!(engine.as_customer(&other, "GET", "/v1/webhooks", &Value::Null).1, json!({"webhooks": [], "next": null}));
    assert_eq!(engine.admin("GET", "/admin/v1/accounts/1/webhooks/1", &Value::Null).0, 200);
    assert_eq!(engine.admin("GET", "/admin/v1/webhooks", &Value::Null).1["webhooks"][0]["account"], 1);
    assert_eq!(engine.admin("GET", "/admin/v1/accounts/9/webhooks", &Value::Null).0, 404);
    assert_eq!(
        engine.admin("GET", "/admin/v1/accounts/x/webhooks", &Value::Null).1["error"],
        "no_such_account"
    );
}

#[test]
fn changes_reach_the_webhook_thread_after_the_store() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    let first = engine.add(&token, "/ok").1["secret"].as_str().unwrap().to_owned();
    let ask = |method, what: &str, body| {
        engine.as_customer(&token, method, &format!("/v1/webhooks/1{what}"), &body)
    };

    let (status, changed) = ask("PATCH", "", json!({"events": ["delisting"], "label": "new"}));
    assert_eq!((status, &changed["events"], &changed["label"]), (200, &json!(["delisting"]), &json!("new")));
    let (_, changed) = ask("PATCH", "", json!({"exchanges": ["binance"]}));
    assert_eq!((&changed["events"], &changed["exchanges"]), (&json!(["delisting"]), &json!(["binance"])));
    assert_eq!(engine.turned().endpoints[&1].0.secret.reveal(), first, "the secret stays");

    let (status, rotated) = ask("POST", "/rotate", json!({"grace_secs": 60}));
    let second = rotated["secret"].as_str().unwrap();
    assert_eq!((status, second == first), (200, false));
    assert!(rotated["previous_secret_until"].is_string());
    {
        let threads = engine.turned();
        let (setup, _) = &threads.endpoints[&1];
        assert_eq!(setup.secret.reveal(), second);
        assert_eq!(setup.previous.as_ref().unwrap().0.reveal(), first);
    }
    let (_, now) = ask("POST", "/rotate", json!({"grace_secs": 0}));
    assert_eq!(now["previous_secret_until"], Value::Null);
    // A later change keeps what the rotation left.
    ask("PATCH", "", json!({"events": ["*"]}));
    assert_eq!(engine.turned().endpoints[&1].0.secret.reveal(), now["secret"].as_str().unwrap());

    assert_eq!(ask("POST", "/verify", Value::Null).1["error"], "already_verified");
    assert_eq!(ask("POST", "/disable", Value::Null).1["state"], "disabled_user");
    assert_eq!(ask("POST", "/enable", Value::Null).1["state"], "active");
    let (status, test) = ask("POST", "/test", json!({"type": "delisting"}));
    assert_eq!((status, &test["ok"], &test["tests_left"]), (200, &json!(true), &json!(49)));
    assert!(test["event_id"].as_str().unwrap().starts_with("cxp_"));
    assert_eq!(ask("DELETE", "", Value::Null).0, 204);
    let told = engine.turned().told_webhook.clone();
    let expected = [
        "add 1",
        "change 1 delisting",
        "change 1 delisting",
        "change 1 delisting with grace",
        "change 1 delisting",
        "change 1 *",
        "test 1 delisting",
        "remove 1",
    ];
    assert_eq!(told, expected);
}

#[test]
fn tests_are_fifty_a_day() {
    let engine = Engine::start(&[]);
    let (id, token) = engine.account("Desk", "phantom");
    engine.add(&token, "/ok");
    for _ in 0..50 {
        let account = crate::store::webhook::accounts::AccountId(id);
        engine.turned().store.take_test(account, crate::os::clock::wall()).unwrap().unwrap();
    }
    let (status, refused) = engine.as_customer(&token, "POST", "/v1/webhooks/1/test", &Value::Null);
    assert_eq!((status, &refused["error"]), (429, &json!("tests_used_up")));
    assert!(refused["retry_after"].as_u64().unwrap() <= 86_400);
}

#[test]
fn events_and_the_delivery_log() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    engine.add(&token, "/ok");
    let ask = |method, target: &str, body| engine.as_customer(&token, method, target, &body);
    assert_eq!(ask("GET", "/v1/events", Value::Null).1, json!({"events": [], "next": null}));
    let events: Vec<_> = (1..=5).map(queued).collect();
    {
        let mut threads = engine.turned();
        let rows: Vec<Row<'_>> = events
            .iter()
            .map(|event| Row::Webhook(WebhookRow::Event { event, recipients: &[EndpointId(1)] }))
            .collect();
        threads.store.commit(&rows).unwrap();
    }
    let (status, page) = ask("GET", "/v1/events?limit=2", Value::Null);
    assert_eq!((status, &page["next"]), (200, &json!(2)));
    assert_eq!(page["events"][0]["event_id"], event_id(1).as_str());
    assert_eq!(page["events"][0]["symbol"], "TK1USDT");
    let (_, page) = ask("GET", "/v1/events?after=2", Value::Null);
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"]), (3, &json!(5)));
    assert_eq!(ask("GET", "/v1/events?after=5", Value::Null).1, json!({"events": [], "next": 5}));

    let id = event_id(3);
    let (status, resent) = ask("POST", &format!("/v1/webhooks/1/deliveries/{id}/resend"), Value::Null);
    assert_eq!((status, &resent["queued"]), (202, &json!(1)));
    let since = reply::rfc3339(events[1].created);
    let until = reply::rfc3339(events[3].created);
    let (status, replayed) = ask("POST", "/v1/webhooks/1/replay", json!({"since": since, "until": until}));
    assert_eq!((status, replayed), (202, json!({"queued": 2, "next_since": null})));
    let (_, none) = ask("POST", "/v1/webhooks/1/replay", json!({"since": since, "types": ["delisting"]}));
    assert_eq!(none["queued"], 0);
    let told = engine.turned().told_webhook.clone();
    assert_eq!(told[1..], ["redeliver 1 [3]", "redeliver 1 [2, 3]", "redeliver 1 []"]);

    assert_eq!(ask("GET", "/v1/webhooks/1/deliveries?limit=5", Value::Null).1, json!({"deliveries": []}));
    let (_, tested) = ask("POST", "/v1/webhooks/1/test", Value::Null);
    assert_eq!(tested["ok"], true);
}

/// Method, path and body | status and error code | a part of the refusal.
const REFUSALS: &str = r#"
POST /v1/webhooks {} | 400 invalid_value | url: must be given
POST /v1/webhooks {"url": 5} | 400 invalid_value | url: takes a string
POST /v1/webhooks {"ulr": "URL"} | 400 unknown_field | did you mean "url"
POST /v1/webhooks {"url": "http://bot.example.com/"} | 400 invalid_value | url: 
POST /v1/webhooks {"url": "https://user@bot.example.com/"} | 400 invalid_value | url: 
POST /v1/webhooks {"url": "https://10.0.0.1/"} | 400 invalid_value | private use
POST /v1/webhooks {"url": "https://localhost/"} | 400 invalid_value | url: 
POST /v1/webhooks {"url": "URL", "events": ["lsiting"]} | 400 invalid_value | events: "lsiting" is no event
POST /v1/webhooks {"url": "URL", "events": ["ping"]} | 400 invalid_value | events: "ping" is no event
POST /v1/webhooks {"url": "URL", "events": []} | 400 invalid_value | events: name at least one
POST /v1/webhooks {"url": "URL", "events": "*"} | 400 invalid_value | events: takes a list of strings
POST /v1/webhooks {"url": "URL", "exchanges": ["ftx"]} | 400 invalid_value | exchanges: "ftx" is no exchange
POST /v1/webhooks {"url": "URL", "label": "LONG"} | 400 invalid_value | label: takes at most
POST /v1/webhooks {"url": "URL", "label": "a\nb"} | 400 invalid_value | label: takes at most
POST /v1/webhooks not JSON | 400 bad_request | not JSON
POST /v1/webhooks [] | 400 bad_request | not a JSON object
PATCH /v1/webhooks/1 {"url": "URL"} | 400 unknown_field | url: there is no such field
PATCH /v1/webhooks/1 {"label": "a\u0007"} | 400 invalid_value | label: takes at most
POST /v1/webhooks/1/rotate {"grace_secs": 604801} | 400 invalid_value | grace_secs: between 0 and 604800
POST /v1/webhooks/1/rotate {"grace_secs": -1} | 400 invalid_value | grace_secs: between 0 and
POST /v1/webhooks/1/test {"type": "lsiting"} | 400 invalid_value | type: takes one of new_listing
POST /v1/webhooks/1/replay | 400 invalid_value | since: must be given
POST /v1/webhooks/1/replay {"since": "then"} | 400 invalid_value | since: takes an instant
POST /v1/webhooks/1/replay {"since": "17", "until": "17"} | 400 invalid_value | until: must be later
POST /v1/webhooks/1/replay {"since": "17", "types": ["x"]} | 400 invalid_value | types: "x" is no event
GET /v1/webhooks/1/deliveries?limit=0 | 400 invalid_value | limit: between 1 and 200
GET /v1/webhooks/1/deliveries?event=x | 400 invalid_value | event: takes an event_id
GET /v1/webhooks/1/deliveries?lmit=1 | 400 unknown_field | did you mean "limit"
POST /v1/webhooks/1/deliveries/x/resend | 404 no_such_event | no such event
POST /v1/webhooks/1/deliveries/cxp_01J9KR2MXTN4P8ZWH3QV000000/resend | 404 no_such_event | no such event
GET /v1/events?after=-1 | 400 invalid_value | after: takes a number
GET /v1/events?since=x | 400 invalid_value | since: takes an instant
GET /v1/events?limit=1001 | 400 invalid_value | between 1 and 1000
GET /v1/webhooks/x | 404 no_such_endpoint | an endpoint has a number
PUT /v1/webhooks | 405 method_not_allowed | another method
GET /v1/webhooks/1/nothing | 404 not_found | no such path
"#;

#[test]
fn refusals_of_customers_name_what_is_wrong() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    assert_eq!(engine.add(&token, "/ok").0, 201);
    let header = format!("Authorization: Bearer {token}\r\n");
    for row in REFUSALS.lines().filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [request, expected, part] = cells[..] else { panic!("{row}") };
        let mut words = request.splitn(3, ' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let body = words.next().unwrap_or_default().replace("URL", "https://bot.example.com/ok");
        let (status, _, refused) =
            engine.tcp(method, target, &header, &body.replace("LONG", &"x".repeat(300)));
        let field = refused["field"].as_str().map(|field| format!("{field}: ")).unwrap_or_default();
        let said = format!("{field}{}", refused["detail"].as_str().unwrap_or_default());
        let got = format!("{status} {}", refused["error"].as_str().unwrap_or_default());
        assert!(got == expected && said.contains(part), "{row}: {got}: {said}");
    }
    let accounts = [
        (json!({"name": "x"}), "plan"),
        (json!({"name": "", "plan": "p"}), "name"),
        (json!({"name": "x", "plan": "Phantom Plan"}), "plan"),
        (json!({"name": "x", "plan": "p", "email": "nowhere"}), "email"),
        (json!({"name": "x", "plan": "p", "mail": "a@b.example"}), "mail"),
    ];
    for (body, field) in accounts {
        let (status, refused) = engine.admin("POST", "/admin/v1/accounts", &body);
        assert_eq!((status, &refused["field"]), (400, &json!(field)), "{refused}");
    }
    assert_eq!(engine.admin("PATCH", "/admin/v1/accounts/9", &json!({"plan": "p"})).0, 404);
    assert_eq!(engine.admin("POST", "/admin/v1/accounts/9/token", &Value::Null).0, 404);
}

#[test]
fn a_webhook_thread_that_does_not_answer() {
    let engine = Engine::start(&[]);
    let (_, token) = engine.account("Desk", "phantom");
    engine.add(&token, "/ok");
    engine.turned().forget(1);
    let (status, refused) = engine.as_customer(&token, "POST", "/v1/webhooks/1/disable", &Value::Null);
    assert_eq!((status, &refused["error"]), (409, &json!("endpoint_not_in_use")));

    engine.turned().webhook_hangs = true;
    let (status, shown) = engine.as_customer(&token, "GET", "/v1/webhooks/1", &Value::Null);
    assert_eq!((status, &shown["state"], &shown["pending"]), (200, &json!("active"), &Value::Null));
    // Reports that nobody takes fill the ring.
    for _ in 0..4 {
        engine.as_customer(&token, "GET", "/v1/webhooks", &Value::Null);
    }
    let (status, refused) = engine.as_customer(&token, "POST", "/v1/webhooks/1/disable", &Value::Null);
    assert_eq!((status, &refused["error"]), (503, &json!("busy")));
}

#[test]
fn the_document_is_served() {
    let engine = Engine::start(&[]);
    let (status, head, document) = engine.tcp("GET", "/openapi.json", "", "");
    assert!(status == 200 && head.contains("application/json"));
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document, serde_json::from_str::<Value>(&openapi::text()).unwrap());
}
