//! The story of a simulated market as the engine's watchers tell it, on a clock of the test's own.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tocsin_core::classify::classify;
use tocsin_core::market::register::Hearing;
use tocsin_core::market::spike::SpikeRules;
use tocsin_core::market::watcher::{Told, Watcher, WatcherRules};
use tocsin_core::market::{MarketEvent, MarketEventKind, MarketSpec, Tells};
use tocsin_core::model::{Action, Announcement, CategoryHint, Exchange, FeedPosition};
use tocsin_core::source::Scratch;
use tocsin_core::time::WallUs;
use tocsin_sim::market::{ACTS, Act, ROUND, Scene, Story, StoryOptions};
use tocsin_sim::{Kind, MarketOptions, Options, SimExchange, SimMarket};

use crate::client::Client;
use crate::reader::{ask, connect, specs};

/// Between two answers; two in a slot.
const STEP: Duration = Duration::from_secs(150);

/// An exchange, its market, the story of both, and who watches.
struct Stage {
    sim: Arc<SimMarket>,
    story: Story,
    client: Client,
    watcher: Watcher,
    began: WallUs,
    elapsed: Duration,
}

impl Stage {
    fn new(kind: Kind, seed: u64) -> Stage {
        let exchange = SimExchange::start(kind, Options { seed, ..Options::plain() }).unwrap();
        let options = MarketOptions { seed, instruments: 25, ..MarketOptions::plain() };
        let sim = Arc::new(SimMarket::start(kind.exchange(), options).unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let began = WallUs(i64::try_from(now.as_micros()).unwrap());
        let options = StoryOptions { speed: 1.0, began, offset: Duration::ZERO, seed };
        let story = Story::new(Arc::new(exchange), Arc::clone(&sim), options).unwrap();
        let sources: Vec<&'static MarketSpec> = specs(kind.exchange()).collect();
        let rules = WatcherRules { spikes: Some(SpikeRules::default()), ..WatcherRules::default() };
        let watcher = Watcher::new(&rules, &sources, &|_| Hearing::Until(began));
        Stage { client: connect(&sim), sim, story, watcher, began, elapsed: Duration::ZERO }
    }

    fn now(&self) -> WallUs {
        WallUs(self.began.0 + i64::try_from(self.elapsed.as_micros()).unwrap())
    }

    /// What happens in the next [`STEP`], and what the watchers tell of the lists after it.
    fn step(&mut self, whole: bool) -> (Vec<Scene>, Vec<MarketEvent>) {
        self.elapsed += STEP;
        let now = self.now();
        let scenes = self.story.advance(self.elapsed).unwrap();
        let mut told = Told::default();
        let requests: Vec<_> = self.watcher.requests().collect();
        for (id, spec, request) in requests {
            // Lists of instruments cost most of the test's time: asked for when something happened.
            if request.tells == Tells::Instruments && !whole && scenes.is_empty() {
                continue;
            }
            let mut reply = ask(&mut self.client, spec, request);
            let answer =
                self.watcher.answer(id, &mut Scratch::default(), &mut reply.body, now, now, &mut told);
            // An exchange without dated contracts has no row there.
            assert!(answer.is_ok() || request.name.starts_with("futures"), "{} {answer:?}", request.name);
        }
        let exchange = self.sim.exchange();
        for title in scenes.iter().filter_map(|scene| scene.title.as_deref()) {
            self.watcher.announcement(&announcement(exchange, title, now), now, &mut told);
        }
        (scenes, told.events)
    }

    /// A whole round: every event, each with the act it came with or after. `whole`: every list is asked at every step.
    fn round(&mut self, whole: bool) -> Vec<(Act, Vec<MarketEvent>)> {
        let end = self.elapsed + ROUND;
        let mut acts: Vec<(Act, Vec<MarketEvent>)> = Vec::new();
        while self.elapsed < end {
            let (scenes, events) = self.step(whole);
            acts.extend(scenes.into_iter().map(|scene| (scene.act, Vec::new())));
            if let Some((_, told)) = acts.last_mut() {
                told.extend(events);
            } else {
                assert!(events.is_empty(), "before the first act: {events:?}");
            }
        }
        acts
    }
}

/// The notice as a source would have brought it.
fn announcement(exchange: Exchange, title: &str, at: WallUs) -> Announcement {
    Announcement {
        id: format!("{}:{title}", exchange.name()),
        position: FeedPosition { epoch: 1, seq: 1 },
        exchange,
        title: title.to_owned(),
        classification: classify(exchange, title, CategoryHint::None),
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: title.to_owned(),
        source: "story".to_owned(),
        published: at,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }
}

fn kinds(events: &[MarketEvent]) -> Vec<MarketEventKind> {
    events.iter().map(|event| event.kind).collect()
}

/// Everything that is told of the second round, act by act: by then all has been watched for half a day.
#[test]
fn a_preview_its_notice_a_spike_and_an_end_are_told_and_nothing_else() {
    use MarketEventKind::{Delisting, ListingPreview, PreviewConfirmed, VolumeSpike};
    for kind in [Kind::Okx, Kind::Binance, Kind::Bitget] {
        let mut stage = Stage::new(kind, 3);
        let first = stage.round(false);
        assert!(first.iter().all(|(act, events)| (*act == Act::Spike) <= events.is_empty()), "{first:?}");
        let second = stage.round(false);
        let told: Vec<_> = second.iter().map(|(act, events)| (*act, kinds(events))).collect();
        let expected = [
            (Act::Preview, vec![ListingPreview]),
            (Act::Notice, vec![PreviewConfirmed]),
            (Act::Opening, vec![]),
            (Act::Spike, vec![VolumeSpike]),
            (Act::End, vec![Delisting]),
            (Act::EndNotice, vec![]),
            (Act::Over, vec![]),
        ];
        assert_eq!(told, expected, "{kind:?}");
        assert_eq!(told.len(), ACTS.len());
        let events: Vec<&MarketEvent> = second.iter().flat_map(|(_, events)| events).collect();
        let [preview, confirmed, spike, end] = events.try_into().unwrap();
        assert_eq!(preview.symbol, confirmed.symbol);
        assert!(preview.new_asset && preview.effective_at.is_some_and(|at| at > preview.received));
        assert!((8.0..40.0).contains(&spike.ratio.unwrap()), "{spike:?}");
        assert!(!end.noticed && end.effective_at.is_some_and(|at| at > end.received), "{end:?}");
    }
}

/// Where lists tell nothing ahead, the notice tells of what opens and ends.
#[test]
fn where_nothing_shows_ahead_a_notice_explains_what_opens() {
    let mut stage = Stage::new(Kind::Upbit, 4);
    // What is gone is gone when several answers in a row are without it.
    stage.round(true);
    let second = stage.round(true);
    let told: Vec<_> = second.iter().filter(|(_, events)| !events.is_empty()).collect();
    let [(Act::Spike, spike), (Act::Over, end)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(kinds(spike), [MarketEventKind::VolumeSpike]);
    // Won, by the price of a dollar on the same list.
    assert!((1.0e6..2.0e7).contains(&spike[0].volume_24h.unwrap()), "{spike:?}");
    assert!(kinds(end) == [MarketEventKind::Delisting] && end[0].noticed, "{end:?}");
}

#[test]
fn the_same_seeds_tell_the_same_story() {
    let symbols = |seed| -> Vec<String> {
        let mut stage = Stage::new(Kind::Okx, seed);
        stage.elapsed = ROUND;
        let scenes = stage.story.advance(ROUND).unwrap();
        let volumes = stage.sim.shown().into_iter().map(|s| format!("{:?}", s.listing.quote_24h));
        scenes.into_iter().map(|scene| scene.symbol).chain(volumes).collect()
    };
    assert_eq!(symbols(5), symbols(5));
    assert_ne!(symbols(5), symbols(6));
}

#[test]
fn a_story_is_of_one_exchange() {
    let exchange = Arc::new(SimExchange::start(Kind::Okx, Options::plain()).unwrap());
    let market = |name| Arc::new(SimMarket::start(name, MarketOptions::plain()).unwrap());
    let options = |speed| StoryOptions { speed, began: WallUs(0), offset: Duration::ZERO, seed: 1 };
    assert!(Story::new(Arc::clone(&exchange), market(Exchange::Upbit), options(1.0)).is_err());
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Story::new(Arc::clone(&exchange), market(Exchange::Okx), options(speed)).is_err());
    }
    let story = Story::new(exchange, market(Exchange::Okx), options(600.0)).unwrap();
    assert!(story.due() > Duration::ZERO && story.due() < Duration::from_secs(1));
}
