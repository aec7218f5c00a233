//! One subscriber's connection: TCP, TLS, upgrade, greeting, then frames decoded as little as will do.
//!
//! Contract: [`Member::advance`] after every event until it is greeted, [`Member::read`] and
//! [`Member::frames`] after that. Never blocks. A whole frame in one read, the usual case, is looked at
//! where it lies; parts are joined in a buffer that only then exists. Compression and fragments are not
//! spoken: nobody offers the one, no contender makes the other. Fails with the socket's error or a
//! sentence about what came.

use std::io::{self, ErrorKind};

use memchr::memmem;
use tocsin::net::Stream;

use super::{Greeting, Target};

/// Longest part of a frame that is kept: far over any message here.
const REST_BYTES: usize = 64 * 1_024;

/// The part of a connection's life it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// TCP and TLS.
    Connecting,
    /// The request is sent.
    Upgrading,
    /// 101 came, the greeting has not.
    Greeting,
    /// Subscribed.
    Open,
}

/// One subscriber.
pub(super) struct Member {
    pub(super) stream: Stream,
    pub(super) phase: Phase,
    /// Number of the last broadcast it had.
    pub(super) seen: u32,
    rest: Vec<u8>,
}

/// A message, where it lies.
pub(super) struct Message<'a>(pub(super) &'a [u8]);

impl Member {
    pub(super) fn new(stream: Stream) -> Member {
        Member { stream, phase: Phase::Connecting, seen: 0, rest: Vec::new() }
    }

    /// Sends the upgrade once TCP and TLS are there; `true` from then on.
    pub(super) fn advance(&mut self, target: &Target) -> io::Result<bool> {
        if self.phase != Phase::Connecting {
            return Ok(true);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(false),
            other => other?,
        };
        if !self.stream.handshake()? {
            return Ok(false);
        }
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            target.path, target.headers
        );
        self.phase = Phase::Upgrading;
        self.send(request.as_bytes())?;
        Ok(true)
    }

    /// Reads once. `None`: nothing there.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(scratch) {
            Ok(0) => Err(failed("the connection was closed")),
            Ok(count) => Ok(Some(count)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes what was read; hands messages of an open subscriber to `hear`.
    pub(super) fn frames(
        &mut self,
        bytes: &[u8],
        greeting: Greeting,
        hear: &mut impl FnMut(&mut u32, Message<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.rest);
        let joined = !rest.is_empty();
        if joined {
            rest.extend_from_slice(bytes);
        }
        let mut left = if joined { rest.as_slice() } else { bytes };
        if self.phase == Phase::Upgrading {
            left = self.upgraded(left, greeting)?;
        }
        while self.phase != Phase::Upgrading
            && let Some((opcode, payload, after)) = split_frame(left)
        {
            left = after;
            self.frame(opcode, payload, greeting, hear)?;
        }
        if left.len() > REST_BYTES {
            return Err(failed("a frame longer than any message here"));
        }
        if !left.is_empty() {
            self.rest = left.to_vec();
        }
        Ok(())
    }

    fn upgraded<'a>(&mut self, bytes: &'a [u8], greeting: Greeting) -> io::Result<&'a [u8]> {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(bytes) };
        let (head, after) = bytes.split_at_checked(end + 4).unwrap_or((bytes, &[]));
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(failed(&format!("the upgrade was refused: {}", String::from_utf8_lossy(bytes))));
        }
        self.phase = if greeting == Greeting::None { Phase::Open } else { Phase::Greeting };
        Ok(after)
    }

    fn frame(
        &mut self,
        opcode: u8,
        payload: &[u8],
        greeting: Greeting,
        hear: &mut impl FnMut(&mut u32, Message<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        match opcode {
            1 | 2 => match (greeting, self.phase) {
                (Greeting::Nats, _) => self.nats(payload, hear),
                (Greeting::Welcome, Phase::Greeting) if payload.starts_with(b"{\"type\":\"welcome\"") => {
                    self.phase = Phase::Open;
                    Ok(())
                }
                (_, Phase::Open) => hear(&mut self.seen, Message(payload)),
                _ => Err(failed(&format!("no greeting: {}", payload.escape_ascii()))),
            },
            9 => self.send_frame(0xa, payload),
            0xa => Ok(()),
            8 => Err(failed(&format!("close {}", payload.escape_ascii()))),
            other => Err(failed(&format!("opcode {other}"))),
        }
    }

    /// Lines of the NATS protocol; a message is found by its content, wherever it lies among them.
    fn nats(
        &mut self,
        payload: &[u8],
        hear: &mut impl FnMut(&mut u32, Message<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if payload.starts_with(b"MSG ") {
            let start = memmem::find(payload, b"\r\n").map_or(0, |at| at + 2);
            let message = payload.get(start..).unwrap_or_default();
            return hear(&mut self.seen, Message(message.strip_suffix(b"\r\n").unwrap_or(message)));
        }
        if payload.starts_with(b"INFO ") && self.phase == Phase::Greeting {
            return self.send_frame(
                2,
                b"CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nSUB a 1\r\nPING\r\n",
            );
        }
        if payload.starts_with(b"PONG") {
            self.phase = Phase::Open;
        } else if payload.starts_with(b"PING") {
            self.send_frame(2, b"PONG\r\n")?;
        } else if payload.starts_with(b"-ERR") {
            return Err(failed(&format!("{}", payload.escape_ascii())));
        }
        Ok(())
    }

    /// A mask of zeros leaves the payload as it is. What a client says here is under 126 bytes.
    fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
        let length = length.ok_or_else(|| failed("a control frame too long to answer"))?;
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.send(&frame)
    }

    /// What a client says is short: a socket that does not take it is broken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.stream.write(bytes)?;
        if sent == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}

pub(super) fn failed(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

/// Opcode, payload and what follows of a whole unmasked frame.
fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        126 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_be_bytes(*n)), rest))?,
        127 => rest
            .split_first_chunk::<8>()
            .and_then(|(n, rest)| Some((usize::try_from(u64::from_be_bytes(*n)).ok()?, rest)))?,
        short => (usize::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((first & 0x0f, payload, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_split_and_parts_are_not() {
        for length in [0_usize, 1, 125, 126, 300, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..126 => bytes.push(length as u8),
                126..65_536 => {
                    bytes.push(126);
                    bytes.extend_from_slice(&(length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend_from_slice(&(length as u64).to_be_bytes());
                }
            }
            bytes.extend(std::iter::repeat_n(b'x', length));
            for part in [0, 1, bytes.len() - 1] {
                assert!(split_frame(&bytes[..part]).is_none(), "{length} {part}");
            }
            bytes.push(0x89);
            let (opcode, payload, rest) = split_frame(&bytes).unwrap();
            assert_eq!((opcode, payload.len(), rest), (1, length, &[0x89][..]));
        }
    }
}
