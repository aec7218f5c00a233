//! The accept thread's ends of the rings to and from the feed writers.
//!
//! Contract: what is sent to one writer arrives in the order it was sent, so a revocation never
//! overtakes a session of its key. A full ring loses nothing: messages wait here, in order, and the
//! thread stops taking on more when too many do. Owner: the accept thread.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, PushError};

use crate::rings::{AcceptToFeed, LiveSession, Released};

/// One feed writer, as the accept thread sees it.
pub struct WriterLink {
    /// Sessions and key changes for it.
    pub to_feed: Producer<AcceptToFeed>,
    /// Its ended sessions.
    pub released: Consumer<Released>,
}

struct Writer {
    link: WriterLink,
    /// What did not fit into the ring, oldest first.
    outbox: VecDeque<AcceptToFeed>,
    sessions: u32,
}

impl Writer {
    fn send(&mut self, message: AcceptToFeed) {
        self.outbox.push_back(message);
        self.flush();
    }

    /// Moves what fits into the ring.
    fn flush(&mut self) -> usize {
        let mut sent = 0;
        while let Some(message) = self.outbox.pop_front() {
            if let Err(PushError::Full(message)) = self.link.to_feed.push(message) {
                self.outbox.push_front(message);
                break;
            }
            sent += 1;
        }
        sent
    }
}

/// All feed writers.
pub(super) struct Writers {
    writers: Vec<Writer>,
}

impl Writers {
    pub(super) fn new(links: Vec<WriterLink>) -> Writers {
        let writer = |link| Writer { link, outbox: VecDeque::new(), sessions: 0 };
        Writers { writers: links.into_iter().map(writer).collect() }
    }

    /// Gives a session to the writer that has the fewest. Without any writer it is dropped.
    pub(super) fn join(&mut self, session: Box<LiveSession>) {
        if let Some(writer) = self.writers.iter_mut().min_by_key(|w| w.sessions) {
            writer.sessions = writer.sessions.saturating_add(1);
            writer.send(AcceptToFeed::Join(session));
        }
    }

    /// Tells every writer.
    pub(super) fn tell_all(&mut self, message: impl Fn() -> AcceptToFeed) {
        for writer in &mut self.writers {
            writer.send(message());
        }
    }

    /// Tells one writer; what is for one that there is not is dropped.
    pub(super) fn tell(&mut self, writer: usize, message: AcceptToFeed) {
        if let Some(writer) = self.writers.get_mut(writer) {
            writer.send(message);
        }
    }

    /// Tries again what waits. Returns how many messages left.
    pub(super) fn flush(&mut self) -> usize {
        self.writers.iter_mut().map(Writer::flush).sum()
    }

    /// Messages that wait for room.
    pub(super) fn waiting(&self) -> usize {
        self.writers.iter().map(|w| w.outbox.len()).sum()
    }

    /// Takes note of every ended session. Returns how many.
    pub(super) fn take_released(&mut self, mut note: impl FnMut(Released)) -> usize {
        let mut count = 0;
        for writer in &mut self.writers {
            while let Ok(released) = writer.link.released.pop() {
                writer.sessions = writer.sessions.saturating_sub(1);
                note(released);
                count += 1;
            }
        }
        count
    }
}
