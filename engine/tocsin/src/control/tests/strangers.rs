//! Thousands of requests that are nearly right: credentials with a part wrong, of another kind, in another
//! place, twice; paths that mean an open one and a closed one; claims of proxies. Whoever lacks exactly what
//! a route asks for gets nothing, whatever else he sends, and changes nothing.
//!
//! The oracle knows what was sent and shares no code with what judges it. Real router and store, no socket.

use std::net::Ipv4Addr;

use axum::body::Body as HttpBody;
use axum::http::{Request as HttpRequest, StatusCode as Status};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tower::ServiceExt as _;

use super::super::api::{Door, router};
use super::super::client::Peer;
use super::*;

/// Requests sent.
const REQUESTS: u32 = 10_000;

/// Everything that opens something here.
struct Secrets {
    admin: String,
    customer: String,
    admin_session: String,
    customer_session: String,
    admin_csrf: String,
    customer_csrf: String,
}

/// Who a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Administrator,
    Customer,
}

/// A route of the document, with numbers in its place.
#[derive(Clone, Debug)]
struct Route {
    method: String,
    path: String,
    whose: For,
}

fn routes() -> Vec<Route> {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let mut routes = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].to_string();
            let whose = match (security.contains("admin_token"), security.contains("account_token")) {
                // History takes keys of the feed as well, metrics have an access of their own.
                _ if template == "/v1/announcements" || template == "/metrics" => continue,
                (true, _) => For::Administrator,
                (false, true) => For::Customer,
                (false, false) => continue,
            };
            let path = ["{id}", "{account}", "{event_id}"]
                .iter()
                .fold(template.clone(), |p, part| p.replace(part, "1"));
            routes.push(Route { method: method.to_uppercase(), path, whose });
        }
    }
    routes
}

/// What is done to a credential.
#[derive(Clone, Debug)]
enum Harm {
    None,
    Cut(usize),
    Longer(char),
    Flipped(usize),
    Uppercase,
    Twice,
    Empty,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        3 => Just(Harm::None),
        2 => (0_usize..80).prop_map(Harm::Cut),
        1 => prop_oneof![Just('0'), Just('f'), Just(','), Just(';'), Just('.')].prop_map(Harm::Longer),
        2 => (0_usize..80).prop_map(Harm::Flipped),
        1 => Just(Harm::Uppercase),
        1 => Just(Harm::Twice),
        1 => Just(Harm::Empty),
    ]
}

impl Harm {
    fn to(&self, secret: &str) -> String {
        match self {
            Harm::None => secret.to_owned(),
            Harm::Cut(at) => secret.chars().take(*at).collect(),
            Harm::Longer(with) => format!("{secret}{with}"),
            Harm::Flipped(at) => {
                let flip = |c: char| if c == '0' { '1' } else { '0' };
                let at = at % secret.len();
                secret.chars().enumerate().map(|(n, c)| if n == at { flip(c) } else { c }).collect()
            }
            Harm::Uppercase => secret.to_uppercase(),
            Harm::Twice => format!("{secret} {secret}"),
            Harm::Empty => String::new(),
        }
    }
}

/// Where a credential is put.
#[derive(Clone, Copy, Debug)]
enum Place {
    Bearer,
    Basic,
    Bare,
    Cookie,
    OtherCookie,
    Query,
    ApiKey,
}

/// One thing a request brings.
#[derive(Clone, Debug)]
struct Brought {
    /// Of [`Secrets`], by number.
    which: usize,
    harm: Harm,
    place: Place,
}

fn brought() -> impl Strategy<Value = Brought> {
    let place = prop_oneof![
        4 => Just(Place::Bearer),
        1 => Just(Place::Basic),
        1 => Just(Place::Bare),
        4 => Just(Place::Cookie),
        1 => Just(Place::OtherCookie),
        1 => Just(Place::Query),
        1 => Just(Place::ApiKey),
    ];
    (0_usize..4, harm(), place).prop_map(|(which, harm, place)| Brought { which, harm, place })
}

/// Headers that others believe.
const CLAIMS: [(&str, &str); 8] = [
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=127.0.0.1"),
    ("x-original-url", "/healthz"),
    ("x-http-method-override", "GET"),
    ("x-real-ip", "127.0.0.1"),
    ("authorization", "Negotiate AAAA"),
    ("host", "localhost"),
];

#[derive(Clone, Debug)]
struct Asked {
    route: Route,
    /// How the path is written otherwise: such a path is another one, or the same.
    written: usize,
    brought: Vec<Brought>,
    csrf: Option<(usize, Harm)>,
    origin: Option<&'static str>,
    site: Option<&'static str>,
    claims: Vec<usize>,
    address: u32,
}

fn asked() -> impl Strategy<Value = Asked> {
    let csrf = prop::option::of((0_usize..2, harm()));
    let origin =
        prop::option::of(prop_oneof![Just("http://x"), Just("https://evil.example"), Just("null"), Just("")]);
    let site = prop::option::of(prop_oneof![
        Just("same-origin"),
        Just("cross-site"),
        Just("same-site"),
        Just("none")
    ]);
    let claims = prop::collection::vec(0..CLAIMS.len(), 0..3);
    (
        prop::sample::select(routes()),
        0_usize..14,
        prop::collection::vec(brought(), 0..4),
        csrf,
        origin,
        site,
        claims,
        any::<u32>(),
    )
        .prop_map(|(route, written, brought, csrf, origin, site, claims, address)| Asked {
            route,
            written,
            brought,
            csrf,
            origin,
            site,
            claims,
            address,
        })
}

impl Asked {
    fn path(&self) -> String {
        let path = &self.route.path;
        match self.written {
            0 => format!("{path}/"),
            1 => format!("/{path}"),
            2 => format!("/healthz/..{path}"),
            3 => format!("/healthz/%2e%2e{path}"),
            4 => path.replacen("v1", "%761", 1),
            5 => path.to_uppercase(),
            6 => format!("{path}?next=/healthz"),
            7 => format!("{path};/healthz"),
            8 => path.replacen("/v1", "/./v1", 1),
            _ => path.clone(),
        }
    }

    /// The credentials' texts by where they are: bearer tokens and cookies in their order.
    fn texts<'a>(&'a self, secrets: &'a Secrets) -> impl Iterator<Item = (Place, String)> + 'a {
        let of = |which| match which {
            0 => &secrets.admin,
            1 => &secrets.customer,
            2 => &secrets.admin_session,
            _ => &secrets.customer_session,
        };
        self.brought.iter().map(move |brought| (brought.place, brought.harm.to(of(brought.which))))
    }

    fn csrf(&self, secrets: &Secrets) -> Option<String> {
        let (which, harm) = self.csrf.as_ref()?;
        Some(harm.to(if *which == 0 { &secrets.admin_csrf } else { &secrets.customer_csrf }))
    }

    fn request(&self, secrets: &Secrets) -> Option<HttpRequest<HttpBody>> {
        let mut target = self.path();
        let mut head = Vec::new();
        for (place, text) in self.texts(secrets) {
            match place {
                Place::Bearer => head.push(("authorization", format!("Bearer {text}"))),
                Place::Basic => head.push(("authorization", format!("Basic {text}"))),
                Place::Bare => head.push(("authorization", text)),
                Place::Cookie => head.push(("cookie", format!("a=b; tocsin_session={text}"))),
                Place::OtherCookie => head.push(("cookie", format!("tocsin_sessions={text}"))),
                Place::ApiKey => head.push(("x-api-key", text)),
                Place::Query => {
                    let joint = if target.contains('?') { '&' } else { '?' };
                    target = format!("{target}{joint}token={}", text.replace(' ', "+"));
                }
            }
        }
        head.extend(self.csrf(secrets).map(|csrf| ("x-csrf-token", csrf)));
        head.extend(self.origin.map(|origin| ("origin", origin.to_owned())));
        head.extend(self.site.map(|site| ("sec-fetch-site", site.to_owned())));
        head.push(("host", "x".to_owned()));
        head.extend(self.claims.iter().map(|n| (CLAIMS[*n].0, CLAIMS[*n].1.to_owned())));
        let request = HttpRequest::builder().method(self.route.method.as_str()).uri(target);
        let request = head.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        // Not every path can be written into a request at all.
        let mut request = request.body(HttpBody::empty()).ok()?;
        let address = Ipv4Addr::from(0x0A00_0000 | (self.address >> 8));
        request.extensions_mut().insert(Peer { address: Some(address.into()), tls: false });
        Some(request)
    }

    /// Whether this may be answered: the first `Authorization` decides where it is a bearer token, and the
    /// first session id of the cookies otherwise.
    fn is_entitled(&self, secrets: &Secrets) -> bool {
        let (token, session, csrf) = match self.route.whose {
            For::Administrator => (&secrets.admin, &secrets.admin_session, &secrets.admin_csrf),
            For::Customer => (&secrets.customer, &secrets.customer_session, &secrets.customer_csrf),
        };
        let authorization = self
            .texts(secrets)
            .find(|(place, _)| matches!(place, Place::Bearer | Place::Basic | Place::Bare));
        // Hex in capitals is none.
        let is_id =
            |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // Another scheme is no token, and the cookie counts.
        if let Some((Place::Bearer, given)) = authorization {
            return given.trim() == *token;
        }
        // A semicolon ends a cookie.
        let cookies = self.texts(secrets).filter(|(place, _)| matches!(place, Place::Cookie));
        let cookie = cookies.filter_map(|(_, text)| text.split(';').next().map(str::to_owned)).find(is_id);
        let own = cookie.as_ref() == Some(session);
        let reads = matches!(self.route.method.as_str(), "GET" | "HEAD");
        let same_page = self.origin.is_none_or(|origin| origin == "http://x")
            && self.site.is_none_or(|site| matches!(site, "same-origin" | "none"));
        own && self.site != Some("cross-site")
            && (reads || (same_page && self.csrf(secrets).as_ref() == Some(csrf)))
    }
}

fn secrets(engine: &Engine) -> Secrets {
    let (_, customer) = engine.new_account("Desk");
    let session = |token: &str| {
        let browser = engine.browser(&json!({ "token": token }));
        (browser.cookie.split_once('=').unwrap().1.to_owned(), browser.csrf.clone())
    };
    let (admin_session, admin_csrf) = session(TOKEN);
    let (customer_session, customer_csrf) = session(&customer);
    Secrets { admin: TOKEN.to_owned(), customer, admin_session, customer_session, admin_csrf, customer_csrf }
}

/// What changes would show in.
fn state(engine: &Engine) -> [Value; 3] {
    ["/admin/v1/accounts", "/admin/v1/keys", "/admin/v1/webhooks"]
        .map(|path| engine.ask("GET", path, None).unwrap())
}

#[test]
fn whoever_lacks_what_a_route_asks_for_gets_nothing() {
    let engine = Engine::start(&[]);
    engine.create(&json!({"tier": "basic"}));
    let secrets = secrets(&engine);
    let before = state(&engine);
    let routes = router(Arc::clone(&engine.control), Door::Tcp);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: REQUESTS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (entitled, refused) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let outcome = runner.run(&asked(), |asked| {
        let may = asked.is_entitled(&secrets);
        // What would be done is not what is asked here.
        if may && asked.route.method != "GET" {
            return Ok(());
        }
        let Some(request) = asked.request(&secrets) else { return Ok(()) };
        let status = runtime.block_on(routes.clone().oneshot(request)).unwrap().status();
        prop_assert!(!status.is_server_error(), "{}", status);
        if may {
            entitled.set(entitled.get() + 1);
            prop_assert!(!matches!(status, Status::UNAUTHORIZED | Status::FORBIDDEN), "refused: {}", status);
        } else {
            refused.set(refused.get() + 1);
            let nothing = [
                Status::UNAUTHORIZED,
                Status::FORBIDDEN,
                Status::NOT_FOUND,
                Status::METHOD_NOT_ALLOWED,
                Status::TOO_MANY_REQUESTS,
            ];
            prop_assert!(nothing.contains(&status), "answered: {}", status);
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Both sides of the oracle were tried.
    assert!(entitled.get() > REQUESTS / 100 && refused.get() > REQUESTS / 2, "{entitled:?} {refused:?}");
    assert_eq!(state(&engine), before, "somebody has changed something");
}
