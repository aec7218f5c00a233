//! What happens while `tocsin-sim exchange` runs: its script, made-up announcements, the stories of its markets.
//!
//! Contract: everything on one thread, in the order of its time; a line of standard output for each thing that
//! happened. What cannot be done is told on its line and does not end the run.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tocsin_core::time::WallUs;
use tocsin_sim::market::{ROUND, Scene};
use tocsin_sim::{
    Action, AdminServer, Category, Event, Inventor, Kind, SimError, SimExchange, SimStream, Story,
    StoryOptions, StreamKind,
};

use super::exchange::{ExchangeArgs, Running};
use super::say;

/// Made-up announcements, in turn.
struct Periodic {
    at: Instant,
    every: Duration,
    count: usize,
}

/// The one stream without an exchange behind it, and who makes up its assets.
struct Gate {
    stream: Arc<SimStream>,
    inventor: Inventor,
}

/// See the module.
pub(super) struct Play {
    start: Instant,
    end: Option<Instant>,
    script: std::iter::Peekable<std::vec::IntoIter<Event>>,
    periodic: Option<Periodic>,
    stories: Vec<(Kind, Story)>,
    exchanges: Vec<Arc<SimExchange>>,
    gate: Option<Gate>,
    desk: AdminServer,
    // They end when their handles are dropped.
    _running: Running,
}

impl Play {
    /// Begins now.
    ///
    /// # Errors
    /// [`SimError`] when a story cannot begin.
    pub(super) fn new(
        args: &ExchangeArgs,
        script: Vec<Event>,
        running: Running,
        desk: AdminServer,
    ) -> Result<Play, SimError> {
        let start = Instant::now();
        let stories = match args.market_speed {
            Some(speed) => stories(&running, speed, args.seed)?,
            None => Vec::new(),
        };
        let gate = running.streams.iter().find(|stream| stream.kind() == StreamKind::Gate);
        Ok(Play {
            start,
            end: args.run_for.map(|time| start + time),
            script: script.into_iter().peekable(),
            periodic: args.every.map(|every| Periodic { at: start + every, every, count: 0 }),
            stories,
            exchanges: running.exchanges.clone(),
            gate: gate.map(|stream| Gate {
                stream: Arc::clone(stream),
                inventor: Inventor::new(Kind::Okx, args.seed),
            }),
            desk,
            _running: running,
        })
    }

    /// Until the time is over, or for ever.
    ///
    /// # Errors
    /// Nobody reads the lines any more.
    pub(super) fn run(&mut self) -> io::Result<()> {
        loop {
            let Some(next) = self.next() else {
                // Nothing left to do but serve; the process ends by a signal.
                thread::park();
                continue;
            };
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if self.end.is_some_and(|end| now >= end) {
                return Ok(());
            }
            if let Some(event) = self.script_event(now) {
                self.apply(&event)?;
            }
            self.publish(now)?;
            self.tell(now)?;
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let event = self.script.peek().map(|e| self.start + Duration::from_millis(e.at_ms));
        let story = self.stories.iter().map(|(_, story)| self.start + story.due()).min();
        [event, self.periodic.as_ref().map(|periodic| periodic.at), story, self.end]
            .into_iter()
            .flatten()
            .min()
    }

    fn script_event(&mut self, now: Instant) -> Option<Event> {
        let start = self.start;
        self.script.next_if(|event| start + Duration::from_millis(event.at_ms) <= now)
    }

    fn apply(&self, event: &Event) -> io::Result<()> {
        say(&line(event.exchange.name(), &self.desk.apply(event)))
    }

    /// The exchanges in turn make something up, and Gate's stream after them.
    fn publish(&mut self, now: Instant) -> io::Result<()> {
        let Some(periodic) = self.periodic.as_mut().filter(|periodic| periodic.at <= now) else {
            return Ok(());
        };
        periodic.at += periodic.every;
        let count = periodic.count;
        periodic.count += 1;
        let many = self.exchanges.len() + usize::from(self.gate.is_some());
        match (self.exchanges.get(count % many.max(1)), &mut self.gate) {
            (Some(sim), _) => self.apply(&periodic_event(sim, count)),
            (None, Some(gate)) => say(&line(StreamKind::Gate.name(), &Ok(gate.publish(count)))),
            (None, None) => Ok(()),
        }
    }

    fn tell(&mut self, now: Instant) -> io::Result<()> {
        let elapsed = now.saturating_duration_since(self.start);
        for (kind, story) in self.stories.iter_mut().filter(|(_, story)| story.due() <= elapsed) {
            match story.advance(elapsed) {
                Ok(scenes) => {
                    for scene in scenes {
                        say(&line(kind.name(), &Ok(shown(&scene))))?;
                    }
                }
                Err(error) => say(&line(kind.name(), &Err(error)))?,
            }
        }
        Ok(())
    }
}

/// A story a market, their rounds spread evenly.
fn stories(running: &Running, speed: f64, seed: u64) -> Result<Vec<(Kind, Story)>, SimError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = WallUs(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    let many = u32::try_from(running.markets.len()).unwrap_or(u32::MAX).max(1);
    let mut stories = Vec::new();
    for (turn, market) in (0..).zip(&running.markets) {
        let Some(sim) = running.exchanges.iter().find(|sim| sim.kind().exchange() == market.exchange())
        else {
            continue;
        };
        let options = StoryOptions { speed, began, offset: ROUND / many * turn, seed };
        stories.push((sim.kind(), Story::new(Arc::clone(sim), Arc::clone(market), options)?));
    }
    Ok(stories)
}

/// Something made up; now and then an edit of the last notice.
fn periodic_event(sim: &SimExchange, count: usize) -> Event {
    let listed = sim.listed();
    let action = match listed.first() {
        Some(newest) if count % 7 == 6 => Action::Edit {
            notice: newest.clone(),
            title: if sim.kind().is_korean() {
                format!("모의 거래소 공지 {count} (내용 수정)")
            } else {
                format!("Updated Notice No. {count} of the Simulated Exchange")
            },
        },
        _ => Action::Invent { listing_type: None },
    };
    Event { at_ms: 0, exchange: sim.kind(), action }
}

impl Gate {
    fn publish(&mut self, count: usize) -> Value {
        let asset = self.inventor.asset();
        let (category, title) = if count % 3 == 2 {
            (Category::Delisting, format!("Gate Will Delist {} ({})", asset.name, asset.ticker))
        } else {
            (Category::Listing, format!("Gate Will List {} ({}) for Spot Trading", asset.name, asset.ticker))
        };
        let pushed = self.stream.publish(category, &title);
        json!({ "notice_id": pushed.id, "title": pushed.title, "published_us": pushed.published.0 })
    }
}

fn shown(scene: &Scene) -> Value {
    json!({ "act": scene.act.name(), "symbol": scene.symbol, "title": scene.title })
}

fn line(name: &str, result: &Result<Value, SimError>) -> String {
    match result {
        Ok(value) => json!({ "exchange": name, "result": value }).to_string(),
        Err(e) => json!({ "exchange": name, "error": e.to_string() }).to_string(),
    }
}
