//! Listening sockets that the service manager opened for us (socket activation).
//!
//! Contract: a socket is told by its name (`FileDescriptorName=`), never by its order: [`FEED`] and
//! [`ADMIN`]. What does not fit (an unknown name, a name twice, no listening TCP socket) is an error that
//! says which descriptor and what it is. The manager keeps the socket open while nobody serves: connections
//! wait in its backlog over a restart.
//!
//! Owner: main thread, at start, before anything else opens descriptors and before any thread exists.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockRef, Type};

/// Name of the feed's socket.
pub const FEED: &str = "feed";
/// Name of the admin API's TCP socket.
pub const ADMIN: &str = "admin";

/// What the manager handed over; empty without one.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The feed's listener, non-blocking.
    pub feed: Option<TcpListener>,
    /// The admin API's listener, non-blocking.
    pub admin: Option<TcpListener>,
}

impl Inherited {
    /// Takes what `LISTEN_FDS` and `LISTEN_FDNAMES` say is ours. A second call gets nothing.
    ///
    /// # Errors
    /// A variable makes no sense, or a descriptor is not what its name promises.
    pub fn take() -> io::Result<Inherited> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Inherited::default());
        }
        let named = sd_notify::listen_fds_with_names().map_err(|e| {
            io::Error::new(e.kind(), format!("LISTEN_FDS, LISTEN_FDNAMES of the service manager: {e}"))
        })?;
        let own = |(number, name): (RawFd, String)| {
            // SAFETY: the manager opened the descriptor for this process (`LISTEN_PID` is ours, and it is
            // open: its flags have just been set), and `TAKEN` lets nobody else take it.
            (unsafe { OwnedFd::from_raw_fd(number) }, name)
        };
        // All of them first: one that is refused must not leave the others without an owner.
        let sockets: Vec<(OwnedFd, String)> = named.map(own).collect();
        Inherited::of(sockets)
    }

    fn of(sockets: Vec<(OwnedFd, String)>) -> io::Result<Inherited> {
        let mut inherited = Inherited::default();
        for (socket, name) in sockets {
            let place = match name.as_str() {
                FEED => &mut inherited.feed,
                ADMIN => &mut inherited.admin,
                _ => {
                    let takes =
                        format!("takes {FEED} or {ADMIN}: set FileDescriptorName= in the socket unit");
                    return Err(wrong(&socket, &name, &takes));
                }
            };
            if place.is_some() {
                let remedy = "comes twice: one ListenStream= a socket unit ([::]:PORT serves IPv4 as well)";
                return Err(wrong(&socket, &name, remedy));
            }
            *place = Some(listener(socket, &name)?);
        }
        Ok(inherited)
    }
}

fn wrong(socket: &OwnedFd, name: &str, problem: &str) -> io::Error {
    let number = socket.as_raw_fd();
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("descriptor {number} handed over as \"{name}\" {problem}"),
    )
}

/// A descriptor as the listener it must be.
fn listener(socket: OwnedFd, name: &str) -> io::Result<TcpListener> {
    let is = {
        let socket = SockRef::from(&socket);
        match (socket.domain(), socket.r#type(), socket.is_listener()) {
            (Ok(Domain::IPV4 | Domain::IPV6), Ok(Type::STREAM), Ok(true)) => None,
            (Ok(Domain::IPV4 | Domain::IPV6), Ok(Type::STREAM), _) => {
                Some("is a TCP socket that does not listen")
            }
            (Ok(Domain::UNIX), ..) => Some("is a Unix socket; it must be a listening TCP socket"),
            (_, Ok(Type::DGRAM), _) => Some("is a datagram socket; it must be a listening TCP socket"),
            (Err(_), ..) => Some("is no socket; it must be a listening TCP socket"),
            _ => Some("is no listening TCP socket"),
        }
    };
    if let Some(is) = is {
        return Err(wrong(&socket, name, is));
    }
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn handed(socket: impl Into<OwnedFd>, name: &str) -> (OwnedFd, String) {
        (socket.into(), name.to_owned())
    }

    fn loopback() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn sockets_are_told_by_their_names_in_any_order() {
        for swapped in [false, true] {
            let (feed, admin) = (loopback(), loopback());
            let (at_feed, at_admin) = (feed.local_addr().unwrap(), admin.local_addr().unwrap());
            let mut sockets = vec![handed(feed, FEED), handed(admin, ADMIN)];
            if swapped {
                sockets.reverse();
            }
            let inherited = Inherited::of(sockets).unwrap();
            assert_eq!(inherited.feed.unwrap().local_addr().unwrap(), at_feed);
            assert_eq!(inherited.admin.unwrap().local_addr().unwrap(), at_admin);
        }
        assert!(Inherited::of(Vec::new()).unwrap().feed.is_none());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let listening = loopback();
        let connected = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let rows = [
            (vec![handed(loopback(), "tocsin.socket")], "\"tocsin.socket\" takes feed or admin"),
            (vec![handed(loopback(), FEED), handed(loopback(), FEED)], "\"feed\" comes twice"),
            (vec![handed(UnixListener::bind(dir.path().join("s")).unwrap(), FEED)], "is a Unix socket"),
            (vec![handed(UdpSocket::bind("127.0.0.1:0").unwrap(), FEED)], "is a datagram socket"),
            (vec![handed(connected, ADMIN)], "\"admin\" is a TCP socket that does not listen"),
            (vec![handed(std::fs::File::open("/dev/null").unwrap(), ADMIN)], "is no socket"),
        ];
        for (sockets, expected) in rows {
            let problem = Inherited::of(sockets).unwrap_err().to_string();
            assert!(problem.contains(expected) && problem.contains("descriptor "), "{problem}");
        }
    }
}
