//! What is new: unchanged-body exits, the diff against the seen set, created and updated.

pub mod told;

use crate::time::WallUs;

/// One item a source remembers having seen; what the store keeps so that the seen set survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// Name of the source (`binance.cms`).
    pub source: &'static str,
    /// The exchange's identifier of the item.
    pub notice_id: Box<str>,
    /// Its title, so that a later edit of it can be compared with what it told (see [`told`]).
    pub title: Box<str>,
    /// Fingerprint of what an edit changes (title, time).
    pub fingerprint: u64,
    /// When the exchange says it was published.
    pub published: WallUs,
}
