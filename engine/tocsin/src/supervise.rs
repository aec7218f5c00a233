//! The main thread's watch over the others: signals, systemd, and whether every thread still moves.
//!
//! Owner: main thread. It sleeps [`TICK`] between looks, allocates little and holds no hot state. A
//! thread that ends on its own (a panic) stops the whole engine: systemd starts it anew, and a
//! restart loses nothing, while an engine with a missing thread would look alive.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::os::clock;
use crate::threads::Pulse;

/// Between two looks.
pub const TICK: Duration = Duration::from_millis(20);

/// A loop that has not started a turn for this long is stuck: the watchdog is not fed.
const STUCK: Duration = Duration::from_secs(5);

/// Signals received, as flags set by async-signal-safe handlers.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    terminate: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers: SIGTERM and SIGINT ask for a stop, SIGHUP for a reload. A second
    /// SIGTERM or SIGINT ends the process at once.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub fn install() -> io::Result<Signals> {
        let signals = Signals::default();
        for signal in [SIGTERM, SIGINT] {
            // Order matters: the first handler looks at the flag before the second sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&signals.terminate))?;
            signal_hook::flag::register(signal, Arc::clone(&signals.terminate))?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn terminate(&self) -> bool {
        self.terminate.load(Ordering::Relaxed)
    }

    /// Whether a reload was asked for since the last call.
    #[must_use]
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}

/// One running thread, as the main thread sees it.
#[derive(Debug)]
pub struct Watched {
    /// Its name (`feed-0`).
    pub name: String,
    /// Joined at the end; finished early means it panicked.
    pub handle: JoinHandle<()>,
    /// Moves with every turn; `None` for threads that block on input.
    pub pulse: Option<Arc<Pulse>>,
}

/// The systemd side: readiness, reloads, stopping, watchdog. Does nothing where there is no
/// systemd.
#[derive(Debug)]
pub struct Systemd {
    watchdog_every: Option<Duration>,
    fed_at: tocsin_core::time::Mono,
    looked_at: tocsin_core::time::Mono,
}

impl Systemd {
    /// Reads what systemd asks for from the environment.
    #[must_use]
    pub fn from_environment() -> Systemd {
        let watchdog_every = sd_notify::watchdog_enabled().map(|period| period / 3);
        let never = tocsin_core::time::Mono(0);
        Systemd { watchdog_every, fed_at: never, looked_at: never }
    }

    /// Tells a state; failures are nothing the engine could act on.
    fn tell(states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(%error, "systemd was not told");
        }
    }

    /// Everything listens and the first polls are on their way.
    pub fn ready(&self, status: &str) {
        Systemd::tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins; [`Systemd::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => Systemd::tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "no monotonic time for systemd"),
        }
    }

    /// The drain begins.
    pub fn stopping(&self) {
        Systemd::tell(&[NotifyState::Stopping]);
    }

    /// Feeds the watchdog when it is due, and only if every thread moved.
    pub fn feed_watchdog(&mut self, groups: [&Vec<Watched>; 5]) {
        let Some(every) = self.watchdog_every else { return };
        let now = clock::mono();
        // Who watches stood still as well: a stop of the whole process says nothing of any thread.
        let stood_still = now.since(self.looked_at) > STUCK / 2;
        self.looked_at = now;
        if stood_still || now.since(self.fed_at) < every {
            return;
        }
        if let Some(stuck) = groups.iter().find_map(|watched| stuck_thread(watched, now)) {
            tracing::error!(thread = stuck, "has not moved for 5 s; the watchdog is not fed");
            return;
        }
        self.fed_at = now;
        Systemd::tell(&[NotifyState::Watchdog]);
    }
}

/// Whether a loop has stood still for [`STUCK`] at `now`.
#[must_use]
pub fn is_stuck(pulse: &Pulse, now: tocsin_core::time::Mono) -> bool {
    now.since(pulse.last_turn()) > STUCK
}

/// Name of a thread whose loop has stood still for [`STUCK`].
#[must_use]
pub fn stuck_thread(watched: &[Watched], now: tocsin_core::time::Mono) -> Option<&str> {
    watched.iter().find(|w| w.pulse.as_ref().is_some_and(|p| is_stuck(p, now))).map(|w| w.name.as_str())
}

/// Name of a thread that ended although nobody asked it to.
#[must_use]
pub fn ended_thread(watched: &[Watched]) -> Option<&str> {
    watched.iter().find(|w| w.handle.is_finished()).map(|w| w.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Idle;
    use crate::threads::{Step, Turn, run_loop};
    use tocsin_core::time::{Mono, Now};

    struct Idler;

    impl Step for Idler {
        fn step(&mut self, _now: Now) -> Turn {
            Turn { work: 0, deadline: Mono::NEVER }
        }
    }

    #[test]
    fn a_moving_thread_is_not_stuck_and_a_dead_one_is_named() {
        let stop = Arc::new(AtomicBool::new(false));
        let pulse = Arc::new(Pulse::default());
        let (s, p) = (Arc::clone(&stop), Arc::clone(&pulse));
        let handle = std::thread::spawn(move || run_loop(&mut Idler, Idle::Block, &s, &p));
        while pulse.last_turn() == Mono(0) {
            std::thread::yield_now();
        }
        let watched = [Watched { name: "feed-0".into(), handle, pulse: Some(Arc::clone(&pulse)) }];
        assert_eq!(stuck_thread(&watched, clock::mono()), None);
        assert_eq!(ended_thread(&watched), None);

        stop.store(true, Ordering::Relaxed);
        while !watched[0].handle.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(ended_thread(&watched), Some("feed-0"));
        let later = pulse.last_turn() + STUCK + Duration::from_millis(1);
        assert_eq!(stuck_thread(&watched, later), Some("feed-0"));
    }
}
