//! One connection of a simulated push source, from its upgrade to its end.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tocsin_core::http1::request::RequestHead;
use tocsin_core::ws::frame::{encode_header, write_close, write_fragment, write_frame};
use tocsin_core::ws::handshake::{check_upgrade, write_switching_protocols};
use tocsin_core::ws::{CloseCode, Event, Opcode, Role, Session, SessionLimits};

use super::{Article, Push, SessionState, Shared, StreamFault, StreamKind, check, words};
use crate::http::{Framing, RequestReader, Response};
use crate::server::{After, Handler, Link, Transport, garbage};

/// A session looks for something to send at least this often.
const LOOK: Duration = Duration::from_millis(3);
/// Longest message of a client.
const CLIENT_BYTES: usize = 16 * 1_024;
/// Client frames in a minute (Upbit).
const FRAMES_PER_MINUTE: usize = 100;

impl Handler for Shared {
    fn serve(&self, link: &Link) -> After {
        let Ok(mut out) = link.transport(self.tls.clone()) else { return After::Close };
        let after = match self.upgrade(link, &mut out) {
            Ok(true) => self.talk(link, &mut out).unwrap_or(After::Close),
            _ => After::Close,
        };
        self.state.lock().sessions.remove(&link.number);
        out.finish(after);
        after
    }
}

impl Shared {
    /// Whether it became a session.
    fn upgrade(&self, link: &Link, out: &mut Transport) -> io::Result<bool> {
        let Some(request) = RequestReader::default().next(out)? else { return Ok(false) };
        let mut state = self.state.lock();
        let fault = state.fault.clone();
        let judged = match fault {
            Some(StreamFault::GarbageUpgrade) => {
                state.note_upgrade(0);
                drop(state);
                link.send(out, &garbage())?;
                return Ok(false);
            }
            Some(StreamFault::Refuse { status, times, retry_after_secs }) => {
                let left = times.map(|times| times.saturating_sub(1));
                let again = StreamFault::Refuse { status, times: left, retry_after_secs };
                state.fault = Some(again).filter(|_| left != Some(0));
                Err((status, String::new()))
            }
            _ => check::check(self.kind, &mut state, &request),
        };
        let head = RequestHead::parse(&request.head).ok();
        let accept = head.as_ref().and_then(|head| check_upgrade(head).ok());
        let judged = judged.and_then(|()| accept.ok_or((400, String::new())));
        state.note_upgrade(judged.as_ref().map_or_else(|(status, _)| *status, |_| 101));
        match judged {
            Ok(accept) => {
                let subscribed = self.kind == StreamKind::Binance;
                state.sessions.insert(link.number, SessionState { subscribed, ..SessionState::default() });
                drop(state);
                let mut bytes = Vec::new();
                write_switching_protocols(&mut bytes, &accept);
                link.send(out, &bytes)?;
                Ok(true)
            }
            Err((status, body)) => {
                drop(state);
                let mut response = Response::json(status, body.into_bytes());
                if let Some(StreamFault::Refuse { retry_after_secs: Some(secs), .. }) = fault {
                    response = response.with("Retry-After", secs.to_string());
                }
                let head = response.head(Framing::ContentLength, response.body.len() as u64, true);
                link.send(out, &[head, response.body.to_vec()].concat())?;
                Ok(false)
            }
        }
    }

    fn talk(&self, link: &Link, out: &mut Transport) -> io::Result<After> {
        link.set_patience(LOOK);
        let mut talk = Talk::new(self, link.number);
        let mut block = [0; 4_096];
        loop {
            match out.read(&mut block) {
                Ok(0) => return Ok(After::Close),
                Ok(count) => talk.take(block.get_mut(..count).unwrap_or_default()),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    // Notices that the server stops.
                    if link.pause(Duration::ZERO) {
                        return Ok(After::Close);
                    }
                }
                Err(e) => return Err(e),
            }
            if let Some(after) = talk.go_on(link, out)? {
                return Ok(after);
            }
        }
    }
}

/// A session's own state.
struct Talk<'a> {
    shared: &'a Shared,
    number: u64,
    session: Session,
    began: Instant,
    pinged: Instant,
    frames: VecDeque<Instant>,
    channels: Vec<&'static str>,
    /// Replays that are due.
    replays: Vec<(Instant, &'static str)>,
    out: Vec<u8>,
    end: Option<After>,
}

impl<'a> Talk<'a> {
    fn new(shared: &'a Shared, number: u64) -> Talk<'a> {
        let mut talk = Talk {
            shared,
            number,
            session: Session::new(Role::Server, SessionLimits::same(CLIENT_BYTES)),
            began: Instant::now(),
            pinged: Instant::now(),
            frames: VecDeque::new(),
            channels: Vec::new(),
            replays: Vec::new(),
            out: Vec::new(),
            end: None,
        };
        if shared.kind == StreamKind::Binance {
            talk.say(
                &json!({"type": "COMMAND", "subType": "SUBSCRIBE", "code": "00000000", "data": "SUCCESS"}),
            );
        }
        talk
    }

    fn say(&mut self, message: &Value) {
        self.text(&message.to_string());
    }

    fn text(&mut self, text: &str) {
        write_frame(&mut self.out, Opcode::Text, text.as_bytes(), None);
    }

    /// What the client sent.
    fn take(&mut self, bytes: &mut [u8]) {
        enum Got {
            Text(String),
            Ping(Vec<u8>),
            Pong,
            Close(Option<CloseCode>),
        }
        let mut got = Vec::new();
        let flow = self.session.receive::<()>(bytes, &mut |event| {
            got.push(match event {
                Event::Text(text) => Got::Text(text.to_owned()),
                Event::Binary(_) => Got::Text(String::new()),
                Event::Ping(payload) => Got::Ping(payload.to_owned()),
                Event::Pong(_) => Got::Pong,
                Event::Close { code, .. } => Got::Close(code),
            });
            ControlFlow::Continue(())
        });
        if let Err(violation) = flow {
            self.violation(violation.reason);
            write_close(&mut self.out, Some(violation.code), violation.reason, None);
            self.end = Some(After::Close);
        }
        for got in got {
            if !matches!(got, Got::Close(_)) {
                self.count_frame();
            }
            let silent = self.shared.state.lock().fault == Some(StreamFault::Silence);
            match got {
                Got::Close(code) => {
                    write_close(&mut self.out, code, "", None);
                    self.end = Some(After::Close);
                }
                Got::Ping(payload) => {
                    self.pinged = Instant::now();
                    if !silent {
                        write_frame(&mut self.out, Opcode::Pong, &payload, None);
                    }
                }
                Got::Text(text) if !silent => self.command(&text),
                Got::Text(_) | Got::Pong => {}
            }
        }
    }

    fn violation(&mut self, what: &str) {
        self.shared.state.lock().note_violation(what);
    }

    /// Every frame but the last counts; one too many ends the session.
    fn count_frame(&mut self) {
        let now = Instant::now();
        self.frames.push_back(now);
        while self.frames.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(60)) {
            self.frames.pop_front();
        }
        let last_second =
            self.frames.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
        let most = {
            let mut state = self.shared.state.lock();
            state.frames += 1;
            state.options.frames_per_second
        };
        let minute = self.shared.kind == StreamKind::Upbit && self.frames.len() > FRAMES_PER_MINUTE;
        // Gate states no limit.
        if self.shared.kind != StreamKind::Gate && (last_second > most || minute) {
            self.violation("too many frames");
            self.end = Some(After::Abandon);
        }
    }

    /// A message of the client's.
    fn command(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        match self.shared.kind {
            StreamKind::Binance => self.say(&json!({"type": "COMMAND", "code": "00000000"})),
            StreamKind::Upbit => {
                let asked = message.as_array().is_some_and(|parts| {
                    let has = |name: &str, value: Option<&str>| {
                        parts.iter().any(|part| {
                            let found = part.get(name).and_then(Value::as_str);
                            found.is_some() && value.is_none_or(|value| found == Some(value))
                        })
                    };
                    has("ticket", None) && has("type", Some("announcement"))
                });
                if asked {
                    self.subscribed();
                } else {
                    self.text(&words::upbit_error("WRONG_FORMAT"));
                }
            }
            StreamKind::Gate => self.gate_command(&message),
        }
    }

    fn subscribed(&mut self) {
        if let Some(session) = self.shared.state.lock().sessions.get_mut(&self.number) {
            session.subscribed = true;
        }
    }

    fn gate_command(&mut self, message: &Value) {
        let channel = message.get("channel").and_then(Value::as_str).unwrap_or_default();
        let name = channel.strip_prefix("announcement.").unwrap_or(channel);
        if name == "ping" {
            return self.text(&words::gate_frame("pong", "", &Value::Null));
        }
        let asked = message.get("event").and_then(Value::as_str) == Some("subscribe");
        let english = message.pointer("/payload/0").and_then(Value::as_str) == Some("en");
        match words::CHANNELS.into_iter().find(|known| *known == name) {
            Some(channel) if asked && english => {
                self.text(&words::gate_frame(channel, "subscribe", &json!({"status": "success"})));
                self.channels.push(channel);
                let after = self.shared.state.lock().options.replay_after;
                self.replays.push((Instant::now() + after, channel));
                self.subscribed();
            }
            _ => self.text(&words::gate_error(name, "no such channel (simulated)")),
        }
    }

    /// Sends what there is to send; says whether the session ends.
    fn go_on(&mut self, link: &Link, out: &mut Transport) -> io::Result<Option<After>> {
        let (queue, fault, life, ping_timeout) = {
            let mut state = self.shared.state.lock();
            let life = state.options.session_life;
            let (fault, timeout) = (state.fault.clone(), state.options.ping_timeout);
            let queue = state.sessions.get_mut(&self.number).map(|s| std::mem::take(&mut s.queue));
            (queue.unwrap_or_default(), fault, life, timeout)
        };
        if fault != Some(StreamFault::Silence) {
            for push in queue {
                if let Some(after) = self.push(&push, fault.as_ref(), link, out)? {
                    return Ok(Some(after));
                }
            }
            self.replay();
        }
        if life.is_some_and(|life| self.began.elapsed() >= life) {
            write_close(&mut self.out, Some(CloseCode::GOING_AWAY), "", None);
            self.end = Some(After::Close);
        }
        if self.shared.kind == StreamKind::Binance && self.pinged.elapsed() >= ping_timeout {
            self.violation("no ping");
            self.end = Some(After::Close);
        }
        if !self.out.is_empty() {
            let bytes = std::mem::take(&mut self.out);
            link.send(out, &bytes)?;
        }
        Ok(self.end)
    }

    /// The last article of a channel just subscribed to.
    fn replay(&mut self) {
        let now = Instant::now();
        let due: Vec<&'static str> =
            self.replays.iter().filter(|(at, _)| *at <= now).map(|(_, channel)| *channel).collect();
        self.replays.retain(|(at, _)| *at > now);
        for channel in due {
            let last = self.shared.state.lock().last.get(channel).cloned();
            if let Some(article) = last {
                self.text(&words::gate(&article, channel));
            }
        }
    }

    fn push(
        &mut self,
        push: &Push,
        fault: Option<&StreamFault>,
        link: &Link,
        out: &mut Transport,
    ) -> io::Result<Option<After>> {
        let texts = match push {
            Push::Text(text) => {
                self.text(text);
                return Ok(None);
            }
            Push::Close(code) => {
                write_close(&mut self.out, Some(*code), "", None);
                return Ok(None);
            }
            Push::Article(article) => self.messages(article),
        };
        for text in texts {
            match fault {
                Some(StreamFault::ResetMidFrame) => {
                    let mut frame = Vec::new();
                    write_frame(&mut frame, Opcode::Text, text.as_bytes(), None);
                    link.send(out, frame.get(..frame.len() / 2).unwrap_or(&frame))?;
                    self.shared.state.lock().fault = None;
                    return Ok(Some(After::Reset));
                }
                Some(StreamFault::Fragments(size)) => self.fragments(&text, *size, link, out)?,
                Some(StreamFault::Oversized) => {
                    let mut head = [0; 14];
                    let used = encode_header(&mut head, true, Opcode::Text, 64 << 20, None);
                    self.out.extend_from_slice(head.get(..used).unwrap_or_default());
                    self.shared.state.lock().fault = None;
                    return Ok(None);
                }
                Some(StreamFault::InvalidUtf8) => {
                    write_frame(&mut self.out, Opcode::Text, b"{\"type\":\"\xC3\x28\"}", None);
                    self.shared.state.lock().fault = None;
                    return Ok(None);
                }
                Some(StreamFault::Twice) => {
                    self.text(&text);
                    self.text(&text);
                }
                _ => self.text(&text),
            }
        }
        Ok(None)
    }

    /// The messages of an announcement that this session is to get.
    fn messages(&self, article: &Arc<Article>) -> Vec<String> {
        match self.shared.kind {
            StreamKind::Binance => vec![words::binance(article)],
            StreamKind::Upbit => words::upbit(article, crate::clock::wall_now()).into_iter().collect(),
            StreamKind::Gate => {
                let of = words::channels(article.category).iter().filter(|c| self.channels.contains(c));
                of.map(|channel| words::gate(article, channel)).collect()
            }
        }
    }

    /// A message in fragments with pings between them, the first bytes one by one.
    fn fragments(&mut self, text: &str, size: usize, link: &Link, out: &mut Transport) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.out);
        let parts: Vec<&[u8]> = text.as_bytes().chunks(size.max(1)).collect();
        for (i, part) in parts.iter().enumerate() {
            let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
            write_fragment(&mut bytes, i + 1 == parts.len(), opcode, part, None);
            if i == 0 && parts.len() > 1 {
                write_frame(&mut bytes, Opcode::Ping, b"between", None);
            }
        }
        let (slow, rest) = bytes.split_at(bytes.len().min(20));
        for byte in slow {
            link.send(out, &[*byte])?;
            if link.pause(Duration::from_millis(1)) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        link.send(out, rest)
    }
}
