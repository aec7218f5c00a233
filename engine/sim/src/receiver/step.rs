//! What a receiver does with one request: a [`Behaviour`] is a list of [`Step`]s.
//!
//! Contract: plain data, cheap to clone. Steps are done in order on the connection the request came
//! on; when none is left the connection waits for its next request, unless the reply said `close` or
//! the client did. A [`Reply`] is rendered when it is sent, with the time of that moment as its
//! `Date`; [`Step::Send`] goes out byte for byte.

use std::sync::Arc;
use std::time::Duration;

use crate::http::{Framing, Response};

/// One thing a receiver does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends a response.
    Reply(Reply),
    /// Sends the head of a response and not its body.
    Head(Reply),
    /// Sends exactly these bytes.
    Send(Arc<[u8]>),
    /// Sends these bytes one at a time, each after such a wait.
    Drip(Arc<[u8]>, Duration),
    /// Sends these bytes again and again until the client is gone.
    Repeat(Arc<[u8]>),
    /// Does nothing for so long, whatever the client sends.
    Wait(Duration),
    /// Does nothing for so long; a request that comes meanwhile is served, and the steps after this
    /// one are dropped.
    Idle(Duration),
    /// Does nothing until the client sends more, and leaves that unread.
    AwaitMore,
    /// Reads on and never says a word again; ends when the client closes.
    Hold,
    /// Closes in good order.
    Close,
    /// Closes at once, without reading what has come: a reset if something has.
    Abandon,
    /// Resets the connection.
    Reset,
}

/// A well-formed response: status 200 and a short JSON body unless told otherwise.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) response: Response,
    pub(super) framing: Framing,
    pub(super) close: bool,
}

impl Reply {
    /// A response with this status.
    #[must_use]
    pub fn new(status: u16) -> Reply {
        let body: &[u8] = if (200..300).contains(&status) { br#"{"ok":true}"# } else { br#"{"ok":false}"# };
        Reply { response: Response::json(status, body), framing: Framing::ContentLength, close: false }
    }

    /// The same with one more header. A `Date` replaces the one of the moment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.response = self.response.with(name.to_owned(), value);
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Reply {
        self.response.body = body.into();
        self
    }

    /// The same with its body delimited so.
    #[must_use]
    pub const fn framed(mut self, framing: Framing) -> Reply {
        self.framing = framing;
        self
    }

    /// The same with `Connection: close`, and so done.
    #[must_use]
    pub const fn closing(mut self) -> Reply {
        self.close = true;
        self
    }

    pub(super) const fn closes(&self) -> bool {
        self.close || matches!(self.framing, Framing::CloseDelimited)
    }

    pub(super) fn head_bytes(&self, close: bool) -> Vec<u8> {
        self.response.head(self.framing, self.response.body.len() as u64, close)
    }

    pub(super) fn body_bytes(&self) -> Vec<u8> {
        self.response.framed_body(self.framing)
    }
}

/// What a receiver does with a request. Made by name, of a reply, or of steps.
#[derive(Clone, Debug)]
pub struct Behaviour {
    name: Arc<str>,
    steps: Arc<[Step]>,
}

impl Behaviour {
    /// These steps, under a name that shows in what is recorded.
    #[must_use]
    pub fn of(name: &str, steps: Vec<Step>) -> Behaviour {
        Behaviour { name: name.into(), steps: steps.into() }
    }

    /// One response.
    #[must_use]
    pub fn reply(reply: Reply) -> Behaviour {
        let name = format!("status/{}", reply.response.status);
        Behaviour::of(&name, vec![Step::Reply(reply)])
    }

    /// Exactly these bytes; then the next request.
    #[must_use]
    pub fn raw(name: &str, bytes: impl Into<Vec<u8>>) -> Behaviour {
        Behaviour::of(name, vec![Step::Send(bytes.into().into())])
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
