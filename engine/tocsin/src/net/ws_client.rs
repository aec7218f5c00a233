//! A WebSocket client for people and tools: `tocsin watch` and the tests.
//!
//! Contract: one connection, opened by [`WsClient::connect`] and read by [`WsClient::receive`]; both
//! block in `poll` until their deadline, and `connect` also resolves the name, so no hot thread uses
//! this. Pings and closes are answered inside. Allocates. Bounds: a message of
//! [`MESSAGE_BYTES`], a refusal's body of [`REFUSAL_BYTES`]. Failure: [`ConnectError`] before the
//! upgrade, [`Ended`] after it; then only dropping it makes sense.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::time::Duration;

use mio::{Events, Poll, Token};
use ring::rand::{SecureRandom, SystemRandom};
use tocsin_core::limits;
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::ws::frame::{write_close, write_frame};
use tocsin_core::ws::handshake::{NONCE_BYTES, Reply, ReplyError, UpgradeRequest, read_reply, write_request};
use tocsin_core::ws::{CloseCode, Event, Opcode, Role, Session, SessionLimits};

use super::Stream;
use super::dial::{Dial, DialError, Dialled};
use super::tls::{ClientTls, TlsFailure, failure_of};
use super::url::{BaseUrl, UrlError};
use crate::os::clock;

/// Longest message taken from a server.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// Most of a refusal's body that is read.
pub const REFUSAL_BYTES: usize = 4 * 1_024;
/// Control frames answered while the socket takes nothing are bounded by this much output.
const OUTPUT_BYTES: usize = 64 * 1_024;
const SCRATCH_BYTES: usize = 16 * 1_024;
const TOKEN: Token = Token(0);

/// Where to connect: `ws[s]://host[:port][/path][?query]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsUrl {
    /// The server.
    pub server: BaseUrl,
    /// The query as written, without `?`; may be empty.
    pub query: String,
}

impl WsUrl {
    /// Parses it. The default ports are 443 and 80.
    ///
    /// # Errors
    /// What is wrong with it. [`UrlError::Scheme`] stands for neither `ws://` nor `wss://`.
    pub fn parse(url: &str) -> Result<WsUrl, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" => "http",
            "wss" => "https",
            _ => return Err(UrlError::Scheme),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(UrlError::Path);
        }
        let server = BaseUrl::parse(&format!("{scheme}://{place}"))?;
        Ok(WsUrl { server, query: query.to_owned() })
    }

    /// Path and query for the request line, with `more` pairs after the URL's own.
    #[must_use]
    pub fn target(&self, more: &[(&str, &str)]) -> String {
        let mut target =
            if self.server.prefix.is_empty() { "/".to_owned() } else { self.server.prefix.to_string() };
        let mut separator = '?';
        let mut add = |part: &str| {
            target.push(separator);
            target.push_str(part);
            separator = '&';
        };
        if !self.query.is_empty() {
            add(&self.query);
        }
        for (name, value) in more {
            add(&format!("{name}={}", percent_encode(value)));
        }
        target
    }
}

fn percent_encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' | b':' | b'*' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Why no connection came about.
#[derive(Debug)]
pub enum ConnectError {
    /// The name could not be resolved.
    Resolve(io::Error),
    /// No address answered.
    Dial(DialError),
    /// The server's certificate is refused.
    Untrusted(io::Error),
    /// The connection failed before the upgrade.
    Io(io::Error),
    /// The deadline passed.
    TimedOut,
    /// The URL or a header does not fit a request line.
    BadRequest,
    /// The answer is no WebSocket upgrade.
    Reply(ReplyError),
    /// The server said no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, where given.
        retry_after: Option<Duration>,
        /// The body, as far as it is text.
        body: String,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Resolve(error) => write!(f, "name not resolved: {error}"),
            ConnectError::Dial(DialError::NoAddress) => f.write_str("the name has no address"),
            ConnectError::Dial(DialError::TimedOut) => f.write_str("no address answered in time"),
            ConnectError::Dial(DialError::Failed(kind)) => write!(f, "{kind}"),
            ConnectError::Untrusted(error) => write!(f, "certificate refused: {error}"),
            ConnectError::Io(error) => write!(f, "{error}"),
            ConnectError::TimedOut => f.write_str("no answer in time"),
            ConnectError::BadRequest => f.write_str("the address or the key holds characters it cannot"),
            ConnectError::Reply(error) => write!(f, "{error}"),
            ConnectError::Refused { status, body, .. } => write!(f, "HTTP {status} {}", body.trim()),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        match failure_of(&error) {
            TlsFailure::Certificate => ConnectError::Untrusted(error),
            _ => ConnectError::Io(error),
        }
    }
}

/// How an open connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The server sent a close frame, and it was answered.
    Closed {
        /// Its code, if it had one.
        code: Option<CloseCode>,
        /// Its reason, may be empty.
        reason: String,
    },
    /// The server broke the protocol; says how.
    Violation(tocsin_core::ws::Violation),
    /// The socket failed, or ended without a close frame.
    Lost(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Closed { code: Some(code), reason } => write!(f, "closed: {} {reason}", code.0),
            Ended::Closed { code: None, .. } => f.write_str("closed without a code"),
            Ended::Violation(violation) => write!(f, "the server broke the protocol: {violation}"),
            Ended::Lost(error) => write!(f, "connection lost: {error}"),
        }
    }
}

impl std::error::Error for Ended {}

/// An open connection.
pub struct WsClient {
    line: Line,
    session: Session,
    /// What arrived behind the 101.
    early: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    random: SystemRandom,
    scratch: Vec<u8>,
}

/// A stream and the poll it is registered with.
struct Line {
    poll: Poll,
    events: Events,
    stream: Stream,
}

impl Line {
    /// Blocks until the socket moved or `deadline`; `false` when it was the deadline.
    fn wait(&mut self, deadline: Mono) -> io::Result<bool> {
        wait(&mut self.poll, &mut self.events, deadline)
    }
}

fn wait(poll: &mut Poll, events: &mut Events, deadline: Mono) -> io::Result<bool> {
    let left = deadline.since(clock::mono());
    if left.is_zero() {
        return Ok(false);
    }
    match poll.poll(events, Some(left)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        other => other.map(|()| true),
    }
}

impl WsClient {
    /// Resolves, dials, does the TLS handshake (for `wss`) and the upgrade, all before `deadline`.
    /// `tls` must be given for `wss`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        url: &WsUrl,
        target: &str,
        headers: &[(&str, &str)],
        tls: Option<&ClientTls>,
        deadline: Mono,
    ) -> Result<WsClient, ConnectError> {
        let server = &url.server;
        let random = SystemRandom::new();
        let mut nonce = [0; NONCE_BYTES];
        random.fill(&mut nonce).map_err(|_| io::Error::other("no random bytes"))?;
        let mut output = Vec::new();
        let request = UpgradeRequest { host: &server.host_header(), target, nonce, headers };
        write_request(&mut output, &request).map_err(|_| ConnectError::BadRequest)?;

        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let tcp = dial(server, &mut poll, &mut events, deadline)?;
        let stream = match (server.tls, tls) {
            (false, _) => Stream::plain(tcp),
            (true, Some(tls)) => Stream::connect_tls(tcp, tls, &server.host)?,
            (true, None) => return Err(ConnectError::Io(io::Error::other("wss without TLS settings"))),
        };
        let mut client = WsClient {
            line: Line { poll, events, stream },
            session: Session::new(Role::Client, SessionLimits::same(MESSAGE_BYTES)),
            early: Vec::new(),
            output,
            sent: 0,
            random,
            scratch: vec![0; SCRATCH_BYTES],
        };
        while !client.line.stream.handshake()? {
            if !client.line.wait(deadline)? {
                return Err(ConnectError::TimedOut);
            }
        }
        client.upgrade(&nonce, deadline)?;
        Ok(client)
    }

    /// Sends the request and reads the answer.
    fn upgrade(&mut self, nonce: &[u8; NONCE_BYTES], deadline: Mono) -> Result<(), ConnectError> {
        let mut received = Vec::new();
        loop {
            self.flush()?;
            let ended = match self.line.stream.read(&mut self.scratch) {
                Ok(0) => true,
                Ok(count) => {
                    received.extend_from_slice(self.scratch.get(..count).unwrap_or_default());
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.line.wait(deadline)? {
                        return Err(ConnectError::TimedOut);
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match read_reply(&received, nonce).map_err(ConnectError::Reply)? {
                Some(Reply::Open { head_bytes }) => {
                    self.early = received.split_off(head_bytes.min(received.len()));
                    return Ok(());
                }
                Some(Reply::Refused { status, retry_after_secs, body_bytes, head_bytes }) => {
                    let body = received.get(head_bytes..).unwrap_or_default();
                    if ended || body.len() >= body_bytes.unwrap_or(usize::MAX).min(REFUSAL_BYTES) {
                        return Err(ConnectError::Refused {
                            status,
                            retry_after: retry_after_secs.map(|s| Duration::from_secs(u64::from(s))),
                            body: String::from_utf8_lossy(body).into_owned(),
                        });
                    }
                }
                None if ended => return Err(ConnectError::Io(io::ErrorKind::UnexpectedEof.into())),
                None => {}
            }
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// The connection is gone, or takes nothing.
    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        let mask = fresh_mask(&self.random);
        write_frame(&mut self.output, Opcode::Text, text.as_bytes(), Some(mask));
        self.flush()
    }

    /// Says goodbye (1000) as far as the socket takes it, without waiting for the answer.
    pub fn close(mut self) {
        let mask = fresh_mask(&self.random);
        write_close(&mut self.output, Some(CloseCode::NORMAL), "", Some(mask));
        if self.flush().is_ok() {
            let _ = self.line.stream.shutdown();
        }
    }

    /// Waits for messages and hands each out with the instant it had been read off the socket.
    /// Returns once there was at least one, or at `deadline` with `Ok(false)`.
    ///
    /// # Errors
    /// How the connection ended. Messages before the end have been handed out.
    pub fn receive(
        &mut self,
        deadline: Mono,
        on_message: &mut impl FnMut(&[u8], WallUs),
    ) -> Result<bool, Ended> {
        let mut early = std::mem::take(&mut self.early);
        if !early.is_empty() && self.take(&mut early, on_message)? {
            return Ok(true);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = self.receive_into(&mut scratch, deadline, on_message);
        self.scratch = scratch;
        outcome
    }

    fn receive_into(
        &mut self,
        scratch: &mut [u8],
        deadline: Mono,
        on_message: &mut impl FnMut(&[u8], WallUs),
    ) -> Result<bool, Ended> {
        loop {
            self.flush().map_err(Ended::Lost)?;
            match self.line.stream.read(scratch) {
                Ok(0) => return Err(Ended::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    if self.take(scratch.get_mut(..count).unwrap_or_default(), on_message)? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.line.wait(deadline).map_err(Ended::Lost)? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(Ended::Lost(error)),
            }
        }
    }

    /// Whether a message was among the bytes.
    fn take(
        &mut self,
        received: &mut [u8],
        on_message: &mut impl FnMut(&[u8], WallUs),
    ) -> Result<bool, Ended> {
        let at = clock::wall();
        let (output, random) = (&mut self.output, &self.random);
        let mut any = false;
        let mut closed = None;
        let flow = self.session.receive::<()>(received, &mut |event| {
            match event {
                Event::Text(text) => {
                    on_message(text.as_bytes(), at);
                    any = true;
                }
                Event::Binary(bytes) => {
                    on_message(bytes, at);
                    any = true;
                }
                Event::Ping(payload) if output.len() < OUTPUT_BYTES => {
                    write_frame(output, Opcode::Pong, payload, Some(fresh_mask(random)));
                }
                Event::Ping(_) | Event::Pong(_) => {}
                Event::Close { code, reason } => {
                    write_close(output, code, "", Some(fresh_mask(random)));
                    closed = Some(Ended::Closed { code, reason: reason.to_owned() });
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(violation) = flow {
            let mask = fresh_mask(&self.random);
            write_close(&mut self.output, Some(violation.code), violation.reason, Some(mask));
            closed = Some(Ended::Violation(violation));
        }
        // Best effort at the end: the server may be gone already.
        let flushed = self.flush();
        match closed {
            Some(ended) => {
                let _ = self.line.stream.shutdown();
                Err(ended)
            }
            None => flushed.map(|()| any).map_err(Ended::Lost),
        }
    }

    /// Offers waiting output to the socket; what it does not take waits for the next call.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.line.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        self.line.stream.flush().map(|_| ())
    }
}

/// RFC 6455 5.3: "The masking key is a 32-bit value chosen at random by the client". Where the system
/// has no random bytes the frame still leaves: masking protects proxies, not us.
fn fresh_mask(random: &SystemRandom) -> [u8; 4] {
    let mut mask = [0; 4];
    let _ = random.fill(&mut mask);
    mask
}

fn dial(
    server: &BaseUrl,
    poll: &mut Poll,
    events: &mut Events,
    deadline: Mono,
) -> Result<mio::net::TcpStream, ConnectError> {
    let addresses: Vec<IpAddr> = (server.host.as_ref(), server.port)
        .to_socket_addrs()
        .map_err(ConnectError::Resolve)?
        .map(|address| address.ip())
        .take(limits::DIAL_CANDIDATES)
        .collect();
    let mut dial = Dial::new();
    dial.start(&addresses, server.port, None, 0, clock::mono());
    loop {
        match dial.poll(poll.registry(), TOKEN, clock::mono()) {
            Dialled::Connected(tcp, _) => return Ok(tcp),
            Dialled::Failed(error) => return Err(ConnectError::Dial(error)),
            Dialled::Pending(next) => {
                // `false` for the dial's own deadline: `poll` above then moves on.
                if !wait(poll, events, next.min(deadline))? && clock::mono() >= deadline {
                    return Err(ConnectError::TimedOut);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::echo::EchoServer;
    use super::super::tls::{ClientTrust, GENERATED_CERT, ServerTls};
    use super::*;

    #[test]
    fn urls_and_targets() {
        let rows = [
            ("wss://bell.example:9201", true, 9201, "/"),
            ("WS://127.0.0.1:80/ws", false, 80, "/ws"),
            ("wss://bell.example/ws/?frames=text", true, 443, "/ws?frames=text"),
            ("wss://[::1]:9201?cex=upbit", true, 9201, "/?cex=upbit"),
        ];
        for (url, tls, port, target) in rows {
            let url = WsUrl::parse(url).unwrap();
            assert_eq!((url.server.tls, url.server.port, url.target(&[]).as_str()), (tls, port, target));
        }
        let url = WsUrl::parse("wss://bell.example?frames=text").unwrap();
        let more = [("cex", "binance,crypto.com"), ("tickers", "币 &#"), ("resume", "3:12")];
        assert_eq!(
            url.target(&more),
            "/?frames=text&cex=binance,crypto.com&tickers=%E5%B8%81%20%26%23&resume=3:12"
        );
        for bad in ["https://x", "bell.example", "wss://a b", "ws://x?a b", "ws://x?a#b", "ws://u@x"] {
            assert!(WsUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn talks_to_the_server_role() {
        let mut server =
            EchoServer::bind("127.0.0.1:0".parse().unwrap(), SessionLimits::same(1_024)).unwrap();
        let url = WsUrl::parse(&format!("ws://{}", server.local_addr().unwrap())).unwrap();
        let stop = server.stopper();
        let thread = std::thread::spawn(move || server.run());
        let deadline = clock::mono() + Duration::from_secs(60);
        let mut client = WsClient::connect(&url, "/?x=y", &[("X-API-Key", "k")], None, deadline).unwrap();
        let mut heard = Vec::new();
        for text in ["one", "", "종"] {
            client.send_text(text).unwrap();
            assert!(client.receive(deadline, &mut |m, _| heard.push(m.to_vec())).unwrap());
        }
        assert_eq!(heard, [&b"one"[..], b"", "종".as_bytes()]);
        assert!(!client.receive(Mono(0), &mut |_, _| ()).unwrap());
        client.send_text(&"x".repeat(1_025)).unwrap();
        let ended = client.receive(deadline, &mut |_, _| ()).unwrap_err();
        let Ended::Closed { code, reason } = ended else { panic!("{ended}") };
        assert_eq!((code, reason.as_str()), (Some(CloseCode::MESSAGE_TOO_BIG), "frame_too_large"));
        stop.stop().unwrap();
        thread.join().unwrap().unwrap();
        let refused = WsClient::connect(&url, "/", &[], None, deadline).map(|_| ()).unwrap_err();
        assert!(matches!(refused, ConnectError::Dial(_)), "{refused}");
        let bad = WsClient::connect(&url, "/", &[("X-API-Key", "a\nb")], None, deadline).map(|_| ());
        assert!(matches!(bad, Err(ConnectError::BadRequest)));
    }

    /// Serves one TLS connection: answers the upgrade, sends a message, waits for the client's close.
    fn serve_tls(listener: &std::net::TcpListener, tls: &ServerTls) -> io::Result<()> {
        use tocsin_core::http1::request::{HeadReader, RequestHead};
        use tocsin_core::ws::handshake::{check_upgrade, write_switching_protocols};
        let (tcp, _) = listener.accept()?;
        tcp.set_nonblocking(true)?;
        let mut stream = Stream::accept_tls(mio::net::TcpStream::from_std(tcp), tls)?;
        while !stream.handshake()? {
            std::thread::yield_now();
        }
        let (mut received, mut reader, mut buffer) = (Vec::new(), HeadReader::new(), [0; 4_096]);
        let mut upgraded = false;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
            if !upgraded && let Some(end) = reader.poll(&received).unwrap() {
                upgraded = true;
                let mut out = Vec::new();
                let accept = check_upgrade(&RequestHead::parse(&received[..end]).unwrap()).unwrap();
                write_switching_protocols(&mut out, &accept);
                // In one record with the 101, so that the client finds it behind the head.
                write_frame(&mut out, Opcode::Binary, b"secret bell", None);
                assert_eq!(stream.write(&out)?, out.len());
            }
        }
    }

    #[test]
    fn speaks_tls_and_trusts_only_whom_it_was_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let tls = ServerTls::self_signed(dir.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            WsUrl::parse(&format!("wss://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
        let server = std::thread::spawn(move || {
            let untrusted = serve_tls(&listener, &tls);
            (untrusted, serve_tls(&listener, &tls))
        });
        let deadline = clock::mono() + Duration::from_secs(60);
        let public = ClientTls::new(&ClientTrust::default()).unwrap();
        let refused = WsClient::connect(&url, "/", &[], Some(&public), deadline).map(|_| ());
        assert!(matches!(refused, Err(ConnectError::Untrusted(_))), "{refused:?}");
        let trust = ClientTrust { ca_file: Some(dir.path().join(GENERATED_CERT)), insecure: false };
        let own = ClientTls::new(&trust).unwrap();
        let mut client = WsClient::connect(&url, "/", &[], Some(&own), deadline).unwrap();
        let mut heard = Vec::new();
        assert!(client.receive(deadline, &mut |m, _| heard.push(m.to_vec())).unwrap());
        assert_eq!(heard, [b"secret bell"]);
        client.close();
        let (untrusted, trusted) = server.join().unwrap();
        assert!(untrusted.is_err() && trusted.is_ok(), "{untrusted:?} {trusted:?}");
    }
}
