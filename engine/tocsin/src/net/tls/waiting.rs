//! Sealed bytes that wait for a full socket.
//!
//! Contract: in order, each once; memory only while something waits. Owner: the connection's thread. Never
//! blocks. Failure: the socket's error, after which the connection is finished.

use std::io::{self, Write};

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// `count` more bytes at the end, for the caller to fill.
    pub(super) fn grow(&mut self, count: usize) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.resize(start + count, 0);
        self.bytes.get_mut(start..).unwrap_or_default()
    }

    /// Writes `bytes` behind what waits and keeps what the socket does not take.
    pub(super) fn send(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let written = if self.flush(socket)? { write(socket, bytes)? } else { 0 };
        self.bytes.extend_from_slice(bytes.get(written..).unwrap_or_default());
        Ok(())
    }

    /// Offers what waits to the socket; `Ok(true)` when nothing does any more.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(true);
        }
        self.sent += write(socket, rest)?;
        if self.sent < self.bytes.len() {
            return Ok(false);
        }
        *self = Waiting::default();
        Ok(true)
    }
}

/// Writes until everything is written or the socket is full, and returns how much was.
fn write(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(written)
}
