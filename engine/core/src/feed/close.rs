//! Every way a subscriber's connection ends: one list for close frames, counters and logs.
//!
//! Contract: plain data, nothing fails.

use crate::ws::frame::PreparedClose;
use crate::ws::{CloseCode, Violation};

/// Why a connection ended. The order is that of the counters; new ones are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// "Your API key's expiration date has passed".
    KeyExpired,
    /// "Administrator revoked your key".
    KeyRevoked,
    /// "You fell 10+ messages behind (lagging consumer)".
    TooSlow,
    /// "You sent too many messages to the server (>3/min)".
    RateLimitExceeded,
    /// More control frames than [`crate::limits::CONTROL_FRAMES`] allows. Same words to the peer as
    /// [`CloseReason::RateLimitExceeded`].
    ControlFlood,
    /// "You sent a frame larger than 1 KB".
    FrameTooLarge,
    /// RFC 6455 was broken; the close frame says how.
    ProtocolError,
    /// Text, or a close reason, that is not UTF-8.
    InvalidUtf8,
    /// "If the server receives no PONG within 30 seconds, it closes your connection."
    PongTimeout,
    /// The engine stops or restarts.
    Restart,
    /// The peer sent a close frame.
    PeerClosed,
    /// The peer's TCP ended without one.
    PeerGone,
    /// The socket failed.
    SocketError,
}

impl CloseReason {
    /// Every reason, in the order of its counter.
    pub const ALL: [CloseReason; 13] = [
        CloseReason::KeyExpired,
        CloseReason::KeyRevoked,
        CloseReason::TooSlow,
        CloseReason::RateLimitExceeded,
        CloseReason::ControlFlood,
        CloseReason::FrameTooLarge,
        CloseReason::ProtocolError,
        CloseReason::InvalidUtf8,
        CloseReason::PongTimeout,
        CloseReason::Restart,
        CloseReason::PeerClosed,
        CloseReason::PeerGone,
        CloseReason::SocketError,
    ];

    /// Position in [`CloseReason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name of its counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::KeyExpired => "key_expired",
            CloseReason::KeyRevoked => "key_revoked",
            CloseReason::TooSlow => "too_slow",
            CloseReason::RateLimitExceeded => "rate_limit_exceeded",
            CloseReason::ControlFlood => "control_flood",
            CloseReason::FrameTooLarge => "frame_too_large",
            CloseReason::ProtocolError => "protocol_error",
            CloseReason::InvalidUtf8 => "invalid_utf8",
            CloseReason::PongTimeout => "pong_timeout",
            CloseReason::Restart => "restart",
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerGone => "peer_gone",
            CloseReason::SocketError => "socket_error",
        }
    }

    /// The close frame that tells the peer. `None` where the frame depends on what the peer sent
    /// (violations, its own close) or nobody is there to be told.
    #[must_use]
    pub fn frame(self) -> Option<&'static PreparedClose> {
        static KEY_EXPIRED: PreparedClose = PreparedClose::new(CloseCode::NORMAL, "key_expired");
        static KEY_REVOKED: PreparedClose = PreparedClose::new(CloseCode::NORMAL, "key_revoked");
        static TOO_SLOW: PreparedClose = PreparedClose::new(CloseCode::POLICY_VIOLATION, "too_slow");
        static RATE_LIMIT: PreparedClose =
            PreparedClose::new(CloseCode::POLICY_VIOLATION, "rate_limit_exceeded");
        static PONG_TIMEOUT: PreparedClose = PreparedClose::new(CloseCode::GOING_AWAY, "pong_timeout");
        static RESTART: PreparedClose = PreparedClose::new(CloseCode::SERVICE_RESTART, "restart");
        match self {
            CloseReason::KeyExpired => Some(&KEY_EXPIRED),
            CloseReason::KeyRevoked => Some(&KEY_REVOKED),
            CloseReason::TooSlow => Some(&TOO_SLOW),
            CloseReason::RateLimitExceeded | CloseReason::ControlFlood => Some(&RATE_LIMIT),
            CloseReason::PongTimeout => Some(&PONG_TIMEOUT),
            CloseReason::Restart => Some(&RESTART),
            CloseReason::FrameTooLarge
            | CloseReason::ProtocolError
            | CloseReason::InvalidUtf8
            | CloseReason::PeerClosed
            | CloseReason::PeerGone
            | CloseReason::SocketError => None,
        }
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> CloseReason {
        match violation.code {
            CloseCode::MESSAGE_TOO_BIG => CloseReason::FrameTooLarge,
            CloseCode::INVALID_PAYLOAD => CloseReason::InvalidUtf8,
            _ => CloseReason::ProtocolError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_the_list() {
        for (i, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), i);
        }
    }

    #[test]
    fn close_codes_of_the_specification() {
        // Specification, "WebSocket close codes", and FEED.md.
        let rows = [
            (CloseReason::KeyExpired, 1000_u16, "key_expired"),
            (CloseReason::KeyRevoked, 1000, "key_revoked"),
            (CloseReason::TooSlow, 1008, "too_slow"),
            (CloseReason::RateLimitExceeded, 1008, "rate_limit_exceeded"),
            (CloseReason::PongTimeout, 1001, "pong_timeout"),
            (CloseReason::Restart, 1012, "restart"),
        ];
        for (reason, code, text) in rows {
            let frame = reason.frame().unwrap().as_bytes();
            assert_eq!(frame[..2], [0x88, 2 + text.len() as u8]);
            assert_eq!(frame[2..4], code.to_be_bytes());
            assert_eq!(&frame[4..], text.as_bytes());
        }
    }

    #[test]
    fn violations_keep_their_class() {
        assert_eq!(CloseReason::from(Violation::TOO_LARGE), CloseReason::FrameTooLarge);
        assert_eq!(CloseReason::from(Violation::INVALID_UTF8), CloseReason::InvalidUtf8);
        assert_eq!(CloseReason::from(Violation::protocol("x")), CloseReason::ProtocolError);
    }
}
