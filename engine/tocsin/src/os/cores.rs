//! Pinning a thread to a core, from inside, before it first touches its memory, and reading it back.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Pins the calling thread to `core` and reads the mask back.
///
/// # Errors
/// The kernel's refusal (no such core, not in this process's cpuset), or `Other` when the mask read
/// back is not the one asked for.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("core {core} is not a core number")));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)?;
    let read_back = sched_getaffinity(None)?;
    if read_back.count() == 1 && read_back.is_set(core) {
        Ok(())
    } else {
        Err(io::Error::other(format!("asked for core {core}, the kernel gave another set")))
    }
}

/// Keeps the calling thread, and threads it starts from now on, off the `hot` cores.
///
/// # Errors
/// The kernel's refusal, or no core would be left; then nothing changes.
pub fn avoid(hot: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    available().into_iter().filter(|core| !hot.contains(core)).for_each(|core| set.set(core));
    if set.count() == 0 {
        return Err(io::Error::other("every core of this process is a hot one"));
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The cores this process may run on, ascending.
#[must_use]
pub fn available() -> Vec<usize> {
    sched_getaffinity(None)
        .map(|set| (0..CpuSet::MAX_CPU).filter(|c| set.is_set(*c)).collect())
        .unwrap_or_else(|_| vec![0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_to_an_available_core_and_refuses_others() {
        let cores = available();
        let first = cores.first().copied().unwrap();
        std::thread::spawn(move || {
            pin(first).unwrap();
            assert_eq!(available(), [first]);
            assert!(pin(CpuSet::MAX_CPU).is_err());
        })
        .join()
        .unwrap();
    }
}
