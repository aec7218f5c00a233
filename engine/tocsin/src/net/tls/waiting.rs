//! Sealed bytes that wait for a full socket.
//!
//! Contract: in order, each once; memory only while something waits. Owner: the connection's thread. Never
//! blocks. Failure: the socket's error, after which the connection is finished.

use std::io::{self, Write};

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Waiting(Option<Box<Unsent>>);

#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `count` more bytes at the end, for the caller to fill.
    pub(super) fn grow(&mut self, count: usize) -> &mut [u8] {
        let bytes = &mut self.0.get_or_insert_default().bytes;
        let start = bytes.len();
        bytes.resize(start + count, 0);
        bytes.get_mut(start..).unwrap_or_default()
    }

    /// Writes `bytes` behind what waits and keeps what the socket does not take.
    pub(super) fn send(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let written = if self.flush(socket)? { write(socket, bytes)? } else { 0 };
        let rest = bytes.get(written..).unwrap_or_default();
        if !rest.is_empty() {
            self.0.get_or_insert_default().bytes.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Offers what waits to the socket; `Ok(true)` when nothing does any more.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        let Some(unsent) = &mut self.0 else { return Ok(true) };
        unsent.sent += write(socket, unsent.bytes.get(unsent.sent..).unwrap_or_default())?;
        if unsent.sent < unsent.bytes.len() {
            return Ok(false);
        }
        self.0 = None;
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
