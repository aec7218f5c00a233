//! Servers users would pick instead, and the engine beside them: found, started, ended.
//!
//! Contract: [`start`] gives a running contender, listening on loopback, on the cores it was given, tuned
//! as its manual advises (no compression, TCP_NODELAY, one worker unless told otherwise), or a sentence
//! why there is none: not installed, or it did not start. Everything it writes is below the directory it
//! was given; dropping it ends its process. The programs in JavaScript and the configurations are in
//! `bench/peers`, compiled in; what `scripts/setup-peers` installs is looked for in the cache.

pub mod contest;
pub mod message;
pub mod process;
pub mod server;
mod standard;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};
use tocsin::cli::client::AdminClient;

use crate::load::{Greeting, Target, Trigger};
use process::{Process, Spec};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// `tocsin serve`.
    Engine,
    /// uWebSockets in node.
    UWebSockets,
    /// `tokio-tungstenite`.
    TokioTungstenite,
    /// `fastwebsockets`.
    FastWebsockets,
    /// The NATS server, its protocol inside WebSocket.
    Nats,
    /// nginx with nchan.
    Nchan,
    /// The package `ws` in node.
    NodeWs,
}

impl Contender {
    /// Everybody but the engine, the likeliest choices first.
    pub const PEERS: [Contender; 6] = [
        Contender::UWebSockets,
        Contender::TokioTungstenite,
        Contender::FastWebsockets,
        Contender::Nats,
        Contender::Nchan,
        Contender::NodeWs,
    ];

    /// As in the names of series.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Contender::Engine => "engine",
            Contender::UWebSockets => "uwebsockets",
            Contender::TokioTungstenite => "tokio-tungstenite",
            Contender::FastWebsockets => "fastwebsockets",
            Contender::Nats => "nats",
            Contender::Nchan => "nchan",
            Contender::NodeWs => "ws",
        }
    }
}

/// Where and how contenders are started.
pub struct Ground {
    /// This program: it has the hidden verbs.
    pub exe: PathBuf,
    /// For their files, gone after the run.
    pub dir: PathBuf,
    /// What `scripts/setup-peers` filled.
    pub cache: PathBuf,
}

/// How a contender is to run.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Over TLS, with [`Ground`]'s certificate.
    pub tls: bool,
    /// Writers, workers or runtime threads, where the contender has a choice.
    pub threads: u8,
    /// Cores of its process; none: those of the thread that starts it.
    pub cores: Vec<usize>,
    /// Subscribers it must bear.
    pub subscribers: usize,
}

/// Behind `load`: before all others on its cores.
const READS_FIRST: &str = "reads-first";

/// A contender that runs.
pub struct Running {
    /// Who.
    pub contender: Contender,
    /// For the load generator.
    pub target: Target,
    /// Its process.
    pub process: Process,
}

/// The hidden verbs of this program: `serve` is the engine, `load` the load generator, `peer` a peer in
/// Rust, `child` what puts any of them in its place. `None`: it is none of them.
#[must_use]
pub fn hidden_verb() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let rest = arguments.get(1..).unwrap_or_default();
    match rest.first().map(String::as_str) {
        Some("serve") => Some(crate::engine::serve()),
        Some("load") => {
            Some(crate::load::generator::run(rest.get(1).is_some_and(|word| word == READS_FIRST)))
        }
        Some("peer") => Some(server::run(rest)),
        Some("child") => Some(process::exec(rest.get(1..).unwrap_or_default())),
        _ => None,
    }
}

impl Ground {
    /// Makes the certificate every contender uses.
    ///
    /// # Errors
    /// It cannot be generated or written.
    pub fn new(exe: PathBuf, dir: PathBuf, cache: &Path) -> Result<Ground, String> {
        use std::net::{Ipv4Addr, SocketAddr};
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        tocsin::net::tls::ServerTls::self_signed(&dir, listen).map_err(|e| e.to_string())?;
        // Contenders run in directories of their own.
        let cache = std::path::absolute(cache).map_err(|e| e.to_string())?.join("peers");
        Ok(Ground { exe, dir, cache })
    }

    fn certificate(&self) -> [String; 2] {
        use tocsin::net::tls::{GENERATED_CERT, GENERATED_KEY};
        [GENERATED_CERT, GENERATED_KEY].map(|name| self.dir.join(name).display().to_string())
    }

    /// `exe VERB ARGUMENT...`
    fn own(&self, arguments: &[&str]) -> Vec<String> {
        let exe = self.exe.display().to_string();
        std::iter::once(exe).chain(arguments.iter().map(ToString::to_string)).collect()
    }

    /// Starts a child for `contender`, named after `id`.
    fn spawn(
        &self,
        contender: Contender,
        id: usize,
        shape: &Shape,
        command: Vec<String>,
    ) -> Result<Process, String> {
        let environment = vec![
            ("NODE_PATH", self.cache.join("node_modules").display().to_string()),
            ("TOCSIN_BENCH_MESSAGE", message::TEMPLATE.to_owned()),
        ];
        let gentle = contender == Contender::Nchan;
        let spec = Spec { command, environment, cores: shape.cores.clone(), gentle };
        Process::start(&self.exe, &self.dir, &format!("{}-{id}", contender.name()), &spec)
    }

    /// The load generator on `cores`; before all others there, if it `reads_first`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn load(&self, id: usize, cores: &[usize], reads_first: bool) -> Result<Process, String> {
        let words: &[&str] = if reads_first { &["load", READS_FIRST] } else { &["load"] };
        let spec =
            Spec { command: self.own(words), environment: Vec::new(), cores: cores.to_vec(), gentle: false };
        Process::start(&self.exe, &self.dir, &format!("load-{id}"), &spec)
    }
}

/// Starts a contender; `id` is a number no other of this run has.
///
/// # Errors
/// A sentence: what is not installed, or how it failed to start.
pub fn start(ground: &Ground, contender: Contender, shape: &Shape, id: usize) -> Result<Running, String> {
    let (target, process) = match contender {
        Contender::Engine => engine(ground, shape, id)?,
        Contender::TokioTungstenite => rust(ground, contender, server::Library::TokioTungstenite, shape, id)?,
        Contender::FastWebsockets => rust(ground, contender, server::Library::Fastwebsockets, shape, id)?,
        Contender::UWebSockets | Contender::NodeWs => standard::node(ground, contender, shape, id)?,
        Contender::Nats => standard::nats(ground, shape, id)?,
        Contender::Nchan => standard::nchan(ground, shape, id)?,
    };
    Ok(Running { contender, target, process })
}

/// A WebSocket server without anything of its own.
fn plain_target(feed: std::net::SocketAddr, tls: bool, trigger: Trigger) -> Target {
    Target { feed, tls, path: "/".to_owned(), headers: String::new(), greeting: Greeting::None, trigger }
}

/// The line `{"feed":"ADDRESS","control":"ADDRESS"}`.
fn line_target(line: &str, tls: bool) -> Result<Target, String> {
    let ready: Value = serde_json::from_str(line).map_err(|e| format!("it said {line:?}: {e}"))?;
    let address = |name: &str| {
        let text = ready.get(name).and_then(Value::as_str);
        text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("it said {line:?}"))
    };
    Ok(plain_target(address("feed")?, tls, Trigger::Line(address("control")?)))
}

fn rust(
    ground: &Ground,
    contender: Contender,
    library: server::Library,
    shape: &Shape,
    id: usize,
) -> Result<(Target, Process), String> {
    let name = library.to_possible_value().ok_or("no such library")?.get_name().to_owned();
    let mut command = ground.own(&["peer", &name, "--threads", &shape.threads.to_string()]);
    if shape.tls {
        let [cert, key] = ground.certificate();
        command.extend(["--cert".to_owned(), cert, "--key".to_owned(), key]);
    }
    let mut process = ground.spawn(contender, id, shape, command)?;
    let line = process.first_line()?;
    Ok((line_target(&line, shape.tls)?, process))
}

/// The engine without exchanges, compact: nothing pinned beyond the cores given, idle threads sleep.
fn engine(ground: &Ground, shape: &Shape, id: usize) -> Result<(Target, Process), String> {
    let dir = ground.dir.join(format!("engine-{id}"));
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let (config, data) = (dir.join("tocsin.toml"), dir.join("data"));
    let [cert, key] = ground.certificate();
    let text = format!(
        "data_dir = {data:?}\n\
         [feed]\nlisten = \"127.0.0.1:0\"\ntls = {}\ncert_file = {cert:?}\nkey_file = {key:?}\n\
         writers = {}\nmax_connections = {}\n\
         [feed.limits]\nexempt = [\"127.0.0.0/8\"]\n\
         [admin]\nlisten = \"\"\n\
         [sources]\nbinance = {{ enabled = false }}\nupbit = {{ enabled = false }}\nbithumb = {{ enabled = false }}\n",
        shape.tls,
        shape.threads,
        shape.subscribers.max(1_024),
    );
    std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
    let command = ground.own(&["serve", "--json", "--config", &config.display().to_string()]);
    let mut process = ground.spawn(Contender::Engine, id, shape, command)?;
    let line = process.first_line()?;
    let ready: Value = serde_json::from_str(&line).map_err(|e| format!("it said {line:?}: {e}"))?;
    let feed = ready.get("feed").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let feed = feed.ok_or_else(|| format!("it said {line:?}"))?;
    let socket = data.join("admin.sock");
    let client = AdminClient::connect(&socket).map_err(|e| e.to_string())?.ok_or("no admin socket")?;
    let new = json!({"tier": "premium", "max_connections": shape.subscribers.max(1), "allowed_cex": "*"});
    let made = client.request("POST", "/admin/v1/keys", Some(&new)).map_err(|e| e.to_string())?;
    let key = made.get("key").and_then(Value::as_str).ok_or("no key")?;
    let target = Target {
        feed,
        tls: shape.tls,
        // Text, as the peers send.
        path: "/?frames=text".to_owned(),
        headers: format!("X-API-Key: {key}\r\n"),
        greeting: Greeting::Welcome,
        trigger: Trigger::Engine(socket),
    };
    Ok((target, process))
}
