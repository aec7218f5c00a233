//! Simulated exchanges and webhook receivers over real loopback sockets and TLS: the peers of the
//! demo, the tests and the benchmarks.
//!
//! Contract: [`SimExchange::start`] opens one listener on a free loopback port and answers as the
//! named exchange does, in its real response shapes, with its real quirks, and with whatever
//! [`Fault`] it is told to show. Everything a script can do is a method of the handle, an
//! [`Action`] of a script file and a request to the admin listener of `tocsin-sim exchange`. What is
//! true of [`SimReceiver`] is said in [`receiver`], of [`SimMarket`] in [`market`], of [`SimStream`] in
//! [`stream`].
//!
//! Threads: one per listener and one per connection, at most [`MAX_CONNECTIONS`]; all of them end
//! when the handle is dropped. This is a test peer: it allocates, locks and blocks as it likes, and
//! nothing of it is linked into the engine. Titles and identifiers follow from
//! [`Options::seed`]; publish times come from the wall clock, so that latency shows.
//!
//! How it fails: starting returns [`SimError`]; after that a connection's troubles end that
//! connection and are counted in [`Counters`].

mod admin;
mod announce;
mod catalogue;
mod certificate;
mod clock;
mod dns;
mod edge;
mod error;
mod exchange;
mod fault;
mod http;
mod invent;
pub mod market;
mod options;
pub mod receiver;
mod script;
mod server;
mod shape;
mod site;
mod state;
pub mod stream;
pub mod world;

pub use admin::AdminServer;
pub use announce::{Announced, AnnouncedReceiver, Location, StreamLocation};
pub use catalogue::{Category, Draft, Published};
pub use certificate::{CertChange, TestCa};
pub use dns::{DnsAnswer, DnsStub, DnsType};
pub use error::SimError;
pub use exchange::SimExchange;
pub use fault::Fault;
pub use http::{Framing, RecordedRequest};
pub use invent::{Asset, Invented, Inventor};
pub use market::{InstrumentId, Listing, MarketOptions, SimMarket, Story, StoryOptions};
pub use options::{CachePolicy, Kind, OddPageSize, Options, RateAnswer, RateLimit};
pub use receiver::{Behaviour, Greeting, Received, ReceiverOptions, Reply, SignatureVerdict, SimReceiver};
pub use script::{Action, Event, Script};
pub use server::{Counters, MAX_CONNECTIONS};
pub use stream::{SimStream, StreamFault, StreamKind, StreamOptions};
