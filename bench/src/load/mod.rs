//! The subscribers' side: what one process with thousands of connections is told and what it answers.
//!
//! Contract: the generator (`generator::run`, hidden verb `load`) reads one [`Command`] a line from
//! standard input and answers each with one [`Reply`] a line. It never decides anything: which
//! contender has its turn, and when, is the suite's. Standard input's end is its end. [`Load`] is the
//! suite's handle on that process. Blocks while it waits for a reply, with a bound. Fails with a
//! sentence.

pub mod generator;
mod member;
mod trigger;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::peers::process::Process;

/// Most subscribers of one contender: the lower bits of a token.
pub const SUBSCRIBERS: usize = 1 << 16;

/// What a subscriber expects before it counts as connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Greeting {
    /// Nothing after 101.
    None,
    /// A message of type `welcome`.
    Welcome,
    /// NATS in WebSocket frames: INFO comes, CONNECT, SUB and PING go, PONG comes.
    Nats,
}

/// How a contender is asked for one broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// `NUMBER OFFSET` in a line over TCP; the contender stamps.
    Line(SocketAddr),
    /// POST of an announcement to the admin API on this Unix socket; the engine stamps.
    Engine(PathBuf),
    /// POST of the whole message, stamped here, to `/publish` there.
    Post(SocketAddr),
    /// PUB of the whole message, stamped here.
    Nats(SocketAddr),
}

/// A contender, as a subscriber sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it listens for subscribers.
    pub feed: SocketAddr,
    /// Whether subscribers speak TLS.
    pub tls: bool,
    /// Request target of the upgrade.
    pub path: String,
    /// Further header lines of the upgrade, each with its line end.
    pub headers: String,
    /// What comes after the upgrade.
    pub greeting: Greeting,
    /// How it is asked for a broadcast.
    pub trigger: Trigger,
}

/// What the suite says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Connect subscribers until there are so many, and wait until all are greeted.
    Connect {
        /// Name of the contender from now on.
        id: usize,
        /// The contender.
        target: Target,
        /// At most [`SUBSCRIBERS`].
        count: usize,
    },
    /// One broadcast.
    Round {
        /// Of whom.
        id: usize,
        /// Its number, never used before.
        number: u32,
        /// Whether to poll without sleeping until all have it.
        spin: bool,
    },
    /// Close all connections of a contender.
    Drop {
        /// Of whom.
        id: usize,
    },
}

/// What the generator answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// All subscribers are greeted.
    Connected,
    /// All subscribers have the message.
    Round(Round),
    /// The contender is gone.
    Dropped,
    /// The command failed; the contender it named is unusable.
    Failed(String),
}

/// One broadcast, in nanoseconds after the earliest stamp any subscriber got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Until the first subscriber had it.
    pub first: u64,
    /// Until half of them had it.
    pub median: u64,
    /// Until 99 of 100 had it.
    pub p99: u64,
    /// Until all had it.
    pub last: u64,
    /// From the request for the broadcast until all had it: another start, the same for every contender.
    pub asked_last: u64,
    /// Bytes of the message.
    pub message_bytes: usize,
    /// The generator's own work on it: reading, decoding, stamping.
    pub handling: u64,
}

/// The generator's process, as the suite holds it.
pub struct Load {
    commands: ChildStdin,
    replies: Receiver<String>,
    process: Process,
}

impl Load {
    /// Takes over the pipes of a process that runs [`generator::run`].
    ///
    /// # Errors
    /// It has no pipes.
    pub fn new(mut process: Process) -> Result<Load, String> {
        let (commands, output) = process.pipes()?;
        // One reply a command: nothing ever waits in it.
        let (sender, replies) = sync_channel(1);
        std::thread::spawn(move || forward(output, |line| sender.send(line).is_ok()));
        Ok(Load { commands, replies, process })
    }

    /// Says one command and waits for its reply, until `patience` is over or `stop` says so.
    ///
    /// # Errors
    /// The reply is [`Reply::Failed`], none came, or the process is gone.
    pub fn ask(
        &mut self,
        command: &Command,
        patience: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Reply, String> {
        let mut line = serde_json::to_string(command).map_err(|e| e.to_string())?;
        line.push('\n');
        self.commands.write_all(line.as_bytes()).map_err(|e| format!("load generator: {e}"))?;
        let until = Instant::now() + patience;
        loop {
            match self.replies.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    return match serde_json::from_str(&line) {
                        Ok(Reply::Failed(why)) => Err(why),
                        Ok(reply) => Ok(reply),
                        Err(e) => Err(format!("load generator said {line:?}: {e}")),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("load generator ended: {}", self.process.last_words()));
                }
                Err(RecvTimeoutError::Timeout) if stop() => return Err("interrupted".to_owned()),
                Err(RecvTimeoutError::Timeout) if Instant::now() > until => {
                    return Err(format!("load generator: no answer in {patience:?}"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Hands every line on until `take` will have no more or the pipe ends.
fn forward(output: ChildStdout, take: impl Fn(String) -> bool) {
    let mut lines = BufReader::new(output).lines();
    while let Some(Ok(line)) = lines.next() {
        if !take(line) {
            return;
        }
    }
}
