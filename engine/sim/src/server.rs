//! The listener and its connections: one thread each, over plain sockets or TLS.
//!
//! Contract: a [`Site`] says what to answer and how to misdeliver it; this file moves the bytes.
//! At most [`MAX_CONNECTIONS`] connections; one more is closed at once and counted. Dropping the
//! [`Server`] closes every connection and waits for its threads.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use crate::error::SimError;
use crate::http::{Framing, Request, RequestReader, Response};

/// Most connections one simulated exchange serves at a time.
pub const MAX_CONNECTIONS: usize = 256;

/// A connection that says nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// How long a closing connection waits for its peer to close too.
const LINGER: Duration = Duration::from_secs(1);
/// How long dropping a server waits for its threads.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a listener has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections closed at once because there were too many.
    pub refused: u64,
    /// Connections whose TLS handshake failed.
    pub tls_failures: u64,
    /// Requests read.
    pub requests: u64,
    /// Answers with status 304.
    pub not_modified: u64,
    /// Bytes of response heads and bodies handed to the connection.
    pub bytes_out: u64,
}

/// What a listener serves.
pub(crate) trait Site: Send + Sync + 'static {
    /// Whether the connection just accepted is to be reset.
    fn resets_on_accept(&self) -> bool;
    /// The TLS configuration for a new connection; `None` for plain HTTP.
    fn tls(&self) -> Option<Arc<ServerConfig>>;
    /// The answer to the `nth` request (from 1) of a connection.
    fn answer(&self, peer: IpAddr, connection: u64, nth: u32, request: &Request) -> Answer;
}

/// A response and how it travels.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) framing: Framing,
    pub(crate) close: bool,
    pub(crate) delivery: Delivery,
}

impl Answer {
    /// `response` in good order.
    pub(crate) const fn whole(response: Response) -> Answer {
        Answer { response, framing: Framing::ContentLength, close: false, delivery: Delivery::Whole }
    }
}

/// How much of a response arrives, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    ResetInHead,
    ResetInBody(usize),
    Slow(u32),
    Garbage,
    Short,
    Huge { bytes: u64, chunked: bool },
    Never,
}

/// What follows an answer.
enum After {
    KeepAlive,
    Close,
    Reset,
}

#[derive(Default)]
struct Live {
    stopping: bool,
    sockets: BTreeMap<u64, Arc<TcpStream>>,
    threads: usize,
    counters: Counters,
}

#[derive(Default)]
struct Shared {
    live: Mutex<Live>,
    changed: Condvar,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.live.lock().counters);
    }

    /// Waits so long, or until the server stops; true when it stops.
    fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut live = self.live.lock();
        while !live.stopping {
            if self.changed.wait_until(&mut live, end).timed_out() {
                return live.stopping;
            }
        }
        true
    }
}

/// A running listener.
pub(crate) struct Server {
    addr: SocketAddr,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens `listen` and serves `site` on it.
    pub(crate) fn start(listen: SocketAddr, name: &str, site: Arc<dyn Site>) -> Result<Server, SimError> {
        let listener = Arc::new(TcpListener::bind(listen).map_err(SimError::Listen)?);
        let addr = listener.local_addr().map_err(SimError::Listen)?;
        let shared = Arc::new(Shared::default());
        let acceptor = thread::Builder::new()
            .name(format!("sim-{name}"))
            .spawn({
                let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
                move || accept_loop(&listener, &shared, &site)
            })
            .map_err(SimError::Thread)?;
        Ok(Server { addr, listener, shared, acceptor: Some(acceptor) })
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn counters(&self) -> Counters {
        let live = self.shared.live.lock();
        Counters { open: live.sockets.len() as u64, ..live.counters }
    }

    /// Closes every connection open now; the listener stays.
    pub(crate) fn drop_connections(&self) {
        for socket in self.shared.live.lock().sockets.values() {
            // The peer may have closed it already: then there is nothing left to do.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.live.lock().stopping = true;
        self.shared.changed.notify_all();
        // Wakes the blocked accept; if even that fails, the thread ends with the process.
        let woken = SockRef::from(&*self.listener).shutdown(Shutdown::Both).is_ok();
        if let (Some(acceptor), true) = (self.acceptor.take(), woken) {
            let _ = acceptor.join();
        }
        self.drop_connections();
        let end = Instant::now() + STOP_PATIENCE;
        let mut live = self.shared.live.lock();
        while live.threads > 0 && !self.shared.changed.wait_until(&mut live, end).timed_out() {}
    }
}

fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>, site: &Arc<dyn Site>) {
    loop {
        let accepted = listener.accept();
        let mut live = shared.live.lock();
        if live.stopping {
            return;
        }
        let Ok((socket, peer)) = accepted else {
            drop(live);
            // Out of descriptors, or the peer was gone first: neither is a reason to stop.
            if shared.pause(Duration::from_millis(10)) {
                return;
            }
            continue;
        };
        if live.sockets.len() >= MAX_CONNECTIONS {
            live.counters.refused += 1;
            continue;
        }
        live.counters.connections += 1;
        let number = live.counters.connections;
        let socket = Arc::new(socket);
        live.sockets.insert(number, Arc::clone(&socket));
        live.threads += 1;
        drop(live);
        let connection = Connection { number, peer: peer.ip(), socket, shared: Arc::clone(shared) };
        let site = Arc::clone(site);
        let spawned = thread::Builder::new().name(format!("sim-conn-{number}")).spawn(move || {
            let shared = Arc::clone(&connection.shared);
            connection.run(&*site);
            shared.live.lock().threads -= 1;
            shared.changed.notify_all();
        });
        if spawned.is_err() {
            let mut live = shared.live.lock();
            live.sockets.remove(&number);
            live.threads -= 1;
            live.counters.refused += 1;
        }
    }
}

/// A socket shared with the registry that can close it.
struct Sock(Arc<TcpStream>);

impl Read for Sock {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl Write for Sock {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Transport {
    Plain(Sock),
    Tls(Box<StreamOwned<ServerConnection, Sock>>),
}

impl Read for Transport {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(s) => s.read(buf),
            Transport::Tls(s) => s.read(buf),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(s) => s.write(buf),
            Transport::Tls(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(s) => s.flush(),
            Transport::Tls(s) => s.flush(),
        }
    }
}

struct Connection {
    number: u64,
    peer: IpAddr,
    socket: Arc<TcpStream>,
    shared: Arc<Shared>,
}

impl Connection {
    fn run(self, site: &dyn Site) {
        // A socket that refuses its options still serves.
        let _ = self.socket.set_nodelay(true);
        let _ = self.socket.set_read_timeout(Some(IDLE));
        let after = if site.resets_on_accept() { After::Reset } else { self.serve(site) };
        match after {
            After::Reset => {
                // With nothing else holding the socket, its close is a reset.
                let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
            }
            After::KeepAlive | After::Close => self.close(),
        }
        self.shared.live.lock().sockets.remove(&self.number);
    }

    /// Says the end and waits for the peer's, so that unread bytes do not turn it into a reset.
    fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let _ = self.socket.set_read_timeout(Some(LINGER));
        let end = Instant::now() + LINGER;
        let mut sink = [0; 4096];
        while Instant::now() < end && matches!((&*self.socket).read(&mut sink), Ok(1..)) {}
    }

    fn serve(&self, site: &dyn Site) -> After {
        let sock = Sock(Arc::clone(&self.socket));
        let mut transport = match site.tls() {
            None => Transport::Plain(sock),
            Some(config) => match self.handshake(config, sock) {
                Ok(stream) => Transport::Tls(Box::new(stream)),
                Err(_) => {
                    self.shared.count(|c| c.tls_failures += 1);
                    return After::Close;
                }
            },
        };
        let mut reader = RequestReader::default();
        let mut nth = 0;
        let after = loop {
            let Ok(Some(request)) = reader.next(&mut transport) else { break After::Close };
            nth += 1;
            let answer = site.answer(self.peer, self.number, nth, &request);
            self.shared.count(|c| {
                c.requests += 1;
                c.not_modified += u64::from(answer.response.status == 304);
            });
            match self.deliver(&mut transport, &answer, request.keep_alive) {
                Ok(After::KeepAlive) => {}
                Ok(after) => break after,
                Err(_) => break After::Close,
            }
        };
        if let (After::Close, Transport::Tls(stream)) = (&after, &mut transport) {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        after
    }

    fn handshake(
        &self,
        config: Arc<ServerConfig>,
        mut sock: Sock,
    ) -> io::Result<StreamOwned<ServerConnection, Sock>> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(e) = tls.complete_io(&mut sock) {
                // An alert may be waiting to tell the client why.
                let _ = tls.write_tls(&mut sock);
                return Err(e);
            }
        }
        Ok(StreamOwned::new(tls, sock))
    }

    fn deliver(&self, out: &mut Transport, answer: &Answer, keep_alive: bool) -> io::Result<After> {
        let Answer { response, framing, .. } = answer;
        let close = answer.close || !keep_alive || *framing == Framing::CloseDelimited;
        let head = response.head(*framing, response.body.len() as u64, close);
        let body = response.framed_body(*framing);
        match answer.delivery {
            Delivery::Whole => {
                self.send(out, &[head, body].concat())?;
                return Ok(if close { After::Close } else { After::KeepAlive });
            }
            Delivery::ResetInHead => {
                self.send(out, head.get(..head.len() / 2).unwrap_or(&head))?;
                return Ok(After::Reset);
            }
            Delivery::ResetInBody(after) => {
                let part = body.get(..after).unwrap_or(&body);
                self.send(out, &[&head, part].concat())?;
                return Ok(After::Reset);
            }
            Delivery::Slow(bytes_per_second) => {
                self.send(out, &head)?;
                self.send_slowly(out, &body, bytes_per_second)?;
                return Ok(if close { After::Close } else { After::KeepAlive });
            }
            Delivery::Garbage => self.send(out, &garbage())?,
            Delivery::Short => {
                let half = body.get(..body.len() / 2).unwrap_or(&body);
                self.send(out, &[&head, half].concat())?;
            }
            Delivery::Huge { bytes, chunked } => self.send_huge(out, response, bytes, chunked)?,
            Delivery::Never => {
                // Reading notices when the peer gives up, or when the server stops.
                let mut sink = [0; 256];
                while matches!(out.read(&mut sink), Ok(1..)) {}
            }
        }
        Ok(After::Close)
    }

    fn send(&self, out: &mut Transport, bytes: &[u8]) -> io::Result<()> {
        self.shared.count(|c| c.bytes_out += bytes.len() as u64);
        out.write_all(bytes)?;
        out.flush()
    }

    fn send_slowly(&self, out: &mut Transport, body: &[u8], bytes_per_second: u32) -> io::Result<()> {
        let rate = bytes_per_second.max(1);
        // Twenty slices a second, or one byte at a time below that.
        let (slice, wait) = if rate >= 20 {
            (rate as usize / 20, Duration::from_millis(50))
        } else {
            (1, Duration::from_secs(1) / rate)
        };
        for part in body.chunks(slice) {
            if self.shared.pause(wait) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.send(out, part)?;
        }
        Ok(())
    }

    fn send_huge(&self, out: &mut Transport, like: &Response, bytes: u64, chunked: bool) -> io::Result<()> {
        let framing = if chunked { Framing::Chunked(0) } else { Framing::ContentLength };
        self.send(out, &like.head(framing, bytes, true))?;
        // White space is JSON until the very end, so no parser can stop early.
        let block = vec![b' '; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            let part = block.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&block);
            if chunked {
                self.send(out, format!("{:x}\r\n", part.len()).as_bytes())?;
                self.send(out, part)?;
                self.send(out, b"\r\n")?;
            } else {
                self.send(out, part)?;
            }
            left -= part.len() as u64;
        }
        if chunked { self.send(out, b"0\r\n\r\n") } else { Ok(()) }
    }
}

fn garbage() -> Vec<u8> {
    let mut rng = crate::invent::Rng::new(0xbad);
    (0..512).map(|_| rng.below(256) as u8 | 0x80).collect()
}
