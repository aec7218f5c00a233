//! The HTTP client connection over real loopback sockets, plain and TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use mio::{Events, Poll, Token};
use support::{Reply, Server, ok, with_headers};
use tocsin::net::http::{Cause, Event, HttpConnection, Peer};
use tocsin::net::tls::{ClientTls, ClientTrust, GENERATED_CERT, ServerTls};
use tocsin::net::url::BaseUrl;
use tocsin::os::clock;
use tocsin_core::http1::response::ResponseError;
use tocsin_core::http1::writer::RequestTemplate;
use tocsin_core::limits;
use tocsin_core::source::backoff::Failure;
use tocsin_core::time::Mono;

const LOCAL: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];

struct Client {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    peer: Peer,
    connection: HttpConnection,
    template: RequestTemplate,
    /// Added to the clock, so that a time limit passes without waiting for it.
    ahead: Duration,
}

impl Client {
    fn new(url: &str, ca_file: Option<std::path::PathBuf>, bind: Option<IpAddr>) -> Client {
        let url = BaseUrl::parse(url).unwrap();
        let template =
            RequestTemplate::get(&url.host_header(), "/list?page=1", &[("accept", "*/*")]).unwrap();
        let tls = ClientTls::new(&ClientTrust { ca_file, insecure: false }).unwrap();
        Client {
            poll: Poll::new().unwrap(),
            events: Events::with_capacity(16),
            scratch: vec![0; 16 * 1_024],
            peer: Peer { url, tls },
            connection: HttpConnection::new(Token(0), bind),
            template,
            ahead: Duration::ZERO,
        }
    }

    fn now(&self) -> Mono {
        clock::mono() + self.ahead
    }

    fn open(&mut self, addresses: &[IpAddr]) -> Event {
        let now = self.now();
        self.connection.open(addresses, self.peer.url.port, self.poll.registry(), now);
        self.drive()
    }

    fn ask(&mut self, etag: Option<&[u8]>) -> Event {
        let now = self.now();
        assert!(self.connection.send(&self.template, etag, now), "not idle");
        self.drive()
    }

    /// Drives until something came of it.
    fn drive(&mut self) -> Event {
        loop {
            let now = self.now();
            match self.connection.drive(&self.peer, self.poll.registry(), now, &mut self.scratch) {
                Event::Quiet => {}
                event => return event,
            }
            self.poll.poll(&mut self.events, Some(Duration::from_millis(1))).unwrap();
        }
    }

    fn body(&mut self) -> &[u8] {
        self.connection.body_mut()
    }

    fn status(&self) -> u16 {
        self.connection.parser().head().unwrap().status
    }
}

fn chunked(parts: &[&str]) -> Vec<u8> {
    let chunks: String = parts.iter().map(|p| format!("{:x};x=y\r\n{p}\r\n", p.len())).collect();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\nTrailer: 1\r\n\r\n")
        .into_bytes()
}

#[test]
fn one_connection_carries_many_answers_of_every_framing() {
    let server = Server::start(None, |seen| match seen.request {
        0 => Reply::Send(ok("first")),
        1 => Reply::Send(chunked(&["sec", "ond"])),
        2 => Reply::Send(with_headers("304 Not Modified", &["ETag: \"a\""], "").to_vec()),
        3 => Reply::Send([b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), ok("fourth")].concat()),
        _ => Reply::SendThenClose(b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec()),
    });
    let mut client = Client::new(&server.url("http"), None, None);
    assert_eq!(client.open(&LOCAL), Event::Ready);
    for (status, body) in [(200, "first"), (200, "second"), (304, ""), (200, "fourth"), (200, "to the end")] {
        assert_eq!(client.ask(None), Event::Answer);
        assert_eq!((client.status(), client.body()), (status, body.as_bytes()));
    }
    assert_eq!((server.connections(), server.requests()), (1, 5));
    assert!(client.connection.is_closed());
}

#[test]
fn the_entity_tag_goes_back_to_the_server() {
    let server = Server::start(None, |seen| match seen.header("If-None-Match") {
        None => Reply::Send(with_headers("200 OK", &["ETag: W/\"v1\""], "body")),
        Some("W/\"v1\"") => Reply::Send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n".to_vec()),
        Some(other) => panic!("{other}"),
    });
    let mut client = Client::new(&server.url("http"), None, None);
    client.open(&LOCAL);
    assert_eq!(client.ask(None), Event::Answer);
    let tag = client.connection.parser().etag().unwrap().to_vec();
    assert_eq!(client.ask(Some(&tag)), Event::Answer);
    assert_eq!((client.status(), client.body()), (304, b"".as_slice()));
}

#[test]
fn tls_is_resumed_on_the_second_connection() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(folder.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::start(Some(tls), |seen| Reply::Send(ok(&format!("{:?}", seen.resumed))));
    let mut client = Client::new(&server.url("https"), Some(folder.path().join(GENERATED_CERT)), None);
    for expected in ["Some(false)", "Some(true)"] {
        assert_eq!(client.open(&LOCAL), Event::Ready);
        assert_eq!(client.ask(None), Event::Answer);
        assert_eq!(client.body(), expected.as_bytes());
        assert_eq!(client.connection.resumed(), Some(expected == "Some(true)"));
    }
}

#[test]
fn an_unknown_certificate_is_a_tls_failure() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(folder.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::start(Some(tls), |_| Reply::Send(ok("")));
    let mut client = Client::new(&server.url("https"), None, None);
    assert_eq!(client.open(&LOCAL), Event::Failed(Failure::Tls));
    assert_eq!(client.connection.cause(), Some(Cause::Tls(tocsin::net::tls::TlsFailure::Certificate)));
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_kept_alive_connection_given_up_by_the_server_is_nobodys_failure() {
    let server = Server::start(None, |seen| match (seen.connection, seen.request) {
        (0, 1) => Reply::SendThenClose(Vec::new()),
        (1, 0) => Reply::SendThenClose(ok("then closed")),
        _ => Reply::Send(ok("x")),
    });
    let mut client = Client::new(&server.url("http"), None, None);
    client.open(&LOCAL);
    assert_eq!(client.ask(None), Event::Answer);
    assert_eq!(client.ask(None), Event::Lapsed { unanswered: true });
    client.open(&LOCAL);
    assert_eq!(client.ask(None), Event::Answer);
    assert_eq!(client.drive(), Event::Lapsed { unanswered: false });
    // The very first request of a connection has no such excuse.
    let server = Server::start(None, |_| Reply::SendThenClose(Vec::new()));
    let mut client = Client::new(&server.url("http"), None, None);
    client.open(&LOCAL);
    assert_eq!(client.ask(None), Event::Failed(Failure::Closed));
}

#[test]
fn broken_and_endless_answers_are_refused() {
    type Case = (fn(Vec<u8>) -> Reply, Vec<u8>, Event, Option<Cause>);
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec();
    let in_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3b9aca00\r\n".to_vec();
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    let surplus = [ok("x"), ok("y")].concat();
    let cases: [Case; 6] = [
        (
            Reply::SendThenStall,
            huge,
            Event::Failed(Failure::Protocol),
            Some(Cause::Response(ResponseError::BodyTooLarge)),
        ),
        (
            Reply::SendThenStall,
            in_chunks,
            Event::Failed(Failure::Protocol),
            Some(Cause::Response(ResponseError::BodyTooLarge)),
        ),
        (
            Reply::SendThenClose,
            cut.clone(),
            Event::Failed(Failure::Closed),
            Some(Cause::Response(ResponseError::ClosedInBody)),
        ),
        (Reply::SendThenReset, cut, Event::Failed(Failure::Closed), None),
        (Reply::SendThenStall, surplus, Event::Answer, None),
        (
            Reply::SendForever,
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            Event::Failed(Failure::Protocol),
            Some(Cause::Response(ResponseError::BodyTooLarge)),
        ),
    ];
    for (reply, bytes, event, cause) in cases {
        let sent = bytes.clone();
        let server = Server::start(None, move |_| reply(sent.clone()));
        let mut client = Client::new(&server.url("http"), None, None);
        client.open(&LOCAL);
        assert_eq!(client.ask(None), event, "{bytes:?}");
        assert!(client.connection.is_closed(), "{bytes:?}");
        assert!(cause.is_none() || client.connection.cause() == cause, "{:?}", client.connection.cause());
        assert!(client.body().len() <= limits::RESPONSE_BODY_BYTES);
    }
}

#[test]
fn silence_and_slowness_run_into_their_limits() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    for (sent, limit) in [(Vec::new(), limits::REQUEST_TIMEOUT), (half, limits::RESPONSE_STALL)] {
        let (begun, bytes) = (!sent.is_empty(), sent.clone());
        let server = Server::start(None, move |_| Reply::SendThenStall(bytes.clone()));
        let mut client = Client::new(&server.url("http"), None, None);
        client.open(&LOCAL);
        let now = client.now();
        assert!(client.connection.send(&client.template, None, now));
        while server.requests() == 0 || client.connection.parser().has_begun() != begun {
            let event =
                client.connection.drive(&client.peer, client.poll.registry(), now, &mut client.scratch);
            assert_eq!(event, Event::Quiet);
        }
        assert_eq!(client.connection.deadline(), now + limit);
        let late = now + limit;
        let event = client.connection.drive(&client.peer, client.poll.registry(), late, &mut client.scratch);
        assert_eq!(
            (event, client.connection.cause()),
            (Event::Failed(Failure::Timeout), Some(Cause::TimedOut))
        );
    }
}

#[test]
fn it_is_rotated_by_age_by_count_and_before_the_servers_own_limits() {
    let server = Server::start(None, |seen| match seen.request {
        0 => Reply::Send(ok("a")),
        1 => Reply::Send(with_headers("200 OK", &["Keep-Alive: timeout=10, max=5"], "b")),
        _ => Reply::Send(with_headers("200 OK", &["Keep-Alive: timeout=10, max=0"], "c")),
    });
    let (hour, many) = (Duration::from_secs(3_600), 1_000);
    let mut client = Client::new(&server.url("http"), None, None);
    client.open(&LOCAL);
    client.ask(None);
    let now = client.now();
    assert!(!client.connection.wants_rotation(hour, many, now));
    assert!(client.connection.wants_rotation(hour, many, now + hour));
    assert!(client.connection.wants_rotation(hour, 1, now));
    client.ask(None);
    let now = client.now();
    assert!(!client.connection.wants_rotation(hour, many, now + Duration::from_secs(7)));
    assert!(client.connection.wants_rotation(hour, many, now + Duration::from_secs(9)));
    client.ask(None);
    let now = client.now();
    assert!(client.connection.wants_rotation(hour, many, now));
}

#[test]
fn a_dead_first_address_and_a_local_address_are_no_obstacle() {
    let server = Server::start(None, |seen| Reply::Send(ok(&seen.from.ip().to_string())));
    let bind = IpAddr::from([127, 0, 0, 7]);
    let mut client = Client::new(&server.url("http"), None, Some(bind));
    assert_eq!(client.open(&[IpAddr::from([127, 0, 0, 2]), LOCAL[0]]), Event::Ready);
    assert_eq!(client.ask(None), Event::Answer);
    assert_eq!(client.body(), b"127.0.0.7");
    assert_eq!(client.connection.peer_address(), Some(server.address));
    assert_eq!(client.open(&[]), Event::Failed(Failure::Connect));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::new(&format!("http://{nobody}"), None, None);
    assert_eq!(client.open(&LOCAL), Event::Failed(Failure::Connect));
}
