//! Builds the recorder, where `record.dir` names a directory.

use std::sync::Arc;

use tocsin_core::source::exchange;

use super::{StartError, doing};
use crate::config::Config;
use crate::record::Files;
use crate::threads::recorder::{Recorder, RecorderCounters, RecorderInlet};
use crate::threads::source::tap::{Tap, tap};
use crate::topology::{self, Plan};

/// The recorder, if there is one, and what the source threads need of it.
pub(super) struct Built {
    pub(super) recorder: Option<Recorder>,
    /// One a source thread; all or none.
    pub(super) taps: Vec<Option<Tap>>,
    pub(super) counters: Option<Arc<RecorderCounters>>,
}

/// Opens the directory and makes a tap for each source thread.
pub(super) fn build(config: &Config, plan: &Plan, epoch: u64) -> Result<Built, StartError> {
    let Some(record) = &config.record else {
        return Ok(Built {
            recorder: None,
            taps: plan.sources.iter().map(|_| None).collect(),
            counters: None,
        });
    };
    let files = Files::open(&record.dir, record.max_bytes, epoch)
        .map_err(|error| doing("record.dir")(std::io::Error::other(error)))?;
    let (mut taps, mut inlets) = (Vec::new(), Vec::new());
    for source in &plan.sources {
        let (near, far) = tap(topology::SOURCE_TO_RECORDER_BYTES, topology::SOURCE_TO_RECORDER);
        let sources = source.sources.iter().filter_map(|name| exchange::by_config_name(name));
        inlets.push(RecorderInlet { far, sources: sources.collect() });
        taps.push(Some(near));
    }
    let recorder = Recorder::new(inlets, files);
    let counters = Some(recorder.counters());
    Ok(Built { recorder: Some(recorder), taps, counters })
}
