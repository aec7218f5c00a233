//! Each fault does what it says, seen from a client.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use crate::client::{Client, Reply};
use tocsin_sim::{CertChange, Fault, Framing, Kind, MAX_CONNECTIONS, Options, SimExchange};

const LIST: &str = "/v1/notices?count=20";

fn start() -> SimExchange {
    SimExchange::start(Kind::Bithumb, Options::default()).unwrap()
}

fn ask(sim: &SimExchange) -> io::Result<Reply> {
    Client::connect(sim)?.get(LIST)
}

#[test]
fn refusals() {
    let sim = start();
    for code in [403, 418, 429, 500, 503] {
        sim.set_fault(Fault::Status { code, retry_after_secs: Some(30) });
        let reply = ask(&sim).unwrap();
        assert_eq!((reply.status, reply.header("retry-after")), (code, Some("30")));
    }
    sim.set_fault(Fault::RedirectLoop);
    assert_eq!(ask(&sim).unwrap().header("location"), Some(LIST));
    sim.set_fault(Fault::RegionBlock);
    assert_eq!(ask(&sim).unwrap().status, 403);
    sim.set_fault(Fault::HtmlChallenge);
    let page = ask(&sim).unwrap();
    assert_eq!(page.status, 202);
    assert!(
        page.header("content-type").unwrap().starts_with("text/html") && page.body.starts_with(b"<!DOCTYPE")
    );
    sim.clear_fault();
    assert_eq!(ask(&sim).unwrap().status, 200);
}

#[test]
fn a_fault_strikes_as_often_as_told() {
    let sim = start();
    let mut client = Client::connect(&sim).unwrap();
    sim.fault_next(2, Fault::Status { code: 500, retry_after_secs: None });
    let statuses: Vec<u16> = (0..4).map(|_| client.get(LIST).unwrap().status).collect();
    assert_eq!(statuses, [500, 500, 200, 200]);
    let seen: Vec<u16> = sim.requests().iter().map(|r| r.status).collect();
    assert_eq!(seen, statuses);
}

#[test]
fn resets() {
    let sim = start();
    sim.fault_next(1, Fault::ResetOnAccept);
    assert!(matches!(ask(&sim).unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    sim.set_fault(Fault::ResetInHead);
    let mut client = Client::connect(&sim).unwrap();
    client.send(LIST, &[]).unwrap();
    let (bytes, end) = client.rest();
    assert!(bytes.starts_with(b"HTTP/1.1 200") && !bytes.windows(4).any(|w| w == b"\r\n\r\n"));
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    sim.set_fault(Fault::ResetInBody { after_bytes: 10 });
    let mut client = Client::connect(&sim).unwrap();
    client.send(LIST, &[]).unwrap();
    client.head().unwrap();
    let (bytes, end) = client.rest();
    assert_eq!((bytes.len(), end.unwrap_err().kind()), (10, ErrorKind::ConnectionReset));
    sim.clear_fault();
    assert_eq!(ask(&sim).unwrap().status, 200);
}

#[test]
fn bodies_that_are_not_what_they_promise() {
    let sim = start();
    let whole = ask(&sim).unwrap().body;

    sim.set_fault(Fault::TruncatedJson);
    let cut = ask(&sim).unwrap();
    assert_eq!(cut.body, whole[..whole.len() / 2]);

    sim.set_fault(Fault::GarbageBody);
    assert!(serde_json::from_slice::<serde_json::Value>(&ask(&sim).unwrap().body).is_err());

    sim.set_fault(Fault::ShortBody);
    assert_eq!(ask(&sim).unwrap_err().kind(), ErrorKind::UnexpectedEof);

    sim.set_fault(Fault::Gzip);
    let packed = ask(&sim).unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    // Ten bytes of member header and five of the one stored block, then the body as it is.
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body[15..].starts_with(&whole));

    sim.set_fault(Fault::Garbage);
    let mut client = Client::connect(&sim).unwrap();
    client.send(LIST, &[]).unwrap();
    let (noise, _) = client.rest();
    assert!(noise.len() == 512 && !noise.starts_with(b"HTTP"));
    assert_eq!(sim.requests().last().unwrap().status, 0);
}

#[test]
fn slow_is_slow_and_complete() {
    let sim = start();
    let whole = ask(&sim).unwrap().body;
    let rate = u32::try_from(whole.len()).unwrap() * 4;
    sim.set_fault(Fault::SlowBody { bytes_per_second: rate });
    let begin = std::time::Instant::now();
    assert_eq!(ask(&sim).unwrap().body, whole);
    // A sleep may last longer than asked, never shorter: this holds on any machine.
    assert!(begin.elapsed() >= std::time::Duration::from_millis(200));
}

#[test]
fn endless_bodies_and_their_length() {
    let sim = SimExchange::start(Kind::Bithumb, Options::plain()).unwrap();
    for chunked in [false, true] {
        sim.set_fault(Fault::HugeBody { bytes: 3_000_000, chunked });
        let reply = ask(&sim).unwrap();
        assert_eq!(reply.body.len(), 3_000_000);
        assert_eq!(reply.header("content-length").is_some(), !chunked);
    }
    sim.set_fault(Fault::HugeBody { bytes: 1 << 30, chunked: false });
    let mut client = Client::connect(&sim).unwrap();
    client.send(LIST, &[]).unwrap();
    let (_, headers) = client.head().unwrap();
    assert!(headers.iter().any(|(n, v)| n == "Content-Length" && v == "1073741824"));
    drop(client);
}

#[test]
fn silence_lasts_until_somebody_gives_up() {
    let sim = start();
    sim.set_fault(Fault::NeverAnswer);
    let mut client = Client::connect(&sim).unwrap();
    client.send(LIST, &[]).unwrap();
    assert!(sim.wait_for_requests(1, std::time::Duration::from_secs(20)));
    // Stopping the exchange must not wait for this connection.
    drop(sim);
    assert!(client.reply().is_err());
}

#[test]
fn framing_is_chosen_for_each_response() {
    let sim = start();
    let mut client = Client::connect(&sim).unwrap();
    let whole = client.get(LIST).unwrap().body;
    sim.set_framing(&[Framing::Chunked(100), Framing::ContentLength, Framing::CloseDelimited]);
    // The turn goes on from the first response.
    let replies: Vec<Reply> = (0..2).map(|_| client.get(LIST).unwrap()).collect();
    assert!(replies.iter().all(|r| r.body == whole));
    assert_eq!(replies[1].version, "HTTP/1.0");
    assert!(client.get(LIST).is_err());
    assert_eq!(ask(&sim).unwrap().header("transfer-encoding"), Some("chunked"));
    sim.set_framing(&[]);
    sim.set_fault(Fault::HttpOneZero);
    let old = ask(&sim).unwrap();
    assert_eq!((old.version.as_str(), old.header("content-length")), ("HTTP/1.0", None));
}

#[test]
fn connections_end_when_told() {
    let sim = start();
    sim.close_after(Some(2));
    let mut client = Client::connect(&sim).unwrap();
    assert_eq!(client.get(LIST).unwrap().header("connection"), Some("keep-alive"));
    assert_eq!(client.get(LIST).unwrap().header("connection"), Some("close"));
    assert!(client.get(LIST).is_err());
    sim.close_after(None);
    let mut client = Client::connect(&sim).unwrap();
    client.get(LIST).unwrap();
    sim.drop_connections();
    assert!(client.get(LIST).is_err());
    assert_eq!(ask(&sim).unwrap().status, 200);
}

#[test]
fn certificates_change_for_new_connections() {
    let sim = start();
    let mut kept = Client::connect(&sim).unwrap();
    let bad = [CertChange::Expired, CertChange::NotYetValid, CertChange::OtherCa, CertChange::WrongName];
    for change in bad {
        sim.set_certificate(change).unwrap();
        let error = Client::connect(&sim).err().unwrap().to_string();
        assert!(error.contains("certificate"), "{change:?}: {error}");
    }
    assert_eq!(kept.get(LIST).unwrap().status, 200);
    sim.set_certificate(CertChange::Renewed).unwrap();
    assert_eq!(ask(&sim).unwrap().status, 200);
}

#[test]
fn too_many_connections_are_turned_away() {
    let sim = SimExchange::start(Kind::Bithumb, Options::plain()).unwrap();
    let mut clients: Vec<Client> = (0..MAX_CONNECTIONS).map(|_| Client::connect(&sim).unwrap()).collect();
    for client in &mut clients {
        client.get(LIST).unwrap();
    }
    assert!(ask(&sim).is_err());
    assert_eq!((sim.counters().refused, sim.counters().open), (1, MAX_CONNECTIONS as u64));
}

#[test]
fn an_exchange_that_is_dropped_is_gone() {
    let sim = start();
    let addr = sim.addr();
    let mut client = Client::connect(&sim).unwrap();
    client.get(LIST).unwrap();
    drop(sim);
    assert!(client.get(LIST).is_err());
    assert!(TcpStream::connect(addr).is_err());
}
