//! The listener and its connections: one thread each, over plain sockets or TLS.
//!
//! Contract: a [`Handler`] serves each connection through its [`Link`]; this file accepts, counts,
//! shakes hands and closes. At most [`Limits::connections`] connections; one more is closed at once
//! and counted. Dropping the [`Server`] closes every connection and waits for its threads.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use crate::error::SimError;

/// Most connections one simulated exchange serves at a time.
pub const MAX_CONNECTIONS: usize = 256;

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

/// Serves connections.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Serves one connection to its end, and says how it is to end.
    fn serve(&self, link: &Link) -> After;
}

/// How a connection ends, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It does not.
    KeepAlive,
    /// In good order: our end is said, the peer's awaited.
    Close,
    /// At once, which is a reset if the peer has sent what nobody read.
    Abandon,
    /// By a reset.
    Reset,
}

/// What a listener may take of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most connections at a time.
    pub(crate) connections: usize,
    /// Stack of a connection's thread.
    pub(crate) stack_bytes: usize,
    /// A connection that says nothing for this long is closed.
    pub(crate) idle: Duration,
}

impl Limits {
    /// Those of a simulated exchange.
    pub(crate) const EXCHANGE: Limits =
        Limits { connections: MAX_CONNECTIONS, stack_bytes: 2 * 1024 * 1024, idle: Duration::from_secs(120) };
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
    /// Opens `listen` and has `handler` serve it.
    pub(crate) fn start(
        listen: SocketAddr,
        name: &str,
        limits: Limits,
        handler: Arc<dyn Handler>,
    ) -> Result<Server, SimError> {
        let listener = Arc::new(TcpListener::bind(listen).map_err(SimError::Listen)?);
        let addr = listener.local_addr().map_err(SimError::Listen)?;
        let shared = Arc::new(Shared::default());
        let acceptor = thread::Builder::new()
            .name(format!("sim-{name}"))
            .spawn({
                let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
                move || accept_loop(&listener, addr, &shared, limits, &handler)
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

fn accept_loop(
    listener: &TcpListener,
    addr: SocketAddr,
    shared: &Arc<Shared>,
    limits: Limits,
    handler: &Arc<dyn Handler>,
) {
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
        if live.sockets.len() >= limits.connections {
            live.counters.refused += 1;
            continue;
        }
        live.counters.connections += 1;
        let number = live.counters.connections;
        let socket = Arc::new(socket);
        live.sockets.insert(number, Arc::clone(&socket));
        live.threads += 1;
        drop(live);
        let to = socket.local_addr().unwrap_or(addr);
        let link = Link { number, peer: peer.ip(), to, socket, shared: Arc::clone(shared) };
        let handler = Arc::clone(handler);
        let thread = thread::Builder::new().name(format!("sim-conn-{number}")).stack_size(limits.stack_bytes);
        let spawned = thread.spawn(move || {
            let shared = Arc::clone(&link.shared);
            link.run(&*handler, limits.idle);
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
pub(crate) struct Sock(Arc<TcpStream>);

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

/// The bytes of a connection, with or without TLS.
pub(crate) enum Transport {
    Plain(Sock),
    Tls(Box<StreamOwned<ServerConnection, Sock>>),
}

impl Transport {
    /// Whether TLS took up an earlier session.
    pub(crate) fn resumed(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.conn.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Says the end of TLS, if a connection ends in good order.
    pub(crate) fn finish(&mut self, after: After) {
        if let (After::Close, Transport::Tls(stream)) = (after, self) {
            stream.conn.send_close_notify();
            // A peer that is gone need not hear it.
            let _ = stream.flush();
        }
    }
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

/// One accepted connection.
pub(crate) struct Link {
    /// Counts connections of this listener from 1.
    pub(crate) number: u64,
    /// Who connected.
    pub(crate) peer: IpAddr,
    /// To which of this machine's addresses.
    pub(crate) to: SocketAddr,
    socket: Arc<TcpStream>,
    shared: Arc<Shared>,
}

impl Link {
    fn run(self, handler: &dyn Handler, idle: Duration) {
        // A socket that refuses its options still serves.
        let _ = self.socket.set_nodelay(true);
        let _ = self.socket.set_read_timeout(Some(idle));
        match handler.serve(&self) {
            After::Reset => {
                // With nothing else holding the socket, its close is a reset.
                let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
            }
            After::Abandon => {}
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

    /// The bytes as they come and go on the socket.
    pub(crate) fn plain(&self) -> Transport {
        Transport::Plain(Sock(Arc::clone(&self.socket)))
    }

    /// Shakes hands, or not, as `tls` says. A handshake that fails is counted.
    pub(crate) fn transport(&self, tls: Option<Arc<ServerConfig>>) -> io::Result<Transport> {
        let Some(config) = tls else { return Ok(self.plain()) };
        let mut sock = Sock(Arc::clone(&self.socket));
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(e) = tls.complete_io(&mut sock) {
                // An alert may be waiting to tell the client why.
                let _ = tls.write_tls(&mut sock);
                self.count(|c| c.tls_failures += 1);
                return Err(e);
            }
        }
        Ok(Transport::Tls(Box::new(StreamOwned::new(tls, sock))))
    }

    /// From now on a read gives up after so long.
    pub(crate) fn set_patience(&self, time: Duration) {
        // No time at all would be an error and mean for ever.
        let _ = self.socket.set_read_timeout(Some(time.max(Duration::from_millis(1))));
    }

    /// Changes the counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.shared.live.lock().counters);
    }

    /// Waits so long, or until the server stops; true when it stops.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        self.shared.pause(time)
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&self, out: &mut Transport, bytes: &[u8]) -> io::Result<()> {
        self.count(|c| c.bytes_out += bytes.len() as u64);
        out.write_all(bytes)?;
        out.flush()
    }

    /// Waits until the peer sends something or closes, at most so long if that is said, and leaves
    /// what came unread; false when nothing did.
    pub(crate) fn stirs(&self, within: Option<Duration>) -> bool {
        let before = self.socket.read_timeout().unwrap_or_default();
        // No time at all would be an error and mean for ever.
        let _ = self.socket.set_read_timeout(within.map(|time| time.max(Duration::from_millis(1))));
        let stirred = match self.socket.peek(&mut [0]) {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        let _ = self.socket.set_read_timeout(before);
        stirred
    }
}

/// Bytes that are neither HTTP nor TLS, the same each time.
pub(crate) fn garbage() -> Vec<u8> {
    let mut rng = crate::invent::Rng::new(0xbad);
    (0..512).map(|_| rng.below(256) as u8 | 0x80).collect()
}
