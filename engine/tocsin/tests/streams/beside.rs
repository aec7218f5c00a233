//! A push source and the polled one of the same exchange, at once: whoever is first, one announcement.

use serde_json::Value;
use tocsin_sim::{Category, Draft, Kind, Options, StreamKind, StreamOptions};

use crate::harness::exchange::{Exchange, history};
use crate::harness::{Client, Engine, Mode, wait_for};
use crate::listing;
use crate::push::Push;

/// Both of one exchange, and an engine that listens to both.
struct Pair {
    push: Push,
    polled: Exchange,
    engine: Engine,
}

impl Pair {
    fn start(pushed: StreamKind, polled: Kind) -> Pair {
        let push = Push::start(pushed, StreamOptions::default());
        let polled = Exchange::start(polled, Options::default());
        let engine = Engine::start(Mode::Plain, &push.section(&polled.section()));
        let pair = Pair { push, polled, engine };
        pair.ready();
        pair
    }

    fn ready(&self) {
        self.push.live(&self.engine);
        self.polled.baselined(&self.engine);
    }

    /// Shows a notice on the polled page that the stream may have pushed before.
    fn show(&self, title: &str, push: Option<tocsin_core::time::WallUs>) {
        self.polled.sim.publish(Draft { published: push, ..Draft::new(Category::Listing, title) });
    }

    fn confirmations(&self) -> [u64; 2] {
        [self.push.status(&self.engine), self.polled.status(&self.engine)]
            .map(|status| status["confirmed"].as_u64().unwrap())
    }

    fn wins(&self) -> [u64; 2] {
        [self.push.status(&self.engine), self.polled.status(&self.engine)]
            .map(|status| status["won"].as_u64().unwrap())
    }

    fn confirmed(&self, expected: [u64; 2]) {
        wait_for("the confirmation", || self.confirmations() == expected);
    }
}

fn told(client: &mut Client, title: &str) -> Value {
    let got = client.json_of("announcement");
    assert_eq!(got["title"], title, "{got}");
    got
}

fn whoever_is_first_announces_and_the_other_confirms(pushed: StreamKind, polled: Kind) {
    let mut pair = Pair::start(pushed, polled);
    let mut client = pair.engine.connect(&pair.engine.key(), "fields=full");

    // The stream first.
    let one = pair.push.publish("PUSHX");
    let got = told(&mut client, &one.title);
    assert_eq!(got["source"], pair.push.name());
    pair.show(&one.title, Some(one.published));
    pair.confirmed([0, 1]);
    // The page first.
    let title = listing(pushed, "POLLX");
    pair.show(&title, None);
    let got = told(&mut client, &title);
    assert_eq!(got["source"], pair.polled.spec.name);
    pair.push.publish("POLLX");
    pair.confirmed([1, 1]);
    wait_for("the wins", || pair.wins() == [1, 1]);
    // Neither is told again, by either, after an end that was not planned.
    drop(client);
    assert_eq!(history(&pair.engine, 2).len(), 2);
    pair.engine.kill();
    pair.engine.start_again();
    pair.ready();
    let mut client = pair.engine.connect(&pair.engine.key(), "fields=full");
    pair.polled.polled();
    pair.push.told(&mut client, "AFTER");
    pair.push.kept_the_rules();

    // What the operator sees of it.
    wait_for("the win in the table", || {
        let race = pair.engine.cli_json(&["race"]);
        let rows = race["exchanges"][0]["sources"].as_array().unwrap();
        assert_eq!(
            (race["exchanges"][0]["exchange"].as_str(), rows.len()),
            (Some(pushed.name()), 2),
            "{race}"
        );
        let wins: Vec<_> = rows.iter().map(|row| row["wins"].as_u64().unwrap()).collect();
        wins.iter().sum::<u64>() == 1
    });
}

#[test]
fn binance_by_push_and_by_poll_is_one() {
    whoever_is_first_announces_and_the_other_confirms(StreamKind::Binance, Kind::Binance);
}

#[test]
fn upbit_by_push_and_by_poll_is_one() {
    whoever_is_first_announces_and_the_other_confirms(StreamKind::Upbit, Kind::Upbit);
}
