//! A network namespace in which every address, of either family, is this machine: a connection to
//! anywhere arrives here and is seen.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::inside::{self, Own};

/// A public address given to the namespace as its own.
pub(crate) const OWN_PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 99);

/// As the harness's, with every address being this machine's.
pub(crate) fn enter(test: &str) -> bool {
    let setup = format!(
        "ip address add {OWN_PUBLIC}/32 dev lo; ip route add local 0.0.0.0/0 dev lo; \
         ip -6 route add local ::/0 dev lo;"
    );
    inside::enter(test, Own::Network, &setup)
}

/// TCP connections this namespace has begun to open: each sent a SYN.
pub(crate) fn syns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "ActiveOpens").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// Listeners for every address at some ports: each connection is noted and closed.
pub(crate) struct Traps {
    caught: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traps {
    /// Opens them.
    pub(crate) fn open(ports: impl IntoIterator<Item = u16>) -> Traps {
        let mut listeners = BTreeMap::new();
        for port in ports {
            listeners.entry(port).or_insert_with(|| {
                [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
                    .map(|address| listen(SocketAddr::new(address, port)).unwrap())
            });
        }
        let (caught, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (Arc::clone(&caught), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for listener in listeners.values().flatten() {
                    while let Ok((stream, _)) = listener.accept() {
                        noted.lock().push(stream.local_addr().unwrap());
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Traps { caught, stop, thread: Some(thread) }
    }

    /// Where connections have come in for since the last time, once there are `at_least` so many.
    pub(crate) fn caught(&self, at_least: usize) -> Vec<SocketAddr> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let mut caught = self.caught.lock();
            if caught.len() >= at_least {
                return std::mem::take(&mut caught);
            }
            assert!(Instant::now() < until, "{caught:?}: a connection did not arrive");
            drop(caught);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Traps {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
