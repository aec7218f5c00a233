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

/// Fingerprint of what an edit changes: title and publish time. FNV-1a over the title, a byte that
/// no UTF-8 text holds, and the time. It is kept on disk, so it never changes.
#[must_use]
pub fn fingerprint(title: &str, published: WallUs) -> u64 {
    let time = published.0.to_le_bytes();
    let bytes = title.as_bytes().iter().chain(&[0xFF]).chain(&time);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_follow_title_and_time_and_are_fixed() {
        let base = fingerprint("Binance Will List A (A)", WallUs(1));
        assert_eq!(base, fingerprint("Binance Will List A (A)", WallUs(1)));
        assert_ne!(base, fingerprint("Binance Will List A (B)", WallUs(1)));
        assert_ne!(base, fingerprint("Binance Will List A (A)", WallUs(2)));
        // On disk: a change here would make every known item an edited one after an upgrade.
        assert_eq!(fingerprint("", WallUs(0)), 0x2032_dd64_3620_252e);
    }
}
