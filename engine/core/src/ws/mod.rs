//! RFC 6455, sans-I/O: frames, opening handshake and the session state machine, for both roles.
//!
//! Contract: bytes in, events and bytes out. The caller owns the socket, the clock and the masking
//! key. Owner thread: whoever holds the [`session::Session`]; nothing is shared. Only a message that
//! did not arrive whole is copied, and only then is memory allocated, bounded by
//! [`session::SessionLimits`]. Every failure is a [`frame::Violation`] that names the close code to
//! send. No extension is ever negotiated.

pub mod client;
pub mod frame;
pub mod handshake;
pub mod session;
pub mod utf8;

pub use client::Client;
pub use frame::{CloseCode, Opcode, Role, Violation};
pub use session::{Event, Session, SessionLimits};
