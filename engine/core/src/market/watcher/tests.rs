//! What watchers tell of several requests together, case by case.

use super::world::{MINUTE, World, announcement, minute, told};
use super::*;
use crate::market::MarketEventKind::*;
use crate::market::spike::SLOT;
use crate::model::ListingType;

#[test]
fn what_a_calendar_told_its_list_does_not_tell_and_opens() {
    let mut world = World::deaf();
    assert!(world.rows("okx.calendar", "calendar", "").is_empty());
    world.list("okx.spot", "");
    let ahead = "I NEWUSDT NEW USDT spot ahead 500 -";
    let events = world.rows("okx.calendar", "calendar", ahead);
    assert_eq!(told(&events), [(ListingPreview, "NEWUSDT")]);
    assert!(world.list("okx.spot", ahead).is_empty(), "the same preview");
    world.minute = 500;
    let events = world.list("okx.spot", "I NEWUSDT NEW USDT spot open 500 -");
    assert_eq!(told(&events), [(PreviewConfirmed, "NEWUSDT")], "by the calendar's book, in the same call");
    assert_eq!(events[0].source, "okx.calendar");
    world.restart();
    assert!(world.rows("okx.calendar", "calendar", "").is_empty());
    assert!(world.list("okx.spot", "I NEWUSDT NEW USDT spot open 500 -").is_empty());
}

#[test]
fn what_two_lists_of_an_exchange_show_is_told_once() {
    let mut world = World::deaf();
    let (open, over) = ("I NEW-USDT NEW USDT spot open - -", "I NEW-USDT NEW USDT spot over - -");
    for source in ["okx.spot", "okx.swap"] {
        world.list(source, "");
    }
    assert_eq!(told(&world.list("okx.spot", open)), [(StealthListing, "NEW-USDT")]);
    assert!(world.list("okx.swap", open).is_empty());
    for source in ["okx.swap", "okx.spot"] {
        world.list(source, over);
    }
    assert_eq!(told(&world.list("okx.swap", over)), [(Delisting, "NEW-USDT")]);
    assert!(world.list("okx.spot", over).is_empty());
}

#[test]
fn ahead_of_a_time_that_is_past_is_stopped_where_the_word_says_both() {
    let ahead = "I OLD-USDT OLD USDT spot ahead 1 -";
    let open = "I OLD-USDT OLD USDT spot open 1 -";
    for (source, kinds) in [("gate.spot", vec![]), ("okx.spot", vec![(StealthListing, "OLD-USDT")])] {
        let mut world = World::deaf();
        world.minute = 10;
        world.list(source, ahead);
        assert_eq!(
            told(&world.list(source, open)),
            kinds,
            "{source}: it was open before the baseline, or not"
        );
    }
    // A preview that opens late is confirmed when it opens, and not by its time.
    let mut world = World::deaf();
    world.list("gate.spot", "");
    assert_eq!(world.list("gate.spot", "I NEW-USDT NEW USDT spot ahead 30 -").len(), 1);
    world.minute = 40;
    assert!(world.list("gate.spot", "I NEW-USDT NEW USDT spot ahead 30 -").is_empty());
    let events = world.list("gate.spot", "I NEW-USDT NEW USDT spot open 30 -");
    assert_eq!(told(&events), [(PreviewConfirmed, "NEW-USDT")]);
}

#[test]
fn over_before_its_opening_is_a_listing_and_no_end() {
    let mut world = World::deaf();
    world.list("okx.spot", "");
    for _ in 0..5 {
        assert!(world.list("okx.spot", "I NEW-USDT NEW USDT spot over - -").is_empty());
    }
    world.restart();
    let events = world.list("okx.spot", "I NEW-USDT NEW USDT spot open - -");
    assert_eq!(told(&events), [(StealthListing, "NEW-USDT")]);
    let mut heard = World::new(WatcherRules::default(), Hearing::Until(minute(0)));
    heard.list("okx.spot", "");
    heard.list("okx.spot", "I NEW-USDT NEW USDT spot over - -");
    heard.announce(Exchange::Okx, ListingType::SpotListing, &["NEW"]);
    assert!(heard.list("okx.spot", "I NEW-USDT NEW USDT spot open - -").is_empty());
    heard.minute += 20;
    heard.hear();
    assert!(heard.settle(1).is_empty(), "the notice told of it");
}

#[test]
fn what_is_absent_from_an_answer_that_is_not_whole_is_not_gone() {
    let mut world = World::deaf();
    let old = "I OLD-USDT OLD USDT spot open - -";
    world.list("okx.spot", old);
    let long = format!("I {} L USDT spot open - -", "L".repeat(limits::SYMBOL_BYTES + 1));
    for row in ["?", &long] {
        for _ in 0..20 {
            assert!(world.list("okx.spot", row).is_empty(), "{row}");
        }
    }
    let events: Vec<MarketEvent> = (0..20).flat_map(|_| world.list("okx.spot", "")).collect();
    assert_eq!(told(&events), [(Delisting, "OLD-USDT")]);
}

#[test]
fn an_unusable_answer_changes_nothing() {
    let mut world = World::deaf();
    world.list("okx.spot", "");
    let half = "I NEW-USDT NEW USDT spot open - -\nV NEW-USDT 5 1\n!";
    assert!(world.list("okx.spot", half).is_empty());
    assert_eq!(world.report, Err(ParseError::Html));
    assert!(world.rows("okx.spot", "list", "?\n?").is_empty());
    assert_eq!(world.report, Err(ParseError::NoRow { skipped: 2 }), "another schema is no empty list");
    assert!(world.rows("okx.spot", "list", "").is_empty());
    assert_eq!(world.report.unwrap().outcome, Some(Outcome::Empty));
    assert_eq!(
        told(&world.list("okx.spot", "I NEW-USDT NEW USDT spot open - -")),
        [(StealthListing, "NEW-USDT")]
    );
    let (mut out, now) = (Told::default(), minute(9));
    let nobody = world.watcher.answer(RequestId(99), &mut Scratch::default(), &mut [], now, now, &mut out);
    assert!(nobody.is_err() && out.is_empty());
}

#[test]
fn events_have_the_volume_of_their_own_market_in_dollars() {
    let mut world = World::deaf();
    let pairs = "I OLD OLD BTC spot open - -\nI BTC BTC USDT spot open - -";
    world.list("okx.spot", pairs);
    world.list("okx.swap", "I OLD OLD USDT perpetual open - -");
    world.rows("okx.spot", "tickers", "V OLD 3 0.5\nV BTC 7000000 50000");
    world.rows("okx.swap", "tickers", "V OLD 9 1");
    let end = "I OLD OLD BTC spot open - 900
I BTC BTC USDT spot open - -";
    let events = world.list("okx.spot", end);
    assert_eq!((told(&events), events[0].volume_24h), (vec![(Delisting, "OLD")], Some(150_000.0)));
    world.minute += 16;
    let events = world.list("okx.swap", "I OLD OLD USDT perpetual open - 900");
    assert_eq!((told(&events), events[0].volume_24h), (vec![(Delisting, "OLD")], None), "too old to be told");
    assert_eq!(world.watcher.volumes(minute(3)).of("OLD"), Some(150_009.0));
    assert!(world.watcher.volumes(minute(world.minute)).is_empty());
}

#[test]
fn volumes_of_another_source_count_where_it_has_no_such_instrument() {
    let mut world = World::deaf();
    world.list("okx.swap", "I NEW NEW USDT perpetual open - -\nI TWO TWO USDT perpetual open - -");
    world.list("okx.spot", "I TWO TWO USDT spot open - -");
    world.rows("okx.spot", "tickers", "V NEW 70 1\nV TWO 5 1");
    let table = world.watcher.volumes(minute(world.minute));
    assert_eq!((table.of("NEW"), table.of("TWO")), (Some(70.0), Some(5.0)));
}

#[test]
fn instruments_and_volumes_of_one_answer_go_together() {
    let mut world = World::deaf();
    let rows = "V NEW 4000 2\nI NEW 1000NEW USDT perpetual open - -\n";
    world.rows("hyperliquid.all", "all", "I OLD OLD USDT perpetual open - -");
    let events = world.rows("hyperliquid.all", "all", &format!("{rows}I OLD OLD USDT perpetual open - -"));
    assert_eq!((told(&events), events[0].volume_24h), (vec![(StealthListing, "NEW")], Some(4_000.0)));
    assert_eq!(world.watcher.volumes(minute(0)).of("NEW"), Some(4_000.0), "without the multiplier");
}

/// Slots of usual trade of 24 symbols, then of ten times as much of the first three.
fn spikes(list: &str) -> (World, Vec<MarketEvent>) {
    let rules = WatcherRules { spikes: Some(SpikeRules::default()), ..WatcherRules::default() };
    let mut world = World::new(rules, Hearing::Never);
    let others = (3..24).map(|i| format!("I S{i} S{i} USDT spot open - -\n"));
    let all: String = others.chain([list.to_owned()]).collect();
    world.rows("okx.spot", "list", &all);
    let (slots, length) = (288_usize, SLOT.as_secs() as i64 / 60);
    let mut days = vec![vec![1_000.0_f64; slots]; 24];
    let mut events = Vec::new();
    for slot in 0..310_usize {
        let mut rows = String::new();
        for (number, day) in days.iter_mut().enumerate() {
            let uneven = 1.0 + 0.1 * ((slot * 7 + number * 3) % 5) as f64;
            let times = if slot >= 300 && number < 3 { 10.0 } else { 1.0 };
            day.push(uneven * times * 20_000.0);
            let sum: f64 = day[day.len() - slots..].iter().sum();
            rows.push_str(&format!("V S{number} {sum} 1\n"));
        }
        world.minute = (slot as i64 + 1) * length - 1;
        events.extend(world.rows("okx.spot", "tickers", &rows));
    }
    (world, events)
}

#[test]
fn a_spike_is_an_event_with_its_ratio_and_volume() {
    let open = (0..3).map(|i| format!("I S{i} S{i} USDT spot open - -\n"));
    let (world, events) = spikes(&open.collect::<String>());
    assert_eq!(told(&events), [(VolumeSpike, "S0"), (VolumeSpike, "S1"), (VolumeSpike, "S2")]);
    let spike = &events[0];
    assert!(spike.ratio.unwrap() > 4.0 && spike.volume_24h.unwrap() > 6_000_000.0, "{spike:?}");
    assert_eq!(i64::from(spike.occurrence), spike.received.0 / MINUTE);
    assert_eq!((spike.state.as_str(), spike.since), ("open", Some(WallUs(spike.received.0 - 5 * MINUTE))));
    assert!(spike.source_item().starts_with("okx:spot:S0:volume_spike:"), "{}", spike.source_item());
    assert!(world.watcher.stats(Mono(0)).all(|stats| stats.withheld == 0));
}

#[test]
fn no_spike_is_told_of_what_ends_or_is_not_traded() {
    let list =
        "I S0 S0 USDT spot open - 20000\nI S1 S1 USDT dated open - 90000\nI S2 S2 USDT spot halted - -";
    let (world, events) = spikes(list);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(world.watcher.stats(Mono(0)).map(|stats| stats.withheld).sum::<u64>(), 3);
}

#[test]
fn a_stealth_listing_waits_for_the_notices_of_its_exchange() {
    let mut world = World::new(WatcherRules::default(), Hearing::Until(minute(0)));
    let new = "I NEW-USDT NEW USDT spot open - -\nI TWO-USDT TWO USDT spot open - -";
    world.list("okx.spot", "");
    world.list("gate.spot", "");
    assert!(world.list("okx.spot", new).is_empty() && world.list("gate.spot", new).is_empty());
    world.restart();
    assert!(world.announce(Exchange::Okx, ListingType::SpotListing, &["NEW", "TWO"]).is_empty());
    assert!(world.announce(Exchange::Gate, ListingType::SpotListing, &["TWO"]).is_empty());
    assert!(world.announce(Exchange::Binance, ListingType::SpotListing, &["NEW"]).is_empty(), "not watched");
    world.restart();
    world.minute += 11;
    world.hear();
    let events = world.settle(0);
    assert_eq!(told(&events), [(StealthListing, "NEW-USDT")], "of the exchange that did not tell");
    assert_eq!(events[0].exchange, Exchange::Gate);
}

fn first_korean(world: &World, publisher: Exchange, ticker: &str) -> Option<bool> {
    let notice = announcement(publisher, ListingType::SpotListing, &[ticker], minute(world.minute));
    world.watcher.context(&notice, minute(world.minute)).unwrap().assets[0].first_korean
}

#[test]
fn the_first_korean_listing_is_known_once_the_korean_lists_are() {
    let mut world = World::new(WatcherRules::default(), Hearing::Until(minute(0)));
    world.list("upbit.spot", "I BTC-OLD OLD BTC spot open - -");
    assert_eq!(first_korean(&world, Exchange::Upbit, "NEW"), None, "Bithumb's list is not known");
    assert_eq!(first_korean(&world, Exchange::Bithumb, "OLD"), Some(false), "whatever Bithumb's says");
    world.list("bithumb.spot", "I KRW-TWO TWO KRW spot over - -");
    assert_eq!(first_korean(&world, Exchange::Upbit, "NEW"), Some(true));
    assert_eq!(first_korean(&world, Exchange::Coinone, "TWO"), Some(true), "over at Bithumb");
    assert_eq!(first_korean(&world, Exchange::Upbit, "OLD"), Some(false), "a further pair");
    assert_eq!(first_korean(&world, Exchange::Binance, "NEW"), None, "no question");
    let old = "I BTC-OLD OLD BTC spot open - -\nI KRW-NEW NEW KRW spot open - -";
    world.list("upbit.spot", old);
    assert_eq!(first_korean(&world, Exchange::Upbit, "NEW"), Some(true), "the listing itself");
    assert_eq!(first_korean(&world, Exchange::Bithumb, "NEW"), Some(false));
    let delists = announcement(Exchange::Upbit, ListingType::SpotDelisting, &["OLD"], minute(9));
    assert_eq!(world.watcher.context(&delists, minute(9)).unwrap().assets[0].first_korean, None);
}

#[test]
fn a_context_names_where_an_asset_is_traded_the_most_traded_first() {
    let mut world = World::deaf();
    world.list("okx.spot", "I SATS-USDT SATS USDT spot open - -\nI SATS-OLD SATS OLD spot over - -");
    world.list("okx.swap", "I SATS-SWAP 1000SATS USDT perpetual halted - -");
    world.list("gate.spot", "I SATS_USDT SATS USDT spot ahead 900 -");
    // The calendar shows it as well, which is no further market.
    world.rows("okx.calendar", "calendar", "I SATS-USDT SATS USDT spot ahead 900 -");
    world.rows("okx.spot", "tickers", "V SATS-USDT 5 1");
    world.rows("okx.swap", "tickers", "V SATS-SWAP 70 1");
    let notice = announcement(Exchange::Gate, ListingType::SpotListing, &["1000SATS", "NONE"], minute(9));
    let context = world.watcher.context(&notice, minute(world.minute)).unwrap();
    let markets = |asset: &crate::market::AssetContext| -> Vec<(Exchange, String, Trading, Option<f64>)> {
        let each = asset.markets.iter();
        each.map(|m| (m.exchange, m.symbol.to_string(), m.trading, m.volume_24h_usd)).collect()
    };
    assert_eq!(context.assets.len(), 2);
    assert_eq!(context.assets[0].ticker.as_str(), "1000SATS");
    assert_eq!(
        markets(&context.assets[0]),
        [
            (Exchange::Okx, "SATS-SWAP".to_owned(), Trading::Halted, Some(70.0)),
            (Exchange::Okx, "SATS-USDT".to_owned(), Trading::Open, Some(5.0)),
            (Exchange::Gate, "SATS_USDT".to_owned(), Trading::Ahead, None),
        ]
    );
    assert_eq!(context.assets[0].volume_24h_usd, Some(75.0));
    assert_eq!((context.assets[1].markets.len(), context.assets[1].volume_24h_usd), (0, None));
    for (kind, tickers) in [(ListingType::NotListing, &["SATS"][..]), (ListingType::SpotListing, &[])] {
        let notice = announcement(Exchange::Gate, kind, tickers, minute(9));
        assert_eq!(world.watcher.context(&notice, minute(9)), None);
    }
}

#[test]
fn a_context_is_bounded_and_volumes_count_what_is_left_out() {
    let mut world = World::deaf();
    let symbols: Vec<String> = (0..40).map(|i| format!("BTC-Q{i:02}")).collect();
    let list = symbols.iter().map(|symbol| format!("I {symbol} BTC USDT spot open - -\n"));
    world.list("okx.spot", &list.collect::<String>());
    let volumes = symbols.iter().map(|symbol| format!("V {symbol} 1 1\n"));
    world.rows("okx.spot", "tickers", &volumes.collect::<String>());
    let tickers: Vec<String> = (0..40).map(|i| format!("T{i}")).collect();
    let mut named = vec!["BTC"];
    for (count, markets) in [(1, limits::CONTEXT_MARKETS), (limits::TICKERS_PER_ANNOUNCEMENT, 3)] {
        named.extend(tickers.iter().map(String::as_str).take(count - named.len()));
        let notice = announcement(Exchange::Okx, ListingType::SpotListing, &named, minute(9));
        let context = world.watcher.context(&notice, minute(world.minute)).unwrap();
        assert_eq!((context.assets.len(), context.assets[0].markets.len()), (count, markets));
        assert_eq!(context.assets[0].volume_24h_usd, Some(40.0));
        assert_eq!(context.assets[0].markets[0].symbol.as_ref(), "BTC-Q00");
    }
}

#[test]
fn what_is_known_of_each_request_and_source_is_told() {
    let mut world = World::deaf();
    world.list("okx.spot", "");
    let (id, tickers) = (world.id("okx.spot", "list"), world.id("okx.spot", "tickers"));
    world.rows("okx.spot", "tickers", "V X1-USDT 5 1");
    let now = Mono(1_000_000_000_000);
    assert_eq!(world.watcher.due(now), Some(id));
    world.watcher.answered(id, now);
    let later = Mono(now.0 + 9_000_000_000);
    while let Some(id) = world.watcher.due(later) {
        let failure = if id == tickers { Failure::TooManyRequests } else { Failure::Connect };
        world.watcher.failed(id, later, failure, None, 0);
    }
    let stats: Vec<RequestStats> = world.watcher.stats(later).collect();
    assert_eq!(stats.len(), world.watcher.requests().count());
    let list = &stats[id.index()];
    assert_eq!((list.source, list.request, list.instruments, list.baselined), ("okx.spot", "list", 60, true));
    assert_eq!((list.answers > 0, list.state, list.last_answer), (true, SourceState::Live, Some(minute(1))));
    assert_eq!((stats[tickers.index()].volumes, stats[tickers.index()].instruments), (1, 0));
    let statuses: Vec<SourceStatus> = world.watcher.statuses(later).collect();
    assert_eq!(statuses.len(), 7);
    assert_eq!((statuses[0].source, statuses[0].state), ("okx.spot", stats[tickers.index()].state));
    assert!(statuses[0].state != SourceState::Live && statuses[0].last_poll == Some(minute(1)));
}

#[test]
fn identities_remembered_are_bounded() {
    let mut world = World::deaf();
    world.rows("okx.calendar", "calendar", "");
    let mut events = 0;
    for wave in 0..=limits::MARKET_TOLD / 16 {
        let rows = (0..16).map(|i| format!("I C{wave}x{i} C{wave} USDT spot ahead 90000 -\n"));
        events += world.rows("okx.calendar", "calendar", &rows.collect::<String>()).len();
    }
    assert!(events > limits::MARKET_TOLD);
    assert_eq!(world.watcher.places[0].told.len(), limits::MARKET_TOLD);
}
