//! The whole machine as data: which threads there are, on which cores, who feeds whom, how deep.
//!
//! [`Plan::new`] decides, [`crate::serve`] builds exactly what it says; `tocsin check` prints it.
//! Runs at start only.

use std::fmt;

use tocsin_core::model::Exchange;
use tocsin_core::source::exchange;

use crate::config::{Config, Idle, TopologyMode};

/// Deep enough for the longest burst a source may yield in one turn (one response's items), twice.
pub const SOURCE_TO_FEED: usize = 2 * tocsin_core::limits::ITEMS_PER_RESPONSE;
/// A whole baseline of every list, and announcements while a commit takes its time.
pub const SOURCE_TO_JOURNAL: usize = tocsin_core::limits::SEEN_ITEMS;
/// History for the accept thread.
pub const SOURCE_TO_ACCEPT: usize = 2 * tocsin_core::limits::ITEMS_PER_RESPONSE;
/// Pages of subscribers on their way back: the one asked for and one that was given up.
pub const FEED_TO_CONTROL: usize = 2;
/// Sessions between handshake and writer; at the bound the accept thread keeps them.
pub const ACCEPT_TO_FEED: usize = 1_024;
/// Announcements for the webhook thread.
pub const SOURCE_TO_WEBHOOK: usize = 2 * tocsin_core::limits::ITEMS_PER_RESPONSE;
/// Requests of the control plane waiting for the webhook thread.
pub const CONTROL_TO_WEBHOOK: usize = 256;
/// Bytes of answers on their way to the recorder: dozens of bodies while the disk takes its time.
pub const SOURCE_TO_RECORDER_BYTES: usize = 8 << 20;
/// Announcements on their way to the recorder.
pub const SOURCE_TO_RECORDER: usize = 4 * tocsin_core::limits::ITEMS_PER_RESPONSE;
/// Outcomes and log lines of one event to everyone, several times.
pub const WEBHOOK_TO_JOURNAL: usize = 32_768;
/// Manual alerts waiting for a source thread.
pub const CONTROL_TO_SOURCE: usize = 64;
/// Key changes waiting for the accept thread.
pub const CONTROL_TO_ACCEPT: usize = 1_024;
/// Requests of the control thread waiting for the journal thread.
pub const CONTROL_TO_JOURNAL: usize = 256;
/// What is committed between two looks of the control thread, for dashboards.
pub const JOURNAL_TO_LIVE: usize = 1_024;

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPlan {
    /// Its name, also the kernel's (15 bytes at most).
    pub name: String,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// How it waits; `None` for threads that block on input.
    pub idle: Option<Idle>,
}

/// One source thread and the sources it polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceThreadPlan {
    /// The thread.
    pub thread: ThreadPlan,
    /// Names of its sources, as in the configuration.
    pub sources: Vec<String>,
}

/// Every thread with a loop of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Source threads, at least one: it also carries manual alerts.
    pub sources: Vec<SourceThreadPlan>,
    /// Feed writers.
    pub feeds: Vec<ThreadPlan>,
    /// Housekeeping threads: accept, journal, resolvers, webhook, mail, recorder, control.
    pub housekeeping: Vec<ThreadPlan>,
}

impl Plan {
    /// Decides threads, cores and who polls what.
    #[must_use]
    pub fn new(config: &Config) -> Plan {
        let topology = &config.topology;
        let pinned = topology.mode == TopologyMode::Pinned;
        let core = |cores: &[usize], i: usize| if pinned { cores.get(i).copied() } else { None };
        let enabled = config.sources.iter().filter(|(_, source)| source.enabled).map(|(name, _)| name);
        let exchange_of = |name: &String| exchange::by_config_name(name).map(|spec| spec.exchange);
        let enabled = enabled.map(|name| (exchange_of(name), name.clone()));
        let threads = if pinned { topology.source_cores.len() } else { 1 };
        let shares = share_out(enabled, threads);
        let sources = shares.into_iter().enumerate().map(|(i, sources)| SourceThreadPlan {
            thread: ThreadPlan {
                name: format!("source-{i}"),
                core: core(&topology.source_cores, i),
                idle: Some(topology.idle),
            },
            sources,
        });
        let feeds = (0..usize::from(config.feed.writers)).map(|i| ThreadPlan {
            name: format!("feed-{i}"),
            core: core(&topology.feed_cores, i),
            idle: Some(topology.idle),
        });
        let mail = config.smtp.is_some().then_some("mail");
        let recorder = config.record.is_some().then_some("recorder");
        let housekeeping = ["accept", "journal", "resolver", "egress", "webhook", "control"];
        Plan {
            sources: sources.collect(),
            feeds: feeds.collect(),
            housekeeping: housekeeping
                .into_iter()
                .chain(mail)
                .chain(recorder)
                .map(|name| ThreadPlan { name: name.to_owned(), core: None, idle: None })
                .collect(),
        }
    }

    /// Sessions one writer may hold: its [`crate::rings::Released`] ring has that depth.
    #[must_use]
    pub fn sessions_per_writer(config: &Config) -> usize {
        // Any writer may end up with all of them.
        usize::try_from(config.feed.max_connections).unwrap_or(usize::MAX)
    }
}

/// Which sources each thread polls, on at most `threads` of them but at least one. All sources of one
/// exchange are on one thread: they race there, without a message between threads.
fn share_out(
    sources: impl IntoIterator<Item = (Option<Exchange>, String)>,
    threads: usize,
) -> Vec<Vec<String>> {
    // One that no exchange knows stays alone; the start says that there is no such source.
    let mut groups: Vec<(Option<Exchange>, Vec<String>)> = Vec::new();
    for (exchange, name) in sources {
        match groups.iter_mut().find(|(of, _)| exchange.is_some() && *of == exchange) {
            Some((_, group)) => group.push(name),
            None => groups.push((exchange, vec![name])),
        }
    }
    let threads = threads.clamp(1, groups.len().max(1));
    let mut shares = vec![Vec::new(); threads];
    for (i, (_, group)) in groups.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(i % threads) {
            share.extend(group);
        }
    }
    shares
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, thread: &ThreadPlan, what: &str| {
            let core = thread.core.map_or_else(|| "any core".to_owned(), |c| format!("core {c}"));
            let idle = match thread.idle {
                Some(Idle::Spin) => "spins",
                Some(Idle::Adaptive) => "spins, then sleeps",
                Some(Idle::Block) => "sleeps",
                None => "waits for input",
            };
            writeln!(f, "{:<10} {core:<9} {idle:<19} {what}", thread.name)
        };
        for source in &self.sources {
            line(f, &source.thread, &source.sources.join(", "))?;
        }
        for feed in &self.feeds {
            line(f, feed, "")?;
        }
        for thread in &self.housekeeping {
            line(f, thread, "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn plan(flags: &[(&str, &str)]) -> Plan {
        let layers = flags.iter().fold(Layers::defaults().unwrap(), |layers, (key, text)| {
            layers.with_flag("-", key, text).unwrap()
        });
        Plan::new(&Config::from_layers(&layers).unwrap())
    }

    #[test]
    fn compact_by_default_with_one_source_thread_for_all() {
        let plan = plan(&[]);
        assert_eq!(plan.sources.len(), 1);
        assert_eq!(plan.sources[0].sources, ["binance", "bithumb", "upbit"]);
        assert_eq!(plan.sources[0].thread.core, None);
        assert_eq!(plan.feeds.len(), 1);
    }

    #[test]
    fn pinned_gives_each_thread_its_core_and_shares_sources_out() {
        let plan = plan(&[
            ("topology.source_cores", "[2, 3]"),
            ("topology.feed_cores", "[4, 5]"),
            ("feed.writers", "2"),
        ]);
        let names: Vec<_> = plan.sources.iter().map(|s| s.sources.join("+")).collect();
        assert_eq!(names, ["binance+upbit", "bithumb"]);
        let cores: Vec<_> =
            plan.sources.iter().map(|s| &s.thread).chain(&plan.feeds).map(|t| t.core).collect();
        assert_eq!(cores, [Some(2), Some(3), Some(4), Some(5)]);
        assert!(plan.to_string().contains("feed-1     core 5    spins"), "{plan}");
    }

    #[test]
    fn all_sources_of_one_exchange_are_on_one_thread() {
        let sources = [
            (Some(Exchange::Binance), "binance"),
            (Some(Exchange::Gate), "gate"),
            (Some(Exchange::Upbit), "upbit"),
            (None, "nobody's"),
            (Some(Exchange::Upbit), "upbit.stream"),
            (Some(Exchange::Binance), "binance.stream"),
            (None, "nobody's either"),
        ];
        let shares = |threads| {
            let sources = sources.iter().map(|(exchange, name)| (*exchange, (*name).to_owned()));
            share_out(sources, threads).iter().map(|share| share.join("+")).collect::<Vec<_>>()
        };
        assert_eq!(shares(2), ["binance+binance.stream+upbit+upbit.stream+nobody's either", "gate+nobody's"]);
        let alone = ["binance+binance.stream", "gate", "upbit+upbit.stream", "nobody's", "nobody's either"];
        assert_eq!(shares(9), alone, "never more threads than exchanges");
        assert_eq!(share_out(Vec::new(), 4), [Vec::<String>::new()]);
    }

    #[test]
    fn a_source_thread_runs_even_with_no_source_for_manual_alerts() {
        let plan = plan(&[
            ("sources.binance.enabled", "false"),
            ("sources.upbit.enabled", "false"),
            ("sources.bithumb.enabled", "false"),
        ]);
        assert_eq!(plan.sources.len(), 1);
        assert!(plan.sources[0].sources.is_empty());
    }
}
