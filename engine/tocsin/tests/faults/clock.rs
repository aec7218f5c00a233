//! The wall clock is stepped while the engine runs: by a time server that was wrong, or no longer is.

use std::time::{Duration, Instant};

use serde_json::json;
use tocsin::os::clock;
use tocsin_sim::receiver::{Behaviour, Received, ReceiverOptions};
use tocsin_sim::{Category, Draft, Kind, Options};

use crate::harness::exchange::{Exchange, assert_nothing_twice, history};
use crate::harness::shop::{Account, Endpoint, Shop};
use crate::harness::{Client, wait_for};
use crate::wall_clock::WallClock;

const HOUR: i32 = 3_600;
const DAY: i32 = 24 * HOUR;
/// First retry: never early, at most a tenth and a minute late.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_AT_MOST: Duration = Duration::from_secs(33 + 60);

struct Stepped {
    shop: Shop,
    exchange: Exchange,
    clock: WallClock,
    account: Account,
    endpoint: Endpoint,
    witness: Client,
    key: String,
    /// Announcements so far.
    told: u64,
}

impl Stepped {
    fn new() -> Stepped {
        let exchange = Exchange::start(Kind::Binance, Options::default());
        let shop = Shop::open_with(ReceiverOptions::default(), &exchange.section());
        exchange.baselined(&shop.engine);
        let clock = WallClock::of(&shop.engine);
        let account = shop.account();
        let endpoint = shop.add(&account, "/hook");
        let key = shop.engine.key();
        let witness = shop.engine.connect(&key, "fields=full");
        Stepped { shop, exchange, clock, account, endpoint, witness, key, told: 0 }
    }

    /// A key that ends so many minutes from now.
    fn ending(&self, minutes: u32) -> String {
        let until = format!("{minutes}m");
        self.shop.engine.key_with(&["--tier", "premium", "--allowed-cex", "*", "--expires-in", &until]).1
    }

    /// A notice that is published now is announced now: in order, not late, with the stepped clock's time. While
    /// the clock is ahead the administrator announces it, for the exchange's time would make it late.
    fn announces(&mut self, ahead: i32) {
        self.told += 1;
        let number = self.told;
        let title = format!("Binance Will List Sample {number} (SMP{number})");
        match ahead {
            1.. => drop(self.shop.engine.inject("binance", &title)),
            _ => drop(self.exchange.sim.publish(Draft::new(Category::Listing, title.clone()))),
        }
        let got = self.witness.json_of("announcement");
        assert_eq!((got["seq"].as_u64(), got["title"].as_str()), (Some(number), Some(&*title)), "{got}");
        let off =
            got["detectedTimestampUs"].as_i64().unwrap() - clock::wall().0 - i64::from(ahead) * 1_000_000;
        assert!(off.abs() < 60_000_000, "{off} µs from the clock: {got}");
    }

    /// By a clock that is further ahead than `detect.fresh_for` a new notice is an old one: it is kept, marked
    /// late, and not broadcast.
    fn keeps_a_notice_as_late(&mut self) {
        self.told += 1;
        let number = self.told;
        let title = format!("Binance Will List Sample {number} (SMP{number})");
        self.exchange.sim.publish(Draft::new(Category::Listing, title.clone()));
        let kept = history(&self.shop.engine, usize::try_from(number).unwrap());
        let last = kept.last().unwrap();
        assert_eq!(last["title"], title, "{last}");
        assert_eq!(self.exchange.status(&self.shop.engine)["late"], 1);
    }

    /// The clock jumps while a retry waits: the next event comes at once. Who failed, for
    /// [`Stepped::retried_in_time`].
    fn step_before_a_retry(&mut self, ahead: i32) -> u64 {
        let failing = vec![Behaviour::status(503), Behaviour::ok()];
        self.shop.receiver.behave("/hook", failing);
        self.announces(0);
        let failed = self.told;
        wait_for("the first attempt", || self.deliveries(failed).len() == 1);
        wait_for("its outcome", || {
            let shown = self.shop.engine.cli_json(&["status"]);
            shown["webhooks"]["failed"]["server_error"] == 1 && shown["webhooks"]["in_flight"] == 0
        });
        self.clock.step_to(ahead);
        self.announces(ahead);
        wait_for("the next event", || self.deliveries(self.told).len() == 1);
        failed
    }

    fn deliveries(&self, number: u64) -> Vec<Received> {
        let symbol = json!(format!("SMP{number}USDT"));
        let all = self.shop.receiver.records_on("/hook").into_iter();
        all.filter(|received| received.json().is_some_and(|body| body["symbol"] == symbol)).collect()
    }

    /// The retry comes at its time by a clock that nobody stepped.
    fn retried_in_time(&mut self, failed: u64) {
        let until = Instant::now() + RETRY_AT_MOST;
        while self.deliveries(failed).len() == 1 {
            let webhooks = || self.shop.engine.cli_json(&["status"])["webhooks"].clone();
            assert!(Instant::now() < until, "no retry: {}", webhooks());
            std::thread::sleep(Duration::from_millis(100));
        }
        let both = self.deliveries(failed);
        let after = Duration::from_micros(u64::try_from(both[1].began.micros_since(both[0].at)).unwrap());
        assert!((RETRY..RETRY_AT_MOST).contains(&after), "after {after:?}");
        assert_eq!(both[0].event_id(), both[1].event_id());
        assert_eq!(both[1].attempt(), Some(2));
        assert_eq!(self.shop.state(&self.account, &self.endpoint), "active");
        // Nobody has answered the pings of the witness meanwhile.
        self.witness = self.shop.engine.connect(&self.key, "fields=full");
    }

    /// Nothing was lost or doubled: in history, by a resume from the beginning, and over a restart.
    fn nothing_lost(mut self) {
        let told = usize::try_from(self.told).unwrap();
        assert_nothing_twice(&history(&self.shop.engine, told));
        let mut resumed = self.shop.engine.connect(&self.key, "fields=full&resume=1:0");
        for seq in 1..=self.told {
            assert_eq!(resumed.json_of("announcement")["seq"], seq);
        }
        let delivered = self.shop.engine.cli_json(&["status"])["webhooks"].clone();
        assert_eq!(delivered["given_up"], 0, "{delivered}");
        assert_eq!(self.shop.engine.stop(), Some(0), "{}", self.shop.engine.log());
        assert!(!self.shop.engine.log().contains("panicked"));
        self.shop.engine.start_again();
        history(&self.shop.engine, told);
    }
}

/// An hour and then a day ahead: keys that end by then end within a ping's period, others stay; retries keep their
/// time; an exchange's notices are kept as late until the clock is right, and then announced as ever.
#[test]
fn stepped_ahead_only_what_ends_by_the_clock_ends() {
    let mut stepped = Stepped::new();
    let (soon, later) = (stepped.ending(30), stepped.ending(120));
    let mut session = stepped.shop.engine.connect(&soon, "");
    let failed = stepped.step_before_a_retry(HOUR);
    assert_eq!(session.closed(), (Some(1000), "key_expired".to_owned()));
    let refused = stepped.shop.engine.try_connect(&soon, "").err().unwrap();
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("key_expired")));
    stepped.retried_in_time(failed);
    let mut session = stepped.shop.engine.connect(&later, "");
    stepped.keeps_a_notice_as_late();
    stepped.clock.step_to(DAY);
    stepped.announces(DAY);
    assert_eq!(session.closed(), (Some(1000), "key_expired".to_owned()));
    stepped.clock.step_to(0);
    stepped.announces(0);
    stepped.nothing_lost();
}

/// An hour and then a day back: nothing ends early or twice, numbers go on, retries keep their time.
#[test]
fn stepped_back_nothing_waits_for_the_clock_to_catch_up() {
    let mut stepped = Stepped::new();
    let key = stepped.ending(30);
    let failed = stepped.step_before_a_retry(-HOUR);
    stepped.retried_in_time(failed);
    let mut session = stepped.shop.engine.connect(&key, "");
    for ahead in [-DAY, 0] {
        // The second is right again, and a step ahead of a day.
        stepped.clock.step_to(ahead);
        stepped.announces(ahead);
        assert_eq!(session.json_of("announcement")["ticker"], format!("SMP{}", stepped.told));
    }
    stepped.nothing_lost();
}
