//! What became of a delivery as bytes: what a record of the webhook thread's shared-memory journal
//! holds.
//!
//! Contract: [`encode`] then [`decode`] gives the same outcome. `encode` appends to a buffer the caller
//! reuses and allocates nothing while it has room (webhook thread, between an answer and its next
//! step); `decode` takes any bytes and never panics. Private to one machine and one short life, so the
//! layout is not kept compatible: another [`VERSION`] is refused.

use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::event::EventId;
use tocsin_core::webhook::outgoing::{Outcome, RecordedOutcome};

/// Layout number, the first byte of every record.
pub const VERSION: u8 = 1;

/// Appends `recorded` to `out`.
pub fn encode(recorded: &RecordedOutcome, out: &mut Vec<u8>) {
    let RecordedOutcome { event, endpoint, outcome } = recorded;
    let (kind, attempt, due) = match outcome {
        Outcome::Delivered => (0, 0, 0),
        Outcome::Retry { attempt, due } => (1, *attempt, due.0),
        Outcome::Failed => (2, 0, 0),
        Outcome::Expired => (3, 0, 0),
    };
    out.extend_from_slice(&[VERSION, kind, attempt]);
    out.extend_from_slice(&endpoint.0.to_le_bytes());
    out.extend_from_slice(&due.to_le_bytes());
    out.extend_from_slice(event.as_str().as_bytes());
}

/// Reads what [`encode`] wrote; `None` for anything else, trailing bytes included.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<RecordedOutcome> {
    let ([version, kind, attempt], bytes) = bytes.split_first_chunk::<3>()?;
    let (endpoint, bytes) = bytes.split_first_chunk::<8>()?;
    let (due, event) = bytes.split_first_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    let outcome = match (kind, attempt, i64::from_le_bytes(*due)) {
        (0, 0, 0) => Outcome::Delivered,
        (1, attempt, due) => Outcome::Retry { attempt: *attempt, due: WallUs(due) },
        (2, 0, 0) => Outcome::Failed,
        (3, 0, 0) => Outcome::Expired,
        _ => return None,
    };
    let event = EventId::parse(core::str::from_utf8(event).ok()?)?;
    Some(RecordedOutcome { event, endpoint: EndpointId(u64::from_le_bytes(*endpoint)), outcome })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::testing::any_outcome;

    proptest! {
        #[test]
        fn round_trip(outcome in any_outcome()) {
            let mut bytes = Vec::new();
            encode(&outcome, &mut bytes);
            prop_assert_eq!(decode(&bytes), Some(outcome));
            prop_assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
            bytes.push(b'0');
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(outcome in any_outcome(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = Vec::new();
            encode(&outcome, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = decode(&bytes);
        }
    }
}
