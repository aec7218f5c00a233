//! A connection's sending side in memory: the kernel's buffer and, over TLS, the sealed record behind it.
//!
//! Contract: takes what there is room for; over TLS a write is taken whole and what has no room is held. Notes
//! that it has bytes for the network ([`Outbox`]). Owner: a simulated feed writer, then the world.

use std::cell::RefCell;
use std::rc::Rc;

use tocsin_core::feed::socket::{Broken, Offer, Socket};

/// Connections that have something for the network.
pub(super) type Outbox = Rc<RefCell<Vec<u64>>>;

/// See the module head.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) connection: u64,
    /// In the kernel, on its way.
    pub(super) out: Vec<u8>,
    /// Bytes the kernel takes beside those.
    pub(super) room: usize,
    held: Vec<u8>,
    tls: bool,
    pub(super) broken: bool,
    pub(super) finished: bool,
    /// Something was not taken: the kernel tells when there is room.
    pub(super) waits: bool,
    outbox: Outbox,
    /// Stamps are undone: a planted bug.
    unstamps: bool,
}

impl Pipe {
    pub(super) fn new(connection: u64, room: usize, tls: bool, outbox: &Outbox, unstamps: bool) -> Pipe {
        Pipe {
            connection,
            out: Vec::new(),
            room,
            held: Vec::new(),
            tls,
            broken: false,
            finished: false,
            waits: false,
            outbox: Rc::clone(outbox),
            unstamps,
        }
    }

    fn push_out(&mut self) {
        let count = self.room.min(self.held.len());
        self.room -= count;
        if count > 0 {
            self.out.extend(self.held.drain(..count));
            self.outbox.borrow_mut().push(self.connection);
        }
        if !self.held.is_empty() {
            self.waits = true;
            self.outbox.borrow_mut().push(self.connection);
        }
    }
}

impl Socket for Pipe {
    fn offer(&mut self, bytes: &[u8]) -> Result<Offer, Broken> {
        if self.broken {
            return Err(Broken);
        }
        self.held.extend_from_slice(bytes);
        if self.unstamps {
            unstamp(&mut self.held);
        }
        self.push_out();
        let left = self.held.len();
        if !self.tls {
            self.held.clear();
            return Ok(Offer { accepted: bytes.len() - left, held: false });
        }
        Ok(Offer { accepted: bytes.len(), held: left > 0 })
    }

    fn settle(&mut self) -> Result<bool, Broken> {
        if self.broken {
            return Err(Broken);
        }
        self.push_out();
        Ok(self.held.is_empty())
    }

    fn widen(&mut self) {
        self.room += 2_048;
    }

    fn finish(&mut self) {
        self.finished = true;
        self.outbox.borrow_mut().push(self.connection);
    }
}

const STAMP: &[u8] = b"\"dispatchTimestampUs\":";
const DETECTED: &[u8] = b"\"detectedTimestampUs\":";
const DIGITS: usize = 16;

/// Puts the time of detection where the time of dispatch stands.
fn unstamp(frames: &mut [u8]) {
    let find = |frames: &[u8], what: &[u8]| frames.windows(what.len()).position(|w| w == what);
    let (Some(from), Some(to)) = (find(frames, DETECTED), find(frames, STAMP)) else { return };
    let (from, to) = (from + DETECTED.len(), to + STAMP.len());
    if from + DIGITS <= frames.len() && to + DIGITS <= frames.len() {
        frames.copy_within(from..from + DIGITS, to);
    }
}

/// The dispatch stamp of a message and the message without it, and whether it is marked as replayed.
pub(super) fn without_stamp(message: &[u8]) -> Option<(i64, Vec<u8>, bool)> {
    let at = message.windows(STAMP.len()).position(|w| w == STAMP)? + STAMP.len();
    let digits = message.get(at..at + DIGITS)?;
    let stamp = core::str::from_utf8(digits).ok()?.parse().ok()?;
    let mut rest = message.to_vec();
    rest.get_mut(at..at + DIGITS)?.fill(b'0');
    let replayed = rest.ends_with(b",\"replayed\":true}");
    if replayed {
        rest.truncate(rest.len() - b",\"replayed\":true}".len());
        rest.push(b'}');
    }
    Some((stamp, rest, replayed))
}
