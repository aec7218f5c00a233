//! A scripted HTTP server on loopback for tests: real sockets, plain or TLS, one thread a connection.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod rig;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tocsin::net::Stream;
use tocsin::net::tls::ServerTls;

/// What the server does about a request.
pub enum Reply {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes, then closes in order.
    SendThenClose(Vec<u8>),
    /// Sends these bytes, then resets the connection.
    SendThenReset(Vec<u8>),
    /// Sends these bytes, then nothing more until the client closes.
    SendThenStall(Vec<u8>),
    /// Sends this again and again until the client closes.
    SendForever(Vec<u8>),
}

/// A request as the script sees it.
pub struct Seen {
    /// Which connection, from 0 in the order of arrival.
    pub connection: usize,
    /// Which request of that connection, from 0.
    pub request: usize,
    /// The head.
    pub head: String,
    /// Where it came from.
    pub from: SocketAddr,
    /// Whether TLS resumed a session.
    pub resumed: Option<bool>,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{}: ", name.to_ascii_lowercase());
        self.head.lines().find(|l| l.to_ascii_lowercase().starts_with(&prefix)).map(|l| &l[prefix.len()..])
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running server; ends with the value.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
}

impl Server {
    pub fn start(tls: Option<ServerTls>, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_on("127.0.0.1:0", tls, script)
    }

    pub fn start_on(
        address: &str,
        tls: Option<ServerTls>,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let (count, total, stopped, all) =
            (Arc::clone(&connections), Arc::clone(&requests), Arc::clone(&stop), Arc::clone(&threads));
        let accept = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((tcp, from)) = listener.accept() else {
                    std::thread::park_timeout(std::time::Duration::from_millis(1));
                    continue;
                };
                tcp.set_nonblocking(true).unwrap();
                tcp.set_nodelay(true).unwrap();
                let connection = count.fetch_add(1, Ordering::Relaxed);
                let tcp = mio::net::TcpStream::from_std(tcp);
                let stream = match &tls {
                    Some(tls) => Stream::accept_tls(tcp, tls).unwrap(),
                    None => Stream::plain(tcp),
                };
                let (script, stopped, total) =
                    (Arc::clone(&script), Arc::clone(&stopped), Arc::clone(&total));
                all.lock().unwrap().push(std::thread::spawn(move || {
                    let _ = serve(stream, connection, from, &*script, &stopped, &total);
                }));
            }
        });
        threads.lock().unwrap().push(accept);
        Server { address, connections, requests, stop, threads }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        loop {
            let Some(thread) = self.threads.lock().unwrap().pop() else { break };
            let _ = thread.join();
        }
    }
}

/// Calls until it no longer would block, or the server stops.
fn patiently<T>(stop: &AtomicBool, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => {
                std::thread::park_timeout(std::time::Duration::from_micros(50));
            }
            other => return other,
        }
    }
}

fn send_all(stream: &mut Stream, stop: &AtomicBool, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = patiently(stop, || stream.write(bytes))?;
        bytes = &bytes[taken..];
    }
    patiently(stop, || if stream.flush()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) })
}

fn serve(
    mut stream: Stream,
    connection: usize,
    from: SocketAddr,
    script: &Script,
    stop: &AtomicBool,
    total: &AtomicUsize,
) -> io::Result<()> {
    patiently(stop, || if stream.handshake()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) })?;
    let mut buffer = [0; 4_096];
    for request in 0.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let count = patiently(stop, || stream.read(&mut buffer))?;
            if count == 0 {
                return Ok(());
            }
            head.extend_from_slice(&buffer[..count]);
        }
        let head = String::from_utf8(head).unwrap();
        let reply = script(&Seen { connection, request, head, from, resumed: stream.resumed() });
        total.fetch_add(1, Ordering::Relaxed);
        match reply {
            Reply::Send(bytes) => send_all(&mut stream, stop, &bytes)?,
            Reply::SendThenClose(bytes) => {
                send_all(&mut stream, stop, &bytes)?;
                stream.shutdown()?;
                while patiently(stop, || stream.read(&mut buffer))? > 0 {}
                return Ok(());
            }
            Reply::SendThenReset(bytes) => {
                send_all(&mut stream, stop, &bytes)?;
                socket2::SockRef::from(stream.tcp()).set_linger(Some(std::time::Duration::ZERO))?;
                return Ok(());
            }
            Reply::SendThenStall(bytes) => {
                send_all(&mut stream, stop, &bytes)?;
                while patiently(stop, || stream.read(&mut buffer))? > 0 {}
                return Ok(());
            }
            Reply::SendForever(bytes) => loop {
                send_all(&mut stream, stop, &bytes)?;
            },
        }
    }
    Ok(())
}

/// `200 OK` with a length.
pub fn ok(body: &str) -> Vec<u8> {
    with_headers("200 OK", &[], body)
}

pub fn with_headers(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
