//! The part of the bridge that asks the feed writers about their subscribers.
//!
//! Contract: a page is made here, travels to a writer in the ring that brings sessions, is filled there a
//! few rows a turn, and comes back through a ring of its own; the writer takes no memory and waits for
//! nothing. One question at a time. Owner: control thread. Bounds: [`PATIENCE`] for each writer; an answer
//! that comes later is dropped when the next question is asked.

use std::time::Duration;

use rtrb::Consumer;
use tocsin_core::feed::key::KeyId;
use tokio::sync::oneshot;

use super::{Bridge, BridgeError, LOOK_AGAIN};
use crate::rings::{SubscriberPage, SubscriberRow, ToAccept};

/// How long a writer, or the accept thread, is waited for: a page takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// The ends of the rings that bring pages back.
pub(super) struct Looking {
    looked: Vec<Consumer<Box<SubscriberPage>>>,
    questions: u64,
}

impl Looking {
    pub(super) fn new(looked: Vec<Consumer<Box<SubscriberPage>>>) -> Looking {
        Looking { looked, questions: 0 }
    }
}

/// Subscribers of all writers.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Each with its number: that of its writer in the upper half, its slot's plus one in the lower.
    pub rows: Vec<(u64, SubscriberRow)>,
    /// Behind which number there are more.
    pub next: Option<u64>,
}

impl Bridge {
    /// At most `most` subscribers behind the number `after`.
    ///
    /// # Errors
    /// [`BridgeError::Busy`] when a writer does not answer in time.
    pub async fn subscribers(&self, after: u64, most: usize) -> Result<Subscribers, BridgeError> {
        let mut looking = self.looking.lock().await;
        let mut found = Subscribers::default();
        // Both halves fit: the number was made of them.
        let (first, mut from) = ((after >> 32) as usize, after as u32);
        for writer in first..looking.looked.len() {
            let page = self.look(&mut looking, writer, from, most - found.rows.len()).await?;
            let number = |row: &SubscriberRow| ((writer as u64) << 32) + u64::from(row.row.slot) + 1;
            found.rows.extend(page.rows.iter().map(|row| (number(row), *row)));
            if found.rows.len() >= most {
                let last_writer = writer + 1 >= looking.looked.len();
                let more = page.next.is_some() || !last_writer;
                found.next = found.rows.last().map(|(number, _)| *number).filter(|_| more);
                break;
            }
            from = 0;
        }
        Ok(found)
    }

    async fn look(
        &self,
        looking: &mut Looking,
        writer: usize,
        from: u32,
        most: usize,
    ) -> Result<Box<SubscriberPage>, BridgeError> {
        looking.questions += 1;
        let question = looking.questions;
        let page = SubscriberPage { question, next: Some(from), rows: Vec::with_capacity(most), most };
        self.tell_accept(ToAccept::Look(writer, Box::new(page))).await?;
        let give_up = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < give_up {
            let Some(ring) = looking.looked.get_mut(writer) else { break };
            while let Ok(page) = ring.pop() {
                if page.question == question {
                    return Ok(page);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(BridgeError::Busy("feed"))
    }

    /// How many connections these keys have, in their order; `None` when the accept thread is busy.
    pub async fn connections_of(&self, keys: Vec<KeyId>) -> Option<Vec<u32>> {
        let (reply, answer) = oneshot::channel();
        self.tell_accept(ToAccept::Connections(keys, reply)).await.ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}
