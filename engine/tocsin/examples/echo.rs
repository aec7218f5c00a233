//! A WebSocket echo server for public conformance suites:
//! `cargo run --release --example echo -- --listen 127.0.0.1:9001 [--max-message BYTES]`.

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::Parser;
use tocsin::net::echo::EchoServer;
use tocsin_core::ws::SessionLimits;

/// Echoes every WebSocket message on the session code of the feed.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Longest frame and longest message accepted, in bytes.
    #[arg(long, default_value_t = 64 * 1_024 * 1_024)]
    max_message: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut server = EchoServer::bind(args.listen, SessionLimits::same(args.max_message))?;
    writeln!(io::stdout(), "listening on ws://{}", server.local_addr()?)?;
    server.run()
}
