//! One-time sign-in codes: what a sign-in link carries.
//!
//! Contract: a code opens one session within [`limits::SIGN_IN_CODE_LIFE`]; it is used up by the first
//! who brings it. Bounds: [`limits::SIGN_IN_CODES`], and [`limits::SIGN_IN_CODES_PER_OWNER`] of one owner;
//! at a bound the oldest is no longer good. Never fails.

use std::collections::BTreeMap;

use super::Owner;
use super::ticket::{Ticket, TicketHash};
use crate::limits;
use crate::time::Mono;

/// Those that are good.
#[derive(Debug, Default)]
pub struct Codes {
    entries: BTreeMap<TicketHash, (Owner, Mono)>,
}

impl Codes {
    /// Makes a code that has just been drawn good.
    pub fn issue(&mut self, now: Mono, code: &Ticket, owner: Owner) {
        self.entries.retain(|_, (_, until)| *until > now);
        let own = self.entries.values().filter(|(of, _)| *of == owner).count();
        if own >= limits::SIGN_IN_CODES_PER_OWNER {
            self.drop_oldest(|of| of == owner);
        } else if self.entries.len() >= limits::SIGN_IN_CODES {
            self.drop_oldest(|_| true);
        }
        self.entries.insert(code.hash(), (owner, now + limits::SIGN_IN_CODE_LIFE));
    }

    /// Uses a code up; whose it was.
    pub fn redeem(&mut self, now: Mono, code: &Ticket) -> Option<Owner> {
        let (owner, until) = self.entries.remove(&code.hash())?;
        (until > now).then_some(owner)
    }

    /// Those of an owner are no longer good.
    pub fn end_all_of(&mut self, owner: Owner) {
        self.entries.retain(|_, (of, _)| *of != owner);
    }

    fn drop_oldest(&mut self, of: impl Fn(Owner) -> bool) {
        let those = self.entries.iter().filter(|(_, (owner, _))| of(*owner));
        if let Some(key) = those.min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(n: usize) -> Ticket {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Ticket::new(bytes)
    }

    #[test]
    fn good_once_and_for_its_time() {
        let mut codes = Codes::default();
        let end = Mono(0) + limits::SIGN_IN_CODE_LIFE;
        codes.issue(Mono(0), &code(1), Owner::Account(3));
        codes.issue(Mono(0), &code(2), Owner::Administrator);
        assert_eq!(codes.redeem(Mono(1), &code(1)), Some(Owner::Account(3)));
        assert_eq!(codes.redeem(Mono(1), &code(1)), None, "used up");
        assert_eq!(codes.redeem(end, &code(2)), None, "too late");
        assert_eq!(codes.redeem(Mono(0), &code(2)), None, "and used up by that");
        codes.issue(Mono(0), &code(3), Owner::Account(3));
        codes.issue(Mono(0), &code(4), Owner::Account(4));
        codes.end_all_of(Owner::Account(3));
        assert_eq!(codes.redeem(Mono(1), &code(3)), None);
        assert_eq!(codes.redeem(Mono(1), &code(4)), Some(Owner::Account(4)));
    }

    #[test]
    fn at_a_bound_the_oldest_gives_way() {
        let mut codes = Codes::default();
        codes.issue(Mono(0), &code(0), Owner::Administrator);
        for n in 1..=limits::SIGN_IN_CODES_PER_OWNER + 1 {
            codes.issue(Mono(n as u64), &code(n), Owner::Account(1));
        }
        assert_eq!(codes.redeem(Mono(99), &code(1)), None);
        assert_eq!(codes.redeem(Mono(99), &code(2)), Some(Owner::Account(1)));
        assert_eq!(codes.redeem(Mono(99), &code(0)), Some(Owner::Administrator), "another's");
        for n in 0..=limits::SIGN_IN_CODES {
            codes.issue(Mono(100 + n as u64), &code(1_000 + n), Owner::Account(n as i64));
        }
        assert_eq!(codes.entries.len(), limits::SIGN_IN_CODES);
        assert!(codes.redeem(Mono(9_999), &code(1_000 + limits::SIGN_IN_CODES)).is_some());
    }
}
