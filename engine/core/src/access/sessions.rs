//! Sessions of browsers that have signed in.
//!
//! Contract: a session is known by the hash of its id; it ends [`limits::SESSION_IDLE`] after its last
//! use, [`limits::SESSION_LIFE`] after it began, when its owner's sessions are ended, or when it is
//! ended itself, and never comes back. Its CSRF token is an HMAC of its id under a key of this table,
//! so that nothing more than the hash is kept and the token can be told again.
//!
//! Bounds: [`limits::SESSIONS`], and [`limits::SESSIONS_PER_OWNER`] of one owner, so that no account can
//! push the sessions of others out. At a bound the one that is idle longest leaves. Never fails.

use core::time::Duration;
use std::collections::BTreeMap;

use ring::hmac;

use super::Owner;
use super::ticket::{Ticket, TicketHash, digit, hex};
use crate::limits;
use crate::time::Mono;

/// What is told of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it is known by.
    pub key: TicketHash,
    /// Whose it is.
    pub owner: Owner,
    /// When it ends if it is used no more.
    pub expires_in: Duration,
}

#[derive(Clone, Copy)]
struct Entry {
    owner: Owner,
    began: Mono,
    used: Mono,
}

impl Entry {
    fn ends(&self) -> Mono {
        (self.used + limits::SESSION_IDLE).min(self.began + limits::SESSION_LIFE)
    }
}

/// All of them.
pub struct Sessions {
    entries: BTreeMap<TicketHash, Entry>,
    csrf: hmac::Key,
}

impl core::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Sessions({})", self.entries.len())
    }
}

impl Sessions {
    /// None yet. `key` is random and makes their CSRF tokens.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Sessions {
        Sessions { entries: BTreeMap::new(), csrf: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// Begins a session of this id, which has just been drawn.
    pub fn begin(&mut self, now: Mono, id: &Ticket, owner: Owner) -> Session {
        self.make_room(now, owner);
        let entry = Entry { owner, began: now, used: now };
        self.entries.insert(id.hash(), entry);
        Session { key: id.hash(), owner, expires_in: entry.ends().since(now) }
    }

    /// The session of this id, which is used now.
    pub fn use_now(&mut self, now: Mono, id: &Ticket) -> Option<Session> {
        let key = id.hash();
        let entry = self.entries.get_mut(&key)?;
        if entry.ends() <= now {
            self.entries.remove(&key);
            return None;
        }
        entry.used = entry.used.max(now);
        Some(Session { key, owner: entry.owner, expires_in: entry.ends().since(now) })
    }

    /// Whether it has not ended; does not count as use.
    #[must_use]
    pub fn holds(&self, now: Mono, key: &TicketHash) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.ends() > now)
    }

    /// Ends one.
    pub fn end(&mut self, key: &TicketHash) {
        self.entries.remove(key);
    }

    /// Ends all of an owner; says how many.
    pub fn end_all_of(&mut self, owner: Owner) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.owner != owner);
        before - self.entries.len()
    }

    /// How many there are; those that ended by themselves may still be counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The CSRF token of a session.
    #[must_use]
    pub fn csrf(&self, id: &Ticket) -> String {
        hex(hmac::sign(&self.csrf, id.bytes()).as_ref())
    }

    /// Whether this is the CSRF token of the session; compares in constant time.
    #[must_use]
    pub fn csrf_matches(&self, id: &Ticket, given: &str) -> bool {
        let (pairs, rest) = given.as_bytes().as_chunks::<2>();
        let tag: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect();
        rest.is_empty() && tag.is_some_and(|tag| hmac::verify(&self.csrf, id.bytes(), &tag).is_ok())
    }

    fn make_room(&mut self, now: Mono, owner: Owner) {
        let own = self.entries.values().filter(|entry| entry.owner == owner).count();
        if self.entries.len() < limits::SESSIONS && own < limits::SESSIONS_PER_OWNER {
            return;
        }
        self.entries.retain(|_, entry| entry.ends() > now);
        let own = self.entries.values().filter(|entry| entry.owner == owner).count();
        if own >= limits::SESSIONS_PER_OWNER {
            self.end_idlest(|entry| entry.owner == owner);
        } else if self.entries.len() >= limits::SESSIONS {
            self.end_idlest(|_| true);
        }
    }

    fn end_idlest(&mut self, of: impl Fn(&Entry) -> bool) {
        let those = self.entries.iter().filter(|(_, entry)| of(entry));
        if let Some(key) = those.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> Ticket {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Ticket::new(bytes)
    }

    fn at(secs: u64) -> Mono {
        Mono(secs * 1_000_000_000)
    }

    #[test]
    fn ends_when_idle_and_at_the_end_of_its_life() {
        let mut sessions = Sessions::new(&[1; 32]);
        let (idle, life) = (limits::SESSION_IDLE.as_secs(), limits::SESSION_LIFE.as_secs());
        let session = sessions.begin(at(0), &id(1), Owner::Administrator);
        assert_eq!(session.expires_in, limits::SESSION_IDLE);
        assert!(sessions.use_now(at(idle), &id(1)).is_none(), "idle");
        assert!(sessions.is_empty());

        sessions.begin(at(0), &id(1), Owner::Administrator);
        let mut now = 0;
        while now + idle / 2 < life {
            now += idle / 2;
            let session = sessions.use_now(at(now), &id(1)).expect("in use");
            assert_eq!(session.expires_in.as_secs(), idle.min(life - now));
        }
        assert!(sessions.holds(at(life - 1), &id(1).hash()));
        assert!(!sessions.holds(at(life), &id(1).hash()));
        assert!(sessions.use_now(at(life), &id(1)).is_none());
    }

    #[test]
    fn nobody_pushes_the_sessions_of_others_out() {
        let mut sessions = Sessions::new(&[1; 32]);
        sessions.begin(at(0), &id(0), Owner::Administrator);
        for n in 1..=1_000 {
            sessions.begin(at(1), &id(n), Owner::Account(5));
        }
        assert_eq!(sessions.len(), limits::SESSIONS_PER_OWNER + 1);
        assert!(sessions.use_now(at(1), &id(0)).is_some());
        assert!(sessions.use_now(at(1), &id(1_000)).is_some(), "the newest stays");
    }

    #[test]
    fn at_the_bound_the_idlest_leaves() {
        let mut sessions = Sessions::new(&[1; 32]);
        let most = u32::try_from(limits::SESSIONS).unwrap();
        for n in 0..most {
            sessions.begin(at(u64::from(n) / 100), &id(n), Owner::Account(i64::from(n)));
        }
        sessions.use_now(at(50), &id(0));
        sessions.begin(at(60), &id(most), Owner::Account(-1));
        assert_eq!(sessions.len(), limits::SESSIONS);
        assert!(sessions.holds(at(60), &id(0).hash()), "was used");
        let gone = (0..most).filter(|n| !sessions.holds(at(60), &id(*n).hash())).count();
        assert_eq!(gone, 1);
    }

    #[test]
    fn a_csrf_token_is_its_sessions_and_its_tables() {
        let sessions = Sessions::new(&[1; 32]);
        let token = sessions.csrf(&id(1));
        assert_eq!(token.len(), 64);
        assert!(sessions.csrf_matches(&id(1), &token) && sessions.csrf(&id(1)) == token);
        assert!(!sessions.csrf_matches(&id(2), &token));
        assert!(!Sessions::new(&[2; 32]).csrf_matches(&id(1), &token));
        for wrong in ["", "0", &token[..62], &token[1..], &format!("{token}00"), "é", &id(1).reveal()] {
            assert!(!sessions.csrf_matches(&id(1), wrong), "{wrong}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(i64),
        Use(usize),
        End(usize),
        EndAllOf(i64),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4_i64).prop_map(Step::Begin),
            6 => (0..64_usize).prop_map(Step::Use),
            1 => (0..64_usize).prop_map(Step::End),
            1 => (0..4_i64).prop_map(Step::EndAllOf),
            4 => (0..4_000_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Beside a model without bounds: what ended never holds again, what holds is young and in use,
        /// and of one owner there are never more than the bound.
        #[test]
        fn what_ended_stays_ended(steps in steps()) {
            let mut sessions = Sessions::new(&[1; 32]);
            let mut model: Vec<(Owner, u64, u64, bool)> = Vec::new();
            let mut now = 0;
            let ticket = |n: usize| id(u32::try_from(n).unwrap());
            for step in steps {
                match step {
                    Step::Wait(secs) => now += secs,
                    Step::Begin(owner) => {
                        sessions.begin(at(now), &ticket(model.len()), Owner::Account(owner));
                        model.push((Owner::Account(owner), now, now, true));
                    }
                    Step::Use(n) if n < model.len() => {
                        let found = sessions.use_now(at(now), &ticket(n));
                        let (owner, began, used, alive) = &mut model[n];
                        if let Some(session) = found {
                            prop_assert!(*alive, "came back");
                            prop_assert_eq!(session.owner, *owner);
                            prop_assert!(now - *used < limits::SESSION_IDLE.as_secs());
                            prop_assert!(now - *began < limits::SESSION_LIFE.as_secs());
                            *used = now;
                        } else {
                            *alive = false;
                        }
                    }
                    Step::End(n) if n < model.len() => {
                        sessions.end(&ticket(n).hash());
                        model[n].3 = false;
                    }
                    Step::EndAllOf(owner) => {
                        sessions.end_all_of(Owner::Account(owner));
                        let its = model.iter_mut().filter(|one| one.0 == Owner::Account(owner));
                        its.for_each(|one| one.3 = false);
                    }
                    Step::Use(_) | Step::End(_) => {}
                }
                for owner in 0..4 {
                    let holds = |(n, one): &(usize, &(Owner, u64, u64, bool))| {
                        one.0 == Owner::Account(owner) && sessions.holds(at(now), &ticket(*n).hash())
                    };
                    let held = model.iter().enumerate().filter(holds).count();
                    prop_assert!(held <= limits::SESSIONS_PER_OWNER);
                }
            }
        }
    }
}
