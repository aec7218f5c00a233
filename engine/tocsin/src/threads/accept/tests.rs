//! The accept thread over real sockets, single-stepped with a clock of the test's own.

mod limits_and_proxies;
mod requests;

use std::io;

use mio::net::TcpStream;
use rtrb::{Producer, RingBuffer};
use tocsin_core::feed::admission::keys::key_hash;
use tocsin_core::feed::key::{AllowedExchanges, Tier};
use tocsin_core::time::WallUs;

use super::*;
use crate::net::tls::{ClientTls, ClientTrust};
use crate::rings::Released;

/// Turns after which something that should happen has not.
const PATIENCE: usize = 200_000;

fn text(n: u64) -> String {
    format!("dsk_{n:064x}")
}

fn record(n: u64) -> KeyRecord {
    KeyRecord {
        id: KeyId(i64::try_from(n).unwrap()),
        hash: key_hash(text(n).as_bytes()).unwrap(),
        label: String::new(),
        tier: Tier::Premium,
        max_connections: 1_000,
        allowed: AllowedExchanges::all(),
        created_at: WallUs(0),
        expires_at: None,
        revoked_at: None,
        delay: Duration::ZERO,
        redact: false,
        account: None,
    }
}

/// An upgrade request for `target` with `more` headers.
fn request(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: feed\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

fn with_key(n: u64) -> String {
    request("/", &format!("X-API-Key: {}\r\n", text(n)))
}

/// One accept thread with one writer, and a hand on everything around it.
struct Rig {
    thread: AcceptThread,
    stats: Arc<AcceptStats>,
    commands: Producer<ToAccept>,
    news: Producer<Arc<EncodedAnnouncement>>,
    to_feed: Consumer<AcceptToFeed>,
    released: Producer<Released>,
    address: SocketAddr,
    now: Now,
    /// Set when it serves TLS.
    client: Option<ClientTls>,
    _dir: tempfile::TempDir,
}

/// How a rig differs from the usual one.
struct Setup {
    tls: bool,
    exempt: bool,
    ring: usize,
    max_connections: u32,
    proxies: bool,
    forwarders: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            tls: false,
            exempt: true,
            ring: 64,
            max_connections: 1_000,
            proxies: false,
            forwarders: false,
        }
    }
}

impl Setup {
    /// With the key 1.
    fn build(&self) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let loopback: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap()];
        let some = |yes: bool| if yes { loopback.clone() } else { Vec::new() };
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.tls.then(|| ServerTls::self_signed(dir.path(), address).unwrap());
        let trust = ClientTrust { ca_file: None, insecure: true };
        let (commands, command_end) = RingBuffer::new(64);
        let (news, news_end) = RingBuffer::new(64);
        let (to_feed_end, to_feed) = RingBuffer::new(self.ring);
        let (released, released_end) = RingBuffer::new(2_000);
        let stats = Arc::new(AcceptStats::default());
        let thread = AcceptThread::new(AcceptParts {
            listener,
            tls: server,
            settings: AcceptSettings {
                send_buffer_bytes: 16 * 1_024,
                max_connections: self.max_connections,
                proxy_protocol_from: some(self.proxies),
                forwarded_for_from: some(self.forwarders),
                limits: AddressLimits { exempt: some(self.exempt), ..AddressLimits::default() },
            },
            keys: vec![record(1)],
            history: Vec::new(),
            commands: command_end,
            announcements: vec![news_end],
            writers: vec![WriterLink { to_feed: to_feed_end, released: released_end }],
            stats: Arc::clone(&stats),
        })
        .unwrap();
        let now = Now { mono: Mono(1_000_000_000_000), wall: WallUs::from_secs(1_700_000_000) };
        let client = self.tls.then(|| ClientTls::new(&trust).unwrap());
        Rig { thread, stats, commands, news, to_feed, released, address, now, client, _dir: dir }
    }
}

impl Rig {
    fn step(&mut self) -> Turn {
        self.thread.step(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall = WallUs(self.now.wall.0 + i64::try_from(time.as_micros()).unwrap());
    }

    /// Steps until `done` says something.
    fn until<T>(&mut self, mut done: impl FnMut(&mut Rig) -> Option<T>) -> T {
        for _ in 0..PATIENCE {
            self.step();
            if let Some(value) = done(self) {
                return value;
            }
            std::thread::yield_now();
        }
        panic!("it never happened");
    }

    fn connect(&mut self) -> Stream {
        let tcp = std::net::TcpStream::connect(self.address).unwrap();
        tcp.set_nonblocking(true).unwrap();
        Stream::plain(TcpStream::from_std(tcp))
    }

    /// Connects and, with TLS, shakes hands.
    fn connect_ready(&mut self) -> Stream {
        let Some(client) = self.client.clone() else { return self.connect() };
        let tcp = std::net::TcpStream::connect(self.address).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut stream = Stream::connect_tls(TcpStream::from_std(tcp), &client, "localhost").unwrap();
        self.until(|_| stream.handshake().unwrap().then_some(()));
        stream
    }

    fn send(&mut self, stream: &mut Stream, bytes: &[u8]) {
        let mut sent = 0;
        self.until(|_| {
            match stream.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
            (sent == bytes.len() && stream.flush().unwrap()).then_some(())
        });
    }

    /// Everything the peer sends until it ends or resets.
    fn read_all(&mut self, stream: &mut Stream) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4_096];
        self.until(|_| {
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return Some(()),
                    Ok(n) => all.extend_from_slice(&buffer[..n]),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                    Err(_) => return Some(()),
                }
            }
        });
        all
    }

    /// The whole answer to one request on a connection of its own.
    fn ask(&mut self, head: &str) -> String {
        let mut stream = self.connect_ready();
        self.send(&mut stream, head.as_bytes());
        String::from_utf8(self.read_all(&mut stream)).unwrap()
    }

    /// Status and `error` of the answer.
    fn refusal(&mut self, head: &str) -> (u16, String) {
        let answer = self.ask(head);
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let code = answer.split("{\"error\":\"").nth(1).unwrap().split('"').next().unwrap();
        (status, code.to_owned())
    }

    fn message(&mut self) -> AcceptToFeed {
        self.until(|rig| rig.to_feed.pop().ok())
    }

    fn joined(&mut self) -> Box<LiveSession> {
        match self.message() {
            AcceptToFeed::Join(session) => session,
            AcceptToFeed::Revoke(_)
            | AcceptToFeed::Expiry(..)
            | AcceptToFeed::Drain(_)
            | AcceptToFeed::Look(_) => {
                panic!("not a session")
            }
        }
    }

    /// A client and its session, admitted with `head`.
    fn admit(&mut self, head: &str) -> (Stream, Box<LiveSession>) {
        let mut stream = self.connect_ready();
        self.send(&mut stream, head.as_bytes());
        let session = self.joined();
        (stream, session)
    }

    fn release(&mut self, session: &LiveSession) {
        let (address, key) = (session.address, session.subscription.key.id);
        self.released.push(Released { address, key }).unwrap();
    }

    fn command(&mut self, command: ToAccept) {
        self.commands.push(command).unwrap();
        self.step();
    }
}
