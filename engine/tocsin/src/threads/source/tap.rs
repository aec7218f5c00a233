//! Where a source thread leaves copies for the recorder.
//!
//! Contract: the source thread does its work first, announcements and all; then it copies a body into a
//! ring of bytes that is there from the start. A ring without room loses the body, then the line, and
//! counts it: nothing is waited for. No allocation, no lock, no system call. Without a recorder there is
//! no tap, which costs one comparison an answer. Owner: a source thread, of the near end; the recorder
//! thread has the far end, [`Far`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use tocsin_core::time::WallUs;
use tocsin_core::wire::EncodedAnnouncement;

use crate::record::Outcome;

/// A record's head, in front of its body.
const HEAD_BYTES: usize = 24;

/// What was lost on the way to the recorder. Anybody may read it.
#[derive(Debug, Default)]
pub struct TapLosses {
    /// Polls of which the recorder knows nothing.
    pub polls: AtomicU64,
    /// Polls it knows without their body.
    pub bodies: AtomicU64,
    /// Announcements it will not get.
    pub announcements: AtomicU64,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The source among its thread's.
    pub lane: u16,
    /// The list within it.
    pub list: u16,
    /// HTTP status.
    pub status: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// When the answer was complete.
    pub at: WallUs,
    /// From the request to then.
    pub elapsed_us: u32,
}

/// The source thread's end.
pub struct Tap {
    bytes: Producer<u8>,
    announcements: Producer<Arc<EncodedAnnouncement>>,
    losses: Arc<TapLosses>,
}

/// The recorder's end.
pub struct Far {
    bytes: Consumer<u8>,
    /// Announcements, each once, in the order in which they went to the feed.
    pub announcements: Consumer<Arc<EncodedAnnouncement>>,
    /// What did not fit.
    pub losses: Arc<TapLosses>,
}

/// Both ends: `bytes` for polls and bodies, room for `announcements`.
#[must_use]
pub fn tap(bytes: usize, announcements: usize) -> (Tap, Far) {
    let (near, far) = RingBuffer::new(bytes);
    let (near_announcements, announcements) = RingBuffer::new(announcements);
    let losses = Arc::new(TapLosses::default());
    let tap = Tap { bytes: near, announcements: near_announcements, losses: Arc::clone(&losses) };
    (tap, Far { bytes: far, announcements, losses })
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tap {
    /// Leaves a copy of an answer; an empty body is none.
    pub fn poll(&mut self, poll: Poll, body: &[u8]) {
        let room = self.bytes.slots();
        if room < HEAD_BYTES {
            return count(&self.losses.polls);
        }
        let fits = room - HEAD_BYTES >= body.len();
        if !fits {
            count(&self.losses.bodies);
        }
        let body = if fits { body } else { &[] };
        let mut head = [0; HEAD_BYTES];
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let parts: [&[u8]; 7] = [
            &length.to_le_bytes(),
            &poll.lane.to_le_bytes(),
            &poll.list.to_le_bytes(),
            &poll.status.to_le_bytes(),
            &[poll.outcome as u8, 0],
            &poll.elapsed_us.to_le_bytes(),
            &poll.at.0.to_le_bytes(),
        ];
        let mut rest = head.as_mut_slice();
        for part in parts {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
        // There is room for both: nobody else takes any.
        let _ = self.bytes.push_entire_slice(&head);
        let _ = self.bytes.push_entire_slice(body);
    }

    /// Leaves an announcement.
    pub fn announcement(&mut self, announcement: &Arc<EncodedAnnouncement>) {
        if self.announcements.push(Arc::clone(announcement)).is_err() {
            count(&self.losses.announcements);
        }
    }
}

impl Far {
    /// The next answer, its body put into `body`; `None` while there is none whole.
    pub fn next(&mut self, body: &mut Vec<u8>) -> Option<Poll> {
        let available = self.bytes.slots();
        let mut head = [0; HEAD_BYTES];
        {
            let chunk = self.bytes.read_chunk(HEAD_BYTES).ok()?;
            let (first, second) = chunk.as_slices();
            for (place, byte) in head.iter_mut().zip(first.iter().chain(second)) {
                *place = *byte;
            }
        }
        let [l0, l1, l2, l3, a0, a1, b0, b1, s0, s1, outcome, _, e0, e1, e2, e3, at @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if available < HEAD_BYTES + length {
            return None;
        }
        let chunk = self.bytes.read_chunk(HEAD_BYTES + length).ok()?;
        let (first, second) = chunk.as_slices();
        body.clear();
        body.extend_from_slice(first.get(HEAD_BYTES..).unwrap_or_default());
        body.extend_from_slice(second.get(HEAD_BYTES.saturating_sub(first.len())..).unwrap_or_default());
        chunk.commit_all();
        Some(Poll {
            lane: u16::from_le_bytes([a0, a1]),
            list: u16::from_le_bytes([b0, b1]),
            status: u16::from_le_bytes([s0, s1]),
            outcome: Outcome::ALL.get(usize::from(outcome)).copied().unwrap_or(Outcome::Unusable),
            at: WallUs(i64::from_le_bytes(at)),
            elapsed_us: u32::from_le_bytes([e0, e1, e2, e3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(n: u16) -> Poll {
        Poll {
            lane: n,
            list: n + 1,
            status: 200,
            outcome: Outcome::ALL[usize::from(n) % Outcome::ALL.len()],
            at: WallUs(-5 - i64::from(n)),
            elapsed_us: 70_000 + u32::from(n),
        }
    }

    #[test]
    fn what_goes_in_comes_out_around_the_end_of_the_ring() {
        let (mut tap, mut far) = tap(100, 1);
        let mut body = Vec::new();
        for n in 0..200_u16 {
            let sent: Vec<u8> = (0..n % 70).map(|b| u8::try_from(b).unwrap()).collect();
            tap.poll(poll(n), &sent);
            assert_eq!(far.next(&mut body), Some(poll(n)));
            assert_eq!(body, sent);
            assert_eq!(far.next(&mut body), None);
        }
        assert_eq!(far.losses.polls.load(Ordering::Relaxed) + far.losses.bodies.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_room_the_body_goes_first_then_the_line() {
        let (mut tap, mut far) = tap(3 * HEAD_BYTES + 10, 1);
        let mut body = Vec::new();
        tap.poll(poll(1), &[7; 20]);
        // Room for a head and 14 bytes.
        tap.poll(poll(2), &[8; 15]);
        tap.poll(poll(3), &[]);
        assert_eq!(far.losses.bodies.load(Ordering::Relaxed), 1);
        assert_eq!(far.losses.polls.load(Ordering::Relaxed), 1);
        assert_eq!((far.next(&mut body), body.len()), (Some(poll(1)), 20));
        assert_eq!((far.next(&mut body), body.len()), (Some(poll(2)), 0));
        assert_eq!(far.next(&mut body), None);
        tap.poll(poll(4), &[9; 10]);
        assert_eq!((far.next(&mut body), body.as_slice()), (Some(poll(4)), &[9; 10][..]));
    }
}
