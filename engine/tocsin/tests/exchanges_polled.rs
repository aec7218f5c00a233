//! The exchanges beyond the three of the specification, each on its simulated server over real TLS, all
//! polled by one engine: what is announced, what is not news, and what is said when one of them refuses,
//! blocks or answers in another form. One body serves all of them; [`polled`] is the table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use harness::exchange::{Exchange, history};
use harness::{Client, Engine, Mode, wait_for};
use serde_json::{Value, json};
use tocsin_core::model::ListingType;
use tocsin_core::source::Evidence;
use tocsin_sim::{Fault, Kind, Options};

/// Requests a second of each: nine of them share the machine.
const RATE: u32 = 12;
/// A source that answers uselessly counts as stale after 15 s; on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

/// Every exchange that is no default, and its options; once more those whose answers have two forms.
fn polled(other_form: bool) -> Vec<(Kind, Options)> {
    let all = Kind::ALL.into_iter().filter(|kind| !Kind::DEFAULT.contains(kind));
    let with_two_forms = [Kind::Bingx, Kind::Mexc, Kind::Coinone];
    let of =
        |kind| (kind, Options { other_form, region: other_form.then_some("en-us"), ..Options::default() });
    all.filter(|kind| !other_form || *kind == Kind::Okx || with_two_forms.contains(kind)).map(of).collect()
}

struct Market {
    exchanges: Vec<Exchange>,
    engine: Engine,
}

impl Market {
    fn open(kinds: Vec<(Kind, Options)>) -> Market {
        let exchanges: Vec<Exchange> =
            kinds.into_iter().map(|(kind, options)| Exchange::start(kind, options)).collect();
        let sections: String = exchanges.iter().map(|exchange| exchange.section_at(RATE)).collect();
        let engine = Engine::start(Mode::Plain, &sections);
        exchanges.iter().for_each(|exchange| exchange.baselined(&engine));
        Market { exchanges, engine }
    }

    /// One message of each exchange, by publisher, in whatever order they come.
    fn one_of_each(&self, client: &mut Client) -> BTreeMap<String, Value> {
        let got = self.exchanges.iter().map(|_| client.json_of("announcement"));
        let got: BTreeMap<String, Value> = got.map(|m| (m["publisher"].to_string(), m)).collect();
        assert_eq!(got.len(), self.exchanges.len(), "one each: {got:?}");
        got
    }

    fn statuses(&self) -> Vec<Value> {
        let status = self.engine.cli_json(&["status"]);
        let sources = status["sources"].as_array().unwrap();
        let of = |e: &Exchange| sources.iter().find(|s| s["name"] == e.spec.name).unwrap().clone();
        self.exchanges.iter().map(of).collect()
    }
}

fn publisher(exchange: &Exchange) -> String {
    json!(exchange.spec.exchange.name()).to_string()
}

fn announces_what_is_listed(kinds: Vec<(Kind, Options)>) {
    let market = Market::open(kinds);
    let mut client = market.engine.connect(&market.engine.key(), "fields=full");
    let mut published = Vec::new();
    for listing_type in ListingType::ALL {
        published = market.exchanges.iter().map(|e| e.sim.publish_invented(listing_type)).collect();
        let got = market.one_of_each(&mut client);
        for (exchange, (published, meant)) in market.exchanges.iter().zip(&published) {
            let got = &got[&publisher(exchange)];
            assert_eq!(got["title"], published.title, "{got}");
            assert_eq!(got["listingType"], meant.listing_type.name(), "{got}");
            assert_eq!(got["tickers"], json!(meant.tickers), "{got}");
            assert_eq!(got["noticeId"], published.notice_id, "{got}");
            let id = format!("{}:{}", exchange.spec.exchange.name(), published.notice_id);
            assert_eq!((&got["id"], &got["action"]), (&json!(id), &json!("created")), "{got}");
            assert_eq!(got["source"], exchange.spec.name, "{got}");
            // KuCoin's, Coinone's and all others' times are read to what they show.
            assert_eq!(got["publishTimestampUs"], published.published.0, "{got}");
            // Crypto.com's notices have no page of their own.
            let linked = got["url"].as_str().is_some_and(|url| url.starts_with("https://"));
            assert!(linked || exchange.sim.kind() == Kind::Cryptocom, "{got}");
        }
    }
    // An edit keeps the identifier.
    for (exchange, (published, _)) in market.exchanges.iter().zip(&published) {
        exchange.sim.edit(&published.notice_id, &format!("{} (edited)", published.title)).unwrap();
    }
    let edited = market.one_of_each(&mut client);
    for (exchange, (published, _)) in market.exchanges.iter().zip(&published) {
        let got = &edited[&publisher(exchange)];
        assert_eq!(
            (&got["action"], &got["noticeId"]),
            (&json!("updated"), &json!(published.notice_id)),
            "{got}"
        );
    }
    // Of the old notices nothing was announced, and nothing twice: not by another list either.
    market.exchanges.iter().for_each(Exchange::polled);
    let rounds = ListingType::ALL.len() + 1;
    history(&market.engine, rounds * market.exchanges.len());
    for (exchange, status) in market.exchanges.iter().zip(market.statuses()) {
        assert_eq!((&status["state"], &status["rows_skipped"]), (&json!("live"), &json!(0)), "{status}");
        assert_eq!(status["failures"], json!({}), "{status}");
        assert_eq!(status["evidence"], exchange.spec.evidence.name(), "{status}");
    }
}

#[test]
fn every_exchange_is_announced_once_as_it_is() {
    announces_what_is_listed(polled(false));
}

#[test]
fn both_forms_and_another_region_are_read() {
    announces_what_is_listed(polled(true));
}

/// What works, fails in one way everywhere: the state is told, the failure counted, and where the pause is
/// short, what is published afterwards is announced.
fn fails(fault: &Fault, state: &str, classes: &[&str], comes_back: bool) {
    let mut market = Market::open(polled(false));
    let key = market.engine.key();
    let mut client = market.engine.connect(&key, "fields=full&sources=1");
    for exchange in &market.exchanges {
        exchange.sim.set_fault(fault.clone());
    }
    let mut left: BTreeSet<&str> = market.exchanges.iter().map(|exchange| exchange.spec.name).collect();
    let until = Instant::now() + PATIENCE;
    while !left.is_empty() {
        assert!(Instant::now() < until, "{fault:?}: not {state}: {left:?}");
        let told = client.json_of("source_status");
        if told["state"] == state {
            left.remove(told["source"].as_str().unwrap());
        }
    }
    for status in market.statuses() {
        let counted: u64 = classes.iter().filter_map(|class| status["failures"][*class].as_u64()).sum();
        assert!(counted >= 2, "{fault:?}: {status}");
    }
    if !comes_back {
        assert_eq!(market.engine.stop(), Some(0), "{fault:?}: it stops in good order");
        return;
    }
    let published: Vec<_> = market
        .exchanges
        .iter()
        .map(|exchange| {
            let published = exchange.sim.publish_invented(ListingType::SpotListing).0;
            exchange.sim.clear_fault();
            published
        })
        .collect();
    let got = market.one_of_each(&mut client);
    for (exchange, published) in market.exchanges.iter().zip(published) {
        assert_eq!(got[&publisher(exchange)]["noticeId"], published.notice_id, "{fault:?}");
    }
    wait_for("all to be live", || market.statuses().iter().all(|status| status["state"] == "live"));
}

#[test]
fn a_rate_limit_blocks_until_it_allows_again() {
    fails(&Fault::Status { code: 429, retry_after_secs: Some(1) }, "blocked", &["too_many_requests"], true);
}

#[test]
fn the_exchange_s_own_words_for_too_often_block() {
    fails(&Fault::TooFrequent, "blocked", &["too_many_requests", "forbidden"], false);
}

#[test]
fn a_block_of_the_region_blocks() {
    fails(&Fault::RegionBlock, "blocked", &["forbidden"], false);
}

#[test]
fn a_refusal_in_a_good_answer_is_stale() {
    fails(&Fault::Refused, "stale", &["unusable"], true);
}

#[test]
fn a_list_under_another_key_is_stale() {
    fails(&Fault::SchemaDrift, "stale", &["unusable"], true);
}

#[test]
fn rows_in_another_form_are_stale() {
    fails(&Fault::RowDrift, "stale", &["unusable"], true);
}

/// Nobody is asked without having been told to: all of these are off by default, and what is unofficial says so.
#[test]
fn all_of_them_are_off_by_default() {
    let engine = Engine::start(Mode::Plain, "");
    let status = engine.cli_json(&["status"]);
    assert_eq!(status["sources"], json!([]));
    for (kind, evidence) in [
        (Kind::Okx, Evidence::Official),
        (Kind::Htx, Evidence::UnofficialFromCode),
        (Kind::Bingx, Evidence::OfficialFromCode),
        (Kind::Mexc, Evidence::Beta),
        (Kind::Coinone, Evidence::Beta),
    ] {
        let spec = tocsin_core::source::exchange::by_config_name(kind.name()).unwrap();
        assert_eq!(spec.evidence, evidence, "{kind:?}");
    }
}
