//! Announcements at fixed instants, known by the number in their title.
//!
//! Contract: a thread brings one in through the admin socket every interval, whatever else happens; one
//! that fails is heard by nobody. Owner: the suite that started it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tocsin::os::clock;
use tocsin_core::time::WallUs;

use crate::engine::{self, Engine, Outcome};

/// The title of an announcement.
pub(crate) fn title(number: u64) -> String {
    format!("Binance Will List Storm Token (ST{number:08})")
}

/// The number of the announcement in a message, if it is one of ours.
pub(crate) fn number_in_title(json: &[u8]) -> Option<i64> {
    const BEFORE: &[u8] = b"Storm Token (ST";
    let at = json.windows(BEFORE.len()).position(|w| w == BEFORE)? + BEFORE.len();
    std::str::from_utf8(json.get(at..at + 8)?).ok()?.parse().ok()
}

/// A thread that announces at fixed instants.
pub(crate) struct Announcer {
    start: WallUs,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Option<String>>,
}

impl Announcer {
    /// Begins at once.
    pub(crate) fn start(engine: &Engine, interval: Duration) -> Outcome<Announcer> {
        let socket = engine.data().join("admin.sock");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (start, begin) = (clock::wall(), Instant::now());
        let thread = std::thread::Builder::new().name("announcer".to_owned()).spawn(move || {
            let mut failed = None;
            for number in 0_u32.. {
                let due = begin + interval * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let body = json!({"exchange": "binance", "title": title(u64::from(number))});
                // One that fails is heard by nobody, and shows as such.
                if let Err(e) = engine::admin(&socket, "POST", "/admin/v1/announcements", Some(&body)) {
                    failed = Some(e.to_string());
                }
            }
            failed
        })?;
        Ok(Announcer { start, stop, thread })
    }

    /// When it began, and its last failure.
    pub(crate) fn stop(self) -> Outcome<(WallUs, Option<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.thread.join().map_err(|_| "the announcing thread panicked")?;
        Ok((self.start, failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_known_by_its_title() {
        let json = format!(r#"{{"title":"{}"}}"#, title(1_234));
        assert_eq!(number_in_title(json.as_bytes()), Some(1_234));
        assert_eq!(number_in_title(b"{}"), None);
    }
}
