//! The simulated journal thread: rings to commits, commits to what waits for them.
//!
//! Contract: the order is that of the engine's journal thread: what the rings hold is committed in groups, in
//! its order; shared memory is released, and whoever waits is answered, when the disk has it. A group the disk
//! refuses is tried again. Not modelled: lost ring entries and the sweep that finds them, log lines, mail.

use std::collections::VecDeque;

use core::time::Duration;

use tocsin_core::time::{Mono, Now};

use super::durable::{Durable, Row};
use super::plant::Plant;
use super::{Death, Stop};

/// What waits for a commit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) row: Option<Row>,
    pub(super) release: Release,
}

impl Pending {
    /// Nothing but somebody who waits.
    pub(super) const fn answer(change: u64) -> Pending {
        Pending { row: None, release: Release::Answer(change) }
    }
}

/// What a commit sets free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    Nothing,
    /// Of this source thread.
    Source(usize, u64),
    Webhook(u64),
    /// Somebody waits: the change of this number.
    Answer(u64),
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) from_sources: Vec<VecDeque<Pending>>,
    pub(super) from_webhook: VecDeque<Pending>,
    pub(super) requests: VecDeque<Pending>,
    backlog: VecDeque<Pending>,
    pub(super) retry_at: Mono,
    pause: Duration,
}

const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

impl Journal {
    pub(super) fn new(threads: usize) -> Journal {
        Journal {
            from_sources: (0..threads).map(|_| VecDeque::new()).collect(),
            pause: RETRY_MIN,
            ..Journal::default()
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.backlog.is_empty()
            && self.from_webhook.is_empty()
            && self.requests.is_empty()
            && self.from_sources.iter().all(VecDeque::is_empty)
    }

    /// Takes what there is and commits groups of at most `most` rows. Numbers of the changes that may be
    /// answered go into `answered`.
    pub(super) fn step(
        &mut self,
        now: Now,
        most: usize,
        durable: &mut Durable,
        plant: Option<Plant>,
        answered: &mut Vec<u64>,
    ) -> Result<(), Stop> {
        for ring in &mut self.from_sources {
            self.backlog.extend(ring.drain(..));
        }
        self.backlog.extend(self.from_webhook.drain(..));
        // A request sent after a message is committed after it.
        self.backlog.extend(self.requests.drain(..));
        while !self.backlog.is_empty() && now.mono >= self.retry_at {
            self.commit(now, most, durable, plant, answered)?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        now: Now,
        most: usize,
        durable: &mut Durable,
        plant: Option<Plant>,
        answered: &mut Vec<u64>,
    ) -> Result<(), Stop> {
        let size = self.backlog.len().min(most.max(1));
        let rows: Vec<Row> =
            self.backlog.iter().take(size).filter_map(|pending| pending.row.clone()).collect();
        durable.point()?;
        let hasty = plant == Some(Plant::AckBeforeFsync);
        let written = durable.write(rows);
        if written.is_ok() && hasty {
            self.release(size, durable, answered);
        }
        durable.point()?;
        let synced = written.and_then(|()| durable.sync());
        durable.point()?;
        if synced.is_err() {
            self.retry_at = now.mono + self.pause;
            self.pause = (self.pause * 2).min(RETRY_MAX);
            return Ok(());
        }
        self.pause = RETRY_MIN;
        if !hasty {
            self.release(size, durable, answered);
        }
        self.backlog.drain(..size);
        durable.point()
    }

    fn release(&self, size: usize, durable: &mut Durable, answered: &mut Vec<u64>) {
        for pending in self.backlog.iter().take(size) {
            match pending.release {
                Release::Nothing => {}
                Release::Source(thread, end) => {
                    if let Some(memory) = durable.announcements.get_mut(thread) {
                        memory.release(end);
                    }
                }
                Release::Webhook(end) => durable.outcomes.release(end),
                Release::Answer(change) if answered.contains(&change) => {}
                Release::Answer(change) => answered.push(change),
            }
        }
    }
}

impl Death {
    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Death::Kill => "kill -9",
            Death::PowerCut => "power cut",
        }
    }
}
