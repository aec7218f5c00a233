//! Measures what a TLS connection costs the feed beyond the cipher and the system call: the time to write
//! one message to each of many subscribers, against a bare loop of AES-128-GCM sealing and write(2) over
//! the same sockets with the same bytes.
//!
//! `cargo run --release --example seal -- [--subscribers 1000] [--rounds 200] [--bytes 300] [--json]`
//!
//! Both sides take turns in one run, and each goes first as often, so that what else the machine does
//! meets both. The peers read nothing that they understand: they only take the bytes from the socket,
//! between the rounds. The ratio is of the medians.

#![allow(clippy::expect_used, reason = "a tool that cannot go on says why and ends")]

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::ring as provider;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tocsin::net::Stream;
use tocsin::net::tls::{GENERATED_CERT, ServerTls};

/// Measures sealing and writing against a bare loop of the same.
#[derive(Parser)]
struct Args {
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Messages to each, for each of the two sides.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Length of a message.
    #[arg(long, default_value_t = 300)]
    bytes: usize,
    /// Only the JSON.
    #[arg(long)]
    json: bool,
}

/// One connection, the key of the bare loop, and the peer's socket.
struct Subscriber {
    stream: Stream,
    key: LessSafeKey,
    sequence: u64,
    peer: TcpStream,
}

/// A client that speaks the floor's cipher and no other.
fn client_config(dir: &Path) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join(GENERATED_CERT))?)?;
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let config = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn connect(
    listener: &TcpListener,
    server: &ServerTls,
    client: &Arc<ClientConfig>,
) -> Result<Subscriber, Box<dyn Error>> {
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    let (tcp, _) = listener.accept()?;
    for socket in [&peer, &tcp] {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
    }
    let mut stream = Stream::accept_tls(mio::net::TcpStream::from_std(tcp), server)?;
    let mut other = ClientConnection::new(Arc::clone(client), "localhost".try_into()?)?;
    while !stream.handshake()? || other.is_handshaking() || other.wants_write() {
        while other.wants_write() {
            other.write_tls(&mut peer)?;
        }
        // `WouldBlock` until the server has answered; a failure shows as the handshake's.
        if other.read_tls(&mut peer).is_ok() {
            other.process_new_packets()?;
        }
    }
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| "no key")?;
    Ok(Subscriber { stream, key: LessSafeKey::new(key), sequence: 0, peer })
}

/// What the floor does: header, plaintext and its type, tag, into one buffer, and one write.
fn bare(subscribers: &mut [Subscriber], message: &[u8], buffer: &mut Vec<u8>) {
    for subscriber in subscribers {
        let length = u16::try_from(message.len() + 17).unwrap_or(u16::MAX).to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        buffer.clear();
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(message);
        buffer.push(23);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&subscriber.sequence.to_be_bytes());
        subscriber.sequence += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = subscriber.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut buffer[5..]);
        buffer.extend_from_slice(tag.expect("short enough").as_ref());
        let count = subscriber.stream.tcp().write(buffer).expect("there is room");
        assert_eq!(count, buffer.len());
    }
}

fn ours(subscribers: &mut [Subscriber], message: &[u8]) {
    for subscriber in subscribers {
        let count = subscriber.stream.write(message).expect("there is room");
        assert!(count == message.len() && !subscriber.stream.wants_write());
    }
}

/// Takes what has arrived off the sockets.
fn drain(subscribers: &mut [Subscriber], scratch: &mut [u8]) {
    for subscriber in subscribers {
        while subscriber.peer.read(scratch).is_ok_and(|count| count > 0) {}
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let dir = tempfile::tempdir()?;
    let server = ServerTls::self_signed(dir.path(), "127.0.0.1:0".parse()?)?;
    let client = client_config(dir.path())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut subscribers =
        (0..args.subscribers).map(|_| connect(&listener, &server, &client)).collect::<Result<Vec<_>, _>>()?;
    let message = vec![b'x'; args.bytes];
    let (mut buffer, mut scratch) = (Vec::with_capacity(args.bytes + 64), vec![0; 64 * 1_024]);
    let (mut floor, mut own) = (Vec::new(), Vec::new());
    for round in 0..2 * args.rounds {
        // Floor, ours, ours, floor.
        if matches!(round % 4, 0 | 3) {
            floor.push(timed(|| bare(&mut subscribers, &message, &mut buffer)));
        } else {
            own.push(timed(|| ours(&mut subscribers, &message)));
        }
        drain(&mut subscribers, &mut scratch);
    }
    let (floor, own) = (median(&mut floor), median(&mut own));
    let ratio = own.as_secs_f64() / floor.as_secs_f64();
    let report = serde_json::json!({
        "subscribers": args.subscribers, "rounds": args.rounds, "bytes": args.bytes,
        "floor_us": floor.as_micros() as u64, "tls_us": own.as_micros() as u64, "ratio": ratio,
    });
    if args.json {
        println!("{report}");
    } else {
        println!(
            "{} subscribers, {} bytes: bare AES-128-GCM and write(2) {floor:?}, the feed's TLS {own:?}, ratio {ratio:.3}",
            args.subscribers, args.bytes
        );
    }
    Ok(())
}
