//! What a client of the feed does when its connection ends: the specification's "Recommended
//! reconnection strategy".
//!
//! Contract: [`Reconnect::after`] is told how a connection ended and says whether and when to try
//! again. Reads no clock, draws nothing at random, allocates nothing, fails never.

use core::time::Duration;

use crate::limits;

/// How a connection, or the attempt at one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// The server sent a close frame with this reason, which may be empty.
    Closed {
        /// The close frame's reason.
        reason: &'a str,
    },
    /// The server answered the handshake with an HTTP error.
    Refused {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, where given.
        retry_after: Option<Duration>,
    },
    /// The network failed, the peer left, or nothing was heard for
    /// [`limits::HEARTBEAT_TIMEOUT`].
    Lost,
    /// The server's certificate is not to be trusted.
    Untrusted,
}

/// What to do then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Trying again changes nothing.
    Stop,
    /// Try again after this long.
    RetryAfter(Duration),
}

/// "Attempt 1: wait 1 second".
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// "Cap: 300 seconds (5 minutes)".
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// "Wait 60s, then reconnect. Stop sending messages."
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);

/// The attempts since a connection last held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reconnect {
    failures: u32,
}

impl Reconnect {
    /// No failure yet.
    #[must_use]
    pub const fn new() -> Reconnect {
        Reconnect { failures: 0 }
    }

    /// Decides. `open_for` is how long the connection was open, zero if it never was: one that held
    /// for a heartbeat period ends the series of failures, so that a server which accepts and drops at
    /// once is not asked every second.
    pub fn after(&mut self, ending: Ending<'_>, open_for: Duration) -> Verdict {
        if open_for >= limits::HEARTBEAT_PERIOD {
            self.failures = 0;
        }
        match ending {
            // "Stop. Your key is no longer valid."
            Ending::Closed { reason: "key_expired" | "key_revoked" } | Ending::Untrusted => Verdict::Stop,
            Ending::Closed { reason: "rate_limit_exceeded" } => Verdict::RetryAfter(RATE_LIMIT_WAIT),
            // "Reconnect immediately. Process messages faster."
            Ending::Closed { reason: "too_slow" } => Verdict::RetryAfter(Duration::ZERO),
            // "Back off. You're connecting too frequently."
            Ending::Refused { status: 408 | 429 | 500.., retry_after } => {
                Verdict::RetryAfter(self.next_wait().max(retry_after.unwrap_or_default()))
            }
            // 401 "Add X-API-Key header", 403 "Contact administrator", 400 "Fix your WebSocket client".
            Ending::Refused { .. } => Verdict::Stop,
            // "Reconnect with exponential backoff".
            Ending::Closed { .. } | Ending::Lost => Verdict::RetryAfter(self.next_wait()),
        }
    }

    fn next_wait(&mut self) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        wait.min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(ending: Ending<'_>, count: usize) -> Vec<u64> {
        let mut reconnect = Reconnect::new();
        (0..count)
            .map(|_| match reconnect.after(ending, Duration::ZERO) {
                Verdict::RetryAfter(wait) => wait.as_secs(),
                Verdict::Stop => panic!("{ending:?} stops"),
            })
            .collect()
    }

    #[test]
    fn the_decision_logic_of_the_specification() {
        let refused = |status| Ending::Refused { status, retry_after: None };
        let rows = [
            (Ending::Closed { reason: "key_expired" }, None),
            (Ending::Closed { reason: "key_revoked" }, None),
            (Ending::Closed { reason: "rate_limit_exceeded" }, Some(60)),
            (Ending::Closed { reason: "too_slow" }, Some(0)),
            (Ending::Closed { reason: "frame_too_large" }, Some(1)),
            (Ending::Closed { reason: "restart" }, Some(1)),
            (Ending::Closed { reason: "" }, Some(1)),
            (Ending::Lost, Some(1)),
            (Ending::Untrusted, None),
            (refused(400), None),
            (refused(401), None),
            (refused(403), None),
            (refused(404), None),
            (refused(408), Some(1)),
            (refused(429), Some(1)),
            (refused(503), Some(1)),
        ];
        for (ending, secs) in rows {
            let expected = secs.map_or(Verdict::Stop, |s| Verdict::RetryAfter(Duration::from_secs(s)));
            assert_eq!(Reconnect::new().after(ending, Duration::ZERO), expected, "{ending:?}");
        }
    }

    #[test]
    fn backoff_doubles_to_five_minutes() {
        let expected = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
        assert_eq!(waits(Ending::Lost, 11), expected);
        assert_eq!(waits(Ending::Refused { status: 429, retry_after: None }, 11), expected);
        assert_eq!(waits(Ending::Closed { reason: "too_slow" }, 3), [0, 0, 0]);
        assert_eq!(waits(Ending::Lost, 100).last(), Some(&300));
        let asked = Ending::Refused { status: 429, retry_after: Some(3 * SECOND) };
        assert_eq!(waits(asked, 4), [3, 3, 4, 8]);
    }

    #[test]
    fn only_a_connection_that_held_ends_the_series() {
        let mut reconnect = Reconnect::new();
        for (open_for, wait) in [(0, 1), (29, 2), (5, 4), (30, 1), (0, 2)] {
            let verdict = reconnect.after(Ending::Lost, open_for * SECOND);
            assert_eq!(verdict, Verdict::RetryAfter(wait * SECOND), "open for {open_for} s");
        }
    }
}
