//! The shared-memory journals: what a source thread has announced, and what became of webhook
//! deliveries, safe from `kill -9`, before the disk has it.
//!
//! Contract: [`Writer::append`] puts one announcement into a memory-mapped file on tmpfs; the
//! kernel keeps those pages when the process dies at any instruction. The journal thread commits
//! the same announcement to SQLite and then calls [`Committer::release`]. At the next start
//! [`Place::recover`] yields every record that was appended and not released: whole records only,
//! because the end of the valid bytes moves (release ordering) after the bytes are there. The webhook
//! thread's journal of outcomes ([`OutcomeWriter`], [`Place::recover_outcomes`]) is the same but for
//! what a record holds.
//!
//! Owner threads: a writer belongs to one source thread or the webhook thread, its committer to the
//! journal thread; they share two words of the header. `append` makes no system call, takes no lock and
//! allocates nothing; its pages are touched when the file is made. A full journal, or an
//! announcement that does not fit, is `None`: the announcement still goes out and still reaches
//! SQLite by the ring. It does not survive a power cut; the disk commit within milliseconds does.
//!
//! Recovery reads the file as plain bytes ([`scan`]) and takes any content without panic.
//!
//! ```text
//! 0     "TOCSNSHM" or, with outcomes, "TOCSNSHO" | version u32 | 0 u32 | capacity u64
//! 64    end of the valid bytes (u64, written by the source thread)
//! 128   everything before is committed (u64, written by the journal thread)
//! 4096  ring of `capacity` bytes; positions only grow, a byte lives at position % capacity
//! record: length u32 | CRC-32C of position and payload u32 | position u64 | payload | 0 to 7 zeros
//! ```

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};
use tocsin_core::limits;
use tocsin_core::model::Announcement;
use tocsin_core::webhook::outgoing::RecordedOutcome;
use tocsin_core::wire::EncodedAnnouncement;

use super::crc::crc32c;
use super::cursors::{Cursors, Word as _};
use super::record::{self, TooLong};
use super::record_outcome;

pub use super::place::{Place, Recovered, RecoveredOutcomes};

/// What a journal's records hold.
pub trait Record: Sized {
    /// First bytes of the file, so that one kind is never read as the other.
    const MAGIC: &[u8; 8];

    /// Appends it to `out`.
    ///
    /// # Errors
    /// [`TooLong`]; `out` then holds an unfinished record.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong>;

    /// Reads what [`Record::encode`] wrote; `None` for anything else.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Record for Announcement {
    const MAGIC: &[u8; 8] = b"TOCSNSHM";

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        record::encode(self, out)
    }

    fn decode(bytes: &[u8]) -> Option<Announcement> {
        record::decode(bytes)
    }
}

impl Record for RecordedOutcome {
    const MAGIC: &[u8; 8] = b"TOCSNSHO";

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        record_outcome::encode(self, out);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Option<RecordedOutcome> {
        record_outcome::decode(bytes)
    }
}

/// Where the webhook thread records what became of deliveries, before anything else of them is done.
pub trait OutcomeLog: Send {
    /// Makes one outcome survive the death of the process. Returns the end of its record, to be handed
    /// to [`JournalCommitter::release`] once it is on disk; `None` when there is no room. Allocates
    /// nothing, makes no system call.
    fn append(&mut self, outcome: &RecordedOutcome) -> Option<u64>;
}

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 4_096;
const END_AT: usize = 64;
const COMMITTED_AT: usize = 128;
const RECORD_HEADER_BYTES: usize = 16;
const CAPACITY: usize = limits::SHM_JOURNAL_BYTES;
/// Length of every journal file.
pub const FILE_BYTES: usize = HEADER_BYTES + CAPACITY;

const _: () = assert!(CAPACITY.is_multiple_of(8), "records are padded to 8 bytes");
const _: () = assert!(limits::SHM_RECORD_BYTES * 4 <= CAPACITY, "a burst of long titles must fit");

/// A journal file mapped into memory; unmapped when the last handle goes.
struct Mapping {
    base: NonNull<u8>,
}

// SAFETY: the mapping is plain memory that lives as long as this value; the two header words are
// only reached as atomics and the ring bytes only through the one `Writer` (`&mut self`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Sizes `fd` to [`FILE_BYTES`] with its blocks reserved (a later write cannot fault on a full
    /// tmpfs), maps it and touches every page.
    fn new(fd: &OwnedFd) -> io::Result<Mapping> {
        rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, FILE_BYTES as u64)?;
        // SAFETY: a fresh shared mapping at an address the kernel picks; nothing else refers to it.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                FILE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                fd,
                0,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        let mapping = Mapping { base };
        // SAFETY: the mapping is FILE_BYTES long, writable and not shared with a thread yet.
        unsafe { mapping.base.as_ptr().write_bytes(0, FILE_BYTES) };
        Ok(mapping)
    }

    fn cursors(&self) -> Cursors<'_, AtomicU64> {
        Cursors { end: self.word(END_AT), committed: self.word(COMMITTED_AT), capacity: CAPACITY as u64 }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at == END_AT || at == COMMITTED_AT);
        // SAFETY: `at` is one of the two offsets above: inside the page-aligned header, a multiple
        // of 8, and never reached other than as an atomic once the mapping is shared.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    /// A copy of `len` bytes (at most [`CAPACITY`]) from `position`, which is before the end of the
    /// valid bytes and not released: the writer leaves those alone.
    fn get(&self, position: u64, len: usize) -> Vec<u8> {
        let len = len.min(CAPACITY);
        let at = ring_offset(position);
        let head = len.min(CAPACITY - at);
        let mut bytes = vec![0; len];
        let (to_head, to_tail) = bytes.split_at_mut(head);
        // SAFETY: at + head <= CAPACITY and len - head <= at, so both copies stay in the ring; the
        // target is a fresh vector. Bytes between committed and end are written before `end` moves
        // (release) and read after it is seen (acquire); only the journal thread moves `committed`.
        unsafe {
            let ring = self.base.as_ptr().add(HEADER_BYTES);
            core::ptr::copy_nonoverlapping(ring.add(at), to_head.as_mut_ptr(), to_head.len());
            core::ptr::copy_nonoverlapping(ring, to_tail.as_mut_ptr(), to_tail.len());
        }
        bytes
    }

    /// Copies `bytes` to `position` of the ring, in two parts where it wraps.
    ///
    /// # Safety
    /// No other thread may reach those bytes; `bytes` is at most [`CAPACITY`] long.
    unsafe fn put(&self, position: u64, bytes: &[u8]) {
        debug_assert!(bytes.len() <= CAPACITY);
        let at = ring_offset(position);
        let (head, tail) = bytes.split_at(bytes.len().min(CAPACITY - at));
        // SAFETY: at + head.len() <= CAPACITY and tail.len() <= CAPACITY, so both copies stay in
        // the ring; the source is an ordinary slice and cannot overlap the mapping.
        unsafe {
            let ring = self.base.as_ptr().add(HEADER_BYTES);
            core::ptr::copy_nonoverlapping(head.as_ptr(), ring.add(at), head.len());
            core::ptr::copy_nonoverlapping(tail.as_ptr(), ring, tail.len());
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no reference into it outlives the handles.
        // It cannot fail for a range that is mapped; if it did, the memory would only stay mapped.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), FILE_BYTES) };
    }
}

/// Offset in the ring of a position.
#[allow(clippy::cast_possible_truncation, reason = "the remainder is below CAPACITY, a usize")]
const fn ring_offset(position: u64) -> usize {
    (position % CAPACITY as u64) as usize
}

/// The end of a journal that appends records.
pub struct JournalWriter<R> {
    mapping: Arc<Mapping>,
    end: u64,
    scratch: Vec<u8>,
    records: PhantomData<fn(R)>,
}

/// A source thread's end.
pub type Writer = JournalWriter<Announcement>;
/// The webhook thread's end.
pub type OutcomeWriter = JournalWriter<RecordedOutcome>;

impl Writer {
    /// Makes one announcement survive the death of the process. Returns the end of its record, to
    /// be handed to [`Committer::release`] once it is on disk; `None` when the journal is full or
    /// the announcement is longer than [`limits::SHM_RECORD_BYTES`].
    pub fn append(&mut self, announcement: &EncodedAnnouncement) -> Option<u64> {
        self.append_announcement(&announcement.announcement)
    }

    /// As [`Writer::append`].
    pub fn append_announcement(&mut self, announcement: &Announcement) -> Option<u64> {
        self.append_record(announcement)
    }
}

impl OutcomeLog for OutcomeWriter {
    fn append(&mut self, outcome: &RecordedOutcome) -> Option<u64> {
        self.append_record(outcome)
    }
}

impl<R: Record> JournalWriter<R> {
    fn append_record(&mut self, record: &R) -> Option<u64> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&[0; 8]);
        self.scratch.extend_from_slice(&self.end.to_le_bytes());
        record.encode(&mut self.scratch).ok()?;
        let payload_bytes = self.scratch.len() - RECORD_HEADER_BYTES;
        if payload_bytes > limits::SHM_RECORD_BYTES {
            return None;
        }
        let length = u32::try_from(payload_bytes).ok()?;
        let (sums, checked) = self.scratch.split_first_chunk_mut::<8>()?;
        *sums = join(length, crc32c(checked));
        self.scratch.resize(self.scratch.len().next_multiple_of(8), 0);

        let next = self.mapping.cursors().room(self.end, self.scratch.len() as u64)?;
        // SAFETY: positions end..next are free (checked above) and only this thread writes there;
        // the record is far shorter than CAPACITY (asserted at compile time).
        unsafe { self.mapping.put(self.end, &self.scratch) };
        self.mapping.cursors().publish(next);
        self.end = next;
        Some(next)
    }
}

fn join(length: u32, crc: u32) -> [u8; 8] {
    (u64::from(crc) << 32 | u64::from(length)).to_le_bytes()
}

/// The journal thread's end.
pub struct JournalCommitter<R> {
    mapping: Arc<Mapping>,
    records: PhantomData<fn(R)>,
}

/// The journal thread's end of a source thread's journal.
pub type Committer = JournalCommitter<Announcement>;
/// The journal thread's end of the webhook thread's journal.
pub type OutcomeCommitter = JournalCommitter<RecordedOutcome>;

impl<R> Clone for JournalCommitter<R> {
    fn clone(&self) -> JournalCommitter<R> {
        JournalCommitter { mapping: Arc::clone(&self.mapping), records: PhantomData }
    }
}

impl<R: Record> JournalCommitter<R> {
    /// Everything up to `position` (from [`Writer::append`]) is on disk; its space is free again.
    /// Positions only move forward; an earlier one changes nothing.
    pub fn release(&self, position: u64) {
        self.mapping.cursors().release(position);
    }

    /// What was appended up to `until` and not released, oldest first, with the end of each record.
    /// Reads the journal itself, so that what never came through a ring is found too. Allocates.
    #[must_use]
    pub fn unreleased(&self, until: u64) -> Vec<(R, u64)> {
        let (mut position, end) = self.mapping.cursors().unreleased(until);
        let mut found = Vec::new();
        while position < end {
            let Some((record, next)) = read_record(|at, len| self.mapping.get(at, len), position, end) else {
                break;
            };
            found.push((record, next));
            position = next;
        }
        found
    }

    /// Where the valid bytes end now.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.mapping.cursors().end.acquire()
    }

    /// Bytes appended and not yet released.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.mapping.cursors().backlog()
    }
}

/// Turns a new, empty file into a journal.
///
/// # Errors
/// The file cannot be sized (tmpfs full) or mapped.
pub(super) fn create<R: Record>(file: &File) -> io::Result<(JournalWriter<R>, JournalCommitter<R>)> {
    let fd = file.try_clone()?.into();
    let mapping = Arc::new(Mapping::new(&fd)?);
    let mut header = [0; 24];
    let (magic, rest) = header.split_at_mut(8);
    magic.copy_from_slice(R::MAGIC);
    let (version, capacity) = rest.split_at_mut(8);
    version.copy_from_slice(&u64::from(VERSION).to_le_bytes());
    capacity.copy_from_slice(&(CAPACITY as u64).to_le_bytes());
    // SAFETY: 24 bytes at the start of the header, before the mapping is shared.
    unsafe { core::ptr::copy_nonoverlapping(header.as_ptr(), mapping.base.as_ptr(), header.len()) };
    let scratch = Vec::with_capacity(2 * limits::SHM_RECORD_BYTES);
    let committer = JournalCommitter { mapping: Arc::clone(&mapping), records: PhantomData };
    Ok((JournalWriter { mapping, end: 0, scratch, records: PhantomData }, committer))
}

/// What a journal file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Appended and not released, in order.
    pub announcements: Vec<Announcement>,
    /// Why reading stopped early, if it did.
    pub damage: Option<&'static str>,
}

/// Reads the bytes of a source thread's journal. Any bytes are taken: what is not a whole valid record
/// ends it.
#[must_use]
pub fn scan(file: &[u8]) -> Scan {
    let (announcements, damage) = scan_records(file);
    Scan { announcements, damage }
}

/// As [`scan`], of the webhook thread's journal; what it holds, and why reading stopped early, if it
/// did.
#[must_use]
pub fn scan_outcomes(file: &[u8]) -> (Vec<RecordedOutcome>, Option<&'static str>) {
    scan_records(file)
}

fn scan_records<R: Record>(file: &[u8]) -> (Vec<R>, Option<&'static str>) {
    let mut found = Vec::new();
    if file.iter().all(|b| *b == 0) {
        return (found, None); // The process died between making the file and writing its header.
    }
    let Some((header, ring)) = file.split_at_checked(HEADER_BYTES) else {
        return (found, Some("shorter than its header"));
    };
    let number =
        |at: usize| header.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    if !header.starts_with(R::MAGIC) || number(8) != u64::from(VERSION) {
        return (found, Some("not a journal of this version"));
    }
    if number(16) != CAPACITY as u64 || ring.len() != CAPACITY {
        return (found, Some("wrong length"));
    }
    let (end, mut position) = (number(END_AT), number(COMMITTED_AT));
    if end.checked_sub(position).is_none_or(|bytes| bytes > CAPACITY as u64) {
        return (found, Some("impossible positions"));
    }
    while position < end {
        match read_record(|at, len| copy_out(ring, at, len), position, end) {
            Some((record, next)) => {
                found.push(record);
                position = next;
            }
            None => return (found, Some("a record is damaged")),
        }
    }
    (found, None)
}

/// The record at `position`, if it is whole and ends by `end`. `bytes(position, len)` reads the ring.
fn read_record<R: Record>(
    bytes: impl Fn(u64, usize) -> Vec<u8>,
    position: u64,
    end: u64,
) -> Option<(R, u64)> {
    let sums: [u8; 8] = bytes(position, 8).try_into().ok()?;
    let sums = u64::from_le_bytes(sums);
    let (length, crc) = (sums & u64::from(u32::MAX), sums >> 32);
    if length > limits::SHM_RECORD_BYTES as u64 {
        return None;
    }
    let next = position.checked_add((RECORD_HEADER_BYTES as u64 + length).next_multiple_of(8))?;
    if next > end {
        return None;
    }
    let checked = bytes(position.checked_add(8)?, usize::try_from(length).ok()? + 8);
    if u64::from(crc32c(&checked)) != crc {
        return None;
    }
    let (at, payload) = checked.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*at) != position {
        return None;
    }
    Some((R::decode(payload)?, next))
}

/// `len` bytes of the ring from `position`, unwrapped.
fn copy_out(ring: &[u8], position: u64, len: usize) -> Vec<u8> {
    ring.iter().cycle().skip(ring_offset(position)).take(len).copied().collect()
}

#[cfg(test)]
#[path = "shm_tests.rs"]
mod tests;
