//! RFC 6455 conformance: the families of cases that public suites check, as tables. Each case runs
//! against the session in memory at several cuts and against the echo server over a socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod closing;
mod framing;
mod peer;
mod text;

use peer::Server;

#[test]
fn handshakes_that_are_none_are_refused_over_the_socket() {
    let server = Server::start();
    let good = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let rows = [
        ("GET / ", "PUT / ", "405", "Allow: GET"),
        ("Version: 13", "Version: 12", "426", "Sec-WebSocket-Version: 13"),
        ("Upgrade: websocket\r\n", "", "400", ""),
        ("\r\n\r\n", &format!("\r\n{}\r\n", "A: b\r\n".repeat(64)), "431", ""),
    ];
    for (from, to, status, header) in rows {
        let (_, answer) = server.ask(&good.replace(from, to));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(header) && answer.contains("Connection: close"), "{answer}");
    }
}
