//! Each case of the engine's table, judged by the core from what comes off a real connection: the
//! receivers do what the table says they do.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{CertificateError, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use tocsin_core::http1::response::{Discard, Method, ResponseLimits, ResponseParser};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::{FailureClass, Report, Verdict};
use tocsin_sim::{Greeting, ReceiverOptions, SimReceiver};

use crate::client::tls_config;
use crate::{PATIENCE, post};

#[path = "../../../tocsin/tests/webhook_receivers/cases.rs"]
mod cases;

use cases::{Case, Made, cases};

/// Stands for the ten seconds of an attempt where these are to run out.
const DEADLINE: Duration = Duration::from_secs(3);
const LIMITS: ResponseLimits = ResponseLimits { head_bytes: 16 * 1_024, headers: 64, body_bytes: 64 * 1_024 };

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// The class of a failed handshake or read.
fn class_of(error: &io::Error) -> FailureClass {
    use CertificateError as E;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                FailureClass::TlsExpired
            }
            E::NotValidForName | E::NotValidForNameContext { .. } => FailureClass::TlsName,
            _ => FailureClass::TlsUntrusted,
        },
        Some(_) => FailureClass::Tls,
        None if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            FailureClass::Timeout
        }
        None => FailureClass::Reset,
    }
}

fn connect(receiver: &SimReceiver, end: Instant) -> io::Result<Tls> {
    let mut socket = TcpStream::connect(receiver.addr())?;
    let name = ServerName::try_from(receiver.addr().ip().to_string()).unwrap();
    let config = tls_config(receiver.ca().pem());
    let mut tls = ClientConnection::new(Arc::clone(&config), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        socket.set_read_timeout(Some(left(end)?))?;
        tls.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(tls, socket))
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Sends one request and reads until there is something to report, by `end`.
fn attempt(stream: &mut Tls, parser: &mut ResponseParser, target: &str, end: Instant) -> io::Result<Report> {
    stream.write_all(&post(target, "", "{}"))?;
    parser.start(Method::Post);
    let mut block = [0; 16 * 1_024];
    loop {
        stream.sock.set_read_timeout(Some(left(end)?))?;
        let error = match stream.read(&mut block) {
            Ok(0) => parser.end_of_stream().err(),
            Ok(read) => parser.feed(&block[..read], &mut Discard).err(),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => parser.end_of_stream().err(),
            Err(e) => return Err(e),
        };
        if let Some(report) = Report::of(parser, error) {
            return Ok(report);
        }
    }
}

fn judge(case: &Case) -> (Verdict, bool) {
    let receiver = SimReceiver::start(ReceiverOptions::default()).unwrap();
    let target = match case.made {
        Made::Path(path) => path,
        Made::Script(script) => {
            receiver.behave("/scripted", script());
            "/scripted"
        }
        Made::Met(greeting) => {
            receiver.greet(vec![greeting, Greeting::Good]).unwrap();
            "/ok"
        }
    };
    let end = Instant::now() + if case.lasts() { DEADLINE } else { PATIENCE };
    let mut parser = ResponseParser::new(LIMITS);
    let connected = connect(&receiver, end);
    let mut stream = None;
    let report = connected
        .and_then(|tls| attempt(stream.insert(tls), &mut parser, target, end))
        .unwrap_or_else(|e| Report::failed(class_of(&e)));
    let again = stream.filter(|_| case.reused).is_some_and(|mut stream| {
        // The rest of a body, which no reused connection's answer is without.
        let mut block = [0; 16 * 1_024];
        let end = Instant::now() + PATIENCE;
        stream.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while matches!(stream.read(&mut block), Ok(1..)) {}
        let second = attempt(&mut stream, &mut parser, target, end);
        matches!(second, Ok(Report::Answered { .. })) && receiver.counters().connections == 1
    });
    assert_eq!(receiver.trap(), 0, "{}", case.name);
    (Verdict::of(&report, false, WallUs(0)), again)
}

#[test]
fn every_case_gets_its_verdict_from_the_core() {
    let cases = cases();
    let judged: Vec<(Verdict, bool)> = thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| scope.spawn(|| judge(case))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let wrong: Vec<String> = cases
        .iter()
        .zip(judged)
        .filter(|(case, seen)| (case.verdict, case.reused) != *seen)
        .map(|(case, seen)| {
            format!("{}: {:?}, {} expected, {seen:?} seen", case.name, case.verdict, case.reused)
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases.iter().filter(|case| case.lasts()).count(), 5);
}
