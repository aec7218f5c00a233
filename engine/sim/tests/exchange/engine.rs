//! The engine's own request, parser, detector and classifier read the simulated exchanges: what is
//! published here is found there, under the identifier, time and type that were meant.

use std::time::Duration;

use tocsin_core::classify::classify;
use tocsin_core::detect::{Detected, Detector, Findings, ListHistory, Outcome};
use tocsin_core::model::{Action, ListingType, Ticker};
use tocsin_core::source::{SourceSpec, exchange};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_sim::{Kind, Options, SimExchange};

use crate::client::Client;

/// A source polled by hand.
struct Poller {
    spec: &'static SourceSpec,
    client: Client,
    detector: Detector,
    polls: u64,
}

impl Poller {
    fn start(sim: &SimExchange) -> Poller {
        let spec = exchange::by_config_name(sim.kind().name()).unwrap();
        let mut detector = Detector::new(spec, Duration::from_secs(3_600));
        for list in 0..spec.lists.len() {
            let first_start = WallUs(i64::MAX);
            detector.load_list(list, ListHistory { first_start, baselined: false });
        }
        let mut poller = Poller { spec, client: Client::connect(sim).unwrap(), detector, polls: 0 };
        assert!(poller.poll().is_empty(), "the first poll is silent");
        poller
    }

    /// Asks every list once, as the engine asks; what is new.
    fn poll(&mut self) -> Vec<Detected> {
        let mut findings = Findings::default();
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        for (index, list) in self.spec.lists.iter().enumerate() {
            let reply = self.client.get_with(list.target, self.spec.headers).unwrap();
            assert_eq!(reply.status, 200);
            self.polls += 1;
            let now = Now { mono: Mono(self.polls), wall: WallUs(i64::try_from(wall.as_micros()).unwrap()) };
            let outcome = self.detector.on_body(index, &mut reply.body.clone(), now, &mut findings).unwrap();
            if let Outcome::Parsed(parsed) = outcome {
                assert!(parsed.rows > 0 && parsed.skipped == 0 && parsed.beyond_limit == 0);
            }
        }
        findings.detected
    }
}

#[test]
fn what_is_published_is_found_and_classified_as_meant() {
    for kind in Kind::ALL {
        let sim = SimExchange::start(kind, Options { old_notices: 60, ..Options::default() }).unwrap();
        let mut poller = Poller::start(&sim);
        for round in 0..25 {
            let wanted = ListingType::ALL[round % ListingType::ALL.len()];
            let (published, meant) = sim.publish_invented(wanted);
            let found = poller.poll();
            assert_eq!(found.len(), 1, "{kind:?}: {}", published.title);
            assert_eq!(&*found[0].record.notice_id, published.notice_id);
            assert_eq!(&*found[0].record.title, published.title);
            assert_eq!(found[0].record.published, published.published);
            assert_eq!((found[0].action, found[0].late), (Action::Created, false));
            let said = classify(poller.spec.exchange, &found[0].record.title, found[0].hint);
            let tickers: Vec<&str> = said.tickers.iter().map(Ticker::as_str).collect();
            assert_eq!(said.listing_type, meant.listing_type, "{} by {}", published.title, said.rule);
            assert_eq!(tickers, meant.tickers, "{} by {}", published.title, said.rule);
        }
        assert!(poller.poll().is_empty());
    }
}

#[test]
fn a_burst_is_found_whole_and_an_edit_keeps_its_identifier() {
    for kind in Kind::ALL {
        let sim = SimExchange::start(kind, Options { old_notices: 60, ..Options::plain() }).unwrap();
        let mut poller = Poller::start(&sim);
        let burst = sim.burst(10);
        assert_eq!(poller.poll().len(), burst.len(), "{kind:?}");
        sim.same_id_new_title(&burst[4].notice_id, "Another title").unwrap();
        let edited = poller.poll();
        assert_eq!(edited.len(), 1);
        assert_eq!(&*edited[0].record.notice_id, burst[4].notice_id);
        assert_ne!(edited[0].action, Action::Created);
        sim.delete(&burst[5].notice_id).unwrap();
        assert!(poller.poll().iter().all(|found| found.action != Action::Created || found.late));
    }
}
