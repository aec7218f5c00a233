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

/// Bytes of one block of [`HeapAhead`]: short of what allocators take from the kernel alone.
const BLOCK_BYTES: usize = 64 * 1_024;

/// Memory that a thread's allocator was made to take from the kernel before the thread needs it. It must
/// outlive what is allocated from it, or the allocator may give it back.
#[derive(Debug)]
pub struct HeapAhead {
    /// Lies behind the freed blocks: what is in the middle is kept, only an end is given back.
    _last: Vec<u8>,
}

impl HeapAhead {
    /// Has the calling thread's allocator take `bytes`, touched. For a thread that keeps what it makes, as a
    /// source thread does with announcements: it would otherwise ask the kernel for each page of them in the
    /// middle of its work, a system call and a page fault each. Takes milliseconds; a hint that allocators
    /// other than glibc's may not follow.
    #[must_use]
    pub fn take(bytes: usize) -> HeapAhead {
        let blocks: Vec<Vec<u8>> =
            (0..bytes.div_ceil(BLOCK_BYTES)).map(|_| std::hint::black_box(vec![0xA5; BLOCK_BYTES])).collect();
        let last = std::hint::black_box(vec![0xA5; BLOCK_BYTES / 2]);
        drop(blocks);
        HeapAhead { _last: last }
    }
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
