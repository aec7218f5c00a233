//! Messages beside announcements that wait to be sent, and the one that is being sent.
//!
//! Contract: first come, first served; each is stamped and framed once, when its turn begins, whatever the
//! number of subscribers. Bounded by [`limits::EXTRAS_WAITING`]: beyond it the oldest whose turn has not begun
//! is dropped, for the newer is worth more. Owner: a feed writer. Allocates at the start, and its frames grow
//! to the longest message. Never fails.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits;
use crate::time::WallUs;
use crate::wire::extra::Extra;
use crate::ws::Opcode;
use crate::ws::frame::write_frame;

/// See the module head.
#[derive(Debug, Default)]
pub struct ExtraQueue {
    waiting: VecDeque<Arc<Extra>>,
    current: Option<Current>,
    binary: Vec<u8>,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    extra: Arc<Extra>,
    /// The slot it goes on from.
    next: u32,
}

impl ExtraQueue {
    /// An empty one, with its memory.
    #[must_use]
    pub fn new() -> ExtraQueue {
        ExtraQueue { waiting: VecDeque::with_capacity(limits::EXTRAS_WAITING), ..ExtraQueue::default() }
    }

    /// Takes one. Returns whether another was dropped for it.
    pub fn push(&mut self, extra: Arc<Extra>) -> bool {
        let full = self.waiting.len() >= limits::EXTRAS_WAITING;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(extra);
        full
    }

    /// Whether none waits or is being sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// The one that is being sent, and the slot it goes on from. The next one's turn begins at `now`, its
    /// dispatch.
    pub fn turn(&mut self, now: WallUs, json: &mut Vec<u8>) -> Option<(Arc<Extra>, u32)> {
        if self.current.is_none() {
            let extra = self.waiting.pop_front()?;
            json.clear();
            extra.payload.write_stamped(json, now);
            for (frame, opcode) in [(&mut self.binary, Opcode::Binary), (&mut self.text, Opcode::Text)] {
                frame.clear();
                write_frame(frame, opcode, json, None);
            }
            self.current = Some(Current { extra, next: 0 });
        }
        self.current.as_ref().map(|current| (Arc::clone(&current.extra), current.next))
    }

    /// Its frame.
    #[must_use]
    pub fn frame(&self, opcode: Opcode) -> &[u8] {
        if opcode == Opcode::Text { &self.text } else { &self.binary }
    }

    /// It goes on from `next`, or was sent to all where that is `end`.
    pub fn advance(&mut self, next: u32, end: u32) {
        if next >= end {
            self.current = None;
        } else if let Some(current) = &mut self.current {
            current.next = next;
        }
    }
}
