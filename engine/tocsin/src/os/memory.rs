//! Keeping the engine's memory in RAM: a page fault on a hot thread costs more than a fan-out write.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};

/// Locks all present and future pages of the process.
///
/// # Errors
/// `EPERM` or `ENOMEM` when the limit on locked memory (`ulimit -l`, `LimitMEMLOCK=`) is too low:
/// the engine runs on, slower at its worst; the caller says so once.
pub fn lock_all() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}

/// Raises the limit on open descriptors to the hard limit and returns it.
///
/// # Errors
/// The kernel's refusal; the old limit stays.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(u64::MAX))
}
