//! Whether somebody keeps this machine's clock right: the kernel's own word, which a time service
//! (chrony, ntpd, systemd-timesyncd) keeps up to date.
//!
//! Contract: one system call that changes nothing and needs no privilege. Owner: control and main
//! thread. Neither allocates nor blocks. Fails where a sandbox forbids the call.

use std::io;
use std::time::Duration;

/// What the kernel says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelClock {
    /// A time service has set it lately and is content with it.
    pub synchronised: bool,
    /// How far the time service thinks it is off.
    pub estimated_error: Duration,
    /// How far it may be off at most; grows by itself until the time service says otherwise.
    pub maximum_error: Duration,
}

/// Asks the kernel.
///
/// # Errors
/// The kernel's refusal (`EPERM`, `ENOSYS` in a sandbox).
pub fn read() -> io::Result<KernelClock> {
    // SAFETY: `timex` is plain integers, so all zeroes is a value of it.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` of ours; `modes` is 0, so the kernel only fills it.
    let answer = unsafe { libc::adjtimex(&raw mut timex) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = |value: libc::c_long| Duration::from_micros(u64::try_from(value).unwrap_or(0));
    Ok(KernelClock {
        synchronised: timex.status & (libc::STA_UNSYNC | libc::STA_CLOCKERR) == 0,
        estimated_error: micros(timex.esterror),
        maximum_error: micros(timex.maxerror),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_and_an_unset_clock_has_no_small_error() {
        let clock = read().unwrap();
        assert!(clock.synchronised || clock.maximum_error >= clock.estimated_error, "{clock:?}");
    }
}
