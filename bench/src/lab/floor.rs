//! The floor: the least work that brings the same bytes to the same number of sockets.
//!
//! Contract: [`write_all`] is a loop of write(2), nothing else; [`seal_all`] seals for each socket
//! first, with a key of its own, into one reused buffer. Both read the clock after the first and after
//! the last write. Owner: one thread. No allocation once the buffer has its size. Every socket must
//! have room: a short or refused write is an error, for then what was timed is something else.

use std::os::fd::OwnedFd;

use mio::net::TcpStream;
use rustix::io::{Errno, write};
use tocsin::os::clock;

use super::frames::Sealing;

/// Monotonic nanoseconds after the first and after the last write.
pub type Instants = (u64, u64);

/// Writes `bytes` to every socket, beginning at `from`.
///
/// # Errors
/// A socket took less than everything.
pub fn write_all(sockets: &[OwnedFd], from: usize, bytes: &[u8]) -> Result<Instants, String> {
    let (before, after) = sockets.split_at(from.min(sockets.len()));
    let mut first = 0;
    for socket in after.iter().chain(before) {
        let taken = loop {
            match write(socket, bytes) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        if taken != Ok(bytes.len()) {
            return Err(format!("a socket of the floor took {taken:?} of {} bytes", bytes.len()));
        }
        if first == 0 {
            first = clock::mono().0;
        }
    }
    Ok((first, clock::mono().0))
}

/// A socket with its key.
pub struct Sealed {
    tcp: TcpStream,
    sealing: Sealing,
}

impl Sealed {
    /// Of an accepted connection.
    ///
    /// # Errors
    /// It is gone already.
    pub fn new(tcp: TcpStream) -> Result<Sealed, String> {
        let port = tcp.peer_addr().map_err(|e| e.to_string())?.port();
        Ok(Sealed { tcp, sealing: Sealing::new(port)? })
    }
}

/// Seals `bytes` for every socket into `record` and writes that, beginning at `from`.
///
/// # Errors
/// A socket took less than everything.
pub fn seal_all(
    sockets: &mut [Sealed],
    from: usize,
    bytes: &[u8],
    record: &mut Vec<u8>,
) -> Result<Instants, String> {
    let (before, after) = sockets.split_at_mut(from.min(sockets.len()));
    let mut first = 0;
    for Sealed { tcp, sealing } in after.iter_mut().chain(before) {
        sealing.seal(bytes, record)?;
        let taken = loop {
            match write(&*tcp, record) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        if taken != Ok(record.len()) {
            return Err(format!("a socket of the floor took {taken:?} of {} bytes", record.len()));
        }
        if first == 0 {
            first = clock::mono().0;
        }
    }
    Ok((first, clock::mono().0))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn everyone_gets_the_bytes_and_a_full_socket_is_an_error() {
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let (here, mut there): (Vec<UnixStream>, Vec<UnixStream>) = pairs.into_iter().unzip();
        here.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let here: Vec<OwnedFd> = here.into_iter().map(OwnedFd::from).collect();
        let (first, last) = write_all(&here, 2, b"bytes").unwrap();
        assert!(0 < first && first <= last);
        for socket in &mut there {
            let mut got = [0; 5];
            socket.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"bytes");
        }
        assert!(write_all(&here, 0, &vec![0; 16 << 20]).is_err());
    }
}
