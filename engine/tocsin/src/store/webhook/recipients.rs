//! To whom an event was offered, and for whom its delivery is concluded.
//!
//! Contract: [`Recipients`] is a sorted list of endpoint numbers with a bit each. On disk the numbers
//! are runs (the gap before each and its length, as variable-length integers), which for endpoints that
//! want everything is a few bytes however many they are; the bits are a bitmap, empty once all are set.
//! Decoding takes any bytes and never panics: what was not written by [`Recipients::save`] is passed
//! over and logged. At most [`limits::WEBHOOK_RECIPIENTS`] an event. Owner: whoever has the connection.

use rusqlite::{Connection, OptionalExtension as _, params};
use tocsin_core::limits;
use tocsin_core::webhook::board::EndpointId;

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recipients {
    endpoints: Vec<u64>,
    concluded: Vec<bool>,
    open: usize,
}

impl Recipients {
    /// Those an event is offered to; none concluded. Takes them in any order; of too many the first.
    pub(super) fn offered_to(endpoints: impl IntoIterator<Item = EndpointId>) -> Recipients {
        let mut endpoints: Vec<u64> = endpoints.into_iter().map(|EndpointId(id)| id).collect();
        if !endpoints.is_sorted_by(|a, b| a < b) {
            endpoints.sort_unstable();
            endpoints.dedup();
        }
        endpoints.truncate(limits::WEBHOOK_RECIPIENTS);
        let open = endpoints.len();
        Recipients { concluded: vec![false; open], endpoints, open }
    }

    /// How many are not concluded.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Those not concluded, sorted.
    pub(super) fn waiting(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.endpoints.iter().zip(&self.concluded).filter(|(_, c)| !**c).map(|(id, _)| EndpointId(*id))
    }

    /// Whether nothing more is sent to `endpoint`; `None`: it is not among them.
    pub(super) fn is_concluded(&self, endpoint: EndpointId) -> Option<bool> {
        let at = self.endpoints.binary_search(&endpoint.0).ok()?;
        self.concluded.get(at).copied()
    }

    /// Nothing more is sent to `endpoint`. Whether that is new.
    pub(super) fn conclude(&mut self, endpoint: EndpointId) -> bool {
        let found = self.endpoints.binary_search(&endpoint.0).ok();
        match found.and_then(|at| self.concluded.get_mut(at)) {
            Some(concluded) if !*concluded => {
                *concluded = true;
                self.open -= 1;
                true
            }
            _ => false,
        }
    }

    /// Something is to be sent to `endpoint` (again), which becomes one of them. False at the bound.
    pub(super) fn reopen(&mut self, endpoint: EndpointId) -> bool {
        match self.endpoints.binary_search(&endpoint.0) {
            Ok(at) => {
                if let Some(concluded) = self.concluded.get_mut(at)
                    && core::mem::take(concluded)
                {
                    self.open += 1;
                }
                true
            }
            Err(_) if self.endpoints.len() >= limits::WEBHOOK_RECIPIENTS => false,
            Err(at) => {
                self.endpoints.insert(at, endpoint.0);
                self.concluded.insert(at, false);
                self.open += 1;
                true
            }
        }
    }

    /// Reads those of an event; `None` when there is no such event or its row is damaged.
    pub(super) fn load(connection: &Connection, event: u64) -> rusqlite::Result<Option<Recipients>> {
        let sql = "SELECT recipients, concluded FROM events WHERE number = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_row([event], |row| {
            Ok(Recipients::decode(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?))
        });
        let found = found.optional()?;
        if found == Some(None) {
            tracing::error!(event, "the recipients of an event cannot be read; passed over");
        }
        Ok(found.flatten())
    }

    /// Writes them to their event.
    pub(super) fn save(&self, connection: &Connection, event: u64) -> rusqlite::Result<()> {
        let sql = "UPDATE events SET open = ?2, recipients = ?3, concluded = ?4 WHERE number = ?1";
        let values = params![event, self.open, self.encode_endpoints(), self.encode_concluded()];
        connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    pub(super) fn encode_endpoints(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut next = 0; // The number behind the last run.
        for run in self.endpoints.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            put_number(first.saturating_sub(next), &mut bytes);
            put_number(run.len() as u64 - 1, &mut bytes);
            next = last.saturating_add(1);
        }
        bytes
    }

    pub(super) fn encode_concluded(&self) -> Vec<u8> {
        if self.open == 0 {
            return Vec::new();
        }
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        self.concluded.chunks(8).map(byte).collect()
    }

    /// Reads what the two above wrote; `None` for anything else.
    pub(super) fn decode(endpoints: &[u8], concluded: &[u8]) -> Option<Recipients> {
        let mut left = endpoints;
        let mut found = Vec::new();
        let mut next: u64 = 0;
        while !left.is_empty() {
            let first = next.checked_add(take_number(&mut left)?)?;
            let more = take_number(&mut left)?;
            let room = limits::WEBHOOK_RECIPIENTS - found.len();
            if more >= room as u64 {
                return None;
            }
            next = first.checked_add(more)?.checked_add(1)?;
            found.extend(first..next);
        }
        if concluded.is_empty() {
            return Some(Recipients { concluded: vec![true; found.len()], endpoints: found, open: 0 });
        }
        if concluded.len() != found.len().div_ceil(8) {
            return None;
        }
        let bits = concluded.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        let concluded: Vec<bool> = bits.take(found.len()).collect();
        let open = concluded.iter().filter(|c| !**c).count();
        Some(Recipients { endpoints: found, concluded, open })
    }
}

/// Seven bits a byte, lowest first; the highest bit says that more follow.
fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn round_trip(recipients: &Recipients) -> Option<Recipients> {
        Recipients::decode(&recipients.encode_endpoints(), &recipients.encode_concluded())
    }

    #[test]
    fn ten_thousand_that_want_everything_are_a_few_bytes() {
        let mut all = Recipients::offered_to((1..=10_000).map(EndpointId));
        assert!(all.encode_endpoints().len() <= 4);
        assert_eq!(all.encode_concluded().len(), 1_250);
        for id in 1..=10_000 {
            assert!(all.conclude(EndpointId(id)));
        }
        assert!(all.encode_concluded().is_empty());
        assert_eq!(round_trip(&all), Some(all));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (endpoints, concluded) in [
            (&[1][..], &[][..]),
            (&[1, 0], &[0, 0]),
            (&[0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &[]),
            (&[0xFF; 12], &[]),
            (&[], &[1]),
        ] {
            assert_eq!(Recipients::decode(endpoints, concluded), None, "{endpoints:?}");
        }
        let most = limits::WEBHOOK_RECIPIENTS as u64;
        let full = Recipients::offered_to((1..=most + 5).map(EndpointId));
        assert_eq!(full.open() as u64, most);
        let mut full = round_trip(&full).unwrap();
        assert!(!full.reopen(EndpointId(most + 9)) && full.reopen(EndpointId(7)));
    }

    proptest! {
        #[test]
        fn as_a_map_would(steps in proptest::collection::vec((0..3_u8, 0..40_u64), 0..60), wide in any::<[u64; 3]>()) {
            let mut model: BTreeMap<u64, bool> = wide.iter().chain(&[1, 2, 3, 9]).map(|id| (*id, false)).collect();
            let mut real = Recipients::offered_to(wide.iter().chain(&[9, 3, 2, 1, 1]).map(|id| EndpointId(*id)));
            for (step, id) in steps {
                match step {
                    0 => {
                        let new = model.get_mut(&id).is_some_and(|c| !core::mem::replace(c, true));
                        prop_assert_eq!(real.conclude(EndpointId(id)), new);
                    }
                    1 => {
                        model.insert(id, false);
                        prop_assert!(real.reopen(EndpointId(id)));
                    }
                    _ => prop_assert_eq!(real.is_concluded(EndpointId(id)), model.get(&id).copied()),
                }
                if !model.contains_key(&u64::MAX) {
                    prop_assert_eq!(round_trip(&real), Some(real.clone()));
                }
                let waiting: Vec<_> = model.iter().filter(|(_, c)| !**c).map(|(id, _)| EndpointId(*id)).collect();
                prop_assert_eq!(real.open(), waiting.len());
                prop_assert_eq!(real.waiting().collect::<Vec<_>>(), waiting);
            }
        }

        #[test]
        fn any_bytes_are_taken(a in proptest::collection::vec(any::<u8>(), 0..30), b in proptest::collection::vec(any::<u8>(), 0..30)) {
            if let Some(found) = Recipients::decode(&a, &b) {
                prop_assert!(found.endpoints.is_sorted_by(|a, b| a < b));
                prop_assert_eq!(found.endpoints.len(), found.concluded.len());
            }
        }
    }
}
