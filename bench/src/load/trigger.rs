//! Asking a contender for one broadcast, over a connection kept for it.
//!
//! Contract: [`Asker::ask`] writes the request and returns the wall clock's nanoseconds from just before
//! the write. Whoever does not stamp by itself gets a message that carries that instant. Requests over
//! HTTP are answered; [`Asker::answered`] tells, and fails on a refusal. A connection the other side has
//! closed meanwhile is made anew, before the clock is read. Blocks only for connecting on loopback.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::Trigger;
use super::generator::{dial, wall_ns};
use super::member::failed;
use crate::peers::message::{Template, title};

/// What is kept of an answer: its status line and perhaps a reason.
const ANSWER_BYTES: usize = 512;

enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// See the module head.
pub(super) struct Asker {
    trigger: Trigger,
    token: Token,
    link: Option<Link>,
    answer: Vec<u8>,
    template: Template,
}

impl Asker {
    pub(super) fn new(trigger: &Trigger, token: Token, registry: &Registry) -> io::Result<Asker> {
        let (answer, template) = (Vec::with_capacity(ANSWER_BYTES), Template::new());
        let mut asker = Asker { trigger: trigger.clone(), token, link: None, answer, template };
        asker.connect(registry)?;
        Ok(asker)
    }

    fn connect(&mut self, registry: &Registry) -> io::Result<()> {
        if self.link.is_some() {
            return Ok(());
        }
        let mut link = match &self.trigger {
            Trigger::Line(address) | Trigger::Post(address) | Trigger::Nats(address) => {
                Link::Tcp(dial(*address)?)
            }
            Trigger::Engine(path) => {
                let unix = std::os::unix::net::UnixStream::connect(path)?;
                unix.set_nonblocking(true)?;
                Link::Unix(UnixStream::from_std(unix))
            }
        };
        match &mut link {
            Link::Tcp(tcp) => registry.register(tcp, self.token, Interest::READABLE)?,
            Link::Unix(unix) => registry.register(unix, self.token, Interest::READABLE)?,
        }
        self.link = Some(link);
        if matches!(self.trigger, Trigger::Nats(_)) {
            self.write(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n")?;
        }
        Ok(())
    }

    /// Asks; returns when.
    pub(super) fn ask(&mut self, number: u32, registry: &Registry) -> io::Result<u64> {
        // What came since the last answer, its end above all.
        self.drain(&mut [0; 4_096])?;
        self.connect(registry)?;
        self.answer.clear();
        let asked_ns = wall_ns();
        let request = match &self.trigger {
            Trigger::Line(_) => format!("{number} {}\n", offset_ns(asked_ns)),
            Trigger::Engine(_) => {
                let body = json!({
                    "exchange": "binance",
                    "title": title(number),
                    "published_us": asked_ns / 1_000,
                });
                post("/admin/v1/announcements", "application/json", &body.to_string())
            }
            Trigger::Post(_) => post("/publish", "text/plain", &self.template.fill(number, asked_ns / 1_000)),
            Trigger::Nats(_) => {
                let message = self.template.fill(number, asked_ns / 1_000);
                format!("PUB a {}\r\n{message}\r\n", message.len())
            }
        };
        self.write(request.as_bytes())?;
        Ok(asked_ns)
    }

    /// Whether all that is to come back has.
    pub(super) fn answered(&self) -> io::Result<bool> {
        if !matches!(self.trigger, Trigger::Engine(_) | Trigger::Post(_)) {
            return Ok(true);
        }
        if self.answer.len() < b"HTTP/1.1 2".len() {
            return Ok(false);
        }
        if self.answer.starts_with(b"HTTP/1.1 2") {
            return Ok(true);
        }
        Err(failed(&format!("the request was refused: {}", self.answer.escape_ascii())))
    }

    /// Reads what there is. The other side's closing is no error before the next request.
    pub(super) fn drain(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            let read = match &mut self.link {
                None => return Ok(()),
                Some(Link::Tcp(tcp)) => tcp.read(scratch),
                Some(Link::Unix(unix)) => unix.read(scratch),
            };
            match read {
                Ok(0) => self.link = None,
                Ok(count) => {
                    let bytes = scratch.get(..count).unwrap_or_default();
                    let room = ANSWER_BYTES.saturating_sub(self.answer.len());
                    self.answer.extend(bytes.iter().take(room));
                    if matches!(self.trigger, Trigger::Nats(_)) && bytes.starts_with(b"PING") {
                        self.write(b"PONG\r\n")?;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Requests are short: a socket that does not take one is broken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match &mut self.link {
            None => return Err(ErrorKind::NotConnected.into()),
            Some(Link::Tcp(tcp)) => tcp.write(bytes)?,
            Some(Link::Unix(unix)) => unix.write(bytes)?,
        };
        if sent == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}

fn post(target: &str, kind: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The wall clock less the monotonic one.
fn offset_ns(wall_ns: u64) -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    let mono = u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0);
    wall_ns.saturating_sub(mono)
}
