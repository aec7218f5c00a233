//! The key file, and secrets sealed under it.
//!
//! Contract: [`Store::master_key`] reads 32 bytes from `<data_dir>/secrets.key` (made with mode 0600 on
//! first start, whole or not at all; one that is there is never replaced); nothing of it is ever shown.
//! It refuses a file that is not the one under which the secrets in the store are sealed, and a missing
//! one where there are any. Secrets are sealed with AES-256-GCM under a key derived from it, a random
//! nonce in front, the number of their endpoint authenticated beside them, so that a row moved to
//! another endpoint does not open. Owner: whoever opens the store; sealing and opening are pure. Blocks
//! on the file in the constructors only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::OptionalExtension as _;
use rustix::fs::RenameFlags;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::event::IdKey;
use tocsin_core::webhook::signature::Secret;

use crate::store::lock::give_to_owner_of;
use crate::store::{Store, StoreError};

const KEY_BYTES: usize = 32;
const MARK_BYTES: usize = 16;

/// The installation's master key. Does not show in `Debug`.
pub struct MasterKey {
    /// Where it came from, for messages.
    file: PathBuf,
    sealing: LessSafeKey,
    ids: IdKey,
    /// Tells this key from others; says nothing about it.
    mark: [u8; MARK_BYTES],
}

impl core::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// A sealed secret, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Box<[u8]>);

impl MasterKey {
    /// Name of the key file below `data_dir`.
    pub const FILE_NAME: &str = "secrets.key";

    /// Reads the key file, made when missing. Where there is a store, use [`Store::master_key`], which
    /// knows whether a new file will do.
    ///
    /// # Errors
    /// It cannot be read or made, or is not 32 bytes.
    pub fn from_file_or_new(file: &Path) -> Result<MasterKey, StoreError> {
        match MasterKey::read(file)? {
            Some(key) => Ok(key),
            None => MasterKey::make(file),
        }
    }

    /// Reads the key file; `None` when there is none.
    fn read(file: &Path) -> Result<Option<MasterKey>, StoreError> {
        let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
        let read = File::open(file).and_then(|open| open.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("reading", file, error)),
            Ok(_) => {}
        }
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice());
        let length = bytes.len();
        bytes.fill(0);
        let mut key = key.map_err(|_| {
            let more = if length > KEY_BYTES { "more than " } else { "" };
            let detail = format!("it has {more}{} bytes instead of {KEY_BYTES}", length.min(KEY_BYTES));
            StoreError::BadKeyFile { path: file.to_owned(), detail }
        })?;
        let derived = MasterKey::derive(file, &key);
        key.fill(0);
        derived.map(Some)
    }

    /// Draws a key and writes its file: whole or not at all, and never in the place of another.
    fn make(file: &Path) -> Result<MasterKey, StoreError> {
        let mut key = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| StoreError::NoRandomness)?;
        let written = write_new(file, &key);
        let derived = MasterKey::derive(file, &key);
        key.fill(0);
        written.map_err(|error| StoreError::io("creating", file, error))?;
        derived
    }

    fn derive(file: &Path, key: &[u8; KEY_BYTES]) -> Result<MasterKey, StoreError> {
        let master = hmac::Key::new(hmac::HMAC_SHA256, key);
        let part = |label: &[u8]| {
            let mut part = [0; KEY_BYTES];
            part.copy_from_slice(hmac::sign(&master, label).as_ref());
            part
        };
        let mut mark = [0; MARK_BYTES];
        for (to, from) in mark.iter_mut().zip(part(b"tocsin webhooks: mark of the key file")) {
            *to = from;
        }
        // Cannot fail: the part is as long as the algorithm's key.
        let sealing = UnboundKey::new(&AES_256_GCM, &part(b"tocsin webhooks: sealing of secrets"))
            .map_err(|_| StoreError::BadKeyFile { path: file.to_owned(), detail: "unusable".to_owned() })?;
        Ok(MasterKey {
            file: file.to_owned(),
            sealing: LessSafeKey::new(sealing),
            ids: IdKey::new(&part(b"tocsin webhooks: event ids")),
            mark,
        })
    }

    /// The key that event ids are derived with.
    #[must_use]
    pub fn id_key(&self) -> IdKey {
        self.ids.clone()
    }

    /// Draws a webhook secret.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn draw_secret() -> Result<Secret, StoreError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
        Ok(Secret::from_random(bytes))
    }

    /// Seals the secret of an endpoint.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn seal(&self, endpoint: EndpointId, secret: &Secret) -> Result<Sealed, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| StoreError::NoRandomness)?;
        let mut text = secret.reveal().as_bytes().to_vec();
        let sealed = self.sealing.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(endpoint.0.to_le_bytes()),
            &mut text,
        );
        // Fails only for texts of many gigabytes.
        sealed.map_err(|_| self.unsealable(endpoint))?;
        Ok(Sealed([&nonce[..], &text].concat().into()))
    }

    /// Opens it again.
    ///
    /// # Errors
    /// It was sealed under another key file or for another endpoint, or is damaged.
    pub fn open(&self, endpoint: EndpointId, sealed: &Sealed) -> Result<Secret, StoreError> {
        let refused = || self.unsealable(endpoint);
        let (nonce, text) = sealed.0.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut text = text.to_vec();
        let aad = Aad::from(endpoint.0.to_le_bytes());
        let opened = self.sealing.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text);
        let secret = opened.ok().and_then(|text| core::str::from_utf8(text).ok()).map(Secret::parse);
        let secret = secret.and_then(Result::ok).ok_or_else(refused);
        text.fill(0);
        secret
    }

    fn unsealable(&self, endpoint: EndpointId) -> StoreError {
        StoreError::Unsealable { path: self.file.clone(), endpoint }
    }
}

impl Store {
    /// The installation's master key: its file is made where no secret is sealed yet, and is refused
    /// where it is not the one under which those in the store are.
    ///
    /// # Errors
    /// The file cannot be read or made, is no key file, is missing or another one though secrets are
    /// sealed; or the disk's.
    pub fn master_key(&mut self) -> Result<MasterKey, StoreError> {
        let data_dir = self.path.parent().unwrap_or(Path::new(""));
        let file = data_dir.join(MasterKey::FILE_NAME);
        let endpoints = self.webhook.live.len();
        let key = match MasterKey::read(&file)? {
            Some(key) => key,
            None if endpoints > 0 => return Err(StoreError::KeyFileMissing { path: file, endpoints }),
            None => {
                let key = MasterKey::make(&file)?;
                give_to_owner_of(data_dir, &file);
                key
            }
        };
        let mark: Option<[u8; MARK_BYTES]> =
            self.ask(|c| c.query_row("SELECT mark FROM webhook_key", [], |row| row.get(0)).optional())?;
        match mark {
            Some(mark) if mark == key.mark => {}
            Some(_) if endpoints > 0 => return Err(StoreError::WrongKeyFile { path: file, endpoints }),
            _ => self.ask(|c| {
                let transaction = c.unchecked_transaction()?;
                transaction.execute("DELETE FROM webhook_key", [])?;
                transaction.execute("INSERT INTO webhook_key (mark) VALUES (?1)", [key.mark])?;
                transaction.commit()
            })?,
        }
        Ok(key)
    }
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = file.with_extension("key.new");
    let mut options = OpenOptions::new();
    let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, &unfinished, cwd, file, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // A file system that cannot rename so: a hard link does not replace anything either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(&unfinished, file)?;
            std::fs::remove_file(&unfinished)?;
        }
        Err(error) => return Err(error.into()),
    }
    // Its name must outlive a power cut as surely as the secrets that will be sealed under it.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;
    use crate::store::testing::{NOW, endpoint_of, new_account, store};

    #[test]
    fn made_once_private_and_the_same_later() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(MasterKey::FILE_NAME);
        let first = MasterKey::from_file_or_new(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.metadata().unwrap().len(), 32);
        let before = std::fs::read(&file).unwrap();
        let again = MasterKey::from_file_or_new(&file).unwrap();
        assert_eq!(first.mark, again.mark);
        assert_eq!(std::fs::read(&file).unwrap(), before);
        assert!(write_new(&file, &[0; 32]).is_err(), "one that is there is not replaced");
        assert_eq!(std::fs::read(&file).unwrap(), before);
        let secret = MasterKey::draw_secret().unwrap();
        let sealed = first.seal(EndpointId(7), &secret).unwrap();
        assert_eq!(again.open(EndpointId(7), &sealed).unwrap(), secret);
        assert_eq!(format!("{first:?}"), "MasterKey(…)");
        assert_ne!(first.seal(EndpointId(7), &secret).unwrap(), sealed, "a nonce of its own each time");
    }

    #[test]
    fn what_is_no_key_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(MasterKey::FILE_NAME);
        for bytes in [&[][..], &[1; 31], &[1; 33], &[1; 5_000]] {
            std::fs::write(&file, bytes).unwrap();
            let refused = MasterKey::from_file_or_new(&file).unwrap_err();
            assert_eq!(refused.code(), "bad_key_file");
            assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
            assert_eq!(std::fs::read(&file).unwrap(), bytes);
        }
    }

    #[test]
    fn a_secret_opens_only_whole_for_its_endpoint_under_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::from_file_or_new(&dir.path().join("a")).unwrap();
        let other = MasterKey::from_file_or_new(&dir.path().join("b")).unwrap();
        let secret = MasterKey::draw_secret().unwrap();
        let sealed = key.seal(EndpointId(1), &secret).unwrap();
        let refused = key.open(EndpointId(2), &sealed).unwrap_err();
        assert_eq!(refused.code(), "secret_unsealable");
        assert!(!format!("{refused} {refused:?}").contains(secret.reveal()));
        assert!(other.open(EndpointId(1), &sealed).is_err());
        for at in 0..sealed.0.len() {
            let mut damaged = sealed.clone();
            damaged.0[at] ^= 1;
            assert!(key.open(EndpointId(1), &damaged).is_err(), "byte {at}");
            assert!(key.open(EndpointId(1), &Sealed(sealed.0[..at].into())).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn with_secrets_sealed_a_missing_or_foreign_key_file_is_refused() {
        let (dir, mut store) = store();
        let data = dir.path().join("data");
        let file = data.join(MasterKey::FILE_NAME);
        let first = store.master_key().unwrap();
        let moved = data.join("kept");
        std::fs::rename(&file, &moved).unwrap();
        let second = store.master_key().unwrap();
        assert_ne!(first.mark, second.mark, "nothing was sealed: a new one will do");

        let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
        let (record, secret) = store.register_endpoint(&endpoint_of(account.id), NOW, &second).unwrap();
        std::fs::remove_file(&file).unwrap();
        let refused = store.master_key().unwrap_err();
        assert_eq!(refused.code(), "key_file_missing");
        assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
        assert!(!file.exists(), "no new one is made");

        std::fs::rename(&moved, &file).unwrap();
        let refused = store.master_key().unwrap_err();
        assert_eq!(refused.code(), "wrong_key_file");
        assert!(refused.to_string().contains("restore"), "{refused}");
        assert_eq!(second.open(record.id, &record.secret).unwrap(), secret);
        store.delete_endpoint(record.id).unwrap();
        assert_eq!(store.master_key().unwrap().mark, first.mark);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let key = MasterKey::from_file_or_new(&dir.path().join("k")).unwrap();
            prop_assert!(key.open(EndpointId(1), &Sealed(bytes.into())).is_err());
        }
    }
}
