//! Builds the feed writers and what wakes them.

use std::sync::Arc;

use rtrb::Consumer;
use tocsin_core::feed::history::History;
use tocsin_core::limits;
use tocsin_core::wire::EncodedAnnouncement;

use super::super::{StartError, doing};
use super::{Rings, seed};
use crate::config::Idle;
use crate::os::alarm::Alarm;
use crate::os::clock;
use crate::rings::MarketToFeed;
use crate::threads::feed::{FeedRings, FeedStats, FeedThread};
use crate::topology::{Plan, ThreadPlan};

/// Of each feed writer; none where it never sleeps.
pub(super) type Alarms = Vec<Option<Arc<Alarm>>>;

/// The feed writers, and what wakes those that may sleep.
pub(super) fn build(
    plan: &Plan,
    rings: &mut Rings,
    markets: Vec<Option<Consumer<MarketToFeed>>>,
    stats: &[Arc<FeedStats>],
    history: &[Arc<EncodedAnnouncement>],
    epoch: u64,
) -> Result<(Vec<FeedThread>, Alarms), StartError> {
    let ends = rings
        .feed_from_source
        .drain(..)
        .zip(rings.feed_from_accept.drain(..))
        .zip(rings.feed_to_accept.drain(..))
        .zip(rings.feed_to_control.drain(..))
        .zip(markets)
        .zip(stats);
    let built = ends.map(|(((((sources, accept), released), looked), market), stats)| {
        let rings = FeedRings { sources, market, accept, released, looked };
        // The store may hold more than memory does: then the oldest in memory are not the first ever.
        let complete = history.len() < limits::HISTORY_IN_MEMORY;
        let history = History::new(epoch, limits::HISTORY_IN_MEMORY, history.iter().cloned(), complete);
        FeedThread::new(rings, history, Arc::clone(stats), seed(), Box::new(clock::now))
            .map_err(doing("starting a feed writer"))
    });
    let feeds = built.collect::<Result<Vec<_>, _>>()?;
    let alarm =
        |(plan, feed): (&ThreadPlan, &FeedThread)| (plan.idle != Some(Idle::Spin)).then(|| feed.alarm());
    let alarms = plan.feeds.iter().zip(&feeds).map(alarm).collect();
    Ok((feeds, alarms))
}
