//! What goes wrong at an exchange is counted and said, concludes nothing, and is over when the exchange is well.

use serde_json::Value;
use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::{Fault, Listing, SimMarket};

use crate::harness::{Engine, Mode, wait_for};
use crate::world::{World, asked_again, assert_stored, quote, request, requests};

const SOURCE: &str = "okx.instruments";

/// Waits until the list of spot pairs says that this stands against it.
fn troubled(engine: &Engine, problem: &str) -> Value {
    let mut seen = Value::Null;
    wait_for(problem, || {
        seen = request(engine, SOURCE, "spot");
        seen["problem"].as_str().is_some_and(|text| text.contains(problem))
    });
    seen
}

/// Waits until nothing stands against any list.
fn well(engine: &Engine) {
    wait_for("an end of the trouble", || requests(engine).iter().all(|of| of["problem"].is_null()));
}

fn failures(of: &Value, class: &str) -> u64 {
    of["failures"][class].as_u64().unwrap()
}

/// What an exchange may do for a while: how it is done, what stands in the problem, how it is counted.
type Trouble = (fn(&SimMarket), &'static str, &'static str);

const TROUBLES: [Trouble; 8] = [
    (|sim| sim.drift(true), "absent", "unusable"),
    (|sim| sim.serve_bytes("/api", *b"<html><body>Just a moment"), "HTML", "unusable"),
    (|sim| sim.serve_bytes("/api", *b""), "empty", "unusable"),
    (|sim| sim.serve_bytes("/api", *b"{\"code\":\"0\",\"data\":[{"), "not JSON", "unusable"),
    (|sim| sim.set_fault(Fault::Gzip), "encoded", "unusable"),
    (|sim| sim.set_fault(Fault::ResetInBody { after_bytes: 40 }), "closed", "closed"),
    (|sim| sim.set_fault(Fault::Garbage), "protocol", "protocol"),
    (
        |sim| sim.set_fault(Fault::Status { code: 429, retry_after_secs: Some(1) }),
        "status 429",
        "too_many_requests",
    ),
];

#[test]
fn what_goes_wrong_for_a_while_concludes_nothing_and_passes() {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let engine = world.engine();
    for (begin, problem, class) in TROUBLES {
        let before = failures(&request(&engine, SOURCE, "spot"), class);
        begin(sim);
        let seen = troubled(&engine, problem);
        assert!(failures(&seen, class) > before, "{problem}: {seen}");
        sim.drift(false);
        sim.stop_serving();
        sim.clear_fault();
        well(&engine);
    }
    let log = engine.log();
    assert!(log.contains("markets: no usable answer") && log.contains("markets: as usual again"), "{log}");
    // What is new afterwards is told as ever.
    let id = sim.add(Listing::open(InstrumentKind::Spot, "VAROMI", &quote(sim))).unwrap();
    assert_stored(&engine, &[("stealth_listing", &sim.symbol(id).unwrap())]);
}

#[test]
fn a_list_that_loses_too_much_is_held_and_no_delisting() {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let engine = world.engine();
    assert!(sim.lose(0.5) > 0);
    let seen = troubled(&engine, "lost too much");
    assert_eq!(seen["list"], "shrunk", "{seen}");
    asked_again(&engine, 10);
    assert!(request(&engine, SOURCE, "spot")["held"].as_u64().unwrap() >= 10);
    sim.restore();
    well(&engine);
    assert_eq!(request(&engine, SOURCE, "spot")["list"], "usual");
    // Together: an answer with a part of them, few enough to be believed, would be news of that part.
    let quote = quote(sim);
    sim.add_together((0..40).map(|n| Listing::open(InstrumentKind::Spot, &format!("VAROMI{n}"), &quote)))
        .unwrap();
    assert_eq!(troubled(&engine, "gained too much")["list"], "grown");
    // A quarter of an hour at the default speed; then it is believed in silence.
    well(&engine);
    assert_eq!(request(&engine, SOURCE, "spot")["believed"], 1);
    assert_stored(&engine, &[]);
}

/// Whoever is refused rests long: no recovery is waited for here.
#[test]
fn a_refusal_rests_what_it_concerns_and_shows_as_blocked() {
    let world = World::of(&[Exchange::Okx, Exchange::Binance]);
    let engine = world.engine();
    world.market(Exchange::Binance).set_fault(Fault::RegionBlock);
    let refusal = *b"{\"code\":\"50026\",\"msg\":\"Service unavailable in your region\",\"data\":[]}";
    world.market(Exchange::Okx).serve_bytes("/api/v5/public/instruments?instType=SPOT", refusal);
    let seen = troubled(&engine, "refused: ");
    assert_eq!((&seen["state"], failures(&seen, "forbidden") > 0), (&"blocked".into(), true), "{seen}");
    wait_for("a blocked exchange", || request(&engine, "binance.spot", "instruments")["state"] == "blocked");
    let seen = request(&engine, "binance.spot", "instruments");
    assert!(seen["problem"].as_str().unwrap().contains("status 451"), "{seen}");
    // The other lists of the exchange that refused one go on.
    let before = request(&engine, SOURCE, "swap")["answers"].as_u64().unwrap();
    wait_for("another list", || request(&engine, SOURCE, "swap")["answers"].as_u64().unwrap() > before);
}

#[test]
fn a_host_that_is_not_there_or_not_trusted_is_said_and_the_others_go_on() {
    let world = World::of(&[Exchange::Okx, Exchange::Kraken, Exchange::Upbit]);
    let mut config: toml::Table = world.section().parse().unwrap();
    let market = config["market"].as_table_mut().unwrap();
    let set = |market: &mut toml::Table, exchange: &str, key: &str, value: &str| {
        market[exchange].as_table_mut().unwrap().insert(key.to_owned(), value.into());
    };
    set(market, "okx", "ca_file", "");
    set(market, "kraken", "base_url", "https://nowhere.invalid");
    let engine = Engine::start(Mode::Plain, &config.to_string());
    let problem =
        |source: &str, name: &str| request(&engine, source, name)["problem"].as_str().map(str::to_owned);
    wait_for("the list that is read", || request(&engine, "upbit.spot", "instruments")["baselined"] == true);
    wait_for("a server that is not trusted", || {
        problem(SOURCE, "spot").is_some_and(|problem| problem.starts_with("tls: "))
    });
    wait_for("a name without an address", || {
        problem("kraken.spot", "instruments").is_some_and(|problem| problem.starts_with("connect: "))
    });
    assert_eq!(request(&engine, SOURCE, "spot")["state"], "down");
}
