//! Where the shared-memory journals of one data directory live, and what is left in them.
//!
//! Contract: one file per source thread, `tocsin-<hash of the data directory>-<n>.journal`, and one of
//! the webhook thread, `…-webhook.journal`, mode 0600, on `/dev/shm`; in the data directory with a warning where that cannot be used (the page
//! cache also outlives the process, but the disk may delay the source thread). Files of another
//! owner, links and anything that is no regular file are never opened. Used at start and stop
//! only; blocks on the file system. The caller holds the store's lock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tocsin_core::limits;
use tocsin_core::model::Announcement;
use tocsin_core::webhook::outgoing::RecordedOutcome;

use super::shm::{
    self, Committer, FILE_BYTES, JournalCommitter, JournalWriter, OutcomeCommitter, OutcomeWriter, Record,
    Writer,
};

/// Names the journal files of one data directory.
#[derive(Clone, Debug)]
pub struct Place {
    directories: [PathBuf; 2],
    stem: String,
    owner_uid: u32,
}

/// What one journal file of an earlier life holds.
#[derive(Debug)]
pub struct Recovered {
    /// The file; remove it once its announcements are committed.
    pub path: PathBuf,
    /// Appended and not known to be committed.
    pub announcements: Vec<Announcement>,
    /// Why reading stopped early, if it did.
    pub damage: Option<&'static str>,
}

/// What the webhook thread's journal of an earlier life holds.
#[derive(Debug)]
pub struct RecoveredOutcomes {
    /// The file; remove it once its outcomes are committed.
    pub path: PathBuf,
    /// Appended and not known to be committed.
    pub outcomes: Vec<RecordedOutcome>,
    /// Why reading stopped early, if it did.
    pub damage: Option<&'static str>,
}

impl Place {
    /// For a data directory that exists, on `/dev/shm`.
    ///
    /// # Errors
    /// The data directory cannot be resolved.
    pub fn new(data_dir: &Path) -> io::Result<Place> {
        Place::on(Path::new("/dev/shm"), data_dir)
    }

    /// As [`Place::new`], on another directory than `/dev/shm`.
    ///
    /// # Errors
    /// The data directory cannot be resolved.
    pub fn on(shm_dir: &Path, data_dir: &Path) -> io::Result<Place> {
        let data_dir = data_dir.canonicalize()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, data_dir.as_os_str().as_encoded_bytes());
        let hash: String = digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let owner_uid = data_dir.metadata()?.uid();
        Ok(Place { directories: [shm_dir.to_owned(), data_dir], stem: format!("tocsin-{hash}"), owner_uid })
    }

    /// Makes the journal of source thread `index` (below [`limits::SHM_JOURNALS`]), replacing one
    /// left by an earlier life: recover first.
    ///
    /// # Errors
    /// Neither directory takes it; the error is the second one's.
    pub fn create(&self, index: u16) -> io::Result<(Writer, Committer)> {
        if index >= limits::SHM_JOURNALS {
            return Err(io::Error::other(format!("more than {} source threads", limits::SHM_JOURNALS)));
        }
        self.create_named(&self.file_name(index))
    }

    /// Makes the journal of the webhook thread, replacing one left by an earlier life: recover first.
    ///
    /// # Errors
    /// As [`Place::create`].
    pub fn create_outcomes(&self) -> io::Result<(OutcomeWriter, OutcomeCommitter)> {
        self.create_named(&self.outcomes_file_name())
    }

    fn create_named<R: Record>(&self, name: &str) -> io::Result<(JournalWriter<R>, JournalCommitter<R>)> {
        let [shm_dir, data_dir] = &self.directories;
        create_in(&shm_dir.join(name)).or_else(|error| {
            tracing::warn!(
                directory = %shm_dir.display(), %error,
                "shared memory cannot hold the journal; using the data directory, which can be slower"
            );
            create_in(&data_dir.join(name))
        })
    }

    fn outcomes_file_name(&self) -> String {
        format!("{}-webhook.journal", self.stem)
    }

    fn file_name(&self, index: u16) -> String {
        format!("{}-{index}.journal", self.stem)
    }

    /// Reads every source thread's journal left by an earlier life. A file that cannot be read is left
    /// alone with a warning.
    #[must_use]
    pub fn recover(&self) -> Vec<Recovered> {
        let mut found = Vec::new();
        for directory in &self.directories {
            for index in 0..limits::SHM_JOURNALS {
                let path = directory.join(self.file_name(index));
                if let Some(bytes) = self.read_if_there(&path) {
                    let shm::Scan { announcements, damage } = shm::scan(&bytes);
                    found.push(Recovered { path, announcements, damage });
                }
            }
        }
        found
    }

    /// As [`Place::recover`], the webhook thread's.
    #[must_use]
    pub fn recover_outcomes(&self) -> Vec<RecoveredOutcomes> {
        let paths = self.directories.iter().map(|directory| directory.join(self.outcomes_file_name()));
        let read = |path: PathBuf| {
            let (outcomes, damage) = shm::scan_outcomes(&self.read_if_there(&path)?);
            Some(RecoveredOutcomes { path, outcomes, damage })
        };
        paths.filter_map(read).collect()
    }

    fn read_if_there(&self, path: &Path) -> Option<Vec<u8>> {
        match self.read(path) {
            Ok(bytes) => return Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a journal cannot be read; left alone");
            }
        }
        None
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let own = rustix::process::geteuid().as_raw();
        if !metadata.is_file() || (metadata.uid() != own && metadata.uid() != self.owner_uid) {
            return Err(io::Error::other("it is not a regular file of this user"));
        }
        read_bounded(&file)
    }

    /// Removes every source thread's journal file of this place: after recovery, or when all is
    /// committed at stop.
    pub fn clear(&self) {
        (0..limits::SHM_JOURNALS).for_each(|index| self.remove(&self.file_name(index)));
    }

    /// As [`Place::clear`], the webhook thread's.
    pub fn clear_outcomes(&self) {
        self.remove(&self.outcomes_file_name());
    }

    fn remove(&self, name: &str) {
        for directory in &self.directories {
            let path = directory.join(name);
            if let Err(error) = remove_if_there(&path) {
                tracing::warn!(path = %path.display(), %error, "a journal cannot be removed");
            }
        }
    }
}

fn create_in<R: Record>(path: &Path) -> io::Result<(JournalWriter<R>, JournalCommitter<R>)> {
    remove_if_there(path)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    shm::create(&file).inspect_err(|_| {
        let _ = remove_if_there(path); // The first error is the one to tell.
    })
}

impl Recovered {
    /// Removes the file, or keeps it as `….damaged` when it was not read to its end.
    ///
    /// # Errors
    /// The file system's.
    pub fn settle(&self) -> io::Result<()> {
        settle(&self.path, self.damage)
    }
}

impl RecoveredOutcomes {
    /// As [`Recovered::settle`].
    ///
    /// # Errors
    /// The file system's.
    pub fn settle(&self) -> io::Result<()> {
        settle(&self.path, self.damage)
    }
}

fn settle(path: &Path, damage: Option<&'static str>) -> io::Result<()> {
    match damage {
        None => remove_if_there(path),
        Some(_) => std::fs::rename(path, path.with_extension("journal.damaged")),
    }
}

fn read_bounded(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FILE_BYTES + 1);
    file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::announcement;

    #[test]
    fn a_later_life_finds_what_was_not_released() {
        let shm = tempfile::tempdir().unwrap();
        let data = tempfile::tempdir().unwrap();
        let place = Place::on(shm.path(), data.path()).unwrap();
        for index in [0, 3] {
            let (mut writer, _committer) = place.create(index).unwrap();
            writer.append_announcement(&announcement(1, u64::from(index) + 1)).unwrap();
        }
        let found = place.recover();
        let announcements: Vec<_> = found.iter().flat_map(|r| r.announcements.clone()).collect();
        assert_eq!(announcements, [announcement(1, 1), announcement(1, 4)]);
        found.iter().for_each(|r| r.settle().unwrap());
        assert!(place.recover().is_empty());
        assert_eq!(std::fs::read_dir(shm.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_shared_memory_the_data_directory_serves() {
        let data = tempfile::tempdir().unwrap();
        let place = Place::on(Path::new("/nonexistent"), data.path()).unwrap();
        let (mut writer, _committer) = place.create(0).unwrap();
        writer.append_announcement(&announcement(1, 1)).unwrap();
        assert_eq!(place.recover().len(), 1);
        place.clear();
        assert!(place.recover().is_empty());
    }

    #[test]
    fn links_are_not_followed_and_damage_is_kept_aside() {
        let shm = tempfile::tempdir().unwrap();
        let data = tempfile::tempdir().unwrap();
        let place = Place::on(shm.path(), data.path()).unwrap();
        let target = data.path().join("target");
        std::fs::write(&target, b"keep").unwrap();
        let journal = shm.path().join(place.file_name(0));
        std::os::unix::fs::symlink(&target, &journal).unwrap();
        assert!(place.recover().is_empty());
        drop(place.create(0).unwrap());
        assert_eq!(std::fs::read(&target).unwrap(), b"keep");

        std::fs::write(&journal, b"garbage").unwrap();
        let found = place.recover();
        assert!(found[0].damage.is_some() && found[0].announcements.is_empty());
        found[0].settle().unwrap();
        assert!(journal.with_extension("journal.damaged").exists() && !journal.exists());
    }
}
