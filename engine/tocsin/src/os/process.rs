//! What this process takes of the machine: memory, descriptors, processor time.
//!
//! Contract: read from /proc. Owner: control thread, off its runtime. Allocates, reads a few small
//! files that no disk stands behind. Fails where /proc is not there.

use std::time::Duration;

use procfs::process::{LimitValue, Process};

/// A reading of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUse {
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_descriptors: u64,
    /// The most there may be; `None`: as many as the kernel has.
    pub descriptor_limit: Option<u64>,
    /// Processor time of all threads so far, user and system together.
    pub processor_time: Duration,
    /// Threads.
    pub threads: u64,
}

impl ProcessUse {
    /// Reads it of the calling process.
    ///
    /// # Errors
    /// What of /proc cannot be read.
    pub fn read() -> std::io::Result<ProcessUse> {
        let failed = |error: procfs::ProcError| std::io::Error::other(error.to_string());
        let own = Process::myself().map_err(failed)?;
        let stat = own.stat().map_err(failed)?;
        let limit = own.limits().map_err(failed)?.max_open_files.soft_limit;
        let ticks = procfs::ticks_per_second().max(1);
        Ok(ProcessUse {
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            open_descriptors: own.fd_count().map_err(failed)? as u64,
            descriptor_limit: match limit {
                LimitValue::Value(most) => Some(most),
                LimitValue::Unlimited => None,
            },
            processor_time: Duration::from_secs_f64((stat.utime + stat.stime) as f64 / ticks as f64),
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_descriptors_and_threads() {
        let before = ProcessUse::read().unwrap();
        let held: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let now = ProcessUse::read().unwrap();
        assert!(before.resident_bytes > 1 << 20 && before.threads >= 1, "{before:?}");
        // Other tests of this process open and close some too.
        assert!(now.open_descriptors >= held.len() as u64, "{now:?}");
        assert!(now.descriptor_limit.is_none_or(|most| most >= now.open_descriptors));
    }
}
