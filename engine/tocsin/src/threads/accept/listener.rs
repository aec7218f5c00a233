//! The listening socket, and what to do when no descriptor is left.
//!
//! Contract: [`Listener::accept`] never blocks. When the process has no descriptor left the pending
//! connection would make the listener ready for ever; the one kept in reserve is given up for it, it
//! is closed at once, and accepting pauses for [`PAUSE`]. Owner: the accept thread.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tocsin_core::time::Mono;

/// How long accepting rests when the system is out of descriptors or memory.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// Connections the kernel keeps until we accept them.
const BACKLOG: i32 = 4_096;

/// Opens the feed's listening socket. An unspecified IPv6 address listens for IPv4 too.
///
/// # Errors
/// The address is taken or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// What came of one attempt to accept.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A connection.
    Connection(TcpStream, SocketAddr),
    /// None is pending.
    Nothing,
    /// This one failed, others may not.
    Failed,
    /// Out of descriptors or memory until the instant.
    Paused,
}

/// A listener with a descriptor in reserve.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    reserve: Option<File>,
    paused_until: Mono,
}

impl Listener {
    pub(super) fn new(socket: TcpListener) -> Listener {
        Listener { socket, reserve: open_reserve(), paused_until: Mono(0) }
    }

    pub(super) const fn socket(&mut self) -> &mut TcpListener {
        &mut self.socket
    }

    /// When accepting may go on.
    pub(super) const fn paused_until(&self) -> Mono {
        self.paused_until
    }

    pub(super) fn accept(&mut self, now: Mono) -> Accepted {
        match self.socket.accept() {
            Ok((stream, peer)) => Accepted::Connection(stream, peer),
            Err(error) => self.failed(&error, now),
        }
    }

    fn failed(&mut self, error: &io::Error, now: Mono) -> Accepted {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Accepted::Nothing,
            Some(Errno::MFILE | Errno::NFILE) => {
                drop(self.reserve.take());
                drop(self.socket.accept());
                self.reserve = open_reserve();
                self.paused_until = now + PAUSE;
                Accepted::Paused
            }
            Some(Errno::NOBUFS | Errno::NOMEM) => {
                self.paused_until = now + PAUSE;
                Accepted::Paused
            }
            // The connection died in the backlog, or its network did (accept(2), "Error handling").
            _ => Accepted::Failed,
        }
    }
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_descriptor_left_drops_the_pending_connection_and_pauses() {
        let socket = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let mut listener = Listener::new(socket);
        let client = std::net::TcpStream::connect(address).unwrap();
        let now = Mono(1_000_000_000);
        let error = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert!(matches!(listener.failed(&error, now), Accepted::Paused));
        assert_eq!(listener.paused_until(), now + PAUSE);
        assert!(listener.reserve.is_some());
        let end = io::Read::read(&mut &client, &mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "it was closed");
        assert!(matches!(listener.accept(now), Accepted::Nothing));
    }
}
