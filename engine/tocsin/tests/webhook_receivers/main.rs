//! Receivers that misbehave, over real TLS, and what the webhook thread makes of each.
//!
//! `cases.rs` is the table: every receiver with its verdict and whether its connection is used again.
//! `every_case.rs` runs it; beside it stand the rules that no row can say: what follows a 410, how much
//! of an answer is read (`answers.rs`), how connections are kept, bounded and given up
//! (`connections.rs`), and what names lead to (`names.rs`). Time is moved on, not waited for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod cases;
mod connections;
mod every_case;
mod names;
#[allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#[path = "../support/webhook.rs"]
mod rig;

use std::sync::{Arc, LazyLock};

use rig::{Surroundings, WebhookRig, secret};
use tocsin::store::webhook::deliveries::AttemptRecord;
use tocsin_core::webhook::lane::Purpose;
use tocsin_sim::{Received, ReceiverOptions, SimReceiver, TestCa};

/// The authority of every receiver here.
static CA: LazyLock<Arc<TestCa>> = LazyLock::new(|| SimReceiver::new_ca().unwrap());

/// A receiver and a webhook thread.
struct Scene {
    receiver: SimReceiver,
    rig: WebhookRig,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(ReceiverOptions::default(), &Surroundings::default())
    }

    fn with(options: ReceiverOptions, around: &Surroundings<'_>) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        let receiver = SimReceiver::start(ReceiverOptions {
            ca: Some(Arc::clone(&CA)),
            ca_file: Some(ca_file.clone()),
            secrets: vec![secret().reveal().to_owned()],
            ..options
        })
        .unwrap();
        let rig = WebhookRig::new(&Surroundings { ca_file: Some(&ca_file), ..*around });
        Scene { receiver, rig, _dir: dir }
    }

    /// Steps until this many requests that are no pings have come, and takes them.
    #[track_caller]
    fn deliveries(&mut self, count: usize) -> Vec<Received> {
        let Scene { receiver, rig, .. } = self;
        let mut all = Vec::new();
        rig.until("deliveries", |_| {
            all.extend(receiver.take().into_iter().filter(is_delivery));
            all.len() >= count
        });
        all
    }

    /// Steps until this many deliveries have an outcome.
    #[track_caller]
    fn outcomes(&mut self, count: usize) {
        self.rig.until("outcomes", |rig| rig.outcomes().len() >= count);
    }

    /// The lines of the delivery log that are about events.
    fn attempts(&self) -> Vec<AttemptRecord> {
        let of_event = |line: &AttemptRecord| matches!(line.purpose, Purpose::Event { .. });
        self.rig.attempts().into_iter().filter(of_event).collect()
    }

    /// Connections the receiver has seen the end of.
    fn closed(&self) -> u64 {
        let counters = self.receiver.counters();
        counters.connections - counters.open
    }

    /// Steps until the receiver has seen the end of this many.
    #[track_caller]
    fn closes(&mut self, count: u64) {
        let Scene { receiver, rig, .. } = self;
        rig.until("the end of a connection", |_| {
            let counters = receiver.counters();
            counters.connections - counters.open >= count
        });
    }
}

fn is_delivery(received: &Received) -> bool {
    received.event_type().as_deref() != Some("ping")
}
