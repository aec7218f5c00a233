//! One row waiting for its commit, and the group of them that goes into one transaction.
//!
//! Contract: plain data; no I/O, nothing fails. Owner: the journal thread.

use std::collections::VecDeque;
use std::sync::Arc;

use tocsin_core::limits;
use tocsin_core::model::Announcement;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Mail, SavedHealth};
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outgoing, RecordedOutcome};
use tocsin_core::wire::EncodedAnnouncement;

use super::request::Reply;
use crate::rings::{MarketToJournal, SourceToJournal, WebhookToJournal};
use crate::store::Row;
use crate::store::market::MarketRow;
use crate::store::webhook::HealthRow;
use crate::store::webhook::deliveries::{AttemptRecord, WebhookRow};

/// A shared-memory record that a commit frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Of the source thread with this inlet; where it ends.
    Source(usize, u64),
    /// Of the webhook thread; where it ends.
    Webhook(u64),
}

/// One row waiting for its commit.
pub(super) enum Pending {
    Announcement {
        announcement: Arc<EncodedAnnouncement>,
        release: Option<Release>,
    },
    Swept {
        announcement: Box<Announcement>,
        release: Release,
    },
    Seen(tocsin_core::detect::SeenRecord),
    Confirmed {
        record: tocsin_core::detect::SeenRecord,
        notice: Box<str>,
    },
    Baselined {
        source: &'static str,
        list: &'static str,
        at: WallUs,
    },
    Dispatched {
        position: tocsin_core::model::FeedPosition,
        at: WallUs,
    },
    Event {
        event: Arc<QueuedEvent<Outgoing>>,
        recipients: Box<[EndpointId]>,
    },
    Outcome {
        event: u64,
        recorded: RecordedOutcome,
        release: Option<Release>,
    },
    Asked {
        event: u64,
        endpoint: EndpointId,
    },
    Attempt(Box<AttemptRecord>),
    Health(Box<Health>),
    Market(MarketToJournal),
    /// No row: everything before it is on disk.
    Barrier(Reply<()>),
}

/// An endpoint's health has changed.
pub(super) struct Health {
    endpoint: EndpointId,
    health: SavedHealth,
    verified: bool,
    mail: Option<(Mail, Box<str>)>,
    at: WallUs,
}

impl Pending {
    /// What came from the source thread with this inlet.
    pub(super) fn of_source(message: SourceToJournal, inlet: usize, now: WallUs) -> Pending {
        match message {
            SourceToJournal::Announcement { announcement, shm_position } => Pending::Announcement {
                announcement,
                release: shm_position.map(|position| Release::Source(inlet, position)),
            },
            SourceToJournal::Seen(record) => Pending::Seen(record),
            SourceToJournal::Confirmed { record, notice } => Pending::Confirmed { record, notice },
            SourceToJournal::Baselined { source, list } => Pending::Baselined { source, list, at: now },
        }
    }

    /// What came from the webhook thread.
    pub(super) fn of_webhook(message: WebhookToJournal) -> Pending {
        match message {
            WebhookToJournal::Event { event, recipients } => Pending::Event { event, recipients },
            WebhookToJournal::Outcome { event, recorded, shm_position } => {
                Pending::Outcome { event, recorded, release: shm_position.map(Release::Webhook) }
            }
            WebhookToJournal::Asked { event, endpoint } => Pending::Asked { event, endpoint },
            WebhookToJournal::Attempt(line) => Pending::Attempt(line),
            WebhookToJournal::Health { endpoint, health, verified, mail, at } => {
                Pending::Health(Box::new(Health { endpoint, health, verified, mail, at }))
            }
        }
    }

    /// The row to be committed, if it is one.
    pub(super) fn row(&self) -> Option<Row<'_>> {
        Some(match self {
            Pending::Announcement { announcement, .. } => Row::Announcement {
                announcement: &announcement.announcement,
                dispatched: announcement.dispatched(),
            },
            Pending::Swept { announcement, .. } => Row::Announcement { announcement, dispatched: None },
            Pending::Seen(record) => Row::Seen(record),
            Pending::Confirmed { record, notice } => Row::Confirmed { record, notice },
            Pending::Baselined { source, list, at } => Row::Baselined { source, list, at: *at },
            Pending::Dispatched { position, at } => Row::Dispatched { position: *position, at: *at },
            Pending::Event { event, recipients } => Row::Webhook(WebhookRow::Event { event, recipients }),
            Pending::Outcome { event, recorded, .. } => {
                Row::Webhook(WebhookRow::Outcome { event: *event, recorded: *recorded })
            }
            Pending::Asked { event, endpoint } => {
                Row::Webhook(WebhookRow::Asked { event: *event, endpoint: *endpoint })
            }
            Pending::Attempt(line) => Row::Webhook(WebhookRow::Attempt(line)),
            Pending::Health(health) => Row::Health(HealthRow {
                endpoint: health.endpoint,
                health: health.health,
                verified: health.verified,
                mail: health.mail.as_ref().map(|(mail, detail)| (*mail, &**detail)),
                at: health.at,
            }),
            Pending::Market(MarketToJournal::Event(event)) => Row::Market(MarketRow::Event(event)),
            Pending::Market(MarketToJournal::Changes(changes)) => Row::Market(MarketRow::Changes(changes)),
            Pending::Barrier(_) => return None,
        })
    }

    /// The shared-memory record to be released once it is on disk.
    pub(super) fn release(&self) -> Option<Release> {
        match self {
            Pending::Announcement { release, .. } | Pending::Outcome { release, .. } => *release,
            Pending::Swept { release, .. } => Some(*release),
            _ => None,
        }
    }

    /// Whether it may be left out when the disk is behind.
    pub(super) const fn is_optional(&self) -> bool {
        matches!(self, Pending::Attempt(_))
    }

    /// Whether its commit puts mail into the outbox.
    pub(super) fn has_mail(&self) -> bool {
        matches!(self, Pending::Health(health) if health.mail.is_some())
    }
}

/// How many rows of the backlog go into the next transaction. A delivery asked for again is never in
/// one with an outcome before it: outcomes that are on disk and not released yet are applied once more
/// after a crash, and would conclude it.
pub(super) fn group(backlog: &VecDeque<Pending>) -> usize {
    let most = backlog.len().min(limits::JOURNAL_ROWS_PER_COMMIT);
    let mut outcomes = false;
    for (at, pending) in backlog.iter().take(most).enumerate() {
        match pending {
            Pending::Outcome { release: Some(_), .. } => outcomes = true,
            Pending::Asked { .. } if outcomes => return at,
            _ => {}
        }
    }
    most
}
