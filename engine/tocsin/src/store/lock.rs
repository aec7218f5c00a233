//! The exclusive lock of a data directory: service and command line never write at once.
//!
//! Contract: `<data_dir>/tocsin.lock` is locked with flock(2) for the life of a [`StoreLock`]; the
//! kernel drops the lock when the process dies, however it dies. The file holds the owner's process
//! id for messages. It is never removed: removing a locked file would let two owners exist.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::error::StoreError;

/// How long an owner is waited for, and between two looks.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Held while this process owns the data directory.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock, or says who has it. Waits a moment for an owner that is just going: one that has
    /// started a program holds the file in that process too, until it has become the program.
    pub(crate) fn take(data_dir: &Path) -> Result<StoreLock, StoreError> {
        let path = data_dir.join("tocsin.lock");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.map_err(|error| StoreError::io("opening", &path, error))?;
        let lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        let mut locked = lock();
        let patience = Instant::now() + PATIENCE;
        while locked == Err(rustix::io::Errno::WOULDBLOCK) && Instant::now() < patience {
            std::thread::sleep(LOOK_AGAIN);
            locked = lock();
        }
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let holder =
                    file.take(16).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::Locked { path, holder });
            }
            Err(error) => return Err(StoreError::io("locking", &path, error.into())),
        }
        // The process id is a help for messages only: a full disk must not keep the owner out.
        let _ = file.rewind().and_then(|()| file.set_len(0));
        let _ = writeln!(file, "{}", std::process::id());
        give_to_owner_of(data_dir, &path);
        Ok(StoreLock { _file: file })
    }
}

/// When root works on another user's data directory (`sudo tocsin keys create`), what it makes there
/// must stay usable by that user.
pub(crate) fn give_to_owner_of(data_dir: &Path, path: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let given = data_dir
        .metadata()
        .and_then(|owner| std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid())));
    if let Err(error) = given {
        tracing::warn!(path = %path.display(), %error, "cannot give the file to the owner of data_dir");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_and_the_other_learns_who() {
        let dir = tempfile::tempdir().unwrap();
        let first = StoreLock::take(dir.path()).unwrap();
        match StoreLock::take(dir.path()) {
            Err(StoreError::Locked { holder, .. }) => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        StoreLock::take(dir.path()).unwrap();
    }

    #[test]
    fn an_owner_that_is_just_going_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = StoreLock::take(dir.path()).unwrap();
        let going = std::thread::spawn(move || {
            std::thread::sleep(LOOK_AGAIN * 3);
            drop(first);
        });
        StoreLock::take(dir.path()).unwrap();
        going.join().unwrap();
    }
}
