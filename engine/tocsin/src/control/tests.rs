//! The control plane over a real socket and a real TCP port, with a real store, and stand-ins for the
//! journal, accept, source and webhook threads.

mod live;
mod sessions;
mod strangers;
mod threads;
mod webhooks;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tocsin_core::model::Announcement;
use tocsin_core::time::WallUs;

use super::*;
use crate::cli::client::AdminClient;
use crate::config;
use crate::net::tls::{ClientTls, ClientTrust, GENERATED_CERT, ServerTls, SharedTls};
use crate::rings::ToAccept;
use crate::store::Row;
use crate::store::testing::{announcement, store};
use crate::store::webhook::secrets::MasterKey;
use crate::threads::journal::LiveTap;
use threads::Threads;

struct View;

impl EngineView for View {
    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
    fn host(&self) -> Host {
        Host::default()
    }
    fn is_alive(&self) -> bool {
        true
    }
    fn not_ready(&self) -> Vec<NotReady> {
        vec![NotReady { code: snapshot::Unready::Draining, detail: "as it is".to_owned() }]
    }
    fn set_draining(&self) {}
    fn connections(&self) -> u64 {
        0
    }
}

struct Engine {
    tap: Mutex<LiveTap>,
    dir: tempfile::TempDir,
    tcp: SocketAddr,
    stop: Arc<AtomicBool>,
    serving: Vec<JoinHandle<()>>,
    threads: Arc<Mutex<Threads>>,
    control: Arc<Control>,
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

impl Engine {
    fn start(history: &[Announcement]) -> Engine {
        Engine::start_with(history, false)
    }

    fn start_with(history: &[Announcement], tls: bool) -> Engine {
        Engine::start_as(history, tls, MetricsAccess::Anyone)
    }

    fn start_as(history: &[Announcement], tls: bool, metrics: MetricsAccess) -> Engine {
        let (dir, mut store) = store();
        let rows: Vec<Row<'_>> =
            history.iter().map(|a| Row::Announcement { announcement: a, dispatched: None }).collect();
        store.commit(&rows).unwrap();
        let reader = store.reader().unwrap();
        let secrets = Arc::new(store.master_key().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (threads, bridge) = Threads::new(store, secrets);
        let threads = Arc::new(Mutex::new(threads));
        let (mut listeners, control, tap) = Engine::doors(&dir, bridge, reader, metrics);
        if tls {
            let address = listeners.tcp_address().unwrap();
            listeners =
                listeners.with_tls(SharedTls::new(ServerTls::self_signed(dir.path(), address).unwrap()));
        }
        let tcp = listeners.tcp_address().unwrap();
        let at_end = Arc::clone(&stop);
        let serving = Arc::clone(&control);
        let plane = std::thread::spawn(move || run(listeners, &serving, &at_end).unwrap());
        let turning = Arc::clone(&threads);
        let serving = vec![until(&stop, move || turning.lock().turn()), plane];
        Engine { dir, tcp, stop, serving, threads, control, tap: Mutex::new(tap) }
    }

    fn doors(
        dir: &tempfile::TempDir,
        bridge: Arc<Bridge>,
        reader: Reader,
        metrics: MetricsAccess,
    ) -> (Listeners, Arc<Control>, LiveTap) {
        let (tap, inlet) = LiveTap::new();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, TOKEN).unwrap();
        let admin = config::Admin {
            socket: dir.path().join("admin.sock"),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            tls: false,
            token_file: None,
            requests_per_second: 1_000_000,
            forwarded_for_from: Vec::new(),
            metrics_token_file: None,
        };
        let token = AdminToken::from_file(&token_file).unwrap();
        let webhooks = WebhookRules {
            plans: vec!["phantom".to_owned()],
            rotation_grace: LiveDuration::new(Duration::from_secs(86_400)),
            policy: Arc::default(),
        };
        let access = AccessRules::from(&admin);
        let settings =
            Settings { access, sources: Vec::new(), drain: Duration::from_secs(5), base_url: None };
        let parts = ControlParts {
            bridge,
            reader,
            view: Arc::new(View),
            token,
            metrics,
            webhooks,
            settings,
            looks: Looks::new(inlet, None),
        };
        (Listeners::bind(&admin, None).unwrap(), Control::new(parts).unwrap(), tap)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Value, String> {
        let client = AdminClient::connect(&self.socket()).unwrap().expect("the service listens");
        client.request(method, target, body).map_err(|error| error.to_string())
    }

    /// One request over TCP: status, head and JSON body.
    fn tcp(&self, method: &str, target: &str, headers: &str, body: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.tcp).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn create(&self, body: &Value) -> (i64, String) {
        let made = self.ask("POST", "/admin/v1/keys", Some(body)).unwrap();
        (made["id"].as_i64().unwrap(), made["key"].as_str().unwrap().to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.serving.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn until(stop: &Arc<AtomicBool>, mut turn: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            turn();
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

#[test]
fn a_key_from_creation_to_revocation() {
    let engine = Engine::start(&[]);
    let body =
        json!({"tier": "premium", "max_connections": 5, "allowed_cex": "upbit,binance", "label": "desk"});
    let (id, key) = engine.create(&body);
    assert!(key.starts_with("dsk_") && key.len() == 68);
    let one = format!("/admin/v1/keys/{id}");
    let shown = engine.ask("GET", &one, None).unwrap();
    assert_eq!(shown["allowed_cex"], "upbit,binance");
    assert_eq!((&shown["state"], &shown["expires_at"]), (&json!("active"), &Value::Null));
    assert!(shown.get("key").is_none() && shown.get("hash").is_none());

    let changed = engine.ask("PATCH", &one, Some(&json!({"expires_at": "2099-01-02T03:04:05Z"}))).unwrap();
    assert_eq!(changed["expires_at"], "2099-01-02T03:04:05Z");
    let revoked = engine.ask("POST", &format!("{one}/revoke"), None).unwrap();
    assert_eq!(revoked["state"], "revoked");
    // Answered means handed over: the ring is taken a turn later at most.
    let expected = [format!("upsert {id}"), format!("upsert {id}"), format!("revoke {id}")];
    while engine.threads.lock().told_accept.len() < expected.len() {
        std::thread::yield_now();
    }
    assert_eq!(engine.threads.lock().told_accept, expected);
    let refused = engine.ask("PATCH", &one, Some(&json!({"expires_at": null}))).unwrap_err();
    assert!(refused.contains("final"), "{refused}");
    let all = engine.ask("GET", "/admin/v1/keys", None).unwrap();
    assert_eq!(all["keys"].as_array().map(Vec::len), Some(1));
}

/// Method, path, body and a part of the refusal.
fn wrong_requests() -> [(&'static str, &'static str, Value, &'static str); 18] {
    [
        ("POST", "/admin/v1/keys", json!({"tier": "gold"}), "tier: takes one of"),
        (
            "POST",
            "/admin/v1/keys",
            json!({"tier": "basic", "max_conections": 5}),
            "did you mean \"max_connections\"",
        ),
        (
            "POST",
            "/admin/v1/keys",
            json!({"tier": "basic", "max_connections": 0}),
            "max_connections: between",
        ),
        (
            "POST",
            "/admin/v1/keys",
            json!({"tier": "basic", "max_connections": -1}),
            "max_connections: between",
        ),
        (
            "POST",
            "/admin/v1/keys",
            json!({"tier": "basic", "allowed_cex": "nope"}),
            "\"nope\" is no exchange",
        ),
        (
            "POST",
            "/admin/v1/keys",
            json!({"tier": "basic", "expires_in_secs": 0}),
            "expires_in_secs: must be",
        ),
        (
            "POST",
            "/admin/v1/keys",
            json!({"tier": "basic", "expires_at": "soon"}),
            "expires_at: takes an instant",
        ),
        ("PATCH", "/admin/v1/keys/1", json!({}), "expires_at: give it"),
        ("PATCH", "/admin/v1/keys/1", json!({"expires_at": null}), "there is no key 1"),
        ("GET", "/admin/v1/keys/x", json!({}), "a key has a number"),
        ("POST", "/admin/v1/announcements", json!({"title": "x"}), "exchange: must be given"),
        ("POST", "/admin/v1/announcements", json!({"exchange": "x", "title": "x"}), "exchange: takes one of"),
        (
            "POST",
            "/admin/v1/announcements",
            json!({"exchange": "upbit", "title": "a\nb"}),
            "title: takes 1 to",
        ),
        (
            "POST",
            "/admin/v1/announcements",
            json!({"exchange": "upbit", "title": "x", "tickers": ["A B"]}),
            "tickers: a symbol",
        ),
        (
            "POST",
            "/admin/v1/announcements",
            json!({"exchange": "upbit", "title": "x", "published_us": -1}),
            "published_us: takes",
        ),
        ("GET", "/v1/announcements?limit=x", json!({}), "limit takes"),
        ("GET", "/nowhere", json!({}), "no such path"),
        ("DELETE", "/admin/v1/keys", json!({}), "takes another method"),
    ]
}

#[test]
fn refusals_name_what_is_wrong() {
    let engine = Engine::start(&[]);
    for (method, target, body, expected) in wrong_requests() {
        let refused = engine.ask(method, target, Some(&body)).unwrap_err();
        assert!(refused.contains(expected), "{method} {target} {body}: {refused}");
    }
    let (status, _, body) = engine.tcp(
        "POST",
        "/admin/v1/keys",
        &format!("Authorization: Bearer {TOKEN}\r\n"),
        &" ".repeat(tocsin_core::limits::ADMIN_BODY_BYTES + 1),
    );
    assert_eq!((status, &body["error"]), (413, &json!("bad_request")));
}

#[test]
fn tcp_takes_the_token_and_nothing_else() {
    let engine = Engine::start(&[]);
    for header in ["", "Authorization: Bearer x\r\n", "Authorization: Basic eDp5\r\n", "X-API-Key: dsk_1\r\n"]
    {
        for target in ["/admin/v1/keys", "/admin/v1/status", "/admin/v1/keys/1"] {
            let (status, head, body) = engine.tcp("GET", target, header, "");
            assert_eq!((status, &body["error"]), (401, &json!("unauthorized")), "{header}{target}");
            assert!(head.contains("www-authenticate: bearer"));
        }
    }
    let token = format!("Authorization: bearer {TOKEN}\r\n");
    assert_eq!(engine.tcp("GET", "/admin/v1/status", &token, "").2["sources"], json!([]));
    assert_eq!(engine.tcp("GET", "/healthz", "", "").0, 200);
    assert_eq!(engine.tcp("GET", "/livez", "", "").0, 200);
    let (status, _, body) = engine.tcp("GET", "/readyz", "", "");
    let reasons = json!([{"code": "draining", "detail": "as it is"}]);
    assert_eq!((status, body), (503, json!({"ready": false, "reasons": reasons})));
}

#[test]
fn who_may_read_the_metrics_over_tcp() {
    let admin = format!("Authorization: Bearer {TOKEN}\r\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metrics.token");
    std::fs::write(&file, "a token for prometheus alone\n").unwrap();
    let own = "Authorization: Bearer a token for prometheus alone\r\n".to_owned();
    let wrong = "Authorization: Bearer another token of that length\r\n".to_owned();
    let none = String::new();
    let token = || MetricsAccess::Token(AdminToken::from_file(&file).unwrap());
    for (access, allowed) in [
        (MetricsAccess::Anyone, [true; 4]),
        (MetricsAccess::Administrator, [false, false, false, true]),
        (token(), [false, false, true, true]),
    ] {
        let engine = Engine::start_as(&[], false, access.clone());
        let answers = [&none, &wrong, &own, &admin].map(|header| engine.tcp("GET", "/metrics", header, "").0);
        assert_eq!(answers, allowed.map(|yes| if yes { 200 } else { 401 }), "{access:?}");
        // What the token for metrics opens is metrics.
        assert_eq!(engine.tcp("GET", "/admin/v1/status", &own, "").0, 401);
        let mut socket = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let head = answer.to_ascii_lowercase();
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\ntocsin_epoch 0\n"), "{answer}");
    }
}

#[test]
fn tcp_over_tls_with_the_feeds_certificate() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let engine = Engine::start_with(&[], true);
    let ca_file = Some(engine.dir.path().join(GENERATED_CERT));
    let client = ClientTls::new(&ClientTrust { ca_file, ..ClientTrust::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(engine.tcp).await.unwrap();
        let mut stream = client.connect("localhost", tcp).await.unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"alive\":true}"), "{answer}");

    let mut plain = TcpStream::connect(engine.tcp).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut refused = Vec::new();
    let _ = plain.read_to_end(&mut refused);
    assert!(!refused.starts_with(b"HTTP"), "no plain answer at a TLS door");
}

#[test]
fn a_manual_alert_comes_back_as_it_went_out() {
    let engine = Engine::start(&[]);
    let body = json!({"exchange": "Upbit", "title": "Manual (ABC)", "listing_type": "spot_listing", "tickers": ["abc"]});
    let answer = engine.ask("POST", "/admin/v1/announcements", Some(&body)).unwrap();
    assert_eq!(answer["title"], "Manual (ABC)");
    assert_eq!(answer["publisher"], "upbit");
    assert_eq!(answer["dispatchTimestampUs"], 1_770_000_000_000_000_u64);
    assert_eq!((&answer["epoch"], &answer["seq"]), (&json!(9), &json!(1)));
}

#[test]
fn history_under_a_keys_rights() {
    let mut list: Vec<_> = (1..=4).map(|seq| announcement(3, seq)).collect();
    list[1].exchange = tocsin_core::model::Exchange::Upbit;
    list[3].detected = WallUs(4_070_908_800_000_000);
    let engine = Engine::start(&list);
    let get = |header: &str, query: &str| {
        let (status, _, body) = engine.tcp("GET", &format!("/v1/announcements{query}"), header, "");
        let seqs: Vec<u64> = body["announcements"]
            .as_array()
            .map(|all| all.iter().filter_map(|a| a["seq"].as_u64()).collect())
            .unwrap_or_default();
        (status, seqs, body)
    };
    let admin = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(get(&admin, "").1, [1, 2, 3, 4]);
    let (_, seqs, body) = get(&admin, "?after=3:1&limit=2");
    assert_eq!((seqs, &body["next"], &body["gap"]), (vec![2, 3], &json!("3:3"), &Value::Null));
    assert_eq!(get(&admin, "?cex=upbit").1, [2]);

    let (id, key) = engine.create(&json!({"tier": "basic", "allowed_cex": "upbit", "redact": true}));
    let header = format!("X-API-Key: {key}\r\n");
    let (_, seqs, body) = get(&header, "");
    assert_eq!((seqs, &body["next"]), (vec![2], &json!("3:4")));
    assert_eq!(body["announcements"][0]["title"], "");
    assert_eq!(get("", &format!("?api_key={key}")).1, [2]);
    assert_eq!((get("", "").0, get("", "").2["error"].clone()), (401, json!("missing_api_key")));
    assert_eq!(get("X-API-Key: dsk_1\r\n", "").2["error"], "invalid_api_key");
    engine.ask("POST", &format!("/admin/v1/keys/{id}/revoke"), None).unwrap();
    assert_eq!((get(&header, "").0, get(&header, "").2["error"].clone()), (403, json!("key_revoked")));

    // 2025 is long enough ago for any delay; the year 2099 is not.
    let (_, key) = engine.create(&json!({"tier": "basic", "delay_ms": 600_000}));
    assert_eq!(get(&format!("X-API-Key: {key}\r\n"), "").1, [1, 2, 3]);
}

#[test]
fn the_socket_is_private_taken_once_and_removed() {
    let engine = Engine::start(&[]);
    let path = engine.socket();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let admin = config::Admin {
        socket: path.clone(),
        listen: None,
        tls: false,
        token_file: None,
        requests_per_second: 50,
        forwarded_for_from: Vec::new(),
        metrics_token_file: None,
    };
    let refused = Listeners::bind(&admin, None).unwrap_err().to_string();
    assert!(refused.contains("another service listens"), "{refused}");
    drop(engine);
    assert!(!path.exists());

    let dir = tempfile::tempdir().unwrap();
    let admin = config::Admin { socket: dir.path().join("s"), ..admin };
    drop(std::os::unix::net::UnixListener::bind(&admin.socket).unwrap());
    drop(Listeners::bind(&admin, None).unwrap());
    let long = config::Admin { socket: dir.path().join("x".repeat(120)), ..admin };
    assert!(Listeners::bind(&long, None).unwrap_err().to_string().contains("admin.socket"));
}
