//! The story of a simulated market as the engine's watchers tell it, on a clock of the test's own.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tocsin_core::classify::classify;
use tocsin_core::market::register::Hearing;
use tocsin_core::market::spike::SpikeRules;
use tocsin_core::market::watcher::{Told, Watcher, WatcherRules};
use tocsin_core::market::{MarketEvent, MarketEventKind, MarketSpec, Tells};
use tocsin_core::model::{Action, Announcement, CategoryHint, Exchange};
use tocsin_core::source::Scratch;
use tocsin_core::time::WallUs;
use tocsin_sim::market::{ACTS, Act, ROUND, Scene, Story, StoryOptions};
use tocsin_sim::{Kind, MarketOptions, Options, SimExchange, SimMarket};

use crate::client::Client;
use crate::reader::{ask, connect, specs};

/// Between two answers; two in a slot.
const STEP: Duration = Duration::from_secs(150);

struct Told2 {
    scene: Scene,
    events: Vec<MarketEvent>,
}

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
        let watcher = Watcher::new(&rules, &sources, &|_| Hearing::Since(began));
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

    /// A whole round: every event, each with the act it came with or after.
    fn round(&mut self) -> Vec<(Act, Vec<MarketEvent>)> {
        let end = self.elapsed + ROUND;
        let mut acts: Vec<(Act, Vec<MarketEvent>)> = Vec::new();
        while self.elapsed < end {
            let (scenes, events) = self.step(false);
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
