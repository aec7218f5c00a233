//! What the engine under measurement has in use of its heap, as its allocator counts it.
//!
//! Contract: the harness names a file in the environment of the process it starts ([`FILE`]), [`watch`] in
//! that process puts the figure there every [`EVERY`], and [`in_use`] reads it. What is resident or mapped
//! also grows while the heap's free room grows, which it does whenever more happens at once than ever
//! before; what is in use grows by what is kept. Owner of the writing: a thread of its own, which ends with
//! its process. It takes the allocator's locks while it counts: some microseconds for each arena, at which
//! another thread may wait, so only a suite that asks for it has it. Where the C library has no such count
//! there is no figure. Fails silently in the engine's process; the reader then says that there is no file.

use std::path::Path;
use std::time::Duration;

use crate::engine::Outcome;

/// Environment variable that names the file.
pub(crate) const FILE: &str = "BENCH_HEAP_FILE";
/// Between two figures.
const EVERY: Duration = Duration::from_secs(1);

/// Starts the thread that writes, where the environment names a file and the C library counts.
pub(crate) fn watch() {
    let Some(file) = std::env::var_os(FILE).filter(|_| counted().is_some()) else { return };
    std::thread::spawn(move || {
        let (file, next) = (Path::new(&file), Path::new(&file).with_extension("next"));
        while let Some(bytes) = counted() {
            // Renamed, so that nobody reads half a number.
            if std::fs::write(&next, bytes.to_string()).and_then(|()| std::fs::rename(&next, file)).is_err() {
                return;
            }
            std::thread::sleep(EVERY);
        }
    });
}

/// Bytes in use, as the file says.
pub(crate) fn in_use(file: &Path) -> Outcome<u64> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(text.parse()?)
}

/// Bytes that this process has allocated and not freed: pieces of all arenas, and those mapped by themselves.
#[cfg(target_env = "gnu")]
fn counted() -> Option<u64> {
    // SAFETY: takes nothing and returns a plain structure; it may be called at any time by any thread.
    let counts = unsafe { libc::mallinfo2() };
    u64::try_from(counts.uordblks + counts.hblkhd).ok()
}

#[cfg(not(target_env = "gnu"))]
const fn counted() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_kept_is_counted_in_every_thread_and_what_is_freed_is_not() {
        const PIECES: usize = 640_000;
        let keep = || (0..PIECES).map(|_| Box::new([1_u8; 100])).collect::<Vec<_>>();
        let before = counted().unwrap();
        let kept = std::thread::spawn(keep).join().unwrap();
        let with = counted().unwrap();
        // Other tests allocate and free beside this one, by far less.
        assert!(with - before > 60_000_000, "{before} {with}");
        drop(kept);
        assert!(counted().unwrap() < with - 60_000_000);
    }
}
