//! What a push source is, as data: how to ask for the stream, what to say on it, how to read it.
//!
//! Contract: a [`StreamSpec`] is a constant. The source thread opens the WebSocket with
//! [`StreamSpec::upgrade`], lets a [`session::Conversation`] decide what to send when, and gives every
//! message to [`StreamSpec::read`]; a [`relay::Relay`] decides when sessions are opened and replaced. Time,
//! randomness and credentials come in as arguments. Owner: the source thread. Reading reuses a [`Scratch`].
//! A message that cannot be read is a [`ParseError`]; one that says no is [`Incoming::Refused`].

pub mod allowance;
pub mod binance;
pub mod credentials;
pub mod gate;
pub mod relay;
pub mod session;
pub mod upbit;

use core::time::Duration;

use zeroize::Zeroizing;

use super::backoff::Failure;
use super::{Evidence, Item, ParseError, Parsed, Scratch, ShortText};
use crate::model::Exchange;
use crate::time::WallUs;
use allowance::Allowance;
use credentials::Credentials;

/// Every push source there is.
pub static ALL: [&StreamSpec; 3] = [&binance::STREAM, &upbit::STREAM, &gate::STREAM];

/// The push source configured under `[streams.NAME]`.
#[must_use]
pub fn by_config_name(name: &str) -> Option<&'static StreamSpec> {
    ALL.into_iter().find(|spec| spec.config_name == name)
}

/// A push source: everything about it that is not a decision of the operator.
#[derive(Clone, Copy, Debug)]
pub struct StreamSpec {
    /// Name in messages, store and metrics: `<exchange>.stream`.
    pub name: &'static str,
    /// Name of its configuration section, `[streams.NAME]`.
    pub config_name: &'static str,
    /// Whose announcements it brings.
    pub exchange: Exchange,
    /// How far the exchange stands behind it.
    pub evidence: Evidence,
    /// Scheme and authority, without a path.
    pub base_url: &'static str,
    /// Path of the upgrade request.
    pub path: &'static str,
    /// Whether it is given to holders of an API key alone.
    pub needs_credentials: bool,
    /// How far the clocks may differ where the request is signed with the time.
    pub clock_within: Option<Duration>,
    /// What it subscribes to, at most [`crate::limits::LISTS_PER_SOURCE`]: each has a baseline of its own, kept
    /// by the store under this name. All share one seen set.
    pub channels: &'static [&'static str],
    /// Makes the upgrade request.
    pub upgrade: fn(&Ask<'_>) -> Upgrade,
    /// Writes the message number `.0` (from 0) to be sent after the upgrade into the empty text; `false` when
    /// there is none of that number.
    pub greet: fn(usize, Fresh, &mut String) -> bool,
    /// When a session counts as live.
    pub confirmed_by: Confirmation,
    /// How it is kept open.
    pub keepalive: Keepalive,
    /// Client frames on one connection, everything counted, below what the exchange allows.
    pub frames: &'static [Allowance],
    /// Connections, below what the exchange allows.
    pub connects: &'static [Allowance],
    /// After so long the exchange ends a session, if it does: sessions are replaced before.
    pub session_life: Option<Duration>,
    /// For so long after a subscription what comes may be a replay of what is known.
    pub replay: Duration,
    /// Reads one message.
    pub read: ReadFn,
    /// What an upgrade answered with another status than 101 means, by status and the beginning of the body.
    pub refused: fn(u16, &[u8]) -> Failure,
}

/// Reads one message, giving its items and the channels they came on to the callback. Works in place: the
/// message is scrambled afterwards. The callback is never called when the outcome is not [`Incoming::Items`].
pub type ReadFn =
    fn(&mut Scratch, &mut [u8], &mut dyn FnMut(usize, &Item<'_>)) -> Result<Incoming, ParseError>;

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Announcements.
    Items(Parsed),
    /// The subscription to this channel stands.
    Accepted(usize),
    /// The subscription to this channel is refused; others may stand.
    Rejected(usize, ShortText),
    /// The exchange refuses the session, and why.
    Refused(Failure, ShortText),
    /// The answer to a keepalive.
    Pong,
    /// Nothing that concerns us.
    Other,
}

/// What is different each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Now.
    pub wall: WallUs,
    /// Fresh, unpredictable bytes.
    pub random: [u8; 16],
}

/// What an upgrade request is made of.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The operator's key; `None` only where none is needed.
    pub credentials: Option<&'a Credentials>,
    /// See [`ParameterOrder`].
    pub order: ParameterOrder,
    /// Of this request.
    pub fresh: Fresh,
}

/// The order in which Binance's parameters are signed. Its documents ask for the alphabet; the digest in
/// their example is of another order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParameterOrder {
    /// `random`, `recvWindow`, `timestamp`, `topic`.
    #[default]
    Alphabetical,
    /// `random`, `topic`, `recvWindow`, `timestamp`.
    TopicSecond,
}

impl ParameterOrder {
    /// Spelling in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ParameterOrder::Alphabetical => "alphabetical",
            ParameterOrder::TopicSecond => "topic_second",
        }
    }

    /// From that spelling.
    #[must_use]
    pub fn parse(name: &str) -> Option<ParameterOrder> {
        [ParameterOrder::Alphabetical, ParameterOrder::TopicSecond].into_iter().find(|o| o.name() == name)
    }
}

/// An upgrade request, less what every one has. Wiped when dropped.
#[derive(Clone)]
pub struct Upgrade {
    /// Path and query.
    pub target: Zeroizing<String>,
    /// One more header.
    pub header: Option<(&'static str, Zeroizing<String>)>,
}

/// What makes a session live: from then on nothing published is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The upgrade itself: the request named what is wanted.
    Upgrade,
    /// The answer to a ping sent after the subscription, which is not answered itself: a server handles
    /// frames in order.
    Pong,
    /// An answer for every channel, at least one of them [`Incoming::Accepted`].
    Channels,
}

/// How a session is kept open.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// So often, the first at once.
    pub every: Duration,
    /// Writes the text to send; `None` sends a ping without payload.
    pub text: Option<fn(Fresh, &mut String)>,
    /// A session that answered before and is silent for so long is dead.
    pub patience: Duration,
}

/// 64-bit FNV-1a: for identifiers that are kept on disk, so it never changes.
fn fnv1a(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Appends `bytes` as lower-case hex.
fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
}

/// What a refusal of the upgrade means where the body says nothing more: the class of its status.
fn refused_by_status(status: u16) -> Failure {
    Failure::of_status(status).unwrap_or(Failure::Status)
}

#[cfg(test)]
mod tests;
