//! The ways a simulated exchange can misbehave, and when. Plain data; `server` and `state` act on it.

use serde::Deserialize;

/// One way to misbehave. Set for a number of requests or until cleared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An HTTP status with a short JSON body: 403, 418, 429, 5xx …
    Status {
        /// The status code.
        code: u16,
        /// `Retry-After`, in seconds.
        #[serde(default)]
        retry_after_secs: Option<u32>,
    },
    /// The refusal an exchange gives to a country it does not serve: 451, or 403 with a page or without.
    RegionBlock,
    /// What an exchange answers to whoever asks too often, in its own words: 429, at Bybit 403.
    TooFrequent,
    /// A refusal by the exchange's own code in a well-formed 200.
    Refused,
    /// The right answer with what it holds under another key.
    SchemaDrift,
    /// The right answer with the titles of its rows under another key.
    RowDrift,
    /// A browser check: 202 with an HTML page and an empty JSON promise.
    HtmlChallenge,
    /// 302 to the same address.
    RedirectLoop,
    /// Take the connection and reset it before a byte is exchanged.
    ResetOnAccept,
    /// Reset in the middle of the response head.
    ResetInHead,
    /// Reset after so many bytes of the body.
    ResetInBody {
        /// Body bytes sent before.
        after_bytes: usize,
    },
    /// Send the right answer, so many body bytes a second.
    SlowBody {
        /// At least 1.
        bytes_per_second: u32,
    },
    /// Bytes that are no HTTP at all, then close.
    Garbage,
    /// A well-formed 200 whose JSON body is noise.
    GarbageBody,
    /// A well-formed 200 whose JSON stops in the middle.
    TruncatedJson,
    /// Promise the whole body, send half of it, close in good order.
    ShortBody,
    /// A 200 with a body of so many bytes.
    HugeBody {
        /// Length of the body.
        bytes: u64,
        /// Without saying the length beforehand.
        #[serde(default)]
        chunked: bool,
    },
    /// The right answer, compressed although nobody asked.
    Gzip,
    /// The right answer as HTTP/1.0 writes it: no length, the end is the close.
    HttpOneZero,
    /// Take the request, say nothing, keep the connection open.
    NeverAnswer,
}

impl Fault {
    /// Whether it strikes before a request is read.
    pub(crate) const fn strikes_on_accept(&self) -> bool {
        matches!(self, Fault::ResetOnAccept)
    }
}

/// The fault shown now, if any: to a number of requests, or until cleared.
#[derive(Debug, Default)]
pub(crate) struct Faults(Option<Active>);

#[derive(Debug)]
struct Active {
    fault: Fault,
    left: Option<u32>,
}

impl Faults {
    /// Shows `fault` to so many requests (or connections), or to all; none of them clears it.
    pub(crate) fn set(&mut self, fault: Fault, requests: Option<u32>) {
        self.0 = (requests != Some(0)).then_some(Active { fault, left: requests });
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// The fault that strikes now, if it strikes on accept as `on_accept` says; counts it down.
    pub(crate) fn strike(&mut self, on_accept: bool) -> Option<Fault> {
        let active = self.0.as_mut()?;
        if active.fault.strikes_on_accept() != on_accept {
            return None;
        }
        let fault = active.fault.clone();
        if let Some(left) = &mut active.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.0 = None;
            }
        }
        Some(fault)
    }
}
