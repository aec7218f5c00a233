//! One connection, plain TCP or TLS, server or client side, behind one non-blocking interface.
//!
//! Contract: every call returns at once. `WouldBlock` means "nothing moved; wait for the event".
//! Owner: whichever thread holds the value; it may be handed over, deregistered, between threads.
//! Allocation: none on plain connections. With TLS, [`Stream::handshake`] allocates; after it a
//! server's [`Stream::read`] does while a record has arrived in part and its [`Stream::write`] while the
//! socket is full, a client's both do inside the TLS library; the bounds are said at each call. Blocking: never. Failure: `io::Error`; after any error other than
//! `WouldBlock` the connection is finished and only dropping it makes sense.
//!
//! # Edge-triggered rules
//! mio registers edge-triggered. After a readable event call [`Stream::read`] until it returns
//! `WouldBlock`, `Ok(0)` or an error: with TLS, decrypted bytes may wait inside the stream and no
//! further event announces them. After a writable event call [`Stream::flush`] until it returns
//! `Ok(true)` or `WouldBlock` was met (`Ok(false)`). During the handshake call
//! [`Stream::handshake`] after every event, of either kind.
//!
//! # The writing seam
//! Plaintext becomes bytes on the wire in one place, [`Stream::write`] and [`Stream::flush`], over
//! `tls::Session`. Callers see: a write is taken whole or in part or not at all, what was taken is
//! sent in order, and at most one write's worth of sealed bytes ever waits in the stream. Two ways of
//! sealing stand behind the same three sentences: the TLS library's for clients, ours for servers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::tls::record::PLAINTEXT_BYTES;
use super::tls::{ClientTls, ServerTls, Session};

/// Most plaintext one [`Stream::write`] takes on a TLS connection: one full record. What the
/// socket does not take of it stays buffered, so this (plus the record's header and tag) is also
/// the bound of that buffer.
pub const TLS_WRITE_BYTES: usize = PLAINTEXT_BYTES;

/// A connection, plain or TLS. See the module head for the rules of use.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    tls: Option<Session>,
    fin_sent: bool,
}

impl Stream {
    /// A connection without TLS; ready at once.
    #[must_use]
    pub fn plain(tcp: TcpStream) -> Stream {
        Stream { tcp, tls: None, fin_sent: false }
    }

    /// The server side of a TLS connection just accepted. Nothing is sent or read yet.
    ///
    /// # Errors
    /// The TLS library refused the configuration.
    pub fn accept_tls(tcp: TcpStream, config: &ServerTls) -> io::Result<Stream> {
        Ok(Stream { tcp, tls: Some(config.session()?), fin_sent: false })
    }

    /// Turns a plain connection into the server side of a TLS one: for what precedes TLS on the same
    /// connection (PROXY protocol). Every plaintext byte must have been read.
    ///
    /// # Errors
    /// As [`Stream::accept_tls`].
    pub fn start_tls(&mut self, config: &ServerTls) -> io::Result<()> {
        self.tls = Some(config.session()?);
        Ok(())
    }

    /// The client side of a TLS connection; `tcp` may still be connecting. `server_name` is a DNS
    /// name or an IP address, without port or brackets.
    ///
    /// # Errors
    /// `InvalidInput` when `server_name` is neither; or the TLS library refused.
    pub fn connect_tls(tcp: TcpStream, config: &ClientTls, server_name: &str) -> io::Result<Stream> {
        Ok(Stream { tcp, tls: Some(config.session(server_name)?), fin_sent: false })
    }

    /// Moves the TLS handshake as far as the socket allows. `Ok(true)`: done, plaintext may flow
    /// (at once on a plain connection). `Ok(false)`: wait for the next event of either kind.
    /// Messages of one handshake are bounded to 64 KiB by the TLS library.
    ///
    /// # Errors
    /// The socket's, `UnexpectedEof` when the peer left, `InvalidData` when it broke the protocol
    /// or its certificate is refused ([`super::tls::failure_of`] tells which). A fatal alert has been
    /// offered to the socket by then.
    pub fn handshake(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(tls) => tls.handshake(&mut self.tcp),
            None => Ok(true),
        }
    }

    /// Reads plaintext. `Ok(0)`: the peer sends no more (a TLS peer that closes TCP without
    /// `close_notify` counts too, so a message delimited only by the end of the connection must
    /// not be trusted) or `buffer` is empty. At most 16 KiB of undelivered plaintext waits inside.
    ///
    /// # Errors
    /// `WouldBlock`: nothing to read, wait for a readable event. `NotConnected`: a server's handshake is
    /// not done. Others end the connection.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(_) if buffer.is_empty() => Ok(0),
            Some(tls) => tls.read(&mut self.tcp, buffer),
            None => retry_interrupted(|| self.tcp.read(buffer)),
        }
    }

    /// Takes plaintext for the peer and returns how many bytes of it. Without TLS: what the socket
    /// took. With TLS: at most [`TLS_WRITE_BYTES`] are sealed into one record; what the socket did
    /// not take of that record stays buffered, and until it has left nothing more is taken. So a
    /// caller that is owed a writable event has at most one write outstanding here. Bytes counted
    /// as taken must not be offered again.
    ///
    /// # Errors
    /// `WouldBlock`: nothing was taken, wait for a writable event. `NotConnected`: the handshake is
    /// not done. `BrokenPipe`: after [`Stream::shutdown`]. Others end the connection.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(_) if self.fin_sent => Err(io::ErrorKind::BrokenPipe.into()),
            Some(tls) => tls.write(&mut self.tcp, bytes),
            None => retry_interrupted(|| self.tcp.write(bytes)),
        }
    }

    /// Whether sealed bytes wait inside for the socket. Always false without TLS.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(Session::wants_write)
    }

    /// Offers waiting sealed bytes to the socket. `Ok(true)`: none wait any more. `Ok(false)`: wait
    /// for a writable event.
    ///
    /// # Errors
    /// The socket's, except `WouldBlock`.
    pub fn flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(tls) => tls.flush(&mut self.tcp),
            None => Ok(true),
        }
    }

    /// Ends the sending side: `close_notify` (with TLS), then FIN. `Ok(true)`: both have left.
    /// `Ok(false)`: bytes still wait; call again after a writable event. Reading stays possible.
    ///
    /// # Errors
    /// The socket's, except `WouldBlock` and "already gone".
    pub fn shutdown(&mut self) -> io::Result<bool> {
        if self.fin_sent {
            return Ok(true);
        }
        if let Some(tls) = &mut self.tls
            && !tls.close(&mut self.tcp)?
        {
            return Ok(false);
        }
        self.fin_sent = true;
        match self.tcp.shutdown(Shutdown::Write) {
            Err(e) if e.kind() != io::ErrorKind::NotConnected => Err(e),
            _ => Ok(true),
        }
    }

    /// The other end.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// This end.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The error a failed `connect` left on the socket, if any; taking it clears it.
    ///
    /// # Errors
    /// The option could not be read.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.tcp.take_error()
    }

    /// Whether this is a TLS connection.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the TLS handshake resumed an earlier session; `None` without TLS or before that is
    /// known.
    #[must_use]
    pub fn resumed(&self) -> Option<bool> {
        self.tls.as_ref().and_then(Session::resumed)
    }

    /// The TCP socket, for options (`os::sockopt`) and for reading what precedes the TLS handshake
    /// (PROXY protocol). Moving bytes of an established TLS connection through it breaks it.
    #[must_use]
    pub const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.tcp.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.tcp.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.tcp.deregister(registry)
    }
}

/// Repeats a system call that a signal interrupted before it moved anything.
fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tls::{ClientTrust, GENERATED_CERT, GENERATED_KEY, TlsFailure, failure_of};
    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        for socket in [&client, &server] {
            socket.set_nonblocking(true).unwrap();
        }
        (TcpStream::from_std(client), TcpStream::from_std(server))
    }

    fn server_tls(dir: &Path) -> ServerTls {
        ServerTls::self_signed(dir, "127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn client_tls(dir: &Path) -> ClientTls {
        ClientTls::new(&ClientTrust { ca_file: Some(dir.join(GENERATED_CERT)), insecure: false }).unwrap()
    }

    /// Alternates both sides until both are done or one fails.
    fn shake(client: &mut Stream, server: &mut Stream) -> io::Result<()> {
        loop {
            let (server_done, client_done) = (server.handshake()?, client.handshake()?);
            if server_done && client_done {
                return Ok(());
            }
        }
    }

    fn tls_pair(client: &ClientTls, server: &ServerTls, name: &str) -> io::Result<(Stream, Stream)> {
        let (client_tcp, server_tcp) = pair();
        let mut client = Stream::connect_tls(client_tcp, client, name)?;
        let mut server = Stream::accept_tls(server_tcp, server)?;
        shake(&mut client, &mut server).map(|()| (client, server))
    }

    /// Reads until `count` bytes arrived.
    fn read_exactly(stream: &mut Stream, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4_096];
        while all.len() < count {
            match stream.read(&mut buffer) {
                Ok(n) => all.extend_from_slice(&buffer[..n]),
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
        all
    }

    fn exchange(mut client: Stream, mut server: Stream) {
        assert_eq!(client.write(b"ping").unwrap(), 4);
        assert_eq!(read_exactly(&mut server, 4), b"ping");
        assert_eq!(server.write(b"pong!").unwrap(), 5);
        assert_eq!(read_exactly(&mut client, 5), b"pong!");
        assert!(server.shutdown().unwrap());
        let mut buffer = [0; 16];
        loop {
            match client.read(&mut buffer) {
                Ok(n) => break assert_eq!(n, 0),
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn plain_and_tls_carry_bytes_both_ways_and_end() {
        let (client, server) = pair();
        exchange(Stream::plain(client), Stream::plain(server));
        let dir = tempfile::tempdir().unwrap();
        let (server, client) = (server_tls(dir.path()), client_tls(dir.path()));
        for name in ["localhost", "127.0.0.1"] {
            let (client, server) = tls_pair(&client, &server, name).unwrap();
            exchange(client, server);
        }
    }

    #[test]
    fn second_connection_resumes_on_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let (server, client) = (server_tls(dir.path()), client_tls(dir.path()));
        let (mut first_client, mut first_server) = tls_pair(&client, &server, "localhost").unwrap();
        assert_eq!((first_client.resumed(), first_server.resumed()), (Some(false), Some(false)));
        // Reading makes the client process the ticket.
        first_server.write(b"x").unwrap();
        read_exactly(&mut first_client, 1);
        let (second_client, second_server) = tls_pair(&client, &server, "localhost").unwrap();
        assert_eq!((second_client.resumed(), second_server.resumed()), (Some(true), Some(true)));
    }

    #[test]
    fn at_most_one_write_waits_inside_and_everything_arrives_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (server, client) = (server_tls(dir.path()), client_tls(dir.path()));
        let (mut client, mut server) = tls_pair(&client, &server, "localhost").unwrap();
        let message: Vec<u8> = (0..=255).cycle().take(3 * TLS_WRITE_BYTES / 2).collect();
        let mut sent = Vec::new();
        loop {
            match server.write(&message) {
                Ok(n) => {
                    assert!(n > 0 && n <= TLS_WRITE_BYTES);
                    sent.extend_from_slice(&message[..n]);
                }
                Err(e) => break assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(server.wants_write() && !server.flush().unwrap());
        let mut received = read_exactly(&mut client, sent.len() - TLS_WRITE_BYTES);
        // The reader made room; the kernel may take a moment to say so.
        while !server.flush().unwrap() {}
        received.extend(read_exactly(&mut client, sent.len() - received.len()));
        assert_eq!(received, sent);
    }

    #[test]
    fn trust_decides_and_insecure_accepts_any() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let server = server_tls(dir.path());
        server_tls(other.path());
        let public = ClientTls::new(&ClientTrust::default()).unwrap();
        let rows = [
            (&public, "localhost"),
            (&client_tls(other.path()), "localhost"),
            (&client_tls(dir.path()), "a.invalid"),
        ];
        for (client, name) in rows {
            let refused = tls_pair(client, &server, name).unwrap_err();
            assert_eq!(failure_of(&refused), TlsFailure::Certificate, "{refused}");
        }
        let insecure = ClientTls::new(&ClientTrust { ca_file: None, insecure: true }).unwrap();
        tls_pair(&insecure, &server, "a.invalid").unwrap();
    }

    #[test]
    fn what_is_not_tls_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (client, server) = pair();
        let mut server = Stream::accept_tls(server, &server_tls(dir.path())).unwrap();
        let mut client = Stream::plain(client);
        assert!(!server.handshake().unwrap());
        client.write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let error = server.handshake().unwrap_err();
        assert_eq!(failure_of(&error), TlsFailure::NotTls);
        let mut server = Stream::accept_tls(pair().1, &server_tls(dir.path())).unwrap();
        assert_eq!(failure_of(&server.handshake().unwrap_err()), TlsFailure::Gone);
    }

    #[test]
    fn generated_pair_is_kept_private_and_made_again_when_half_is_missing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let first = server_tls(dir.path());
        let key = dir.path().join(GENERATED_KEY);
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(server_tls(dir.path()).fingerprint(), first.fingerprint());
        assert_eq!(first.fingerprint_text().len(), 32 * 3 - 1);
        std::fs::remove_file(&key).unwrap();
        assert_ne!(server_tls(dir.path()).fingerprint(), first.fingerprint());
        std::fs::write(&key, "not a key").unwrap();
        let error = ServerTls::self_signed(dir.path(), "[::]:0".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains(GENERATED_KEY), "{error}");
    }
}
