//! Subscribers that live through every crash and write down what they are told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Client, Handshake, Message, Mode};
use crate::world::Ledger;

/// Where the engine is now; `None` while it is down.
pub(crate) type Whereabouts = Arc<Mutex<Option<SocketAddr>>>;

/// One announcement as a subscriber got it. `id` and position only with `fields=full`.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) replayed: bool,
}

/// How a subscriber subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// As the specification knows it.
    Basic,
    /// All fields; what happens while it is away is lost to it.
    Full,
    /// All fields, and asks for what it missed.
    Resuming,
}

/// A subscriber on its thread.
pub(crate) struct Observer {
    pub(crate) habit: Habit,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Notes>,
}

/// What a subscriber has to say at the end.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) sightings: Vec<Sighting>,
    pub(crate) connections: u64,
    pub(crate) gaps: Vec<Value>,
}

impl Observer {
    pub(crate) fn start(
        habit: Habit,
        key: String,
        mode: Mode,
        at: Whereabouts,
        ledger: Arc<Ledger>,
    ) -> Observer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut notes = Notes::default();
            let mut position = None;
            while !stopped.load(Ordering::Relaxed) {
                let address = *at.lock().unwrap();
                let client = address.and_then(|address| connect(habit, &key, mode, address, position));
                match client {
                    Some(client) => listen(client, habit, &stopped, &ledger, &mut notes, &mut position),
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            notes
        });
        Observer { habit, stop, thread }
    }

    /// Whether it has failed: what it said stands in the output.
    pub(crate) fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it.
    pub(crate) fn finish(self) -> Notes {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn connect(
    habit: Habit,
    key: &str,
    mode: Mode,
    address: SocketAddr,
    position: Option<(u64, u64)>,
) -> Option<Client> {
    let query = match (habit, position) {
        (Habit::Basic, _) => "frames=text".to_owned(),
        (Habit::Resuming, Some((epoch, seq))) => format!("fields=full&resume={epoch}:{seq}"),
        // From the very first announcement on.
        (Habit::Resuming, None) => "fields=full&resume=0:0".to_owned(),
        (Habit::Full, _) => "fields=full".to_owned(),
    };
    match Handshake::new(&query).header("X-API-Key", key).attempt(address, mode).ok()? {
        Ok(client) => Some(client),
        // The request took so long on a busy machine: it tries again.
        Err(refusal) if refusal.status == 408 => None,
        Err(refusal) => panic!("a subscriber's key is refused: {refusal:?}"),
    }
}

fn listen(
    mut client: Client,
    habit: Habit,
    stop: &AtomicBool,
    ledger: &Ledger,
    notes: &mut Notes,
    position: &mut Option<(u64, u64)>,
) {
    notes.connections += 1;
    while !stop.load(Ordering::Relaxed) {
        let value = match client.message_within(Duration::from_millis(50)) {
            None | Some(Message::Ping(_) | Message::Pong(_)) => continue,
            Some(Message::Text(value) | Message::Binary(value)) => value,
            Some(Message::Close(..) | Message::End) => return,
        };
        match value["type"].as_str().unwrap() {
            "announcement" => {}
            "gap" => {
                notes.gaps.push(value);
                continue;
            }
            _ => continue,
        }
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let sighting = Sighting {
            id: text("id"),
            title: text("title"),
            epoch: value["epoch"].as_u64().unwrap_or_default(),
            seq: value["seq"].as_u64().unwrap_or_default(),
            replayed: value["replayed"] == true,
        };
        if habit != Habit::Basic {
            assert!(
                *position < Some((sighting.epoch, sighting.seq)),
                "out of order after {position:?}: {value}"
            );
            *position = Some((sighting.epoch, sighting.seq));
        }
        if habit == Habit::Resuming {
            ledger.confirm(&(sighting.id.clone(), sighting.title.clone()));
        }
        notes.sightings.push(sighting);
    }
}
