//! One session of a push source from its upgrade on: what to send when, when it is live, when it is dead.
//!
//! Contract: [`Conversation::poll`] says what to do next; every frame it asks for has been counted against
//! [`StreamSpec::frames`], so the owner sends it. Pure; time and randomness come in. Owner: the source thread.
//! Allocates when it is made. A session that comes to nothing is a [`Step::Fail`].

use super::allowance::Spent;
use super::{Confirmation, Fresh, Incoming, StreamSpec};
use crate::limits;
use crate::source::backoff::Failure;
use crate::time::Mono;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what the connection owes (a pong or a close frame).
    Owed,
    /// Send the text that was written.
    Text,
    /// Send a ping without payload.
    Ping,
    /// Nothing before this instant, unless something is heard.
    Wait(Mono),
    /// Give the session up.
    Fail(Failure),
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Conversation {
    spec: &'static StreamSpec,
    frames: Spent,
    opened: Mono,
    /// Messages of the greeting sent; `None` once all are.
    greeting: Option<usize>,
    /// A bit for every channel that was answered for, and for those that were accepted.
    answered: u8,
    accepted: u8,
    /// A keepalive was sent after the whole greeting.
    probed: bool,
    live_since: Option<Mono>,
    keepalive_at: Mono,
    heard: Mono,
    /// Keepalives are answered here: then silence means something.
    answers: bool,
}

impl Conversation {
    /// Begins when the upgrade was accepted.
    #[must_use]
    pub fn new(spec: &'static StreamSpec, now: Mono) -> Conversation {
        Conversation {
            spec,
            frames: Spent::new(spec.frames),
            opened: now,
            greeting: Some(0),
            answered: 0,
            accepted: 0,
            probed: false,
            live_since: (spec.confirmed_by == Confirmation::Upgrade).then_some(now),
            keepalive_at: now,
            heard: now,
            answers: false,
        }
    }

    /// Since when it is live.
    #[must_use]
    pub const fn live_since(&self) -> Option<Mono> {
        self.live_since
    }

    /// Whether what comes on any channel now may be a replay.
    #[must_use]
    pub fn may_be_replay(&self, now: Mono) -> bool {
        self.live_since.is_none_or(|since| now < since + self.spec.replay)
    }

    /// Bytes of any kind arrived.
    pub fn on_bytes(&mut self, now: Mono) {
        self.heard = now;
    }

    /// A pong, to a ping of ours or not.
    pub fn on_pong(&mut self, now: Mono) {
        if self.spec.keepalive.text.is_none() {
            self.on_answer(now);
        }
    }

    fn on_answer(&mut self, now: Mono) {
        self.answers = true;
        if self.spec.confirmed_by == Confirmation::Pong && self.probed {
            self.live_since = self.live_since.or(Some(now));
        }
    }

    /// A message was read. Some end the session.
    pub fn on_message(&mut self, incoming: &Incoming, now: Mono) -> Option<Failure> {
        match incoming {
            Incoming::Pong => self.on_answer(now),
            Incoming::Accepted(channel) => self.on_channel(*channel, true, now),
            Incoming::Rejected(channel, _) => self.on_channel(*channel, false, now),
            Incoming::Refused(failure, _) => return Some(*failure),
            Incoming::Items(_) | Incoming::Other => {}
        }
        let all = self.spec.channels.len() as u32;
        let by_channels = self.spec.confirmed_by == Confirmation::Channels;
        // Nothing that was asked for is given.
        (by_channels && self.accepted == 0 && self.answered.count_ones() >= all).then_some(Failure::Status)
    }

    fn on_channel(&mut self, channel: usize, accepted: bool, now: Mono) {
        let known = channel < self.spec.channels.len();
        let Some(bit) = u32::try_from(channel).ok().and_then(|c| 1_u8.checked_shl(c)).filter(|_| known)
        else {
            return;
        };
        self.answered |= bit;
        if accepted {
            self.accepted |= bit;
        }
        let all = self.answered.count_ones() as usize >= self.spec.channels.len();
        if self.spec.confirmed_by == Confirmation::Channels && all && self.accepted != 0 {
            self.live_since = self.live_since.or(Some(now));
        }
    }

    /// What to do now. `owed`: the connection owes a control frame. A text to send is left in `text`.
    pub fn poll(&mut self, now: Mono, fresh: Fresh, owed: bool, text: &mut String) -> Step {
        if self.live_since.is_none() && now.since(self.opened) >= limits::STREAM_GREETING {
            return Step::Fail(Failure::Timeout);
        }
        let dead_at = if self.answers { self.heard + self.spec.keepalive.patience } else { Mono::NEVER };
        if now >= dead_at {
            return Step::Fail(Failure::Timeout);
        }
        let wants = owed || self.greeting.is_some() || self.keepalive_at <= now;
        if wants && self.frames.ready_at() <= now {
            let step = self.next_frame(now, fresh, owed, text);
            if let Some(step) = step {
                self.frames.spend(now);
                return step;
            }
        }
        let next = if owed || self.greeting.is_some() { Mono(0) } else { self.keepalive_at };
        let greeted_by =
            if self.live_since.is_none() { self.opened + limits::STREAM_GREETING } else { Mono::NEVER };
        Step::Wait(next.max(self.frames.ready_at()).min(dead_at).min(greeted_by))
    }

    fn next_frame(&mut self, now: Mono, fresh: Fresh, owed: bool, text: &mut String) -> Option<Step> {
        if owed {
            return Some(Step::Owed);
        }
        text.clear();
        if let Some(nth) = self.greeting {
            if (self.spec.greet)(nth, fresh, text) {
                self.greeting = Some(nth + 1);
                return Some(Step::Text);
            }
            self.greeting = None;
        }
        if self.keepalive_at > now {
            return None;
        }
        self.probed = true;
        self.keepalive_at = now + self.spec.keepalive.every;
        Some(match self.spec.keepalive.text {
            None => Step::Ping,
            Some(write) => {
                write(fresh, text);
                Step::Text
            }
        })
    }
}
