//! Signing in and out over real sockets: cookies, CSRF, other pages, codes, rates.

use super::*;

/// A browser: its cookie and CSRF token.
pub(super) struct Browser<'a> {
    engine: &'a Engine,
    pub(super) cookie: String,
    pub(super) csrf: String,
    shown: Value,
}

fn cookie_of(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("set-cookie: "))
}

impl Engine {
    fn sign_in(&self, body: &Value, headers: &str) -> (u16, String, Value) {
        self.tcp("POST", "/v1/session", headers, &body.to_string())
    }

    pub(super) fn browser(&self, body: &Value) -> Browser<'_> {
        let (status, head, shown) = self.sign_in(body, "");
        assert_eq!(status, 200, "{shown}");
        let cookie = cookie_of(&head).unwrap().split(';').next().unwrap().to_owned();
        Browser { engine: self, cookie, csrf: shown["csrf"].as_str().unwrap().to_owned(), shown }
    }

    pub(super) fn new_account(&self, name: &str) -> (i64, String) {
        let body = json!({"name": name, "plan": "phantom"});
        let made = self.ask("POST", "/admin/v1/accounts", Some(&body)).unwrap();
        (made["id"].as_i64().unwrap(), made["token"].as_str().unwrap().to_owned())
    }

    fn link(&self, body: &Value) -> String {
        let made = self.ask("POST", "/admin/v1/sign-in-links", Some(body)).unwrap();
        assert_eq!(made["expires_in_secs"], 600);
        made["path"].as_str().unwrap().strip_prefix("/#code=").unwrap().to_owned()
    }
}

impl Browser<'_> {
    fn get(&self, target: &str) -> u16 {
        self.engine.tcp("GET", target, &format!("Cookie: {}\r\n", self.cookie), "").0
    }

    fn post(&self, target: &str, more: &str) -> (u16, Value) {
        let headers = format!("Cookie: {}\r\n{more}", self.cookie);
        let (status, _, body) = self.engine.tcp("POST", target, &headers, "{}");
        (status, body)
    }

    fn with_csrf(&self) -> String {
        format!("X-CSRF-Token: {}\r\n", self.csrf)
    }
}

#[test]
fn a_session_stands_for_the_token_that_opened_it() {
    let engine = Engine::start(&[]);
    let (id, token) = engine.new_account("Desk");
    let (_, head, shown) = engine.sign_in(&json!({"token": TOKEN}), "");
    assert_eq!((&shown["role"], &shown["account"]), (&json!("administrator"), &Value::Null));
    assert_eq!(shown["expires_in_secs"], 3_600);
    let (pair, flags) = cookie_of(&head).unwrap().split_once("; ").unwrap();
    assert_eq!(flags, "httponly; samesite=strict; path=/");
    assert_eq!(pair.strip_prefix("tocsin_session=").unwrap().len(), 64);
    assert!(head.contains("cache-control: no-store"));

    let admin = engine.browser(&json!({"token": TOKEN}));
    let customer = engine.browser(&json!({ "token": token }));
    assert_eq!((&customer.shown["role"], &customer.shown["account"]["id"]), (&json!("customer"), &json!(id)));
    assert_eq!((admin.get("/admin/v1/accounts"), admin.get("/v1/account")), (200, 401));
    assert_eq!((customer.get("/admin/v1/accounts"), customer.get("/v1/account")), (401, 200));
    assert_eq!((customer.get("/v1/webhooks"), customer.get("/v1/session")), (200, 200));
    assert_eq!((admin.get("/v1/announcements"), admin.get("/v1/session")), (200, 200));
    let again = engine.tcp("GET", "/v1/session", &format!("Cookie: {}\r\n", customer.cookie), "").2;
    assert_eq!((&again["csrf"], &again["role"]), (&json!(customer.csrf), &json!("customer")));

    // Out: the id is worth nothing any more.
    let headers = format!("Cookie: {}\r\n{}", customer.cookie, customer.with_csrf());
    let (status, head, _) = engine.tcp("DELETE", "/v1/session", &headers, "");
    assert_eq!(status, 204);
    assert_eq!(cookie_of(&head), Some("tocsin_session=; max-age=0; httponly; samesite=strict; path=/"));
    assert_eq!((customer.get("/v1/account"), customer.get("/v1/session")), (401, 401));
}

#[test]
fn the_id_changes_at_sign_in_and_the_old_session_ends() {
    let engine = Engine::start(&[]);
    let first = engine.browser(&json!({"token": TOKEN}));
    let planted = format!("tocsin_session={}", "ab".repeat(32));
    for brought in [&planted, &first.cookie] {
        let (_, head, _) = engine.sign_in(&json!({"token": TOKEN}), &format!("Cookie: {brought}\r\n"));
        assert!(!head.contains(brought.as_str()), "the id is a new one");
    }
    assert_eq!(first.get("/v1/session"), 401);
    assert_eq!(engine.tcp("GET", "/v1/session", &format!("Cookie: {planted}\r\n"), "").0, 401);
}

#[test]
fn changes_need_the_csrf_token_and_the_own_page() {
    let engine = Engine::start(&[]);
    let admin = engine.browser(&json!({"token": TOKEN}));
    let other = engine.browser(&json!({"token": TOKEN}));
    let target = "/admin/v1/sign-in-links";
    assert_eq!(admin.post(target, &admin.with_csrf()).0, 201);
    let own = format!("{}Origin: http://x\r\nSec-Fetch-Site: same-origin\r\n", admin.with_csrf());
    assert_eq!(admin.post(target, &own).0, 201);
    let refused = [
        String::new(),
        "X-CSRF-Token: 00\r\n".to_owned(),
        other.with_csrf(),
        format!("{}Origin: https://evil.example\r\n", admin.with_csrf()),
        format!("{}Origin: null\r\n", admin.with_csrf()),
        format!("{}Sec-Fetch-Site: same-site\r\n", admin.with_csrf()),
        format!("{}Sec-Fetch-Site: cross-site\r\n", admin.with_csrf()),
    ];
    for headers in &refused {
        let (status, body) = admin.post(target, headers);
        assert_eq!((status, &body["error"]), (403, &json!("csrf")), "{headers}");
    }
    let cookie = format!("Cookie: {}\r\n", admin.cookie);
    let (status, _, _) = engine.tcp("DELETE", "/v1/session", &cookie, "");
    assert_eq!((status, admin.get("/v1/session")), (403, 200));
    let foreign = format!("{cookie}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(engine.tcp("GET", "/admin/v1/status", &foreign, "").0, 403);
    assert_eq!(engine.sign_in(&json!({"token": TOKEN}), "Sec-Fetch-Site: cross-site\r\n").0, 403);
    // A token that is sent by hand is nobody else's page.
    let bearer = format!("{cookie}Authorization: Bearer {TOKEN}\r\nOrigin: https://tools.example\r\n");
    assert_eq!(engine.tcp("POST", target, &bearer, "{}").0, 201);
}

#[test]
fn a_code_signs_in_once() {
    let engine = Engine::start(&[]);
    let (id, _) = engine.new_account("Desk");
    let code = engine.link(&json!({ "account": id }));
    let customer = engine.browser(&json!({ "code": code }));
    assert_eq!(customer.shown["account"]["name"], "Desk");
    let (status, _, body) = engine.sign_in(&json!({ "code": code }), "");
    assert_eq!((status, &body["error"]), (401, &json!("unauthorized")));
    let admin = engine.browser(&json!({"code": engine.link(&json!({}))}));
    assert_eq!(admin.get("/admin/v1/status"), 200);
    let absent = engine.ask("POST", "/admin/v1/sign-in-links", Some(&json!({"account": 99}))).unwrap_err();
    assert!(absent.contains("99"), "{absent}");
    for wrong in [json!({}), json!({"token": "a", "code": "b"}), json!({"tokn": "a"}), json!({"token": 1})] {
        assert_eq!(engine.sign_in(&wrong, "").0, 400, "{wrong}");
    }
}

#[test]
fn sessions_and_codes_end_with_what_opened_them() {
    let engine = Engine::start(&[]);
    let (id, token) = engine.new_account("Desk");
    let one = format!("/admin/v1/accounts/{id}");
    let admin = engine.browser(&json!({"token": TOKEN}));
    let customer = engine.browser(&json!({ "token": token }));
    let code = engine.link(&json!({ "account": id }));
    let made = engine.ask("POST", &format!("{one}/token"), None).unwrap();
    assert_eq!(customer.get("/v1/account"), 401, "the token is another one");
    assert_eq!(engine.sign_in(&json!({ "code": code }), "").0, 401);
    assert_eq!(engine.sign_in(&json!({ "token": token }), "").0, 401);
    let customer = engine.browser(&json!({"token": made["token"]}));
    engine.ask("PATCH", &one, Some(&json!({"plan": "free"}))).unwrap();
    assert_eq!(customer.get("/v1/account"), 401, "the plan has no webhooks");

    assert_eq!(admin.get("/admin/v1/status"), 200);
    let file = engine.dir.path().join("other.token");
    std::fs::write(&file, "fedcba9876543210").unwrap();
    engine.control.replace_token(AdminToken::from_file(&engine.dir.path().join("token")).unwrap());
    assert_eq!(admin.get("/admin/v1/status"), 200, "the same");
    engine.control.replace_token(AdminToken::from_file(&file).unwrap());
    assert_eq!(admin.get("/admin/v1/status"), 401, "another");
    assert_eq!(engine.sign_in(&json!({"token": TOKEN}), "").0, 401);
    assert_eq!(engine.sign_in(&json!({"token": "fedcba9876543210"}), "").0, 200);
}

#[test]
fn guessing_is_slowed_down() {
    let engine = Engine::start(&[]);
    let customer = engine.browser(&json!({"token": engine.new_account("Desk").1}));
    let mut answers = Vec::new();
    for n in 0..12 {
        let (status, head, body) = match n % 3 {
            0 => engine.sign_in(&json!({"token": format!("act_{n:064}")}), ""),
            1 => engine.sign_in(&json!({"code": format!("{n:064}")}), ""),
            _ => engine.tcp("GET", "/admin/v1/status", "Authorization: Bearer guess\r\n", ""),
        };
        assert_eq!(status == 429, head.contains("retry-after: "), "{head}");
        answers.push((status, body["error"].as_str().unwrap().to_owned()));
    }
    let (first, rest) = answers.split_at(tocsin_core::limits::SIGN_IN_FAILURES_PER_MINUTE as usize);
    assert!(first.iter().all(|(status, _)| *status == 401), "{answers:?}");
    assert!(rest.iter().all(|answer| *answer == (429, "rate_limited".to_owned())), "{answers:?}");
    // Also the right token waits now; a session does not, nor does the socket.
    assert_eq!(engine.sign_in(&json!({"token": TOKEN}), "").0, 429);
    assert_eq!(customer.get("/v1/account"), 200);
    assert!(engine.ask("GET", "/admin/v1/status", None).is_ok());
}

#[test]
fn the_cookie_is_secure_where_the_way_is() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let engine = Engine::start_with(&[], true);
    let ca_file = Some(engine.dir.path().join(GENERATED_CERT));
    let client = ClientTls::new(&ClientTrust { ca_file, ..ClientTrust::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(engine.tcp).await.unwrap();
        let mut stream = client.connect("localhost", tcp).await.unwrap();
        let body = json!({"token": TOKEN}).to_string();
        let request = format!(
            "POST /v1/session HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.contains("; HttpOnly; SameSite=Strict; Path=/; Secure\r\n"), "{answer}");
}
