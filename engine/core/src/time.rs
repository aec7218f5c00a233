//! Time as values: the core never reads a clock, so every instant comes in as one of these.
//!
//! Two clocks, two types, no conversion between them: [`Mono`] orders and spaces events and
//! drives every deadline; [`WallUs`] is what users see in messages and what exchanges publish.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A reading of the monotonic clock in nanoseconds. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The end of time: a deadline that never comes.
    pub const NEVER: Mono = Mono(u64::MAX);

    /// Time since `earlier`, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    /// Saturates at [`Mono::NEVER`].
    fn add(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;
    /// Saturates at zero.
    fn sub(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Microseconds since the UNIX epoch, as in the feed's `…TimestampUs` fields.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct WallUs(pub i64);

impl WallUs {
    /// From whole seconds since the epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> WallUs {
        WallUs(secs.saturating_mul(1_000_000))
    }

    /// From milliseconds since the epoch; saturates.
    #[must_use]
    pub const fn from_millis(millis: i64) -> WallUs {
        WallUs(millis.saturating_mul(1_000))
    }

    /// Whole seconds since the epoch, rounded towards the past.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Microseconds from `earlier` to `self`; negative if `earlier` is later; saturates.
    #[must_use]
    pub const fn micros_since(self, earlier: WallUs) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks read at one instant: what a loop's `step` receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic reading, for deadlines.
    pub mono: Mono,
    /// Wall reading, for messages.
    pub wall: WallUs,
}
