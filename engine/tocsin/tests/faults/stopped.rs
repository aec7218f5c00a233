//! The process stands still for seconds: stopped by a signal, frozen by its host, suspended.

use std::time::Duration;

use tocsin_sim::{Category, Draft, Kind, Options};

use crate::harness::exchange::Exchange;
use crate::harness::manager::{Manager, behind_shell};
use crate::harness::{Client, Engine, Mode};

/// Longer than a thread may stand still before it counts as stuck.
const STOPPED: Duration = Duration::from_millis(5_500);

/// Subscribers stay connected, what was published meanwhile comes, once and in order, and nobody is accused of
/// being stuck: all threads stood still, the one that watches them too.
#[test]
fn stopped_for_seconds_it_goes_on_as_if_nothing_had_been() {
    let exchange = Exchange::start(Kind::Upbit, Options::default());
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(&dir.path().join("notify"));
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Tls, &exchange.section());
    engine.spawn_by(behind_shell(&format!("{};", manager.exports(300_000))));
    engine.wait_ready();
    exchange.baselined(&engine);
    let key = engine.key();
    let mut subscribers: Vec<Client> = (0..5).map(|_| engine.connect(&key, "fields=full")).collect();
    assert!(manager.other_message().starts_with("READY=1"));

    engine.signal("STOP");
    manager.take_all();
    let notices: Vec<String> = (1..=3)
        .map(|number| {
            let title = format!("샘플{number}(SMP{number}) KRW 마켓 디지털 자산 추가");
            exchange.sim.publish(Draft::new(Category::Listing, title)).title
        })
        .collect();
    std::thread::sleep(STOPPED);
    assert_eq!(manager.within(Duration::from_millis(1)), None, "nothing is fed by who stands still");
    engine.signal("CONT");

    for client in &mut subscribers {
        let mut got: Vec<String> = (1..=3)
            .map(|seq| {
                let next = client.json_of("announcement");
                assert_eq!((next["seq"].as_u64(), next["late"].as_bool()), (Some(seq), None), "{next}");
                next["title"].as_str().unwrap().to_owned()
            })
            .collect();
        got.sort();
        assert_eq!(got, notices, "each once");
    }
    assert_eq!(manager.message(), "WATCHDOG=1\n", "fed again");
    exchange.nothing_more(&engine, &mut subscribers[0]);
    let status = engine.cli_json(&["status"]);
    assert_eq!((status["epoch"].as_u64(), &status["feed"]["connections"]), (Some(1), &5.into()), "{status}");
    assert!(!engine.log().contains("has not moved"), "{}", engine.log());
}
