//! What holds for every source, and every word for a state there is.

use std::collections::BTreeSet;

use super::*;
use Trading::{Ahead, Halted, Open, Over};

fn all() -> impl Iterator<Item = &'static MarketSpec> {
    ALL.into_iter().chain(OFF_BY_DEFAULT)
}

#[test]
fn specs_are_consistent() {
    let mut names = BTreeSet::new();
    for spec in all() {
        assert!(names.insert(spec.name), "{} is there twice", spec.name);
        assert_eq!(by_name(spec.name).map(|found| found.name), Some(spec.name));
        assert_eq!(spec.name.split_once('.').map(|(exchange, _)| exchange), Some(spec.exchange.name()));
        assert!(spec.base_url.starts_with("https://") && !spec.base_url.ends_with('/'), "{}", spec.name);
        assert!((1..=limits::REQUESTS_PER_MARKET).contains(&spec.requests.len()), "{}", spec.name);
        let mut requests = BTreeSet::new();
        for request in spec.requests {
            assert!(requests.insert(request.name), "{} asks {} twice", spec.name, request.name);
            assert!(request.target.starts_with('/'), "{}", request.target);
            assert!(request.target.bytes().all(|b| (b'!'..=b'~').contains(&b)), "{}", request.target);
            assert!(request.every.as_secs() >= 5, "{} asks for {} too often", spec.name, request.name);
            assert_eq!(
                request.body.is_some(),
                spec.headers.iter().any(|header| header.0 == "content-type"),
                "a body has a type"
            );
        }
        for (name, value) in spec.headers {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{value}");
            let ours = ["host", "accept-encoding", "connection", "content-length", "origin"];
            assert!(!ours.contains(name), "{name}");
        }
    }
    assert!(ALL.iter().all(|spec| spec.evidence == crate::source::Evidence::Official));
    let watched: BTreeSet<_> = ALL.iter().map(|spec| spec.exchange).collect();
    assert_eq!(watched.len(), 12, "{watched:?}");
    assert!(by_name("binance").is_none());
}

/// Checks `trading` on `words`, and that any other word is [`Halted`].
fn check(exchange: &str, trading: impl Fn(&str) -> Trading, words: &[(&str, Trading)]) {
    for (word, want) in words {
        assert_eq!(trading(word), *want, "{exchange}: {word}");
    }
    for unknown in ["", "frozen_v2", "LIVE!", "null"] {
        assert_eq!(trading(unknown), Halted, "{exchange}: {unknown:?}");
    }
}

#[test]
fn every_word_of_binance_and_okx_has_its_meaning() {
    check(
        "binance.spot",
        binance::spot_trading,
        &[
            ("PRE_TRADING", Ahead),
            ("TRADING", Open),
            ("AUCTION_MATCH", Open),
            ("POST_TRADING", Halted),
            ("END_OF_DAY", Halted),
            ("HALT", Halted),
            ("BREAK", Halted),
            ("CANCEL_ONLY", Halted),
        ],
    );
    check(
        "binance.usdm",
        binance::usdm_trading,
        &[
            ("PENDING_TRADING", Ahead),
            ("TRADING", Open),
            ("PRE_DELIVERING", Over),
            ("DELIVERING", Over),
            ("DELIVERED", Over),
            ("PRE_SETTLE", Over),
            ("SETTLING", Over),
            ("CLOSE", Over),
        ],
    );
    check(
        "okx",
        okx::trading,
        &[
            ("preopen", Ahead),
            ("live", Open),
            ("post_only", Open),
            ("suspend", Halted),
            ("settlement", Halted),
            ("rebase", Halted),
            ("test", Halted),
            ("expired", Over),
        ],
    );
}

#[test]
fn every_word_of_gate_and_bitget_has_its_meaning() {
    check(
        "gate.futures",
        |word| gate::futures_trading(word, false),
        &[
            ("prelaunch", Ahead),
            ("trading", Open),
            ("circuit_breaker", Halted),
            ("delisting", Over),
            ("delisted", Over),
        ],
    );
    assert_eq!(gate::futures_trading("trading", true), Over);
    assert_eq!(gate::futures_trading("circuit_breaker", true), Over);
    check(
        "bitget.spot",
        bitget::spot_trading,
        &[("online", Open), ("gray", Halted), ("halt", Halted), ("offline", Over)],
    );
    check(
        "bitget.mix",
        bitget::mix_trading,
        &[
            ("listed", Ahead),
            ("normal", Open),
            ("restrictedAPI", Open),
            ("maintain", Halted),
            ("limit_open", Halted),
            ("off", Over),
        ],
    );
}

#[test]
fn every_word_of_htx_kraken_and_mexc_has_its_meaning() {
    check(
        "htx",
        |word| htx::trading(word, Some(true)),
        &[
            ("pre-online", Ahead),
            ("online", Open),
            ("not-online", Halted),
            ("suspend", Halted),
            ("fuse", Halted),
            ("transfer-board", Halted),
            ("unknown", Halted),
            ("offline", Over),
        ],
    );
    assert_eq!((htx::trading("online", Some(false)), htx::trading("online", None)), (Halted, Open));
    check(
        "kraken",
        kraken::trading,
        &[
            ("work_in_progress", Ahead),
            ("online", Open),
            ("post_only", Open),
            ("limit_only", Open),
            ("cancel_only", Halted),
            ("reduce_only", Halted),
            ("maintenance", Halted),
            ("delisted", Over),
        ],
    );
    check("mexc", mexc::trading, &[("1", Open), ("2", Halted), ("3", Over)]);
}

#[test]
fn a_pre_market_contract_is_open_once_its_auction_is_over() {
    let words = [("Trading", Open), ("PendingOpen", Ahead), ("Settling", Over), ("Closed", Over)];
    check("bybit", |word| bybit::trading(word, ""), &words);
    assert_eq!(bybit::trading("Delivering", ""), Over);
    for phase in ["", "NotStarted", "CallAuction", "CallAuctionNoCancel", "CrossMatching"] {
        assert_eq!(bybit::trading("PreLaunch", phase), Ahead, "{phase}");
    }
    assert_eq!(bybit::trading("PreLaunch", "ContinuousTrading"), Open);
}

#[test]
fn a_beginning_tells_not_yet_from_no_more() {
    let at = |secs| Some(WallUs::from_secs(secs));
    let now = at(1_790_000_000);
    let gate = |opens, closes| gate::spot_trading("untradable", opens, closes, now);
    assert_eq!(gate(at(1_790_000_001), None), Ahead);
    assert_eq!(gate(at(1_790_000_000), None), Halted, "stopped for a while");
    assert_eq!(gate(at(1_790_000_000), at(1_789_000_000)), Over);
    assert_eq!(gate(None, None), Halted);
    assert_eq!(gate::spot_trading("buyable", at(1_800_000_000), at(1_800_000_000), now), Open);
    assert_eq!(gate::spot_trading("frozen", at(1_800_000_000), None, now), Halted);
    assert_eq!(not_traded(at(1), None), Ahead, "nothing is open yet");
}

#[test]
fn names_are_bounded_and_have_no_blanks() {
    assert_eq!(plain("MOODENG-USD_UM_XPERP-310815"), Some("MOODENG-USD_UM_XPERP-310815"));
    assert_eq!(plain("币安人生_USDT"), Some("币安人生_USDT"));
    let long = "A".repeat(limits::SYMBOL_BYTES);
    assert_eq!(plain(&long), Some(long.as_str()));
    for bad in ["", " ", "BTC USDT", "BTC\nUSDT", "BTC\u{7f}", &format!("{long}A")] {
        assert_eq!(plain(bad), None, "{bad:?}");
    }
}
