//! Outages, refusals and changes of an interface, as the engine's parsers see them.

use std::time::Duration;

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_core::source::{ParseError, Parsed, Scratch};
use tocsin_core::time::WallUs;
use tocsin_sim::market::EXCHANGES;
use tocsin_sim::{Fault, Listing, MarketOptions, RateAnswer, RateLimit, SimMarket};

use crate::reader::{ask, check, connect, expected, main_kind, read_all, specs};

fn start(exchange: Exchange) -> SimMarket {
    SimMarket::start(exchange, MarketOptions::plain()).unwrap()
}

#[test]
fn a_list_that_lost_two_fifths_is_read_as_it_stands() {
    for exchange in EXCHANGES {
        let sim = start(exchange);
        let all = sim.shown().len();
        let lost = sim.lose(0.4);
        check(&sim, "shrunk");
        assert_eq!((sim.shown().len(), lost), (all - lost, all * 2 / 5), "{exchange:?}");
        sim.restore();
        check(&sim, "back");
        assert_eq!(sim.shown().len(), all);
    }
}

#[test]
fn empty_numbers_lose_no_instrument_and_make_no_volume() {
    for exchange in EXCHANGES {
        let sim = start(exchange);
        let quote = sim.shown()[0].listing.quote.clone();
        let soon = Some(WallUs::from_secs(1_900_000_000));
        sim.add(Listing::ahead(main_kind(exchange), "VAROMI", &quote, soon)).unwrap();
        sim.empty_numbers(true);
        let reading = read_all(&sim);
        assert_eq!(reading.instruments, expected(&sim).0, "{exchange:?}");
        assert!(reading.volumes.is_empty(), "{exchange:?}: {:?}", reading.volumes);
        assert!(reading.parsed.iter().all(|(_, p)| p.unwrap().skipped == 0), "{exchange:?}");
        sim.empty_numbers(false);
        check(&sim, "filled in again");
    }
}

#[test]
fn a_changed_interface_gives_nothing_and_says_so() {
    for exchange in EXCHANGES {
        let sim = start(exchange);
        sim.drift(true);
        let reading = read_all(&sim);
        assert!(reading.instruments.is_empty() && reading.volumes.is_empty(), "{exchange:?}");
        for (request, outcome) in reading.parsed {
            match outcome {
                Err(ParseError::Missing(_)) => {}
                // Where an answer is a bare list, its rows are unknown.
                Ok(Parsed { rows: 0, skipped: 1.., .. }) => {}
                // Where nothing is listed there is nothing to be unknown.
                Ok(parsed) if request == "usdc" => assert_eq!(parsed, Parsed::default()),
                other => panic!("{exchange:?} {request}: {other:?}"),
            }
        }
        sim.drift(false);
        check(&sim, "as it was");
    }
}

#[test]
fn refusals_have_their_status_and_are_never_read_as_empty_lists() {
    for exchange in EXCHANGES {
        let sim = start(exchange);
        let region = if exchange == Exchange::Binance { 451 } else { 403 };
        for (fault, want) in [
            (Fault::Status { code: 429, retry_after_secs: Some(7) }, 429),
            (Fault::Status { code: 403, retry_after_secs: None }, 403),
            (Fault::Status { code: 503, retry_after_secs: None }, 503),
            (Fault::RegionBlock, region),
            (Fault::HtmlChallenge, 202),
            (Fault::TruncatedJson, 200),
            (Fault::GarbageBody, 200),
        ] {
            for spec in specs(exchange) {
                for request in spec.requests {
                    sim.fault_next(1, fault.clone());
                    let mut reply = ask(&mut connect(&sim), spec, request);
                    assert_eq!(reply.status, want, "{exchange:?} {fault:?}");
                    let retry_after = reply.header("retry-after");
                    assert_eq!(retry_after, if want == 429 { Some("7") } else { None });
                    // Even if the status were not looked at.
                    let mut rows = 0;
                    let mut count = |_: tocsin_core::market::MarketRow<'_>| rows += 1;
                    let outcome = (request.parse)(&mut Scratch::default(), &mut reply.body, &mut count);
                    assert!(outcome.is_err() && rows == 0, "{} {}: {fault:?}", spec.name, request.name);
                    if fault == Fault::HtmlChallenge {
                        assert_eq!(outcome, Err(ParseError::Html));
                    }
                }
            }
        }
        check(&sim, "well again");
    }
}

#[test]
fn a_rate_limit_counts_every_request_of_an_address() {
    let limit =
        RateLimit { requests: 3, per: Duration::from_secs(600), answer: RateAnswer::TooMany(Some(1)) };
    let options = MarketOptions { rate_limit: Some(limit), ..MarketOptions::plain() };
    let sim = SimMarket::start(Exchange::Okx, options).unwrap();
    let spec = specs(Exchange::Okx).next().unwrap();
    let mut client = connect(&sim);
    let statuses: Vec<u16> =
        spec.requests.iter().take(5).map(|request| ask(&mut client, spec, request).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(sim.request_count(), 5);
}

#[test]
fn requests_say_what_their_exchange_wants_to_hear() {
    for exchange in EXCHANGES {
        let sim = start(exchange);
        read_all(&sim);
        let asked: usize = specs(exchange).map(|spec| spec.requests.len()).sum();
        let requests = sim.requests();
        assert_eq!(requests.len(), asked);
        for request in requests {
            assert_eq!(request.header("origin"), None, "{exchange:?}");
            assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("tocsin/")));
            let posted = exchange == Exchange::Hyperliquid;
            assert_eq!(request.method, if posted { "POST" } else { "GET" });
            assert_eq!(request.header("content-type").is_some(), posted);
        }
    }
}

#[test]
fn bytes_of_a_test_s_own_stand_in_for_an_answer() {
    let sim = start(Exchange::Okx);
    let id = sim.add(Listing::open(InstrumentKind::Spot, "VAROMI", "USDT")).unwrap();
    sim.serve_bytes("/api/v5/public/instruments?instType=SPOT", *b"{\"code\":\"50011\",\"data\":[]}");
    let reading = read_all(&sim);
    assert!(matches!(reading.parsed.first(), Some(("spot", Err(ParseError::Refused(_))))), "{reading:?}");
    sim.stop_serving();
    check(&sim, "its own answers again");
    assert_eq!(sim.symbol(id).as_deref(), Some("VAROMI-USDT"));
}
