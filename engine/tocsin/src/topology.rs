//! The whole machine as data: which threads there are, on which cores, who feeds whom, how deep.
//!
//! [`Plan::new`] decides, [`crate::serve`] builds exactly what it says; `tocsin check` prints it.
//! Runs at start only.

use std::collections::BTreeSet;
use std::fmt;

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
/// Announcements for the market thread, which looks every 20 ms.
pub const SOURCE_TO_MARKET: usize = 2 * tocsin_core::limits::ITEMS_PER_RESPONSE;
/// Market events and contexts for a feed writer.
pub const MARKET_TO_FEED: usize = 256;
/// Market events and tables of volumes for the webhook thread.
pub const MARKET_TO_WEBHOOK: usize = 256;
/// Events and changes on their way to the journal thread; a first answer of the longest list is 32 of them.
pub const MARKET_TO_JOURNAL: usize = 256;
/// Rows in one message of changes.
pub const MARKET_RECORDS: usize = 512;
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
    /// Names of its push sources, as in the configuration: every path of an exchange is on one thread.
    pub streams: Vec<String>,
}

/// Every thread with a loop of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Source threads, at least one: it also carries manual alerts.
    pub sources: Vec<SourceThreadPlan>,
    /// Feed writers.
    pub feeds: Vec<ThreadPlan>,
    /// Housekeeping threads: accept, journal, resolvers, webhook, market, mail, recorder, control.
    pub housekeeping: Vec<ThreadPlan>,
}

impl Plan {
    /// Decides threads, cores and who polls what.
    #[must_use]
    pub fn new(config: &Config) -> Plan {
        let topology = &config.topology;
        let pinned = topology.mode == TopologyMode::Pinned;
        let core = |cores: &[usize], i: usize| if pinned { cores.get(i).copied() } else { None };
        let polled = config.sources.iter().filter(|(_, source)| source.enabled).map(|(name, _)| name);
        let pushed = config.streams.iter().filter(|(_, stream)| stream.enabled).map(|(name, _)| name);
        let (polled, pushed): (BTreeSet<&String>, BTreeSet<&String>) = (polled.collect(), pushed.collect());
        let exchanges: Vec<&String> = polled.union(&pushed).copied().collect();
        let source_threads =
            if pinned { topology.source_cores.len() } else { 1 }.clamp(1, exchanges.len().max(1));
        let of_thread = |i: usize, among: &BTreeSet<&String>| -> Vec<String> {
            let names = exchanges.iter().skip(i).step_by(source_threads);
            names.filter(|name| among.contains(*name)).map(|name| (*name).clone()).collect()
        };
        let sources = (0..source_threads).map(|i| SourceThreadPlan {
            thread: ThreadPlan {
                name: format!("source-{i}"),
                core: core(&topology.source_cores, i),
                idle: Some(topology.idle),
            },
            sources: of_thread(i, &polled),
            streams: of_thread(i, &pushed),
        });
        let feeds = (0..usize::from(config.feed.writers)).map(|i| ThreadPlan {
            name: format!("feed-{i}"),
            core: core(&topology.feed_cores, i),
            idle: Some(topology.idle),
        });
        let mail = config.smtp.is_some().then_some("mail");
        let market = config.market.enabled.then_some("market");
        let recorder = config.record.is_some().then_some("recorder");
        let housekeeping = ["accept", "journal", "resolver", "egress", "webhook", "control"];
        Plan {
            sources: sources.collect(),
            feeds: feeds.collect(),
            housekeeping: housekeeping
                .into_iter()
                .chain(market)
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
            let streams = source.streams.iter().map(|name| format!("{name} (push)"));
            let names: Vec<String> = source.sources.iter().cloned().chain(streams).collect();
            line(f, &source.thread, &names.join(", "))?;
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
    fn every_path_of_an_exchange_is_on_one_thread() {
        let plan = plan(&[
            ("topology.source_cores", "[2, 3]"),
            ("topology.feed_cores", "[4]"),
            ("sources.upbit.enabled", "false"),
            ("streams.binance.enabled", "true"),
            ("streams.binance.credentials_file", "/x"),
            ("streams.upbit.enabled", "true"),
            ("streams.upbit.credentials_file", "/x"),
        ]);
        let names: Vec<_> = plan.sources.iter().map(|s| (s.sources.join("+"), s.streams.join("+"))).collect();
        let expected = [("binance", "binance+upbit"), ("bithumb", "")];
        assert_eq!(names, expected.map(|(polled, pushed)| (polled.to_owned(), pushed.to_owned())));
        assert!(plan.to_string().contains("binance, binance (push), upbit (push)"), "{plan}");
    }

    #[test]
    fn markets_are_watched_where_they_are_switched_on() {
        let has_market = |plan: Plan| plan.housekeeping.iter().any(|thread| thread.name == "market");
        assert!(!has_market(plan(&[])));
        let on = plan(&[("market.enabled", "true")]);
        assert!(on.to_string().contains("market     any core  waits for input"), "{on}");
        assert!(has_market(on));
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
