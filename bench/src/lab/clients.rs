//! The handle on the client ends: starts the child process, has it open sockets, waits for it.
//!
//! Contract: requests and answers as [`super::drainer`] says. Every wait has an end ([`PATIENCE`])
//! and runs what it is given meanwhile, so that a writer's core never goes to sleep. Owner: the thread
//! that measures. Dropping it ends the child: its input closes, then it is killed and waited for.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::drainer::{GROUPS, Kind, VERB};

/// Longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Connections opened in one go: fewer than a listener's queue holds.
const BATCH: usize = 100;

/// When the frame waited for was there, in monotonic nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// At the first client.
    pub first: u64,
    /// At the middle one.
    pub median: u64,
    /// At the last one.
    pub last: u64,
}

/// What takes connections in on this side.
pub trait Door {
    /// A connection, non-blocking.
    ///
    /// # Errors
    /// It cannot be taken.
    fn accept(&mut self, tcp: TcpStream) -> Result<(), String>;

    /// Moves handshakes on; called all the time while connections are opened.
    ///
    /// # Errors
    /// One failed.
    fn turn(&mut self) -> Result<(), String>;
}

/// See the module head.
pub struct Clients {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    bytes: Vec<u8>,
    answers: VecDeque<String>,
    /// The newest number each group was sent.
    numbers: [u64; GROUPS],
}

impl Clients {
    /// Starts `program` (this harness) as client ends on `core`.
    ///
    /// # Errors
    /// It cannot be started, or cannot be pinned.
    pub fn start(program: &Path, core: Option<usize>) -> Result<Clients, String> {
        let mut command = Command::new(program);
        command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(core) = core {
            command.arg("--core").arg(core.to_string());
        }
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.ok_or("the client ends have no output")?;
        let flags = fcntl_getfl(&output).map_err(|e| e.to_string())?;
        fcntl_setfl(&output, flags | OFlags::NONBLOCK).map_err(|e| e.to_string())?;
        let (bytes, answers) = (Vec::new(), VecDeque::new());
        let mut clients = Clients { child, input, output, bytes, answers, numbers: [0; GROUPS] };
        // It runs and listens, or says why not.
        clients.cpu(&mut std::thread::yield_now)?;
        Ok(clients)
    }

    /// Has `count` connections of a group opened to a listener of ours and gives each to `door`.
    ///
    /// # Errors
    /// A socket's, the clients' or the door's.
    pub fn open(
        &mut self,
        group: usize,
        kind: Kind,
        count: usize,
        door: &mut dyn Door,
    ) -> Result<(), String> {
        let failed = |e: io::Error| e.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        listener.set_nonblocking(true).map_err(failed)?;
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            self.say(&format!("open {group} {} {port} {batch}", kind.name()))?;
            let (mut accepted, started) = (0, Instant::now());
            let opened = format!("opened {group}");
            let mut told = false;
            while accepted < batch || !told {
                // Also before all are here: a failure ends the wait at once.
                told |= self.said(&opened)?;
                match listener.accept() {
                    Ok((socket, _)) => {
                        socket.set_nonblocking(true).map_err(failed)?;
                        door.accept(TcpStream::from_std(socket))?;
                        accepted += 1;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(e) => return Err(failed(e)),
                }
                door.turn()?;
                if started.elapsed() > PATIENCE {
                    return Err(format!("{accepted} of {batch} connections came about in {PATIENCE:?}"));
                }
            }
        }
        Ok(())
    }

    /// The number that a group is sent next.
    #[must_use]
    pub fn next_number(&self, group: usize) -> u64 {
        self.numbers.get(group).map_or(1, |number| number + 1)
    }

    /// Announces `frames` more frames to a group; [`Clients::arrivals`] then waits for the last one.
    /// Runs `idle` until the clients are ready for them.
    ///
    /// # Errors
    /// The clients', or they do not answer.
    pub fn expect(&mut self, group: usize, frames: u64, idle: &mut dyn FnMut()) -> Result<(), String> {
        let number = self.numbers.get_mut(group).ok_or("no such group")?;
        *number += frames;
        let line = format!("await {group} {number}");
        self.say(&line)?;
        self.answer(&format!("waiting {group}"), idle).map(|_| ())
    }

    /// When the group's clients had what they expected. Runs `idle` while it waits.
    ///
    /// # Errors
    /// The clients' (a frame twice, lost or out of order), or they do not have it in [`PATIENCE`].
    pub fn arrivals(&mut self, group: usize, idle: &mut dyn FnMut()) -> Result<Arrivals, String> {
        let rest = self.answer(&format!("got {group}"), idle)?;
        let times: Vec<u64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
        match times.as_slice() {
            [first, median, last] => Ok(Arrivals { first: *first, median: *median, last: *last }),
            _ => Err(format!("the client ends said {rest:?}")),
        }
    }

    /// CPU time the clients have used, in nanoseconds.
    ///
    /// # Errors
    /// They do not answer.
    pub fn cpu(&mut self, idle: &mut dyn FnMut()) -> Result<u64, String> {
        self.say("cpu")?;
        self.answer("cpu", idle)?.trim().parse().map_err(|_| "the client ends know no CPU time".to_owned())
    }

    /// Ends a group's connections from the clients' side.
    ///
    /// # Errors
    /// They do not answer.
    pub fn close(&mut self, group: usize, idle: &mut dyn FnMut()) -> Result<(), String> {
        self.say(&format!("close {group}"))?;
        self.answer(&format!("closed {group}"), idle)?;
        if let Some(number) = self.numbers.get_mut(group) {
            *number = 0;
        }
        Ok(())
    }

    fn say(&mut self, line: &str) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("the client ends have no input")?;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|e| format!("the client ends: {e}"))
    }

    /// Waits for the answer that begins with `wanted` and returns what follows. Answers of groups may
    /// come in any order; others stay.
    fn answer(&mut self, wanted: &str, idle: &mut dyn FnMut()) -> Result<String, String> {
        let started = Instant::now();
        loop {
            if let Some(rest) = self.take_answer(wanted) {
                return Ok(rest);
            }
            match self.poll()? {
                Some(line) => self.answers.push_back(line),
                None => idle(),
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("the client ends did not say {wanted:?} in {PATIENCE:?}"));
            }
        }
    }

    /// Whether this answer has come; it is taken then.
    fn said(&mut self, wanted: &str) -> Result<bool, String> {
        let line = self.poll()?;
        self.answers.extend(line);
        Ok(self.take_answer(wanted).is_some())
    }

    /// What follows `wanted` in the first answer that begins with it.
    fn take_answer(&mut self, wanted: &str) -> Option<String> {
        let rest_of = |line: &String| {
            let rest = line.strip_prefix(wanted)?;
            (rest.is_empty() || rest.starts_with(' ')).then(|| rest.to_owned())
        };
        let (at, rest) =
            self.answers.iter().enumerate().find_map(|(at, line)| rest_of(line).map(|rest| (at, rest)))?;
        self.answers.remove(at);
        Some(rest)
    }

    /// The next line, if one is there. `failed ...` is an error.
    fn poll(&mut self) -> Result<Option<String>, String> {
        if !self.bytes.contains(&b'\n') {
            let mut buffer = [0; 512];
            match self.output.read(&mut buffer) {
                Ok(0) => return Err("the client ends ended".to_owned()),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {
                }
                Err(e) => return Err(format!("the client ends: {e}")),
            }
        }
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        match line.strip_prefix("failed ") {
            Some(why) => Err(format!("clients: {why}")),
            None => Ok(Some(line)),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
