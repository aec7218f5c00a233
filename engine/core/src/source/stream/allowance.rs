//! How often something may be done: so many times in any window of so long, several rules at once.
//!
//! Contract: pure; time comes in. Exact: within any span of a rule's length, bounds included at one end, never
//! more than its count. Allocates when it is made. Never fails.

use core::time::Duration;
use std::collections::VecDeque;

use crate::time::Mono;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So many times at most, at least 1.
    pub count: usize,
    /// In any span of this length.
    pub per: Duration,
}

/// What has been spent of some rules.
#[derive(Clone, Debug)]
pub struct Spent {
    rules: &'static [Allowance],
    /// The latest instants, as many as the largest count.
    at: VecDeque<Mono>,
    kept: usize,
}

impl Spent {
    /// Nothing spent.
    #[must_use]
    pub fn new(rules: &'static [Allowance]) -> Spent {
        let kept = rules.iter().map(|rule| rule.count).max().unwrap_or(0);
        Spent { rules, at: VecDeque::with_capacity(kept), kept }
    }

    /// The earliest instant at which one more is allowed.
    #[must_use]
    pub fn ready_at(&self) -> Mono {
        let rule = |rule: &Allowance| {
            let nth = self.at.len().checked_sub(rule.count)?;
            self.at.get(nth).map(|at| *at + rule.per)
        };
        self.rules.iter().filter_map(rule).max().unwrap_or(Mono(0))
    }

    /// Spends one if it is allowed; whether it was.
    pub fn spend(&mut self, now: Mono) -> bool {
        if self.ready_at() > now {
            return false;
        }
        while self.at.len() >= self.kept.max(1) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: &[Allowance] = &[
        Allowance { count: 3, per: Duration::from_secs(1) },
        Allowance { count: 7, per: Duration::from_secs(10) },
    ];

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_rule_allows(steps in proptest::collection::vec(0_u64..900, 1..200)) {
            let (mut spent, mut now, mut taken) = (Spent::new(RULES), Mono(5), Vec::new());
            for step in steps {
                now = now + Duration::from_millis(step);
                let ready = spent.ready_at();
                prop_assert_eq!(spent.spend(now), ready <= now);
                if ready <= now {
                    taken.push(now);
                }
            }
            for rule in RULES {
                for (i, first) in taken.iter().enumerate() {
                    let within = taken[i..].iter().take_while(|at| at.since(*first) < rule.per).count();
                    prop_assert!(within <= rule.count);
                }
            }
            // It is not stricter than it says either.
            prop_assert!(spent.spend(now + Duration::from_secs(10)));
        }
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        let mut spent = Spent::new(&[]);
        assert!((0..100).all(|_| spent.spend(Mono(1))));
    }
}
