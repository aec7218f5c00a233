//! A client's half of an open connection: what was received, and which frames are owed for it.
//!
//! Contract: [`Client::receive`] takes bytes off the connection and hands out messages and pongs in order;
//! it writes nothing. What has to be answered (the peer's ping, its close, its violation) is owed until
//! [`Client::write_owed`], so that who counts frames decides when they leave. Every frame is masked with a
//! key given for it, fresh and unpredictable each time (RFC 6455 5.3). Owner: whoever holds it. Allocates
//! only as [`Session`] does and where the caller's `Vec` has to grow. Fails never: how a connection ended is
//! its [`End`], and then only the close frame may still be owed.

use core::ops::ControlFlow;

use super::frame::{
    CLOSE_REASON_BYTES, CONTROL_PAYLOAD_BYTES, CloseCode, Opcode, Role, Violation, write_close, write_frame,
};
use super::session::{Event, Session, SessionLimits};

/// What a server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// The answer to a ping, or one unasked for.
    Pong(&'a [u8]),
    /// A ping; its answer is owed now.
    Ping,
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server sent a close frame, first or in answer to ours.
    Closed(Option<CloseCode>),
    /// The server broke the protocol.
    Violated(Violation),
}

/// A frame that has to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// The answer to the server's latest ping: "If an endpoint receives a Ping frame and has not yet sent
    /// Pong frame(s) in response to previous Ping frame(s), the endpoint MAY elect to send a Pong frame for
    /// only the most recently processed Ping frame" (RFC 6455 5.5.3).
    Pong,
    /// A close frame, the last one.
    Close,
}

/// What our side of the closing handshake has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Not,
    /// To be sent, with this code and reason.
    Owed(Option<CloseCode>, &'static str),
    Sent,
}

/// The payload of a control frame, kept in place.
#[derive(Clone, Copy, Debug)]
struct Payload {
    bytes: [u8; CONTROL_PAYLOAD_BYTES],
    len: u8,
}

impl Payload {
    fn new(payload: &[u8]) -> Payload {
        let mut bytes = [0; CONTROL_PAYLOAD_BYTES];
        for (to, from) in bytes.iter_mut().zip(payload) {
            *to = *from;
        }
        // A session passes on no control frame of more than 125 bytes.
        Payload { bytes, len: payload.len().min(CONTROL_PAYLOAD_BYTES) as u8 }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// See the module head.
#[derive(Debug)]
pub struct Client {
    session: Session,
    pong: Option<Payload>,
    closing: Closing,
    end: Option<End>,
}

impl Client {
    /// At the first byte after the upgrade. No message may be longer than `max_message_bytes`.
    #[must_use]
    pub const fn new(max_message_bytes: usize) -> Client {
        Client {
            session: Session::new(Role::Client, SessionLimits::same(max_message_bytes)),
            pong: None,
            closing: Closing::Not,
            end: None,
        }
    }

    /// Takes the next bytes off the connection, in pieces of any size; `bytes` is scratch afterwards.
    /// Messages keep coming after our close frame, until the server's. After an [`End`] nothing does.
    pub fn receive(&mut self, bytes: &mut [u8], hear: &mut impl FnMut(Heard<'_>)) {
        let (pong, end) = (&mut self.pong, &mut self.end);
        let flow = self.session.receive::<()>(bytes, &mut |event| {
            match event {
                Event::Text(text) => hear(Heard::Text(text)),
                Event::Binary(bytes) => hear(Heard::Binary(bytes)),
                Event::Pong(payload) => hear(Heard::Pong(payload)),
                Event::Ping(payload) => {
                    *pong = Some(Payload::new(payload));
                    hear(Heard::Ping);
                }
                Event::Close { code, .. } => *end = Some(End::Closed(code)),
            }
            ControlFlow::Continue(())
        });
        if let Err(violation) = flow {
            self.end = Some(End::Violated(violation));
        }
        if self.closing == Closing::Not {
            match self.end {
                Some(End::Closed(code)) => self.closing = Closing::Owed(code, ""),
                Some(End::Violated(violation)) => {
                    self.closing = Closing::Owed(Some(violation.code), violation.reason);
                }
                None => {}
            }
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether nothing is left to send or to wait for: the socket may be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some() && self.closing == Closing::Sent
    }

    /// What has to be sent next.
    #[must_use]
    pub const fn owed(&self) -> Option<Owed> {
        match (self.closing, &self.pong) {
            (Closing::Owed(..), _) => Some(Owed::Close),
            (Closing::Not, Some(_)) => Some(Owed::Pong),
            _ => None,
        }
    }

    /// Appends what [`Client::owed`] says, if anything; whether it did.
    pub fn write_owed(&mut self, mask: [u8; 4], out: &mut Vec<u8>) -> bool {
        if let Closing::Owed(code, reason) = self.closing {
            write_close(out, code, reason, Some(mask));
            self.closing = Closing::Sent;
            self.pong = None;
            return true;
        }
        let Some(payload) = self.pong.take().filter(|_| self.closing == Closing::Not) else { return false };
        write_frame(out, Opcode::Pong, payload.as_bytes(), Some(mask));
        true
    }

    /// Appends a text message; `false`, and nothing appended, once the connection is closing: "MUST NOT
    /// send any more data frames after sending a Close frame" (RFC 6455 5.5.1).
    pub fn write_text(&mut self, text: &str, mask: [u8; 4], out: &mut Vec<u8>) -> bool {
        self.write(Opcode::Text, text.as_bytes(), mask, out)
    }

    /// Appends a ping; `false` as with [`Client::write_text`], or when the payload is longer than 125 bytes.
    pub fn write_ping(&mut self, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) -> bool {
        payload.len() <= CONTROL_PAYLOAD_BYTES && self.write(Opcode::Ping, payload, mask, out)
    }

    fn write(&mut self, opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) -> bool {
        let may = self.closing == Closing::Not;
        if may {
            write_frame(out, opcode, payload, Some(mask));
        }
        may
    }

    /// Owes the server a close frame with this code; without effect once one was owed or sent. A reason
    /// longer than a close frame holds is cut.
    pub fn close(&mut self, code: CloseCode, reason: &'static str) {
        if self.closing == Closing::Not {
            let end = reason.floor_char_boundary(CLOSE_REASON_BYTES);
            self.closing = Closing::Owed(Some(code), reason.get(..end).unwrap_or_default());
        }
    }

    /// Heap bytes held for what has not arrived whole.
    #[must_use]
    pub const fn buffered_capacity(&self) -> usize {
        self.session.buffered_capacity()
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
