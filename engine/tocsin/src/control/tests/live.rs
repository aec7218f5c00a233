//! Streams of live events over real sockets, fed as the journal thread feeds them.

use std::io::{BufRead as _, BufReader};

use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::event::{EventId, EventKind};
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::Phases;

use super::*;
use crate::os::clock;
use crate::rings::JournalToLive;
use crate::store::webhook::deliveries::AttemptRecord;

/// One stream of events.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// The next event, if the stream has not ended.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                event.trim().clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The next event of a kind.
    fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let (name, data) = self.next().unwrap_or_else(|| panic!("it ended before {kind}"));
            if name == kind {
                return data;
            }
        }
    }
}

impl Engine {
    /// Opens a stream; the head, and what follows it.
    fn open(&self, target: &str, header: &str) -> (u16, Stream) {
        let mut stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        (head.split(' ').nth(1).unwrap().parse().unwrap(), Stream(reader))
    }

    fn look(&self, target: &str, token: &str) -> Stream {
        let (status, mut stream) = self.open(target, &format!("Authorization: Bearer {token}"));
        assert_eq!(status, 200);
        assert_eq!(stream.next().unwrap().0, "hello");
        stream
    }

    /// An account with an endpoint; its token and the endpoint's number.
    fn customer(&self, name: &str) -> (String, u64) {
        let body = json!({"name": name, "plan": "phantom"});
        let made = self.ask("POST", "/admin/v1/accounts", Some(&body)).unwrap();
        let body = json!({"url": "https://bot.tocsin-test.net/ok"});
        let path = format!("/admin/v1/accounts/{}/webhooks", made["id"]);
        let endpoint = self.ask("POST", &path, Some(&body)).unwrap();
        (made["token"].as_str().unwrap().to_owned(), endpoint["id"].as_u64().unwrap())
    }

    fn show(&self, mut make: impl FnMut() -> JournalToLive) {
        self.tap.lock().show(&mut make);
    }
}

fn went_out(seq: u64) -> JournalToLive {
    let encoded = tocsin_core::wire::encode(announcement(1, seq));
    encoded.mark_dispatched(WallUs(1_770_000_000_000_001));
    JournalToLive::Announcement(Arc::new(encoded))
}

fn attempt(endpoint: u64) -> JournalToLive {
    JournalToLive::Attempt(Box::new(AttemptRecord {
        endpoint: EndpointId(endpoint),
        event: EventId::parse("cxp_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        kind: EventKind::NewListing,
        purpose: Purpose::Event { attempt: 2 },
        started_at: clock::wall(),
        status: Some(200),
        class: None,
        took_us: 900,
        phases: Phases::default(),
        address: None,
        detail: None,
        next_at: None,
    }))
}

#[test]
fn each_viewer_gets_what_is_theirs_and_a_slow_one_is_told() {
    let engine = Engine::start(&[]);
    let (one, other) = (engine.customer("one"), engine.customer("other"));
    let mut administrator = engine.look("/admin/v1/live", TOKEN);
    let mut first = engine.look("/v1/live", &one.0);
    let mut second = engine.look("/v1/live", &other.0);
    // The status says that the ring is looked at.
    assert_eq!(administrator.next_of("status")["sources"], json!([]));
    assert!(administrator.next_of("host")["machine"]["cores"].as_u64() > Some(0));
    engine.show(|| went_out(7));
    engine.show(|| attempt(one.1));
    engine.show(|| attempt(other.1));
    let announced = administrator.next_of("announcement");
    assert_eq!(
        (&announced["seq"], &announced["dispatchTimestampUs"]),
        (&json!(7), &json!(1_770_000_000_000_001_u64))
    );
    let seen = [administrator.next_of("delivery"), administrator.next_of("delivery")];
    assert_eq!(seen.map(|line| line["endpoint"].as_u64().unwrap()), [one.1, other.1]);
    for (stream, endpoint) in [(&mut first, one.1), (&mut second, other.1)] {
        // Nothing lies between: no counters, and nothing of the other account's.
        assert_eq!(stream.next().unwrap().0, "announcement");
        let (name, line) = stream.next().unwrap();
        assert_eq!((name.as_str(), line["endpoint"].as_u64()), ("delivery", Some(endpoint)));
        assert_eq!((&line["attempt"], &line["ok"]), (&json!(2), &json!(true)), "{line}");
    }
    // More at once than waits for a reader, until one has waited: how fast it is is the machine's affair.
    let (mut sent, mut came, mut lost) = (0, 0, 0);
    while lost == 0 {
        assert!(sent < 100_000, "a reader keeps up with everything");
        (0..1_000).for_each(|seq| engine.show(|| went_out(100 + sent + seq)));
        sent += 1_000;
        while came + lost < sent {
            match first.next().unwrap() {
                (name, data) if name == "lost" => lost += data["events"].as_u64().unwrap(),
                (name, _) => came += u64::from(name == "announcement"),
            }
        }
    }
    assert!(lost > 0 && came >= limits_queue(), "{came} came, {lost} lost");
}

/// What a reader gets at least of a burst.
const fn limits_queue() -> u64 {
    tocsin_core::limits::LIVE_QUEUE as u64 / 2
}

#[test]
fn streams_are_bounded_and_end_with_their_session() {
    let engine = Engine::start(&[]);
    let (status, _) = engine.open("/admin/v1/live", "X-Nothing: 1");
    assert_eq!(status, 401);
    let (status, head, _) = engine.tcp("POST", "/v1/session", "", &json!({"token": TOKEN}).to_string());
    assert_eq!(status, 200, "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    let (status, mut in_session) = engine.open("/admin/v1/live", &cookie);
    assert_eq!(status, 200);
    assert_eq!(in_session.next().unwrap().0, "hello");
    let mut open: Vec<Stream> =
        (1..tocsin_core::limits::LIVE_STREAMS).map(|_| engine.look("/admin/v1/live", TOKEN)).collect();
    let header = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, _, refused) = engine.tcp("GET", "/admin/v1/live", &header, "");
    assert_eq!((status, &refused["error"]), (503, &json!("too_many_streams")));

    let shown = engine.tcp("GET", "/v1/session", &format!("{cookie}\r\n"), "").2;
    let csrf = format!("{cookie}\r\nX-CSRF-Token: {}\r\n", shown["csrf"].as_str().unwrap());
    assert_eq!(engine.tcp("DELETE", "/v1/session", &csrf, "").0, 204);
    while in_session.next().is_some() {}
    // Its place is free again; those without a session go on.
    let mut next = engine.look("/admin/v1/live?for_secs=1", TOKEN);
    while next.next().is_some() {}
    let (status, _, refused) = engine.tcp("GET", "/admin/v1/live?for_secs=0", &header, "");
    assert_eq!((status, &refused["field"]), (400, &json!("for_secs")));
    assert_eq!(open[0].next_of("status")["sources"], json!([]));
}
