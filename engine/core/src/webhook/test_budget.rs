//! What one account may ask for: the specification's "Test events: 50 per day" and "Endpoints: 5 per
//! account", and registrations an hour.
//!
//! Contract: values of one account; time comes in. Constant memory, allocates nothing. A refusal says
//! the limit and when to ask again. A clock that is set back gives nothing again.

use core::time::Duration;

use crate::limits;
use crate::time::WallUs;

const DAY_SECS: i64 = 86_400;
const HOUR: Duration = Duration::from_secs(3_600);

/// Test events of one account in the current UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestBudget {
    /// Days since the epoch.
    pub day: i64,
    /// Taken on that day.
    pub taken: u8,
}

/// The day's test events are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestsExhausted {
    /// Until midnight UTC.
    pub retry_after: Duration,
}

impl TestBudget {
    /// Takes one; says how many are left today.
    ///
    /// # Errors
    /// None is left.
    pub fn take(&mut self, now: WallUs) -> Result<u8, TestsExhausted> {
        let today = now.secs().div_euclid(DAY_SECS);
        if today > self.day {
            *self = TestBudget { day: today, taken: 0 };
        }
        if self.taken >= limits::WEBHOOK_TESTS_PER_DAY {
            let midnight = WallUs::from_secs(self.day.saturating_add(1).saturating_mul(DAY_SECS));
            let micros = u64::try_from(midnight.micros_since(now)).unwrap_or(0);
            return Err(TestsExhausted { retry_after: Duration::from_micros(micros) });
        }
        self.taken += 1;
        Ok(limits::WEBHOOK_TESTS_PER_DAY - self.taken)
    }
}

/// Registrations of one account in the last hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistrationBudget {
    /// The last ones, a ring.
    at: [Option<WallUs>; limits::WEBHOOK_REGISTRATIONS_PER_HOUR],
    next: usize,
}

/// Why an endpoint may not be registered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationRefusal {
    /// "Max endpoints: 5 per account".
    Endpoints {
        /// How many are allowed.
        limit: usize,
    },
    /// Too many registrations in an hour, failed ones included.
    TooOften {
        /// How many are allowed.
        limit: usize,
        /// When the next is.
        retry_after: Duration,
    },
}

impl RegistrationBudget {
    /// Takes a registration of an account that has `endpoints` now. One refused for their number is
    /// not counted.
    ///
    /// # Errors
    /// Which limit stands against it.
    pub fn take(&mut self, now: WallUs, endpoints: usize) -> Result<(), RegistrationRefusal> {
        if endpoints >= limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT {
            return Err(RegistrationRefusal::Endpoints { limit: limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT });
        }
        let size = self.at.len();
        let Some(oldest) = self.at.get_mut(self.next % size) else { return Ok(()) };
        if let Some(at) = *oldest {
            // Negative after the clock was set back: as if it had just been.
            let passed = Duration::from_micros(u64::try_from(now.micros_since(at)).unwrap_or(0));
            if passed < HOUR {
                return Err(RegistrationRefusal::TooOften { limit: size, retry_after: HOUR - passed });
            }
        }
        *oldest = Some(now);
        self.next = (self.next + 1) % size;
        Ok(())
    }

    /// How many registrations are left in this hour.
    #[must_use]
    pub fn left(&self, now: WallUs) -> usize {
        let age = |at: WallUs| Duration::from_micros(u64::try_from(now.micros_since(at)).unwrap_or(0));
        self.at.len() - self.remembered().filter(|at| age(*at) < HOUR).count()
    }

    /// The registrations it remembers, oldest first: what to keep for
    /// [`RegistrationBudget::restored`].
    pub fn remembered(&self) -> impl Iterator<Item = WallUs> + '_ {
        let size = self.at.len();
        (0..size).filter_map(move |n| *self.at.get((self.next + n) % size)?)
    }

    /// The budget that remembers these registrations, given oldest first; of too many the newest.
    #[must_use]
    pub fn restored(at: impl IntoIterator<Item = WallUs>) -> RegistrationBudget {
        let mut budget = RegistrationBudget::default();
        for at in at {
            let size = budget.at.len();
            if let Some(oldest) = budget.at.get_mut(budget.next) {
                *oldest = Some(at);
            }
            budget.next = (budget.next + 1) % size;
        }
        budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2024-03-09, 23:59:00 UTC.
    const BEFORE_MIDNIGHT: i64 = 1_710_028_740;

    #[test]
    fn fifty_a_day_across_midnight_utc() {
        let mut budget = TestBudget::default();
        let at = WallUs::from_secs(BEFORE_MIDNIGHT);
        for left in (0..50).rev() {
            assert_eq!(budget.take(at), Ok(left));
        }
        let refused = |secs| Err(TestsExhausted { retry_after: Duration::from_secs(secs) });
        assert_eq!(budget.take(at), refused(60));
        assert_eq!(budget.take(WallUs::from_secs(BEFORE_MIDNIGHT + 59)), refused(1));
        let midnight = WallUs::from_secs(BEFORE_MIDNIGHT + 60);
        for left in (0..50).rev() {
            assert_eq!(budget.take(midnight), Ok(left));
        }
        assert_eq!(budget.take(midnight), refused(86_400));
        assert_eq!(budget.take(at), refused(86_460), "a clock set back gives nothing again");
        assert_eq!(budget.take(WallUs::from_secs(BEFORE_MIDNIGHT + 60 + 86_400)), Ok(49));
    }

    #[test]
    fn ten_registrations_an_hour_and_five_endpoints() {
        let mut budget = RegistrationBudget::default();
        let at = |secs| WallUs::from_secs(BEFORE_MIDNIGHT + secs);
        assert_eq!(budget.take(at(0), 5), Err(RegistrationRefusal::Endpoints { limit: 5 }));
        for n in 0..10 {
            assert_eq!(budget.take(at(n * 60), 4), Ok(()));
        }
        let too_often =
            |secs| Err(RegistrationRefusal::TooOften { limit: 10, retry_after: Duration::from_secs(secs) });
        assert_eq!((budget.left(at(600)), budget.left(at(3_660))), (0, 2));
        assert_eq!(budget.take(at(600), 0), too_often(3_000));
        assert_eq!(budget.take(at(3_599), 0), too_often(1));
        assert_eq!(budget.take(at(3_600), 0), Ok(()));
        assert_eq!(budget.take(at(3_600), 0), too_often(60));
        assert_eq!(budget.take(at(-9_000), 0), too_often(3_600));
    }

    #[test]
    fn a_restored_budget_goes_on_where_it_was() {
        let mut budget = RegistrationBudget::default();
        for n in 0..23 {
            let restored = RegistrationBudget::restored(budget.remembered());
            assert!(restored.remembered().eq(budget.remembered()), "after {n}");
            let at = WallUs::from_secs(BEFORE_MIDNIGHT + n * 200);
            assert_eq!({ restored }.take(at, 0), budget.take(at, 0), "after {n}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_limits(steps in prop::collection::vec(0..7_200_i64, 1..400)) {
            let (mut tests, mut registrations) = (TestBudget::default(), RegistrationBudget::default());
            let (mut now, mut tested, mut registered) = (BEFORE_MIDNIGHT, Vec::new(), Vec::new());
            for step in steps {
                now += step / 4;
                if tests.take(WallUs::from_secs(now)).is_ok() {
                    tested.push(now / DAY_SECS);
                }
                if registrations.take(WallUs::from_secs(now), 0).is_ok() {
                    registered.push(now);
                }
                prop_assert!(tested.iter().filter(|day| **day == now / DAY_SECS).count() <= 50);
                prop_assert!(registered.iter().filter(|at| now - **at < 3_600).count() <= 10);
            }
        }
    }
}
