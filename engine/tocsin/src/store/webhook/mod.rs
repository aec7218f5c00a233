//! What the store keeps for webhooks: accounts, endpoints with sealed secrets, events with whom they
//! went to, deliveries not concluded, the delivery log, mail to be sent.
//!
//! Contract: as the rest of the store. A success is a bit beside its event, not a row; a delivery that
//! waits for a retry is a row; the delivery log is a ring of a fixed number of rows an endpoint.

pub mod accounts;
pub mod deliveries;
pub mod endpoints;
pub mod mail;
pub mod secrets;

mod log;
mod recipients;
mod rows;
mod start;

use std::collections::{BTreeMap, BTreeSet};

use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Mail, SavedHealth};

pub(super) use rows::Batch;

/// What the store keeps in memory of webhooks.
#[derive(Debug, Default)]
pub(super) struct Webhook {
    /// Endpoints there are.
    pub(super) live: BTreeSet<u64>,
    /// The next line's number of each endpoint's delivery log, once it has written one.
    pub(super) lines: BTreeMap<u64, u64>,
}

/// An endpoint's health has changed. What mail is due for it is committed with it.
#[derive(Clone, Copy, Debug)]
pub struct HealthRow<'a> {
    /// Which endpoint; one that is gone is passed over.
    pub endpoint: EndpointId,
    /// Its state and counters.
    pub health: SavedHealth,
    /// It has just been verified; only the first time counts.
    pub verified: bool,
    /// Which mail is due, and the details for its text.
    pub mail: Option<(Mail, &'a str)>,
    /// When.
    pub at: WallUs,
}

#[cfg(test)]
mod tests;
