//! Interrupts and the network card.

use super::Found;
use super::host::Host;

/// A card that waits longer before it interrupts shows in every packet.
const WAITS_US: u32 = 5;
/// Lines of a long list that are shown.
const SHOWN: usize = 4;

pub(super) fn placement(host: &Host) -> Found {
    let hot = &host.wants.hot;
    if hot.is_empty() {
        return Found::ok("no thread is pinned");
    }
    let numbers = host.names("/proc/irq").into_iter().filter(|name| name.parse::<u32>().is_ok());
    let (mut seen, mut wrong) = (0, Vec::new());
    for number in numbers {
        let of = |file: &str| host.cores(&format!("/proc/irq/{number}/{file}"));
        // Where it goes in fact, and where it may go on a kernel that does not say.
        let effective = of("effective_affinity_list").filter(|set| !set.is_empty());
        let Some(cores) = effective.or_else(|| of("smp_affinity_list")) else { continue };
        seen += 1;
        if !cores.shared_with(hot).is_empty() {
            wrong.push(number);
        }
    }
    if seen == 0 {
        return Found::unknown("/proc/irq lists no interrupt", Some("cat /proc/interrupts"));
    }
    if wrong.is_empty() {
        return Found::ok(format!("{seen} interrupts, all elsewhere"));
    }
    let more = if wrong.len() > SHOWN { ", ..." } else { "" };
    let some = wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let fix = format!(
        "for i in {}; do echo {} > /proc/irq/$i/smp_affinity_list; done",
        wrong.join(" "),
        host.housekeeping()
    );
    Found::bad(format!("{} interrupts may come to core {hot}: {some}{more}", wrong.len()), fix)
}

pub(super) fn balance(host: &Host) -> Found {
    if host.wants.hot.is_empty() {
        return Found::ok("no thread is pinned");
    }
    let processes = host.names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    let runs = processes
        .into_iter()
        .any(|pid| host.text(&format!("/proc/{pid}/comm")).is_some_and(|comm| comm == "irqbalance"));
    let hot = &host.wants.hot;
    match runs {
        false => Found::ok("irqbalance does not run"),
        // It can be told to stay away, which no file of the kernel shows.
        true => Found::warn(
            "irqbalance runs",
            format!(
                "systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST={hot} in /etc/default/irqbalance"
            ),
        ),
    }
}

pub(super) fn queues(host: &Host) -> Found {
    let room = host.housekeeping().iter().count().max(1);
    let (mut most, mut seen) = ((0, String::new()), Vec::new());
    for card in host.cards() {
        let names = host.names(&format!("/sys/class/net/{card}/queues"));
        let count = names.iter().filter(|name| name.starts_with("rx-")).count();
        seen.push(format!("{card} {count}"));
        if count > most.0 {
            most = (count, card);
        }
    }
    match most {
        _ if seen.is_empty() => Found::unknown("there is no network card with a device", Some("ip link")),
        (count, card) if count > room && !host.wants.hot.is_empty() => Found::warn(
            format!("{card} has {count} queues for {room} housekeeping cores"),
            format!("ethtool -L {card} combined {room}"),
        ),
        _ => Found::ok(seen.join(", ")),
    }
}

pub(super) fn coalescing(host: &Host) -> Found {
    let cards = host.cards();
    let Some(all) = &host.measured.coalescing else {
        let look =
            cards.first().map_or_else(|| "ethtool -c eth0".to_owned(), |card| format!("ethtool -c {card}"));
        return Found::unknown("the kernel was not asked", Some(&look));
    };
    let mut seen = Vec::new();
    for card in all.iter().filter(|c| cards.contains(&c.card)) {
        let name = &card.card;
        let waits = card.receive_us.unwrap_or_default();
        if card.adaptive || waits > WAITS_US {
            let what = if card.adaptive { "adapts".to_owned() } else { format!("waits {waits} µs") };
            return Found::warn(
                format!("{name} {what} before it interrupts"),
                format!("ethtool -C {name} adaptive-rx off rx-usecs 0"),
            );
        }
        seen.push(format!("{name} {waits} µs"));
    }
    match cards.first() {
        Some(card) if seen.is_empty() => {
            Found::unknown("the card's driver does not say", Some(&format!("ethtool -c {card}")))
        }
        None => Found::unknown("there is no network card with a device", Some("ip link")),
        Some(_) => Found::ok(seen.join(", ")),
    }
}
