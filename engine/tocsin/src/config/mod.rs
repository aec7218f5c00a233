//! Configuration as typed data.
//!
//! `default.toml` documents every key and is compiled in. [`layers`] puts flags over environment
//! over file over those defaults and knows where each value came from; [`Config::from_layers`]
//! reads them into types. Every error names the key, the value and the place.

pub mod credentials;
#[cfg(test)]
mod key_tests;
mod layers;
mod market;
mod read;
mod smtp;
mod stream;

pub use layers::{ConfigError, DEFAULT_TOML, Layers, Origin};
pub use smtp::{BadServer, Encryption, MailServer, Smtp};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tocsin_core::source::stream::ParameterOrder;
use tocsin_core::webhook::signature::Brand;

/// The whole configuration, after defaults, file, environment and flags.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Config {
    pub data_dir: PathBuf,
    pub feed: Feed,
    pub admin: Admin,
    pub topology: Topology,
    pub detect: Detect,
    /// Keyed by source name: `binance`, `upbit`, `okx`, `cryptocom` and so on.
    pub sources: BTreeMap<String, Source>,
    /// Keyed by exchange: `binance`, `upbit`, `gate`.
    pub streams: BTreeMap<String, Stream>,
    /// The order in which the parameters of `streams.binance` are signed.
    pub binance_parameter_order: ParameterOrder,
    pub market: Market,
    pub webhooks: Webhooks,
    pub egress: Egress,
    pub smtp: Option<Smtp>,
    pub clock: Clock,
    /// `None`: nothing is recorded.
    pub record: Option<Record>,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Webhooks {
    pub plans: Vec<String>,
    pub brand: Brand,
    pub rotation_grace: Duration,
    pub self_healing: bool,
    pub max_in_flight: usize,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Egress {
    pub allow_nets: Vec<IpNet>,
    pub ca_file: Option<PathBuf>,
    pub resolvers: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Feed {
    pub listen: SocketAddr,
    pub tls: bool,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub writers: u16,
    pub drain: Duration,
    pub send_buffer_bytes: u32,
    pub max_connections: u32,
    pub proxy_protocol_from: Vec<IpNet>,
    pub forwarded_for_from: Vec<IpNet>,
    pub limits: FeedLimits,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct FeedLimits {
    pub ip_connections: u32,
    pub ip_connects_per_minute: u32,
    pub exempt: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Admin {
    pub socket: PathBuf,
    /// `None`: no TCP listener, only the socket.
    pub listen: Option<SocketAddr>,
    /// Serve the TCP listener over TLS.
    pub tls: bool,
    pub token_file: Option<PathBuf>,
    pub requests_per_second: u32,
    pub forwarded_for_from: Vec<IpNet>,
    /// Who shows the token in it may read the metrics over TCP.
    pub metrics_token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub enum TopologyMode {
    Pinned,
    Compact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub enum Idle {
    Spin,
    Adaptive,
    Block,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Topology {
    pub mode: TopologyMode,
    pub idle: Idle,
    pub source_cores: Vec<usize>,
    pub feed_cores: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Detect {
    pub fresh_for: Duration,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Source {
    pub enabled: bool,
    pub base_url: Option<String>,
    pub connections: u16,
    /// Mean request budget, all connections of one local address together.
    pub requests_per_second: f64,
    /// Spend the budget evenly instead of where publish times cluster.
    pub flat: bool,
    pub ca_file: Option<PathBuf>,
    pub credentials_file: Option<PathBuf>,
    pub bind: Vec<std::net::IpAddr>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Stream {
    pub enabled: bool,
    pub base_url: Option<String>,
    pub credentials_file: Option<PathBuf>,
    /// `None`: a session is kept until it ends.
    pub rotate_after: Option<Duration>,
    pub ca_file: Option<PathBuf>,
    pub bind: Vec<std::net::IpAddr>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Market {
    pub enabled: bool,
    pub spikes: bool,
    /// How many times faster than by default it asks and waits.
    pub speed: f64,
    /// Length of the slots that volumes are counted in.
    pub spike_slot: Duration,
    /// Keyed by exchange, each that has a market source.
    pub exchanges: BTreeMap<String, MarketExchange>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct MarketExchange {
    pub enabled: bool,
    /// Stands for every host of the exchange's market sources.
    pub base_url: Option<String>,
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Clock {
    /// Whether the service is ready only while the kernel says that its clock is kept right.
    pub require_synchronised: bool,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Record {
    pub dir: PathBuf,
    pub max_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Log {
    pub level: String,
    pub json: bool,
}
