//! The two clocks, read through the vDSO: about 25 ns each, no system call, no allocation.
//!
//! The only place of the engine that reads a clock for a decision; the core gets the result as an
//! argument.

use rustix::time::{ClockId, clock_gettime};
use tocsin_core::time::{Mono, Now, WallUs};

/// Monotonic nanoseconds. Never goes back.
#[must_use]
pub fn mono() -> Mono {
    let t = clock_gettime(ClockId::Monotonic);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    Mono(secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0)))
}

/// Microseconds since the UNIX epoch.
#[must_use]
pub fn wall() -> WallUs {
    let t = clock_gettime(ClockId::Realtime);
    WallUs(t.tv_sec.saturating_mul(1_000_000).saturating_add(t.tv_nsec / 1_000))
}

/// Both clocks, one after the other.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// The kernel's opinion of its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Somebody sets it and has done so lately.
    pub synchronised: bool,
    /// How wrong it may be, at most, in microseconds.
    pub max_error_us: i64,
}

/// Asks the kernel; needs no root, for nothing is set. `None` where it refuses.
#[must_use]
pub fn state() -> Option<ClockState> {
    // SAFETY: `timex` is plain numbers, for which zeros are a value; `modes` 0 sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` that outlives the call.
    let code = unsafe { libc::adjtimex(&raw mut timex) };
    let synchronised = code != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    (code >= 0).then_some(ClockState { synchronised, max_error_us: timex.maxerror })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_does_not_go_back_and_wall_is_this_century() {
        let a = mono();
        assert!(mono() >= a);
        assert!(wall() > WallUs::from_secs(1_700_000_000));
    }

    #[test]
    fn the_kernel_says_how_wrong_it_may_be() {
        assert!(state().is_some_and(|state| state.max_error_us >= 0));
    }
}
