//! One writer: the engine's feed thread and the floor in one process, on one core.
//!
//! Contract: plain, both write to the very same connections (the floor through duplicates of the
//! engine's descriptors); with TLS, each has as many connections of its own, of the same kind and
//! options, for a connection's keys can serve only one. Owner: the thread that measures, which is
//! pinned. The floor begins each time at another socket, as the engine does. Allocates before the
//! clock starts; fails when sockets, clients or the engine do.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mio::net::TcpStream;
use tocsin::net::Stream;
use tocsin::net::tls::ServerTls;
use tocsin::os::clock;
use tocsin::os::sockopt::tune_subscriber;

use super::clients::{Clients, Door};
use super::drainer::Kind;
use super::engine::{Engine, Pen};
use super::floor::{Sealed, seal_all, write_all};
use super::frames::frame;
use super::rounds::{Mode, Shot, Stand, thread_cpu};

/// Send buffer of a subscriber: `feed.send_buffer` as it comes.
const SEND_BUFFER_BYTES: u32 = 16 * 1_024;

/// Descriptors this process needs for each subscriber of a [`Single`], plain or TLS.
pub const DESCRIPTORS_EACH: usize = 2;

/// Takes accepted connections into an engine, through a TLS handshake where there is one.
pub(super) struct EngineDoor<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) tls: Option<&'a ServerTls>,
    /// Where duplicates of plain connections go.
    pub(super) copies: &'a mut Vec<OwnedFd>,
    shaking: Vec<Stream>,
}

impl<'a> EngineDoor<'a> {
    pub(super) fn new(
        engine: &'a mut Engine,
        tls: Option<&'a ServerTls>,
        copies: &'a mut Vec<OwnedFd>,
    ) -> EngineDoor<'a> {
        EngineDoor { engine, tls, copies, shaking: Vec::new() }
    }
}

impl Door for EngineDoor<'_> {
    fn accept(&mut self, tcp: TcpStream) -> Result<(), String> {
        tune_subscriber(&tcp, SEND_BUFFER_BYTES).map_err(|e| e.to_string())?;
        match self.tls {
            Some(tls) => self.shaking.push(Stream::accept_tls(tcp, tls).map_err(|e| e.to_string())?),
            None => {
                self.copies.push(tcp.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?);
                self.engine.join(Stream::plain(tcp))?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let mut at = 0;
        while let Some(stream) = self.shaking.get_mut(at) {
            if stream.handshake().map_err(|e| e.to_string())? {
                let stream = self.shaking.swap_remove(at);
                self.engine.join(stream)?;
            } else {
                at += 1;
            }
        }
        self.engine.step();
        Ok(())
    }
}

/// Takes accepted connections to be sealed for.
struct SealedDoor<'a>(&'a mut Vec<Sealed>);

impl Door for SealedDoor<'_> {
    fn accept(&mut self, tcp: TcpStream) -> Result<(), String> {
        tune_subscriber(&tcp, SEND_BUFFER_BYTES).map_err(|e| e.to_string())?;
        self.0.push(Sealed::new(tcp)?);
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// See the module head.
pub struct Single {
    engine: Engine,
    pen: Pen,
    plain: Vec<OwnedFd>,
    sealed: Vec<Sealed>,
    tls: bool,
    bytes: Vec<u8>,
    record: Vec<u8>,
    start: Start,
}

impl Single {
    /// Opens `subscribers` connections a side (plain: in all), the engine's in the clients' group 0,
    /// the sealed floor's in group 1. `folder` takes a generated certificate.
    ///
    /// # Errors
    /// Sockets, handshakes or clients fail.
    pub fn open(
        clients: &mut Clients,
        tls: bool,
        subscribers: usize,
        seed: u64,
        folder: &Path,
    ) -> Result<Single, String> {
        let (mut engine, pen) = Engine::new(subscribers, seed)?;
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        let server = if tls { Some(server_tls(folder)?) } else { None };
        let kind = if tls { Kind::Tls } else { Kind::Plain };
        clients.open(0, kind, subscribers, &mut EngineDoor::new(&mut engine, server.as_ref(), &mut plain))?;
        if tls {
            clients.open(1, Kind::Sealed, subscribers, &mut SealedDoor(&mut sealed))?;
        }
        let (bytes, record) = (Vec::new(), Vec::new());
        Ok(Single { engine, pen, plain, sealed, tls, bytes, record, start: Start::default() })
    }

    /// Ends every connection, the clients' side first.
    ///
    /// # Errors
    /// The clients do not answer.
    pub fn close(mut self, clients: &mut Clients) -> Result<(), String> {
        let groups: &[usize] = if self.tls { &[0, 1] } else { &[0] };
        groups.iter().try_for_each(|group| clients.close(*group, &mut || self.engine.step()))
    }

    fn floor(&mut self, mode: Mode, number: u64) -> Result<Shot, String> {
        self.bytes.clear();
        for number in number..number + mode.frames() {
            self.bytes.extend(frame(number, clock::wall())?);
        }
        let sockets = if self.tls { self.sealed.len() } else { self.plain.len() };
        let from = self.start.next(sockets);
        let cpu = thread_cpu();
        let start = clock::mono().0;
        let (first, last) = if self.tls {
            seal_all(&mut self.sealed, from, &self.bytes, &mut self.record)?
        } else {
            write_all(&self.plain, from, &self.bytes)?
        };
        Ok(Shot { start, first, last, cpu: thread_cpu() - cpu })
    }

    /// All into the ring, then turns; or one after the other.
    fn engine(&mut self, mode: Mode, number: u64) -> Result<Shot, String> {
        let numbers = number..number + mode.frames();
        let announcements = numbers.map(|number| self.pen.next(number)).collect::<Result<Vec<_>, _>>()?;
        let stamps = self.engine.stamps();
        let before = stamps.count();
        let cpu = thread_cpu();
        let start = clock::mono().0;
        for announcement in announcements {
            self.pen.push(announcement)?;
            if mode == Mode::EngineOneByOne {
                self.engine.step();
            }
        }
        if mode != Mode::EngineOneByOne {
            self.engine.step();
        }
        let cpu = thread_cpu() - cpu;
        let (first, last) = stamps.since(before)?;
        Ok(Shot { start, first, last, cpu })
    }
}

impl Stand for Single {
    fn groups(&self, mode: Mode) -> &'static [usize] {
        match mode {
            Mode::Floor | Mode::FloorOneWrite if self.tls => &[1],
            _ => &[0],
        }
    }

    fn shoot(&mut self, mode: Mode, number: u64) -> Result<Shot, String> {
        match mode {
            Mode::Floor | Mode::FloorOneWrite => self.floor(mode, number),
            Mode::Engine | Mode::EngineAtOnce | Mode::EngineOneByOne => self.engine(mode, number),
            Mode::EngineTwo | Mode::FloorTwo => Err("this stand has one writer".to_owned()),
        }
    }

    fn idle(&mut self) {
        self.engine.step();
    }

    fn check(&mut self) -> Result<(), String> {
        self.engine.all_there()
    }
}

/// The engine's own certificate and server side.
pub(super) fn server_tls(folder: &Path) -> Result<ServerTls, String> {
    ServerTls::self_signed(folder, ([127, 0, 0, 1], 0).into()).map_err(|e| e.to_string())
}

/// Where a loop of the floor begins: consecutive starts lie far apart.
#[derive(Debug, Default)]
pub(super) struct Start(u32);

impl Start {
    pub(super) fn next(&mut self, sockets: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B1);
        (self.0 as usize).checked_rem(sockets).unwrap_or(0)
    }
}
