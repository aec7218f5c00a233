//! What a case is, and the two ways to run it: against the session in memory, cut into pieces of
//! several sizes, and against the echo server over a real socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use tocsin::net::echo::{EchoServer, EchoStop, answer};
use tocsin_core::ws::{Role, Session, SessionLimits};

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const LIMIT: usize = 16 * 1_024 * 1_024;
const KEY: [u8; 4] = [0xA5, 0x00, 0xFF, 0x3C];

/// A frame the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// How the server's side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is still open after everything was answered: a close with 1000 is answered in kind.
    Open,
    /// It answers the case's own close with this payload's code, or with none.
    Closes(Option<u16>),
    /// It closes with this code.
    Fails(u16),
    /// As `Fails`, provoked by the very last byte and not before.
    FailsAtLastByte(u16),
}

/// Bytes from the client, and everything the server must say to them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) end: End,
    /// Bytes a piece over the socket, 0 = all in one write.
    pub(crate) piece: usize,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>) -> Case {
        Case { name: name.into(), bytes: Vec::new(), answers: Vec::new(), end: End::Open, piece: 0 }
    }

    /// A frame whose first byte is exactly `first`.
    pub(crate) fn raw(mut self, first: u8, payload: &[u8]) -> Case {
        self.bytes.push(first);
        match payload.len() {
            n @ 0..=125 => self.bytes.push(0x80 | n as u8),
            n @ 126..=0xFFFF => {
                self.bytes.push(0x80 | 126);
                self.bytes.extend((n as u16).to_be_bytes());
            }
            n => {
                self.bytes.push(0x80 | 127);
                self.bytes.extend((n as u64).to_be_bytes());
            }
        }
        self.bytes.extend(KEY);
        self.bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ KEY[i % 4]));
        self
    }

    /// A whole message or control frame.
    pub(crate) fn frame(self, opcode: u8, payload: &[u8]) -> Case {
        self.raw(0x80 | opcode, payload)
    }

    /// A frame that is not the last of its message.
    pub(crate) fn part(self, opcode: u8, payload: &[u8]) -> Case {
        self.raw(opcode, payload)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Case {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A close frame with a code.
    pub(crate) fn close(self, code: u16, reason: &[u8]) -> Case {
        self.frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
    }

    /// Drops the last `count` bytes: the frame stays unfinished.
    pub(crate) fn cut(mut self, count: usize) -> Case {
        self.bytes.truncate(self.bytes.len() - count);
        self
    }

    pub(crate) fn says(mut self, opcode: u8, payload: &[u8]) -> Case {
        self.answers.push(Answer { opcode, payload: payload.to_vec() });
        self
    }

    /// A message that must come back.
    pub(crate) fn echoed(self, opcode: u8, payload: &[u8]) -> Case {
        self.frame(opcode, payload).says(opcode, payload)
    }

    pub(crate) fn in_pieces(mut self, piece: usize) -> Case {
        self.piece = piece;
        self
    }

    pub(crate) fn ends(mut self, end: End) -> Case {
        self.end = end;
        self
    }

    /// What the server must have said by the end of the conversation, close frame included.
    fn judge(&self, how: &str, said: &[u8]) {
        let mut frames = frames_of(said);
        let last = frames.pop().unwrap_or_else(|| panic!("{} ({how}): nothing was said", self.name));
        assert_eq!(last.opcode, CLOSE, "{} ({how}): last frame", self.name);
        let code = last.payload.first_chunk::<2>().map(|c| u16::from_be_bytes(*c));
        let expected = match self.end {
            End::Open => Some(1000),
            End::Closes(code) => code,
            End::Fails(code) | End::FailsAtLastByte(code) => Some(code),
        };
        assert_eq!(code, expected, "{} ({how}): close code", self.name);
        assert!(frames == self.answers, "{} ({how}): other answers than expected", self.name);
    }

    /// The client's bytes, with its own close where the case leaves the connection open.
    fn conversation(&self) -> Vec<u8> {
        match self.end {
            End::Open => self.clone().close(1000, b"").bytes,
            _ => self.bytes.clone(),
        }
    }
}

/// Reads unmasked frames the plain way, apart from the code under test.
fn frames_of(mut bytes: &[u8]) -> Vec<Answer> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let first = bytes[0];
        assert_eq!(first & 0xF0, 0x80, "the server neither fragments nor uses reserved bits");
        let (len, head) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes(bytes[2..4].try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
            short => {
                assert!(short < 126, "the server does not mask");
                (usize::from(short), 2)
            }
        };
        frames.push(Answer { opcode: first & 0x0F, payload: bytes[head..head + len].to_vec() });
        bytes = &bytes[head + len..];
    }
    frames
}

/// Runs `case` in memory, cut into pieces of `piece` bytes.
fn in_memory(case: &Case, piece: usize) {
    let how = format!("in memory, by {piece}");
    let bytes = case.conversation();
    let mut session = Session::new(Role::Server, SessionLimits::same(LIMIT));
    let mut said = Vec::new();
    let mut ended = false;
    let early = if matches!(case.end, End::FailsAtLastByte(_)) { bytes.len() - 1 } else { bytes.len() };
    for part in bytes[..early].chunks(piece) {
        ended = answer(&mut session, &mut part.to_vec(), &mut said);
    }
    if early < bytes.len() {
        assert!(!ended, "{} ({how}): failed too early", case.name);
        ended = answer(&mut session, &mut bytes[early..].to_vec(), &mut said);
    }
    assert!(ended, "{} ({how}): did not end", case.name);
    case.judge(&how, &said);
}

/// The echo server in a thread of its own, stopped when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: EchoStop,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let mut server =
            EchoServer::bind("127.0.0.1:0".parse().unwrap(), SessionLimits::same(LIMIT)).unwrap();
        let (address, stop) = (server.local_addr().unwrap(), server.stopper());
        Server { address, stop, thread: Some(std::thread::spawn(move || server.run())) }
    }

    /// An open WebSocket, as a plain TCP stream after the 101.
    pub(crate) fn connect(&self) -> TcpStream {
        let (stream, answer) = self.ask(
            "GET /any?path HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        stream
    }

    /// Sends a request head and reads the head of the answer.
    pub(crate) fn ask(&self, request: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        // A server that never answers fails the test instead of hanging it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (stream, String::from_utf8(head).unwrap())
    }

    fn run(&self, case: &Case) {
        let mut stream = self.connect();
        let mut reader = stream.try_clone().unwrap();
        let bytes = case.conversation();
        let piece = if case.piece == 0 { bytes.len() } else { case.piece };
        let writer = std::thread::spawn(move || {
            for part in bytes.chunks(piece) {
                // The server may have failed the connection already; what it said decides.
                if stream.write_all(part).is_err() {
                    break;
                }
            }
            stream
        });
        let mut said = Vec::new();
        // To the end: the server closes the TCP connection, and in order.
        let end = reader.read_to_end(&mut said);
        drop(writer.join().unwrap());
        assert!(end.is_ok(), "{} (socket): {end:?}", case.name);
        case.judge("socket", &said);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop().unwrap();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Runs every case both ways.
pub(crate) fn run(cases: impl IntoIterator<Item = Case>) {
    let server = Server::start();
    for case in cases {
        for piece in [1, 2, 7, 997, usize::MAX] {
            // Byte by byte is for what has edges, not for megabytes.
            if case.bytes.len() / piece < 200_000 {
                in_memory(&case, piece);
            }
        }
        server.run(&case);
    }
}
