//! A subscriber's connection as the core sees it.

use std::io;
use std::net::IpAddr;

use socket2::SockRef;
use tocsin_core::feed::socket::{Broken, Offer, Socket};

use crate::net::Stream;

/// Send buffer of a connection about to be closed: its close frame must fit behind what fills the
/// small one.
const LAST_WORDS_BYTES: usize = 128 * 1_024;

/// A stream and whose limits it counts against.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    address: IpAddr,
}

impl Connection {
    pub(super) const fn new(stream: Stream, address: IpAddr) -> Connection {
        Connection { stream, address }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    pub(super) const fn address(&self) -> IpAddr {
        self.address
    }
}

impl Socket for Connection {
    fn offer(&mut self, bytes: &[u8]) -> Result<Offer, Broken> {
        let mut accepted = 0;
        // To `WouldBlock`, not to a short write: only then is a writable event sure to come.
        while let Some(rest) = bytes.get(accepted..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Broken),
                Ok(count) => accepted += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Broken),
            }
            if self.stream.wants_write() {
                break;
            }
        }
        Ok(Offer { accepted, held: self.stream.wants_write() })
    }

    fn settle(&mut self) -> Result<bool, Broken> {
        self.stream.flush().map_err(|_| Broken)
    }

    fn widen(&mut self) {
        // A refusal leaves the small buffer: the close frame then waits for room like anything else.
        let _ = SockRef::from(self.stream.tcp()).set_send_buffer_size(LAST_WORDS_BYTES);
    }

    fn finish(&mut self) {
        // Whatever this fails with, the connection is dropped next.
        let _ = self.stream.shutdown();
    }
}
