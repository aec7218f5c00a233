//! Cores of hot threads: named, isolated, without tick and callbacks, without a sibling, near the card.

use super::host::{CoreSet, Host};
use super::{Found, Level};

const COMPACT: &str = "no thread is pinned";

pub(super) fn pinned(host: &Host) -> Found {
    let hot = &host.wants.hot;
    let Some(online) = host.cores("/sys/devices/system/cpu/online") else {
        return Found::unknown("cores that are online are not listed", Some("nproc"));
    };
    if hot.is_empty() {
        // With fewer than four cores there is nothing to give away.
        return match online.iter().count() {
            0..4 => Found::ok(format!("{COMPACT}: {} cores are too few", online.iter().count())),
            count => Found::warn(
                format!("{COMPACT} although there are {count} cores"),
                "[topology] source_cores = [2] and feed_cores = [3] in the configuration",
            ),
        };
    }
    let missing = hot.missing_in(&online);
    if missing.is_empty() {
        return Found::ok(format!("cores {hot} of {online}"));
    }
    let fix = format!(
        "name others in topology.source_cores and topology.feed_cores, or echo 1 > /sys/devices/system/cpu/cpu{}/online",
        missing.iter().next().unwrap_or_default()
    );
    Found::bad(format!("core {missing} is not online ({online} are)"), fix)
}

/// What every check of a list of cores has in common: all hot cores are in it.
fn all_in(host: &Host, listed: Option<CoreSet>, what: &str, level: Level, fix: &str) -> Found {
    let hot = &host.wants.hot;
    if hot.is_empty() {
        return Found::ok(COMPACT);
    }
    let Some(listed) = listed else {
        return Found::unknown(format!("the kernel does not say which cores are {what}"), None);
    };
    let missing = hot.missing_in(&listed);
    if missing.is_empty() {
        return Found::ok(format!("{listed} are {what}"));
    }
    Found { level, saw: format!("core {missing} is not {what}"), fix: Some(format!("boot with {fix}")) }
}

pub(super) fn isolated(host: &Host) -> Found {
    let listed = host.cores("/sys/devices/system/cpu/isolated");
    let fix = format!("isolcpus=managed_irq,domain,{}", host.wants.hot);
    all_in(host, listed, "isolated", Level::Bad, &fix)
}

pub(super) fn tickless(host: &Host) -> Found {
    let listed = host.cores("/sys/devices/system/cpu/nohz_full");
    all_in(host, listed, "without a tick", Level::Warn, &format!("nohz_full={}", host.wants.hot))
}

pub(super) fn rcu(host: &Host) -> Found {
    // `nohz_full` implies it, and an empty value means all cores.
    let given = host.text("/proc/cmdline").map(|_| {
        let of = |name| host.boot(name).and_then(|list| CoreSet::parse(&list)).unwrap_or_default();
        let (own, implied) = (of("rcu_nocbs"), of("nohz_full"));
        if host.boot("rcu_nocbs").as_deref() == Some("all") {
            return host.wants.hot.clone();
        }
        own.iter().chain(implied.iter()).collect()
    });
    let fix = format!("rcu_nocbs={}", host.wants.hot);
    all_in(host, given, "free of kernel callbacks", Level::Warn, &fix)
}

pub(super) fn siblings(host: &Host) -> Found {
    let hot = &host.wants.hot;
    if hot.is_empty() {
        return Found::ok(COMPACT);
    }
    let online = host.cores("/sys/devices/system/cpu/online").unwrap_or_default();
    let mut beside = CoreSet::default();
    for core in hot.iter() {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let Some(siblings) = host.cores(&path) else {
            return Found::unknown(format!("{path} is not there"), Some("lscpu -e"));
        };
        // Two hot threads on one physical core are no better than a stranger.
        beside.0.extend(siblings.iter().filter(|s| *s != core && online.0.contains(s)));
    }
    if beside.is_empty() {
        return Found::ok("every hot core is a whole one");
    }
    let offline: Vec<String> = beside
        .missing_in(hot)
        .iter()
        .map(|core| format!("echo 0 > /sys/devices/system/cpu/cpu{core}/online"))
        .collect();
    let fix = match offline.as_slice() {
        [] => "name cores that are no siblings of each other in [topology]".to_owned(),
        commands => {
            format!("{} (or all: echo off > /sys/devices/system/cpu/smt/control)", commands.join("; "))
        }
    };
    Found::warn(format!("thread {beside} shares a physical core with a hot one"), fix)
}

pub(super) fn node(host: &Host) -> Found {
    let hot = &host.wants.hot;
    if hot.is_empty() {
        return Found::ok(COMPACT);
    }
    let nodes: Vec<String> = host.names("/sys/devices/system/node");
    let nodes: Vec<&str> = nodes.iter().filter_map(|n| n.strip_prefix("node")).collect();
    if nodes.iter().filter(|n| n.parse::<u32>().is_ok()).count() < 2 {
        return Found::ok("there is one memory node");
    }
    for card in host.cards() {
        let Some(node) = host.number(&format!("/sys/class/net/{card}/device/numa_node")).filter(|n| *n >= 0)
        else {
            continue;
        };
        let near = host.cores(&format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or_default();
        let far = hot.missing_in(&near);
        if !far.is_empty() {
            let fix = format!("choose cores of {near} in [topology]");
            return Found::warn(format!("{card} is at node {node}, core {far} is not"), fix);
        }
    }
    Found::ok("hot cores are at the network card's node")
}
