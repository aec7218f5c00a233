//! What no file says: the kernel's clock state, free space, whether a file can be synced, coalescing; of push
//! sources, whether the service could use their keys and find their hosts.
//!
//! Contract: asks and does not change, but for one file of a few bytes in `data_dir`, written, synced and
//! removed. What cannot be had is `None`. Blocks on the disk, for
//! coalescing on the kernel's answer and, where push sources are switched on, on name servers as long as the system does.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use ethtool::{EthtoolAttr, EthtoolCoalesceAttr, EthtoolHeader};
use futures_util::StreamExt as _;

use super::host::{WantedStream, Wants};
use crate::config::credentials;
use crate::os::clock::{self, ClockState};

/// Longer than the kernel takes to list every card.
const KERNEL_ANSWERS: Duration = Duration::from_secs(2);

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// For anybody, in bytes.
    pub free_bytes: u64,
}

/// The file system of `data_dir`, or of the nearest directory above it that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// `ext4`, `nfs`, ...; a number where it is none we know.
    pub kind: String,
    /// Forgets everything with the power.
    pub volatile: bool,
    /// Another machine's.
    pub remote: bool,
    /// Room.
    pub space: Space,
    /// The directory is not there yet: the first start makes it.
    pub missing: bool,
    /// A file was written and synced.
    pub synced: bool,
    /// Or could not be, and why; not for want of permission.
    pub sync_error: Option<String>,
}

/// When a network card interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// The interface.
    pub card: String,
    /// By load.
    pub adaptive: bool,
    /// Microseconds after a packet.
    pub receive_us: Option<u32>,
}

/// A file with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// As the service wants it.
    Usable,
    /// Not, and why.
    Unusable(String),
    /// This user may not see.
    Hidden,
}

/// What was seen of a push source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenStream {
    /// Name of its section.
    pub name: String,
    /// The file of its key, where it takes one.
    pub key: Option<Key>,
    /// Addresses its host has.
    pub addresses: usize,
}

/// See the module head. The default knows nothing, as for a copy of another host's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The kernel's opinion of the clock.
    pub clock: Option<ClockState>,
    /// `/dev/shm`.
    pub shm: Option<Space>,
    /// `data_dir`.
    pub disk: Option<Disk>,
    /// Its owner, or the user of this process.
    pub owner: Option<u32>,
    /// Of every card that says so.
    pub coalescing: Option<Vec<Coalescing>>,
    /// What `/dev/cpu_dma_latency` holds cores to, where this user may read it.
    pub dma_latency_us: Option<i32>,
    /// Of every push source that is wanted.
    pub streams: Option<Vec<SeenStream>>,
}

impl Measured {
    /// Of this machine.
    #[must_use]
    pub fn take(wants: &Wants) -> Measured {
        let data_dir = &wants.data_dir;
        let owner = data_dir.metadata().map_or_else(|_| rustix::process::getuid().as_raw(), |m| m.uid());
        Measured {
            clock: clock::state(),
            shm: space(Path::new("/dev/shm")),
            disk: disk(data_dir),
            owner: Some(owner),
            coalescing: coalescing(),
            dma_latency_us: dma_latency(),
            streams: Some(wants.streams.iter().map(seen).collect()),
        }
    }
}

fn seen(stream: &WantedStream) -> SeenStream {
    let key = stream.credentials_file.as_deref().map(|file| match credentials::read(file) {
        Ok(_) => Key::Usable,
        Err(error) if error.is_denied() => Key::Hidden,
        Err(error) => Key::Unusable(error.to_string()),
    });
    // The port does not matter to the question.
    let addresses = (stream.host.as_str(), 443).to_socket_addrs().map_or(0, Iterator::count);
    SeenStream { name: stream.name.clone(), key, addresses }
}

fn space(path: &Path) -> Option<Space> {
    let fs = rustix::fs::statvfs(path).ok()?;
    Some(Space { free_bytes: fs.f_bavail.saturating_mul(fs.f_frsize) })
}

/// Magic numbers of statfs(2): name, forgets with the power, another machine's.
const KINDS: [(i64, &str, bool, bool); 11] = [
    (0xEF53, "ext4", false, false),
    (0x5846_5342, "xfs", false, false),
    (0x9123_683E, "btrfs", false, false),
    (0x2FC1_2FC1, "zfs", false, false),
    (0xF2F5_2010, "f2fs", false, false),
    (0x794C_7630, "overlayfs", false, false),
    (0x0102_1994, "tmpfs", true, false),
    (0x8584_58F6, "ramfs", true, false),
    (0x6969, "nfs", false, true),
    (0xFF53_4D42, "cifs", false, true),
    (0xFE53_4D42, "smb2", false, true),
];

fn disk(data_dir: &Path) -> Option<Disk> {
    let there = data_dir.ancestors().find(|path| path.exists())?;
    let fs = rustix::fs::statfs(there).ok()?;
    #[allow(clippy::useless_conversion, clippy::cast_lossless, reason = "its width differs by architecture")]
    let magic = i64::from(fs.f_type) & 0xFFFF_FFFF;
    let known = KINDS.iter().find(|(number, ..)| *number == magic);
    let (kind, volatile, remote) = known.map_or_else(
        || (format!("file system {magic:#x}"), false, false),
        |(_, n, v, r)| ((*n).to_owned(), *v, *r),
    );
    // A directory that is not there yet is made by the first start; nothing is written above it.
    let missing = there != data_dir;
    let (synced, sync_error) = if missing { (false, None) } else { sync(there) };
    Some(Disk { kind, volatile, remote, space: space(there)?, missing, synced, sync_error })
}

/// Writes, syncs and removes a file.
fn sync(dir: &Path) -> (bool, Option<String>) {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
            let done = file.write_all(b"tocsin doctor\n").and_then(|()| file.sync_all());
            done.and(std::fs::remove_file(&path))
        });
    match written {
        Ok(()) => (true, None),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => (false, None),
        Err(error) => (false, Some(error.to_string())),
    }
}

fn dma_latency() -> Option<i32> {
    let bytes = std::fs::read("/dev/cpu_dma_latency").ok()?;
    Some(i32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// Asks the kernel over netlink, which needs no root. `None` where it does not answer.
fn coalescing() -> Option<Vec<Coalescing>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let (connection, mut handle, _) = ethtool::new_connection().ok()?;
        tokio::spawn(connection);
        let asked = async {
            let mut answers = handle.coalesce().get(None).execute().await.ok()?;
            let mut all = Vec::new();
            while let Some(answer) = answers.next().await {
                all.extend(coalescing_of(&answer.ok()?.payload.nlas));
            }
            Some(all)
        };
        tokio::time::timeout(KERNEL_ANSWERS, asked).await.ok()?
    })
}

fn coalescing_of(attributes: &[EthtoolAttr]) -> Option<Coalescing> {
    let mut card = None;
    let (mut adaptive, mut receive_us) = (false, None);
    for attribute in attributes {
        let EthtoolAttr::Coalesce(attribute) = attribute else { continue };
        match attribute {
            EthtoolCoalesceAttr::Header(header) => {
                card = header.iter().find_map(|part| match part {
                    EthtoolHeader::DevName(name) => Some(name.clone()),
                    _ => None,
                });
            }
            EthtoolCoalesceAttr::UseAdaptiveRx(on) => adaptive = *on,
            EthtoolCoalesceAttr::RxUsecs(us) => receive_us = Some(*us),
            _ => {}
        }
    }
    Some(Coalescing { card: card?, adaptive, receive_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_asked_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let measured = Measured::take(&wants(dir.path()));
        assert!(measured.clock.is_some() && measured.shm.is_some());
        assert!(measured.disk.is_some_and(|disk| disk.synced && disk.sync_error.is_none()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // Not there yet: what is above it is asked, and not written to.
        let measured = Measured::take(&wants(&dir.path().join("a/b")));
        assert!(measured.disk.is_some_and(|disk| !disk.synced && disk.sync_error.is_none()));
    }

    fn wants(data_dir: &Path) -> Wants {
        let config = crate::config::Config::from_layers(&crate::config::Layers::defaults().unwrap()).unwrap();
        Wants { data_dir: data_dir.to_owned(), ..Wants::new(&config) }
    }

    #[test]
    fn keys_and_names_of_push_sources_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("binance.key");
        let stream = |host: &str, file: Option<&Path>| WantedStream {
            name: "binance".into(),
            credentials_file: file.map(Path::to_owned),
            host: host.into(),
            clock_within: None,
        };
        let key = || seen(&stream("127.0.0.1", Some(&file))).key.unwrap();
        assert!(matches!(key(), Key::Unusable(problem) if problem.contains("does not exist")));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644).open(&file).unwrap().write_all(b"k\ns\n").unwrap();
        assert!(matches!(key(), Key::Unusable(problem) if problem.contains("(mode 0644)")));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(key(), Key::Usable);
        assert_eq!(seen(&stream("127.0.0.1", None)).addresses, 1);
        assert_eq!(seen(&stream("", None)).addresses, 0);
        assert_eq!(seen(&stream("no-such-name.invalid", None)).addresses, 0);
    }

    #[test]
    fn a_card_s_answer_is_read() {
        let attributes = [
            EthtoolCoalesceAttr::Header(vec![
                EthtoolHeader::DevIndex(2),
                EthtoolHeader::DevName("eth0".into()),
            ]),
            EthtoolCoalesceAttr::RxUsecs(8),
            EthtoolCoalesceAttr::UseAdaptiveRx(true),
        ];
        let attributes = attributes.map(EthtoolAttr::Coalesce);
        let expected = Coalescing { card: "eth0".into(), adaptive: true, receive_us: Some(8) };
        assert_eq!(coalescing_of(&attributes), Some(expected));
        assert_eq!(coalescing_of(&[]), None);
    }
}
