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
use crate::limits;

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
    empty_fragments: u8,
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
            empty_fragments: 0,
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
                (opcode, None) => {
                    self.message = Some(opcode);
                    self.empty_fragments = 0;
                }
            }
            let len = usize::try_from(header.len).map_err(|_| Violation::TOO_LARGE)?;
            let room = self.limits.max_message_bytes.saturating_sub(self.message_bytes);
            if len > self.limits.max_frame_bytes || len > room {
                return Err(Violation::TOO_LARGE);
            }
            if len == 0 && !header.fin {
                self.empty_fragments += 1;
                if self.empty_fragments > limits::EMPTY_FRAGMENTS {
                    return Err(Violation::EMPTY_FRAGMENTS);
                }
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

#[cfg(test)]
mod tests {
    use super::super::frame::{write_close, write_fragment, write_frame};
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Heard {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>, String),
    }

    impl From<Event<'_>> for Heard {
        fn from(event: Event<'_>) -> Heard {
            match event {
                Event::Text(text) => Heard::Text(text.to_owned()),
                Event::Binary(bytes) => Heard::Binary(bytes.to_owned()),
                Event::Ping(bytes) => Heard::Ping(bytes.to_owned()),
                Event::Pong(bytes) => Heard::Pong(bytes.to_owned()),
                Event::Close { code, reason } => Heard::Close(code.map(|c| c.0), reason.to_owned()),
            }
        }
    }

    /// Everything heard when `bytes` arrive in `pieces`, and how it ended.
    fn hear<'b>(
        session: &mut Session,
        pieces: impl IntoIterator<Item = &'b [u8]>,
    ) -> (Vec<Heard>, Result<(), Violation>) {
        let mut heard = Vec::new();
        for piece in pieces {
            let flow = session.receive::<()>(&mut piece.to_vec(), &mut |event| {
                heard.push(event.into());
                ControlFlow::Continue(())
            });
            if let Err(violation) = flow {
                return (heard, Err(violation));
            }
        }
        (heard, Ok(()))
    }

    fn server(max: usize) -> Session {
        Session::new(Role::Server, SessionLimits::same(max))
    }

    fn split<'b>(bytes: &'b [u8], cuts: &[proptest::sample::Index]) -> Vec<&'b [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
    }

    #[test]
    fn an_idle_session_is_small_and_holds_no_heap() {
        assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
        let mut bytes = Vec::new();
        write_fragment(&mut bytes, false, Opcode::Text, b"be", Some(KEY));
        write_frame(&mut bytes, Opcode::Ping, b"now", Some(KEY));
        write_fragment(&mut bytes, true, Opcode::Continuation, b"ll", Some(KEY));
        let mut session = server(1_024);
        let (heard, end) = hear(&mut session, bytes.chunks(1));
        assert_eq!(end, Ok(()));
        assert_eq!(heard, [Heard::Ping(b"now".into()), Heard::Text("bell".into())]);
        assert_eq!(session.buffered_capacity(), 0);
    }

    #[test]
    fn whole_frames_are_not_copied() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Binary, &[7; 300], Some(KEY));
        let range = bytes.as_ptr_range();
        let mut session = server(1_024);
        let flow = session.receive(&mut bytes, &mut |event| match event {
            Event::Binary(payload) => ControlFlow::Break(payload.as_ptr_range()),
            _ => ControlFlow::Continue(()),
        });
        let Ok(ControlFlow::Break(payload)) = flow else { panic!("{flow:?}") };
        assert!(range.start < payload.start && payload.end == range.end);
        assert!(session.has_ended());
    }

    #[test]
    fn size_is_judged_from_the_header() {
        for (len, allowed) in [(1_023usize, true), (1_024, true), (1_025, false), (1 << 40, false)] {
            let mut head = [0; HEADER_BYTES];
            let used = super::super::frame::encode_header(&mut head, true, Opcode::Binary, len, Some(KEY));
            let (_, end) = hear(&mut server(1_024), [&head[..used]]);
            assert_eq!(end.is_ok(), allowed, "{len}");
            assert!(end.is_ok() || end == Err(Violation::TOO_LARGE));
        }
        let mut bytes = Vec::new();
        write_fragment(&mut bytes, false, Opcode::Binary, &[0; 1_000], Some(KEY));
        let header_of_too_much = [0x80, 0x80 | 25, 0, 0, 0, 0];
        let (_, end) = hear(&mut server(1_024), [bytes.as_slice(), &header_of_too_much]);
        assert_eq!(end, Err(Violation::TOO_LARGE));
    }

    #[test]
    fn empty_fragments_are_bounded_by_message() {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            write_fragment(&mut bytes, false, Opcode::Text, b"", Some(KEY));
            for _ in 1..limits::EMPTY_FRAGMENTS {
                write_fragment(&mut bytes, false, Opcode::Continuation, b"", Some(KEY));
            }
            write_fragment(&mut bytes, true, Opcode::Continuation, b"x", Some(KEY));
        }
        let (heard, end) = hear(&mut server(1_024), [bytes.as_slice()]);
        assert_eq!((heard.len(), end), (3, Ok(())));
        bytes.clear();
        write_fragment(&mut bytes, false, Opcode::Text, b"", Some(KEY));
        for _ in 0..limits::EMPTY_FRAGMENTS {
            write_fragment(&mut bytes, false, Opcode::Continuation, b"", Some(KEY));
        }
        let (_, end) = hear(&mut server(1_024), [bytes.as_slice()]);
        assert_eq!(end, Err(Violation::EMPTY_FRAGMENTS));
    }

    #[test]
    fn nothing_is_heard_after_the_end() {
        let mut after = Vec::new();
        write_frame(&mut after, Opcode::Text, b"late", Some(KEY));
        let mut close = Vec::new();
        write_close(&mut close, Some(CloseCode::NORMAL), "done", Some(KEY));
        let bad = [0xFF];
        let rows: [(&[u8], usize); 2] = [(&close, 1), (&bad, 0)];
        for (first, events) in rows {
            let mut session = server(1_024);
            let together: Vec<u8> = first.iter().chain(&after).copied().collect();
            let (heard, _) = hear(&mut session, [together.as_slice()]);
            assert_eq!(heard.len(), events);
            assert!(session.has_ended());
            assert_eq!(hear(&mut session, [after.as_slice()]), (vec![], Ok(())));
        }
    }

    #[test]
    fn a_client_takes_unmasked_frames_only() {
        let client = || Session::new(Role::Client, SessionLimits::same(1_024));
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Text, "방울".as_bytes(), None);
        assert_eq!(hear(&mut client(), bytes.chunks(1)), (vec![Heard::Text("방울".into())], Ok(())));
        assert_eq!(
            hear(&mut server(1_024), [bytes.as_slice()]).1,
            Err(Violation::protocol("unmasked_frame"))
        );
        bytes.clear();
        write_frame(&mut bytes, Opcode::Text, b"x", Some(KEY));
        assert_eq!(hear(&mut client(), [bytes.as_slice()]).1, Err(Violation::protocol("masked_frame")));
    }

    /// A message or a control frame, as a well-behaved client sends it.
    #[derive(Clone, Debug)]
    struct Sent {
        heard: Heard,
        cuts: Vec<proptest::sample::Index>,
        ping_between: bool,
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let heard = prop_oneof![
            ".{0,60}".prop_map(Heard::Text),
            proptest::collection::vec(any::<u8>(), 0..200).prop_map(Heard::Binary),
            proptest::collection::vec(any::<u8>(), 0..126).prop_map(Heard::Ping),
            proptest::collection::vec(any::<u8>(), 0..126).prop_map(Heard::Pong),
        ];
        (heard, proptest::collection::vec(any::<proptest::sample::Index>(), 0..4), any::<bool>())
            .prop_map(|(heard, cuts, ping_between)| Sent { heard, cuts, ping_between })
    }

    /// Writes it and says what must be heard.
    fn write(out: &mut Vec<u8>, sent: &Sent, mask: [u8; 4]) -> Vec<Heard> {
        let (opcode, payload) = match &sent.heard {
            Heard::Text(text) => (Opcode::Text, text.as_bytes()),
            Heard::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
            Heard::Ping(bytes) => (Opcode::Ping, bytes.as_slice()),
            Heard::Pong(bytes) => (Opcode::Pong, bytes.as_slice()),
            Heard::Close(..) => panic!("not generated"),
        };
        let parts = if opcode.is_control() { vec![payload] } else { split(payload, &sent.cuts) };
        let mut expected = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            write_fragment(out, last, if i == 0 { opcode } else { Opcode::Continuation }, part, Some(mask));
            if sent.ping_between && !last {
                write_frame(out, Opcode::Ping, &[i as u8], Some(mask));
                expected.push(Heard::Ping(vec![i as u8]));
            }
        }
        expected.push(sent.heard.clone());
        expected
    }

    proptest! {
        #[test]
        fn what_is_sent_is_heard_however_it_is_cut(
            all in proptest::collection::vec(sent(), 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
            mask in any::<[u8; 4]>(),
        ) {
            let mut bytes = Vec::new();
            let expected: Vec<Heard> = all.iter().flat_map(|s| write(&mut bytes, s, mask)).collect();
            let mut session = server(1_024);
            let (heard, end) = hear(&mut session, split(&bytes, &cuts));
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(heard, expected);
            prop_assert_eq!(session.buffered_capacity(), 0);
        }

        #[test]
        fn damaged_input_is_judged_alike_however_it_is_cut(
            all in proptest::collection::vec(sent(), 0..4),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            mask in prop_oneof![Just([0; 4]), any::<[u8; 4]>()],
        ) {
            let mut bytes = Vec::new();
            for one in &all {
                write(&mut bytes, one, mask);
            }
            bytes.extend_from_slice(&noise);
            for (at, byte) in damage {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let whole = hear(&mut server(300), [bytes.as_slice()]);
            prop_assert_eq!(&hear(&mut server(300), bytes.chunks(1)), &whole);
            prop_assert_eq!(&hear(&mut server(300), bytes.chunks(7)), &whole);
        }
    }
}
