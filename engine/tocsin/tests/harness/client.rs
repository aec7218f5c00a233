//! A WebSocket client for tests: blocking, explicit, able to break every rule.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::Value;

use super::{Engine, Mode};

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection below the WebSocket layer.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// An upgrade request to be sent, and the response to it.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// Local address to connect from.
    pub from: Option<IpAddr>,
    /// Where to, if not to the address that the engine named.
    pub to: Option<SocketAddr>,
    /// Bytes to send before anything else, before TLS too.
    pub preface: Vec<u8>,
    /// Receive buffer of the socket, to make a slow reader show early.
    pub receive_buffer: Option<usize>,
    /// Sends the request byte by byte.
    pub trickle: bool,
    /// Bytes to send right behind the request, in the same write.
    pub early: Vec<u8>,
    /// TLS as the client wants it; any version and any certificate without.
    pub tls: Option<Arc<ClientConfig>>,
    pub status: u16,
    pub response_headers: Vec<(String, String)>,
    pub body: String,
}

impl Handshake {
    /// A proper upgrade of `/` with a query (may be empty).
    pub fn new(query: &str) -> Handshake {
        let target = if query.is_empty() { "/".to_owned() } else { format!("/?{query}") };
        let headers = [
            ("Host", "localhost"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        Handshake {
            method: "GET".to_owned(),
            target,
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            ..Handshake::default()
        }
    }

    /// Sets a header, replacing one of that name; an empty value removes it.
    pub fn header(mut self, name: &str, value: &str) -> Handshake {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn target(mut self, target: &str) -> Handshake {
        target.clone_into(&mut self.target);
        self
    }

    pub fn method(mut self, method: &str) -> Handshake {
        method.clone_into(&mut self.method);
        self
    }

    pub fn from(mut self, address: &str) -> Handshake {
        self.from = Some(address.parse().unwrap());
        self
    }

    /// The `PROXY` header, or whatever else comes before everything.
    pub fn preface(mut self, bytes: &[u8]) -> Handshake {
        self.preface = bytes.to_vec();
        self
    }

    pub fn response_header(&self, name: &str) -> Option<&str> {
        self.response_headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The request as bytes.
    pub fn request(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }

    /// Sends it; a 101 gives a client, anything else comes back with status, headers and body.
    pub fn connect(self, engine: &Engine) -> Result<Client, Box<Handshake>> {
        self.attempt(engine.feed, engine.mode).unwrap_or_else(|e| panic!("no response: {e}"))
    }

    /// As [`Handshake::connect`], for an engine that may die meanwhile: the outer error.
    pub fn attempt(self, address: SocketAddr, mode: Mode) -> io::Result<Result<Client, Box<Handshake>>> {
        let request = [self.request(), self.early.clone()].concat();
        let mut stream = self.dial(self.to.unwrap_or(address), mode)?;
        for piece in request.chunks(if self.trickle { 1 } else { request.len() }) {
            stream.write_all(piece)?;
        }
        self.read_response(stream)
    }

    /// Sends it and expects a refusal.
    pub fn refused(self, engine: &Engine) -> Handshake {
        match self.connect(engine) {
            Ok(_) => panic!("admitted"),
            Err(handshake) => *handshake,
        }
    }

    /// Opens the connection and sends nothing but the preface; TLS begins with the first byte.
    pub fn open(&self, engine: &Engine) -> Stream {
        self.dial(self.to.unwrap_or(engine.feed), engine.mode).unwrap()
    }

    /// Reads the response to a request that was sent by hand.
    pub fn response(self, stream: Stream) -> Result<Client, Box<Handshake>> {
        self.read_response(stream).unwrap_or_else(|e| panic!("no response: {e}"))
    }

    fn dial(&self, address: SocketAddr, mode: Mode) -> io::Result<Stream> {
        let mut tcp = try_open_tcp(address, self.from, self.receive_buffer)?;
        tcp.write_all(&self.preface)?;
        Ok(match mode {
            Mode::Plain => Stream::Plain(tcp),
            Mode::Tls => {
                let config = self.tls.clone().unwrap_or_else(|| tls_config(rustls::DEFAULT_VERSIONS));
                Stream::Tls(Box::new(StreamOwned::new(tls_session(config), tcp)))
            }
        })
    }

    fn read_response(mut self, mut stream: Stream) -> io::Result<Result<Client, Box<Handshake>>> {
        let closed = |received: &[u8]| {
            let what = format!("closed without a whole response: {:?}", String::from_utf8_lossy(received));
            io::Error::new(ErrorKind::UnexpectedEof, what)
        };
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        let end = loop {
            if let Some(at) = received.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let n = stream.read(&mut chunk)?;
            if n == 0 {
                return Err(closed(&received));
            }
            received.extend_from_slice(&chunk[..n]);
        };
        let head = String::from_utf8(received[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        self.status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        self.response_headers =
            lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let mut rest = received.split_off(end);
        if self.status == 101 {
            return Ok(Ok(Client { stream, buffer: rest, handshake: self }));
        }
        if let Some(length) = self.response_header("Content-Length").map(|v| v.parse::<usize>().unwrap()) {
            while rest.len() < length {
                let n = stream.read(&mut chunk)?;
                if n == 0 {
                    return Err(closed(&rest));
                }
                rest.extend_from_slice(&chunk[..n]);
            }
        }
        self.body = String::from_utf8(rest).unwrap();
        Ok(Err(Box::new(self)))
    }
}

/// A blocking TCP connection with timeouts.
pub fn open_tcp(address: SocketAddr, from: Option<IpAddr>, receive_buffer: Option<usize>) -> TcpStream {
    try_open_tcp(address, from, receive_buffer).unwrap()
}

fn try_open_tcp(
    address: SocketAddr,
    from: Option<IpAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(from) = from {
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    socket.connect(&address.into())?;
    let tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// A TLS client that takes any certificate.
pub fn tls_config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny))
        .with_no_client_auth();
    Arc::new(config)
}

fn tls_session(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap()
}

/// The first flight of a TLS client.
pub fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    tls_session(tls_config(rustls::DEFAULT_VERSIONS)).write_tls(&mut hello).unwrap();
    hello
}

/// The feed's certificate is self-signed in tests.
#[derive(Debug)]
struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// What a client waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Text(Value),
    Binary(Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The TCP connection ended.
    End,
}

/// An open WebSocket connection.
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    pub handshake: Handshake,
}

impl Client {
    /// Next frame; `None` at the end of the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        self.frame_within(PATIENCE).unwrap_or_else(|| panic!("nothing came for {PATIENCE:?}"))
    }

    /// Next frame (`Some(None)` = end), or `None` if nothing came in time.
    pub fn frame_within(&mut self, patience: Duration) -> Option<Option<Frame>> {
        let until = Instant::now() + patience;
        loop {
            if let Some((frame, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return Some(Some(frame));
            }
            let left = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())?;
            self.stream.tcp().set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some(None),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                    return Some(None);
                }
                Err(e) => panic!("read: {e}"),
            }
        }
    }

    /// Next message of any kind.
    pub fn message(&mut self) -> Message {
        self.message_within(PATIENCE).unwrap_or_else(|| panic!("nothing came for {PATIENCE:?}"))
    }

    /// Next message of any kind, or `None` if nothing came in time.
    pub fn message_within(&mut self, patience: Duration) -> Option<Message> {
        let Some(frame) = self.frame_within(patience)? else { return Some(Message::End) };
        assert!(frame.fin, "the server never fragments: {frame:?}");
        let json = || {
            serde_json::from_slice(&frame.payload)
                .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&frame.payload)))
        };
        Some(match frame.opcode {
            1 => Message::Text(json()),
            2 => Message::Binary(json()),
            8 => {
                let code = frame.payload.first_chunk::<2>().map(|c| u16::from_be_bytes(*c));
                let reason = frame.payload.get(2..).unwrap_or_default().to_vec();
                Message::Close(code, String::from_utf8(reason).unwrap())
            }
            9 => Message::Ping(frame.payload),
            10 => Message::Pong(frame.payload),
            other => panic!("opcode {other}"),
        })
    }

    /// Next JSON message as the bytes that came; pings are answered on the way.
    pub fn payload(&mut self) -> String {
        loop {
            let frame = self.frame().unwrap_or_else(|| panic!("the connection ended"));
            match frame.opcode {
                1 | 2 => return String::from_utf8(frame.payload).unwrap(),
                9 => self.send(10, &frame.payload),
                10 => {}
                other => panic!("opcode {other}: {frame:?}"),
            }
        }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        self.stream.tcp()
    }

    /// The TLS session below, if there is one.
    pub fn tls(&self) -> Option<&ClientConnection> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => Some(&tls.conn),
        }
    }

    /// Next JSON message; pings are answered on the way.
    pub fn json(&mut self) -> Value {
        loop {
            match self.message() {
                Message::Text(value) | Message::Binary(value) => return value,
                Message::Ping(payload) => self.send(10, &payload),
                Message::Pong(_) => {}
                other => panic!("wanted a message, got {other:?}"),
            }
        }
    }

    /// Next JSON message of a type; others are passed over.
    pub fn json_of(&mut self, kind: &str) -> Value {
        loop {
            let value = self.json();
            if value["type"] == kind {
                return value;
            }
        }
    }

    /// The close frame and the end after it; JSON and pings before it are passed over.
    pub fn closed(&mut self) -> (Option<u16>, String) {
        loop {
            match self.message() {
                Message::Close(code, reason) => {
                    let echo = code.map(|c| c.to_be_bytes().to_vec()).unwrap_or_default();
                    self.try_send(8, &echo);
                    assert_eq!(self.frame(), None, "something came after the close frame");
                    return (code, reason);
                }
                Message::End => panic!("the connection ended without a close frame"),
                _ => {}
            }
        }
    }

    /// Asserts that no JSON message of `kind` comes within `time`.
    pub fn nothing_of(&mut self, kind: &str, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            match self.message_within(left) {
                Some(Message::Text(value) | Message::Binary(value)) => {
                    assert_ne!(value["type"], kind, "{value}");
                }
                Some(Message::Ping(payload)) => self.send(10, &payload),
                Some(Message::Pong(_)) | None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// Sends one masked frame.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        assert!(self.try_send(opcode, payload), "the connection is gone");
    }

    /// Sends a text message.
    pub fn send_text(&mut self, text: &str) {
        self.send(1, text.as_bytes());
    }

    fn try_send(&mut self, opcode: u8, payload: &[u8]) -> bool {
        self.send_raw(&client_frame(0x80 | opcode, payload))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok() && self.stream.flush().is_ok()
    }
}

/// A masked frame with any first byte.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..=125 => frame.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            frame.push(0xfe);
            frame.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            frame.push(0xff);
            frame.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "reserved bits");
    assert_eq!(second & 0x80, 0, "servers do not mask");
    let (length, at) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
        n => (usize::from(n), 2),
    };
    let payload = bytes.get(at..at + length)?.to_vec();
    Some((Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload }, at + length))
}
