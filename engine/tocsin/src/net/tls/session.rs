//! One connection's TLS, whichever side and phase, over its socket.
//!
//! Contract: what [`super::super::Stream`] promises; every call returns at once. A server's connection is
//! a [`Handshake`] first and, from the handshake's last record on, an [`Established`]: rustls is gone
//! then, and our own record layer (`channel`, `record`) goes on. A client's stays with rustls. Owner:
//! the connection's thread. Allocates in the handshake, while the socket is full, and while a record has
//! arrived in part; a sealed record is built in one buffer for all connections of the thread.
//! Failure: `io::Error`; `InvalidData` holds a `rustls::Error` or a [`Fault`], and the alert for it was
//! offered to the socket.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig};

use super::channel::{Channel, KEY_UPDATE_BYTES, Next};
use super::handshake::Handshake;
use super::record::{Fault, OVERHEAD_BYTES, PLAINTEXT_BYTES};
use super::schedule::KeySchedule;
use super::waiting::Waiting;

thread_local! {
    /// Where this thread seals. Not lent through the callers: the feed's core offers bytes to any kind
    /// of connection and knows of no sealing, and a buffer for each connection is what this saves. Taken
    /// out and put back, so nothing can meet it in use.
    static SEALED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A full record of data, and a `KeyUpdate` before it: the buffer never grows.
const SEALED_BYTES: usize = PLAINTEXT_BYTES + 2 * OVERHEAD_BYTES + KEY_UPDATE_BYTES;

/// See the module head. Each phase has its own memory, so that none outlives its phase.
#[derive(Debug)]
pub(in crate::net) enum Session {
    Client(Box<Client>),
    Handshake(Box<Handshake>),
    Established(Box<Established>),
}

impl Session {
    pub(super) fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Session> {
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Session::Client(Box::new(Client { connection, closed: false })))
    }

    pub(super) fn server(config: &Arc<ServerConfig>) -> io::Result<Session> {
        Ok(Session::Handshake(Box::new(Handshake::new(config)?)))
    }

    /// Moves the handshake as far as the socket allows. `Ok(true)`: done.
    pub(in crate::net) fn handshake(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        match self {
            Session::Client(client) => client.handshake(tcp),
            Session::Handshake(handshake) => {
                if !handshake.advance(tcp)? {
                    return Ok(false);
                }
                *self = Session::Established(Box::new(Established::after(handshake)?));
                Ok(true)
            }
            Session::Established(_) => Ok(true),
        }
    }

    /// Reads plaintext into `buffer`, which is not empty. `Ok(0)`: the peer sends no more.
    pub(in crate::net) fn read(&mut self, tcp: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Session::Client(client) => client.read(tcp, buffer),
            Session::Handshake(_) => Err(io::ErrorKind::NotConnected.into()),
            Session::Established(established) => established.read(tcp, buffer),
        }
    }

    /// Takes at most a record's worth of plaintext and returns how much. `WouldBlock`: earlier bytes
    /// still wait.
    pub(in crate::net) fn write(&mut self, tcp: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..PLAINTEXT_BYTES).unwrap_or(bytes);
        match self {
            Session::Client(client) => client.write(tcp, bytes),
            Session::Handshake(_) => Err(io::ErrorKind::NotConnected.into()),
            Session::Established(established) => established.write(tcp, bytes),
        }
    }

    pub(in crate::net) fn wants_write(&self) -> bool {
        match self {
            Session::Client(client) => client.connection.wants_write(),
            Session::Handshake(handshake) => !handshake.outgoing.is_empty(),
            Session::Established(established) => !established.waiting.is_empty(),
        }
    }

    /// Offers sealed bytes to the socket; `Ok(true)` when none wait any more.
    pub(in crate::net) fn flush(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        match self {
            Session::Client(client) => client.flush(tcp),
            Session::Handshake(handshake) => handshake.outgoing.flush(tcp),
            Session::Established(established) => established.waiting.flush(tcp),
        }
    }

    /// Says `close_notify`, once. `Ok(true)`: it and everything before it has left.
    pub(in crate::net) fn close(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        match self {
            Session::Client(client) => client.close(tcp),
            // Nothing was said that an end could cut short.
            Session::Handshake(handshake) => handshake.outgoing.flush(tcp),
            Session::Established(established) => established.close(tcp),
        }
    }

    /// Whether the handshake resumed an earlier session; `None` while that is not known.
    pub(in crate::net) fn resumed(&self) -> Option<bool> {
        match self {
            Session::Client(client) => {
                client.connection.handshake_kind().map(|kind| kind == HandshakeKind::Resumed)
            }
            Session::Handshake(_) => None,
            Session::Established(established) => Some(established.resumed),
        }
    }
}

/// A server's connection after the handshake.
#[derive(Debug)]
pub(in crate::net) struct Established {
    channel: Channel<KeySchedule>,
    /// At most what the handshake left, or one write's worth and an alert.
    waiting: Waiting,
    resumed: bool,
}

impl Established {
    /// Goes on where `handshake`, which is done, ended.
    fn after(handshake: &mut Handshake) -> io::Result<Established> {
        let (channel, resumed) = handshake.finish()?;
        Ok(Established { channel, waiting: std::mem::take(&mut handshake.outgoing), resumed })
    }

    fn read(&mut self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let most = match self.channel.next(buffer) {
                Ok(Next::Data(count)) => return Ok(count),
                Ok(Next::End) => return Ok(0),
                Ok(Next::Read(most)) => most.min(buffer.len()),
                Err(fault) => return Err(self.fail(socket, fault)),
            };
            let count = match socket.read(buffer.get_mut(..most).unwrap_or_default()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                return Ok(0);
            }
            match self.channel.received(buffer, count) {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => {}
                Err(fault) => return Err(self.fail(socket, fault)),
            }
        }
    }

    fn write(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        if !self.waiting.flush(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.send(socket, |channel, out| channel.seal(bytes, out))? {
            Ok(()) => Ok(bytes.len()),
            Err(fault) => Err(self.fail(socket, fault)),
        }
    }

    fn close(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        if let Err(fault) = self.send(socket, Channel::close)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        self.waiting.flush(socket)
    }

    /// Tells the peer what is wrong; if the alert cannot leave now, nobody waits for it.
    fn fail(&mut self, socket: &mut impl Write, fault: Fault) -> io::Error {
        let _ = self.send(socket, |channel, out| {
            channel.complain(fault, out);
            Ok(())
        });
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    /// Sends what `seal` appends to the thread's buffer.
    fn send(
        &mut self,
        socket: &mut impl Write,
        seal: impl FnOnce(&mut Channel<KeySchedule>, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> io::Result<Result<(), Fault>> {
        let mut sealed = SEALED.take();
        sealed.clear();
        sealed.reserve_exact(SEALED_BYTES);
        let outcome = seal(&mut self.channel, &mut sealed);
        let sent = self.waiting.send(socket, &sealed);
        SEALED.set(sealed);
        sent.map(|()| outcome)
    }
}

/// A client's connection: rustls throughout. Sealed bytes that wait are bounded here: it seals only
/// when none wait.
#[derive(Debug)]
pub(in crate::net) struct Client {
    connection: ClientConnection,
    closed: bool,
}

impl Client {
    fn handshake(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        while self.connection.is_handshaking() {
            if !self.flush(tcp)? {
                return Ok(false);
            }
            match self.receive(tcp) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        // The last flight. Not waited for: `write` flushes first.
        self.flush(tcp)?;
        Ok(true)
    }

    /// Reads once from the socket and processes the records. `Ok(0)`: end of the TCP stream.
    fn receive(&mut self, tcp: &mut TcpStream) -> io::Result<usize> {
        let read = loop {
            match self.connection.read_tls(tcp) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Err(e) = self.connection.process_new_packets() {
            // The alert tells the peer what it did; if it cannot leave now, nobody waits for it.
            let _ = self.flush(tcp);
            return Err(io::Error::new(io::ErrorKind::InvalidData, e));
        }
        Ok(read)
    }

    fn read(&mut self, tcp: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            // Zero is noticed by the reader in the next round, which tells a clean end.
            self.receive(tcp)?;
        }
    }

    fn write(&mut self, tcp: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        if self.connection.is_handshaking() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !self.flush(tcp)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.connection.writer().write(bytes)?;
        self.flush(tcp)?;
        Ok(taken)
    }

    fn close(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        if !self.closed {
            self.closed = true;
            self.connection.send_close_notify();
        }
        self.flush(tcp)
    }

    fn flush(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
