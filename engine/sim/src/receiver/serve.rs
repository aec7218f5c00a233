//! A receiver's connections: each is met as its greeting says, each request is recorded and answered
//! as its behaviour says.
//!
//! Contract: a request is recorded before anything of its answer is sent. Blocks on the connection;
//! locks for no longer than it takes to copy a behaviour. A connection's troubles end it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::certificate::TestCa;
use crate::clock;
use crate::error::SimError;
use crate::http::{Request, RequestReader};
use crate::receiver::greeting::{Greeter, Greeting, meet};
use crate::receiver::record::{Ledger, Received};
use crate::receiver::signature::{KnownSecret, SignatureVerdict, verify};
use crate::receiver::step::{Behaviour, Reply, Step};
use crate::server::{After, Handler, Link, Transport};

/// The behaviours of a path, taken in turn; the last repeats.
struct Turns {
    behaviours: Vec<Behaviour>,
    next: usize,
}

impl Turns {
    fn turn(&mut self) -> Option<Behaviour> {
        let behaviour = self.behaviours.get(self.next).or(self.behaviours.last()).cloned();
        self.next = self.next.saturating_add(1);
        behaviour
    }
}

/// What all connections of a receiver share.
pub(super) struct Desk {
    pub(super) ca: Arc<TestCa>,
    pub(super) hosts: Vec<String>,
    pub(super) trap_url: String,
    pub(super) ledger: Ledger,
    brands: Vec<String>,
    refuses_unsigned: bool,
    otherwise: Mutex<Behaviour>,
    turns: Mutex<BTreeMap<String, Turns>>,
    greeter: Mutex<Greeter>,
    secrets: Mutex<Vec<KnownSecret>>,
    path_secrets: Mutex<BTreeMap<String, Vec<KnownSecret>>>,
    /// Addresses that connections came to, up to [`REACHED`].
    reached: Mutex<BTreeSet<SocketAddr>>,
}

/// Most addresses remembered.
const REACHED: usize = 4_096;

impl Desk {
    pub(super) fn new(
        ca: Arc<TestCa>,
        trap_url: String,
        options: super::ReceiverOptions,
    ) -> Result<Desk, SimError> {
        let greeter = Greeter::new(&ca, &options.hosts, options.greetings)?;
        let secrets = options.secrets.iter().map(|s| KnownSecret::parse(s)).collect::<Result<_, _>>()?;
        Ok(Desk {
            ca,
            trap_url,
            hosts: options.hosts,
            ledger: Ledger::default(),
            brands: options.brands,
            refuses_unsigned: options.refuses_unsigned,
            otherwise: Mutex::new(options.otherwise),
            turns: Mutex::default(),
            greeter: Mutex::new(greeter),
            secrets: Mutex::new(secrets),
            path_secrets: Mutex::default(),
            reached: Mutex::default(),
        })
    }

    pub(super) fn behave(&self, path: &str, behaviours: Vec<Behaviour>) {
        let mut turns = self.turns.lock();
        if behaviours.is_empty() {
            turns.remove(path);
        } else {
            turns.insert(path.to_owned(), Turns { behaviours, next: 0 });
        }
    }

    pub(super) fn set_otherwise(&self, behaviour: Behaviour) {
        *self.otherwise.lock() = behaviour;
    }

    pub(super) fn greet(&self, greetings: Vec<Greeting>) -> Result<(), SimError> {
        self.greeter.lock().set(&self.ca, &self.hosts, greetings)
    }

    pub(super) fn know(&self, path: Option<&str>, secrets: &[&str]) -> Result<(), SimError> {
        let parsed: Vec<KnownSecret> =
            secrets.iter().map(|s| KnownSecret::parse(s)).collect::<Result<_, _>>()?;
        match path {
            None => *self.secrets.lock() = parsed,
            Some(path) => {
                self.path_secrets.lock().insert(path.to_owned(), parsed);
            }
        }
        self.ledger.judge(|delivery| self.verdict(delivery));
        Ok(())
    }

    pub(super) fn verdict(&self, delivery: &Received) -> SignatureVerdict {
        let of_path = self.path_secrets.lock().get(delivery.path()).cloned();
        let secrets = of_path.unwrap_or_else(|| self.secrets.lock().clone());
        verify(&secrets, &self.brands, delivery)
    }

    fn note_reached(&self, to: SocketAddr) {
        let mut reached = self.reached.lock();
        if reached.len() < REACHED {
            reached.insert(to);
        }
    }

    pub(super) fn take_reached(&self) -> BTreeSet<SocketAddr> {
        std::mem::take(&mut *self.reached.lock())
    }

    /// Its script, or the behaviour the path names, or the one for everything else.
    fn behaviour(&self, path: &str) -> Behaviour {
        if let Some(scripted) = self.turns.lock().get_mut(path).and_then(Turns::turn) {
            return scripted;
        }
        let named = path.strip_prefix('/').and_then(|text| Behaviour::parse(text, &self.trap_url).ok());
        named.unwrap_or_else(|| self.otherwise.lock().clone())
    }

    /// Records a request and says what it meets.
    fn take(&self, link: &Link, nth: u32, resumed: bool, request: Request) -> Behaviour {
        let mut behaviour = self.behaviour(request.path());
        let mut delivery = Received {
            at: clock::wall_now(),
            began: request.began,
            connection: link.number,
            to: canonical(link.to),
            nth,
            resumed,
            method: request.method,
            target: request.target,
            head: request.head.into(),
            body: request.body.into(),
            signature: SignatureVerdict::Unchecked,
            behaviour: Arc::clone(behaviour.name()),
        };
        delivery.signature = self.verdict(&delivery);
        if self.refuses_unsigned && matches!(delivery.signature, SignatureVerdict::Invalid(_)) {
            behaviour = Behaviour::status(401);
            delivery.behaviour = Arc::clone(behaviour.name());
        }
        link.count(|c| c.requests += 1);
        self.ledger.record(delivery);
        behaviour
    }
}

/// An address of IPv4 as itself also where the listener takes both families.
fn canonical(to: SocketAddr) -> SocketAddr {
    SocketAddr::new(to.ip().to_canonical(), to.port())
}

impl Handler for Desk {
    fn serve(&self, link: &Link) -> After {
        self.note_reached(canonical(link.to));
        let (greeting, config) = self.greeter.lock().turn();
        let mut transport = match meet(link, greeting, config) {
            Ok(transport) => transport,
            Err(after) => return after,
        };
        let resumed = transport.resumed();
        let mut reader = RequestReader::default();
        let mut nth = 0;
        let after = loop {
            let Ok(Some(request)) = reader.next(&mut transport) else { break After::Close };
            nth += 1;
            let keep_alive = request.keep_alive;
            let behaviour = self.take(link, nth, resumed, request);
            let mut act = Act { link, out: &mut transport, reader: &reader, keep_alive };
            match act.all(behaviour.steps()) {
                Ok(After::KeepAlive) => {}
                Ok(after) => break after,
                Err(_) => break After::Close,
            }
        };
        transport.finish(after);
        after
    }
}

/// The steps of one request, being done.
struct Act<'a> {
    link: &'a Link,
    out: &'a mut Transport,
    reader: &'a RequestReader,
    keep_alive: bool,
}

impl Act<'_> {
    fn all(&mut self, steps: &[Step]) -> io::Result<After> {
        for step in steps {
            match step {
                Step::Reply(reply) => {
                    let bytes = [self.head(reply), reply.body_bytes()].concat();
                    self.send(&bytes)?;
                }
                Step::Head(reply) => {
                    let head = self.head(reply);
                    self.send(&head)?;
                }
                Step::Send(bytes) => self.send(bytes)?,
                Step::Drip(bytes, every) => {
                    for byte in bytes.chunks(1) {
                        self.pause(*every)?;
                        self.send(byte)?;
                    }
                }
                Step::Repeat(bytes) => loop {
                    self.send(bytes)?;
                },
                Step::Wait(time) => self.pause(*time)?,
                Step::Idle(time) => {
                    if self.reader.has_more() || self.link.stirs(Some(*time)) {
                        break;
                    }
                }
                Step::AwaitMore => {
                    if !self.reader.has_more() {
                        self.link.stirs(None);
                    }
                }
                Step::Hold => {
                    // Reading notices when the client gives up, or when the server stops.
                    let mut sink = [0; 4096];
                    while self.out.read(&mut sink)? > 0 {}
                    return Ok(After::Close);
                }
                Step::Close => return Ok(After::Close),
                Step::Abandon => return Ok(After::Abandon),
                Step::Reset => return Ok(After::Reset),
            }
        }
        Ok(if self.keep_alive { After::KeepAlive } else { After::Close })
    }

    fn head(&mut self, reply: &Reply) -> Vec<u8> {
        self.keep_alive &= !reply.closes();
        reply.head_bytes(!self.keep_alive)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.link.send(self.out, bytes)
    }

    fn pause(&self, time: std::time::Duration) -> io::Result<()> {
        if self.link.pause(time) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}
