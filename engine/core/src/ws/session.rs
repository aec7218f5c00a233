//! One connection's receiving half: frames to events.
//!
//! Contract: [`Session::receive`] takes bytes as they come off the connection, in pieces of any size,
//! unmasks them in place and hands out whole messages and control frames in order. A message that
//! lies whole within the bytes given is not copied. Owner thread: the session's. Allocates only
//! while a message or control frame is incomplete, at most twice `max_message_bytes` and 125 bytes;
//! an idle session owns no heap memory. Fails with the [`Violation`] to close with, once; after a
//! failure, a close frame or a `Break` everything further is ignored.

use core::ops::ControlFlow;

use super::frame::{CloseCode, FrameHeader, HEADER_BYTES, Opcode, Role, Violation, apply_mask};
use super::utf8::Utf8Stream;

/// How much a peer may send at once. A payload of exactly the maximum is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest payload of one data frame, in bytes.
    pub max_frame_bytes: usize,
    /// Longest message, all its fragments together, in bytes.
    pub max_message_bytes: usize,
}

impl SessionLimits {
    /// The same bound for a frame and for a message.
    #[must_use]
    pub const fn same(max_bytes: usize) -> SessionLimits {
        SessionLimits { max_frame_bytes: max_bytes, max_message_bytes: max_bytes }
    }
}

/// What the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// Answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// Answer to a ping, or unasked for.
    Pong(&'a [u8]),
    /// The last event. Answer with the same code, unless a close was sent already.
    Close {
        /// The peer's code, if it sent one.
        code: Option<CloseCode>,
        /// The peer's reason, may be empty.
        reason: &'a str,
    },
}

/// The receiving state of one connection.
///
/// INVARIANT: `buffer` holds the `message_bytes` bytes of the unfinished message and after them, only
/// while a control frame is incomplete, that frame's payload so far.
#[derive(Debug)]
pub struct Session {
    buffer: Vec<u8>,
    message_bytes: usize,
    limits: SessionLimits,
    /// Payload bytes of the current frame still to come.
    remaining: u64,
    /// The current frame's key, rotated to the next payload byte.
    mask: [u8; 4],
    /// The first bytes of a header that has not arrived whole.
    header: [u8; HEADER_BYTES],
    header_len: u8,
    utf8: Utf8Stream,
    role: Role,
    /// Header read, payload not complete.
    frame: Option<CurrentFrame>,
    /// Text or Binary between the first frame of a message and its last byte.
    message: Option<Opcode>,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct CurrentFrame {
    opcode: Opcode,
    fin: bool,
}

/// Issue of a `receive` turn: the callback's `Break` value, or `Continue` when all bytes are used.
pub type Flow<B> = Result<ControlFlow<B>, Violation>;

impl Session {
    /// At the first byte after the opening handshake.
    #[must_use]
    pub const fn new(role: Role, limits: SessionLimits) -> Session {
        Session {
            buffer: Vec::new(),
            message_bytes: 0,
            limits,
            remaining: 0,
            mask: [0; 4],
            header: [0; HEADER_BYTES],
            header_len: 0,
            utf8: Utf8Stream::new(),
            role,
            frame: None,
            message: None,
            ended: false,
        }
    }

    /// Whether nothing will be delivered any more: after a close frame, a violation or a `Break`.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Heap bytes held for what is incomplete; 0 when idle.
    #[must_use]
    pub const fn buffered_capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes the next bytes off the connection. `bytes` is scratch afterwards: it was unmasked in
    /// place. Text is judged as it arrives, so `Err` may come before the message is complete. When
    /// `on_event` breaks, its value is returned, the remaining bytes are dropped and the session has
    /// ended.
    ///
    /// # Errors
    /// The code and reason to close with. 1009 is decided from a frame's header, before its payload.
    pub fn receive<B>(
        &mut self,
        bytes: &mut [u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Flow<B> {
        if self.ended {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = self.run(bytes, on_event);
        if self.ended || !matches!(flow, Ok(ControlFlow::Continue(()))) {
            self.ended = true;
            self.buffer = Vec::new();
        }
        flow
    }

    fn run<B>(
        &mut self,
        mut bytes: &mut [u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Flow<B> {
        while !self.ended {
            let frame = match self.frame {
                Some(frame) => frame,
                None => {
                    let Some((header, used)) = self.read_header(bytes)? else { break };
                    bytes = bytes.get_mut(used..).unwrap_or_default();
                    self.begin(&header)?
                }
            };
            let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
            let Some((payload, rest)) = bytes.split_at_mut_checked(take) else { break };
            bytes = rest;
            if self.role == Role::Server {
                apply_mask(payload, self.mask);
                self.mask.rotate_left(take % 4);
            }
            self.remaining -= take as u64;
            let flow = if frame.opcode.is_control() {
                self.control(frame.opcode, payload, on_event)?
            } else {
                self.data(frame.fin, payload, on_event)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
            if self.frame.is_some() {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The next header and how many of `bytes` it used; `None` after keeping what there is of it.
    fn read_header(&mut self, bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, Violation> {
        let kept = usize::from(self.header_len);
        if kept == 0
            && let Some(found) = FrameHeader::decode(bytes, self.role)?
        {
            return Ok(Some(found));
        }
        let room = self.header.get_mut(kept..).unwrap_or_default();
        let added = room.len().min(bytes.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        let have = self.header.get(..kept + added).unwrap_or_default();
        let found = FrameHeader::decode(have, self.role)?;
        // `added` of at most 14 bytes, and 14 bytes always make a header: the count fits.
        self.header_len = if found.is_some() { 0 } else { (kept + added) as u8 };
        Ok(found.map(|(header, len)| (header, len.saturating_sub(kept))))
    }

    /// Judges a header by what came before it and by the limits.
    fn begin(&mut self, header: &FrameHeader) -> Result<CurrentFrame, Violation> {
        if !header.opcode.is_control() {
            match (header.opcode, self.message) {
                (Opcode::Continuation, None) => return Err(Violation::protocol("nothing_to_continue")),
                (Opcode::Continuation, Some(_)) => {}
                (_, Some(_)) => return Err(Violation::protocol("message_not_finished")),
                (opcode, None) => self.message = Some(opcode),
            }
            let len = usize::try_from(header.len).map_err(|_| Violation::TOO_LARGE)?;
            let room = self.limits.max_message_bytes.saturating_sub(self.message_bytes);
            if len > self.limits.max_frame_bytes || len > room {
                return Err(Violation::TOO_LARGE);
            }
        }
        self.remaining = header.len;
        self.mask = header.mask;
        let frame = CurrentFrame { opcode: header.opcode, fin: header.fin };
        self.frame = Some(frame);
        Ok(frame)
    }

    fn control<B>(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Flow<B> {
        let whole = self.remaining == 0 && self.buffer.len() == self.message_bytes;
        if !whole {
            self.buffer.extend_from_slice(payload);
            if self.remaining > 0 {
                return Ok(ControlFlow::Continue(()));
            }
        }
        self.frame = None;
        let payload = if whole { payload } else { self.buffer.get(self.message_bytes..).unwrap_or_default() };
        let event = match opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            _ => {
                self.ended = true;
                close_event(payload)?
            }
        };
        let flow = on_event(event);
        if !whole {
            self.buffer.truncate(self.message_bytes);
            self.release_if_idle();
        }
        Ok(flow)
    }

    fn data<B>(
        &mut self,
        fin: bool,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Flow<B> {
        let text = self.message == Some(Opcode::Text);
        let complete = self.remaining == 0 && fin;
        if complete && self.message_bytes == 0 && self.utf8.is_complete() {
            self.frame = None;
            self.message = None;
            return deliver(text, payload, on_event);
        }
        if text {
            self.utf8.push(payload).map_err(|_| Violation::INVALID_UTF8)?;
        }
        self.buffer.extend_from_slice(payload);
        self.message_bytes = self.buffer.len();
        if self.remaining == 0 {
            self.frame = None;
        }
        if !complete {
            return Ok(ControlFlow::Continue(()));
        }
        self.message = None;
        self.message_bytes = 0;
        let message = core::mem::take(&mut self.buffer);
        deliver(text, &message, on_event)
    }

    fn release_if_idle(&mut self) {
        if self.message.is_none() {
            self.buffer = Vec::new();
        }
    }
}

/// A whole message. Text that came in pieces is checked a second time here: that costs less than a
/// nanosecond per 10 bytes and spares an unchecked conversion.
fn deliver<B>(text: bool, message: &[u8], on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<B>) -> Flow<B> {
    if !text {
        return Ok(on_event(Event::Binary(message)));
    }
    let text = simdutf8::basic::from_utf8(message).map_err(|_| Violation::INVALID_UTF8)?;
    Ok(on_event(Event::Text(text)))
}

/// RFC 6455 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
/// integer", "Following the 2-byte integer, the body MAY contain UTF-8-encoded data".
fn close_event(payload: &[u8]) -> Result<Event<'_>, Violation> {
    if payload.is_empty() {
        return Ok(Event::Close { code: None, reason: "" });
    }
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Err(Violation::protocol("bad_close_payload"));
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.may_travel() {
        return Err(Violation::protocol("bad_close_code"));
    }
    let reason = core::str::from_utf8(reason).map_err(|_| Violation::INVALID_UTF8)?;
    Ok(Event::Close { code: Some(code), reason })
}
