//! Opening a TCP connection without blocking, racing several addresses.
//!
//! Contract: [`Dial::start`] lists the candidates, [`Dial::poll`] moves on at every event of the token
//! and at every deadline it names. The first address is tried at once, the next [`limits::DIAL_STAGGER`]
//! later or as soon as one fails (RFC 8305 5); families alternate. The first to connect wins, the others
//! are dropped. Sockets are registered for both kinds of event under the caller's token and stay so.
//! Owner: the thread that polls. No allocation. Failure: a [`DialError`] once no candidate is left or
//! [`limits::DIAL_TIMEOUT`] is over.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tocsin_core::limits;
use tocsin_core::time::Mono;

use crate::os::sockopt;

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    /// No address is known, or none of the family of the local address.
    NoAddress,
    /// Nothing answered in time.
    TimedOut,
    /// Every address failed; the last one like this.
    Failed(io::ErrorKind),
}

/// Where a dial stands.
#[derive(Debug)]
pub enum Dialled {
    /// Poll again at an event or at this instant.
    Pending(Mono),
    /// Connected and registered.
    Connected(TcpStream, SocketAddr),
    /// Over.
    Failed(DialError),
}

/// One race. Reused for the next one.
#[derive(Debug)]
pub struct Dial {
    port: u16,
    bind: Option<IpAddr>,
    candidates: [IpAddr; limits::DIAL_CANDIDATES],
    count: usize,
    next: usize,
    attempts: [Option<(TcpStream, SocketAddr)>; limits::DIAL_CANDIDATES],
    next_start: Mono,
    deadline: Mono,
    last_error: io::ErrorKind,
}

impl Dial {
    /// Nothing to do.
    #[must_use]
    pub fn new() -> Dial {
        Dial {
            port: 0,
            bind: None,
            candidates: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); limits::DIAL_CANDIDATES],
            count: 0,
            next: 0,
            attempts: Default::default(),
            next_start: Mono::NEVER,
            deadline: Mono::NEVER,
            last_error: io::ErrorKind::NotConnected,
        }
    }

    /// Begins a race for `addresses` at `port` from the local address `bind`. `turn` rotates the order
    /// within each family, so that several connections prefer different addresses.
    pub fn start(&mut self, addresses: &[IpAddr], port: u16, bind: Option<IpAddr>, turn: usize, now: Mono) {
        *self = Dial { port, bind, next_start: now, deadline: now + limits::DIAL_TIMEOUT, ..Dial::new() };
        let usable = |a: &&IpAddr| bind.is_none_or(|b| b.is_ipv4() == a.is_ipv4());
        let first_is_v6 = addresses.iter().find(usable).is_some_and(IpAddr::is_ipv6);
        let family = |v6: bool| {
            let count = addresses.iter().filter(usable).filter(|a| a.is_ipv6() == v6).count();
            let skip = turn.checked_rem(count).unwrap_or(0);
            addresses.iter().filter(usable).filter(move |a| a.is_ipv6() == v6).cycle().skip(skip).take(count)
        };
        let (mut preferred, mut other) = (family(first_is_v6), family(!first_is_v6));
        let alternating = std::iter::from_fn(|| {
            // Taken in pairs, so that each family has its turn.
            let pair = [preferred.next(), other.next()];
            pair.iter().any(Option::is_some).then_some(pair)
        });
        for (slot, address) in self.candidates.iter_mut().zip(alternating.flatten().flatten()) {
            *slot = *address;
            self.count += 1;
        }
    }

    /// Moves the race on.
    pub fn poll(&mut self, registry: &Registry, token: Token, now: Mono) -> Dialled {
        for slot in &mut self.attempts {
            let Some((tcp, address)) = slot else { continue };
            match connected(tcp) {
                Ok(true) => {
                    let address = *address;
                    let won = slot.take();
                    self.drop_attempts(registry);
                    return match won {
                        Some((tcp, _)) => Dialled::Connected(tcp, address),
                        None => Dialled::Failed(DialError::NoAddress),
                    };
                }
                Ok(false) => {}
                Err(e) => {
                    self.last_error = e.kind();
                    if let Some((mut tcp, _)) = slot.take() {
                        let _ = registry.deregister(&mut tcp);
                    }
                    self.next_start = now;
                }
            }
        }
        while self.next < self.count && self.next_start <= now {
            self.attempt(registry, token, now);
        }
        if self.attempts.iter().all(Option::is_none) {
            let nobody = self.count == 0;
            return Dialled::Failed(if nobody {
                DialError::NoAddress
            } else {
                DialError::Failed(self.last_error)
            });
        }
        if now >= self.deadline {
            self.drop_attempts(registry);
            return Dialled::Failed(DialError::TimedOut);
        }
        let next_start = if self.next < self.count { self.next_start } else { Mono::NEVER };
        Dialled::Pending(next_start.min(self.deadline))
    }

    /// Gives up.
    pub fn cancel(&mut self, registry: &Registry) {
        self.drop_attempts(registry);
    }

    fn attempt(&mut self, registry: &Registry, token: Token, now: Mono) {
        let candidate = self.candidates.get(self.next).copied();
        let slot = self.attempts.get_mut(self.next);
        self.next += 1;
        let (Some(address), Some(slot)) = (candidate, slot) else { return };
        let address = SocketAddr::new(address, self.port);
        match connect(address, self.bind, registry, token) {
            Ok(tcp) => {
                *slot = Some((tcp, address));
                self.next_start = now + limits::DIAL_STAGGER;
            }
            Err(e) => self.last_error = e.kind(),
        }
    }

    fn drop_attempts(&mut self, registry: &Registry) {
        for (mut tcp, _) in self.attempts.iter_mut().filter_map(Option::take) {
            let _ = registry.deregister(&mut tcp);
        }
    }
}

impl Default for Dial {
    fn default() -> Dial {
        Dial::new()
    }
}

fn connect(
    address: SocketAddr,
    bind: Option<IpAddr>,
    registry: &Registry,
    token: Token,
) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    sockopt::tune_outbound(&socket)?;
    if let Some(local) = bind {
        socket.bind(&SockAddr::from(SocketAddr::new(local, 0)))?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        other => other?,
    }
    let mut tcp = TcpStream::from_std(socket.into());
    registry.register(&mut tcp, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(tcp)
}

/// Whether a connect in progress has succeeded.
fn connected(tcp: &TcpStream) -> io::Result<bool> {
    if let Some(error) = tcp.take_error()? {
        return Err(error);
    }
    match tcp.peer_addr() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;
    use crate::os::clock;

    fn finish(dial: &mut Dial) -> Dialled {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(16);
        loop {
            match dial.poll(poll.registry(), Token(1), clock::mono()) {
                Dialled::Pending(_) => poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap(),
                done => return done,
            }
        }
    }

    #[test]
    fn a_dead_address_does_not_stop_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nothing listens on 127.0.0.2 at that port.
        let addresses = [IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 1])];
        let mut dial = Dial::new();
        dial.start(&addresses, port, None, 0, clock::mono());
        let Dialled::Connected(tcp, address) = finish(&mut dial) else { panic!("not connected") };
        assert_eq!((address.ip(), tcp.peer_addr().unwrap()), (addresses[1], address));
        assert!(tcp.nodelay().unwrap());
    }

    #[test]
    fn all_dead_is_a_failure_and_none_too() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut dial = Dial::new();
        dial.start(&[IpAddr::from([127, 0, 0, 1])], port, None, 0, clock::mono());
        assert!(matches!(
            finish(&mut dial),
            Dialled::Failed(DialError::Failed(io::ErrorKind::ConnectionRefused))
        ));
        dial.start(&[], port, None, 0, clock::mono());
        assert!(matches!(finish(&mut dial), Dialled::Failed(DialError::NoAddress)));
    }

    #[test]
    fn it_leaves_from_the_local_address_and_only_to_its_family() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = ["::1".parse().unwrap(), IpAddr::from([127, 0, 0, 1])];
        let mut dial = Dial::new();
        dial.start(&addresses, port, Some(IpAddr::from([127, 0, 0, 9])), 0, clock::mono());
        let Dialled::Connected(tcp, _) = finish(&mut dial) else { panic!("not connected") };
        assert_eq!(tcp.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 9]));
        dial.start(&addresses[..1], port, Some(IpAddr::from([127, 0, 0, 9])), 0, clock::mono());
        assert!(matches!(finish(&mut dial), Dialled::Failed(DialError::NoAddress)));
    }

    #[test]
    fn families_alternate_and_turns_rotate() {
        let v4 = |n| IpAddr::from([10, 0, 0, n]);
        let v6 = |n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]);
        let all = [v6(1), v6(2), v4(1), v4(2), v4(3)];
        let mut dial = Dial::new();
        dial.start(&all, 1, None, 0, Mono(0));
        assert_eq!(dial.candidates[..dial.count], [v6(1), v4(1), v6(2), v4(2), v4(3)]);
        dial.start(&all, 1, None, 1, Mono(0));
        assert_eq!(dial.candidates[..dial.count], [v6(2), v4(2), v6(1), v4(3), v4(1)]);
        let many: Vec<IpAddr> = (0..20).map(v4).collect();
        dial.start(&many, 1, None, 19, Mono(0));
        assert_eq!((dial.count, dial.candidates[0]), (limits::DIAL_CANDIDATES, v4(19)));
    }

    #[test]
    fn an_address_that_never_answers_times_out() {
        let poll = Poll::new().unwrap();
        let mut dial = Dial::new();
        // RFC 5737 keeps this block for documentation. Where even that is refused at once, so is the dial.
        dial.start(&[IpAddr::from([192, 0, 2, 1])], 9, None, 0, Mono(0));
        match dial.poll(poll.registry(), Token(0), Mono(0)) {
            Dialled::Pending(deadline) => {
                assert_eq!(deadline, Mono(0) + limits::DIAL_TIMEOUT);
                let end = dial.poll(poll.registry(), Token(0), deadline);
                assert!(matches!(end, Dialled::Failed(_)), "{end:?}");
            }
            Dialled::Failed(error) => assert!(matches!(error, DialError::Failed(_)), "{error:?}"),
            Dialled::Connected(..) => panic!("connected to a documentation address"),
        }
    }
}
