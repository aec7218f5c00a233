//! What must outlive the process, so that a restart neither repeats nor misses.
//!
//! Contract: plain data, one [`InstrumentRecord`] an instrument of a request and one [`BookRecord`] a
//! request. The store keeps the latest of each under (source, request, symbol) and gives them back to
//! [`super::book::Book::load`]; it must not commit a record before those that came earlier. Events are told
//! first and stored after: a crash between repeats the events of the answers whose records are lost, under
//! the same identities. Nothing here fails.

use serde::{Deserialize, Serialize};

use super::{Instrument, InstrumentKind, Trading};
use crate::time::WallUs;

/// What is durable about a request as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookRecord {
    /// Its first usable answer has been taken as known.
    pub baselined: bool,
    /// When an answer had last been read, up to [`crate::limits::MARKET_CHECKPOINT`] late.
    pub last_answer: Option<WallUs>,
}

/// What is durable about one instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstrumentRecord {
    /// As in [`Instrument`].
    pub symbol: Box<str>,
    /// As in [`Instrument`].
    pub base: Box<str>,
    /// As in [`Instrument`].
    pub quote: Box<str>,
    /// As in [`Instrument`].
    pub kind: InstrumentKind,
    /// As in [`Instrument`].
    pub trading: Trading,
    /// As in [`Instrument`]. A state that changes alone is not stored.
    pub state: Box<str>,
    /// As in [`Instrument`].
    pub opens_at: Option<WallUs>,
    /// As in [`Instrument`].
    pub closes_at: Option<WallUs>,
    /// What has been concluded and told of it.
    pub standing: Standing,
}

/// What has been concluded and told of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// It was traded.
    pub opened: bool,
    /// Its coming listing.
    pub preview: Preview,
    /// Its end.
    pub ending: Ending,
    /// It opened then, and whether a notice tells of it is not known yet.
    pub awaiting: Option<WallUs>,
    /// Whether it is on the list.
    pub presence: Presence,
    /// Previews told.
    pub previews: u16,
    /// Delistings told.
    pub delistings: u16,
    /// Stealth listings told.
    pub stealths: u16,
}

/// What has been told of a coming listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preview {
    /// Nothing, or it is over.
    #[default]
    None,
    /// A preview.
    Told {
        /// With this time.
        at: Option<WallUs>,
        /// When.
        said: WallUs,
    },
    /// And that it is confirmed.
    Confirmed {
        /// With this time.
        at: Option<WallUs>,
    },
    /// Another request of the exchange told it, and tells what becomes of it.
    Elsewhere,
}

/// What is known of an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// None is set.
    #[default]
    None,
    /// One is set or has come.
    Known {
        /// For this time, if the exchange says.
        at: Option<WallUs>,
        /// And was told.
        told: bool,
    },
}

/// Whether an instrument is on its request's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It is.
    #[default]
    Listed,
    /// It went with many others, which was believed in silence; it may come back in silence.
    Dropped,
    /// It is gone, which was concluded.
    Gone,
}

impl InstrumentRecord {
    /// A row nothing has been concluded of.
    pub(super) fn of(row: &Instrument<'_>) -> InstrumentRecord {
        InstrumentRecord {
            symbol: row.symbol.into(),
            base: row.base.into(),
            quote: row.quote.into(),
            kind: row.kind,
            trading: row.trading,
            state: row.state.into(),
            opens_at: row.opens_at,
            closes_at: row.closes_at,
            standing: Standing::default(),
        }
    }

    /// Counted when a list is judged: on it, and not over.
    pub(super) fn is_live(&self) -> bool {
        self.standing.presence == Presence::Listed && self.trading != Trading::Over
    }
}
