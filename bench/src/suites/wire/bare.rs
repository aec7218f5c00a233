//! The floor of the way from a ring to a subscriber's socket: nothing but the hand-over and write(2).
//!
//! Contract: [`Bare::shot`] spins for as long as a rig idles, reads the clock, hands a number to the thread
//! that writes (which spins on the other core, or is the caller) and takes the instant at which its one
//! write(2) of the engine's frame has returned; over TLS the frame is sealed before. The socket is made as a
//! subscriber's is. Owner: the measuring thread; with [`Layout::TwoCores`] a second one until this is
//! dropped. Fails when a socket does or takes less than everything.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tocsin::os::sockopt::tune_subscriber;
use tocsin::os::{clock, cores};

use super::rig::{Layout, SEND_BUFFER_BYTES};
use crate::engine::Outcome;
use crate::lab::floor::{self, Sealed};
use crate::lab::frames;

/// Numbers a ring holds: one is on its way at a time.
const RING: usize = 8;
/// What a write that failed leaves instead of its instant.
const FAILED: u64 = u64::MAX;

/// The socket, plain or with its key.
enum Mouth {
    Plain([OwnedFd; 1]),
    Sealed(Box<[Sealed; 1]>, Vec<u8>),
}

impl Mouth {
    /// When the write of `frame` had returned, in monotonic nanoseconds.
    fn write(&mut self, frame: &[u8]) -> Result<u64, String> {
        let (first, _) = match self {
            Mouth::Plain(socket) => floor::write_all(socket, 0, frame)?,
            Mouth::Sealed(socket, record) => floor::seal_all(&mut socket[..], 0, frame, record)?,
        };
        Ok(first)
    }
}

enum Writer {
    Here(Box<Mouth>),
    There { numbers: rtrb::Producer<usize>, stop: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

/// See the module head.
pub(super) struct Bare {
    writer: Writer,
    frame: Arc<Vec<u8>>,
    /// When the last write had returned; 0 while it has not.
    written: Arc<AtomicU64>,
    far: TcpStream,
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Writer::There { stop, thread, .. } = &mut self.writer {
            stop.store(true, Ordering::Relaxed);
            // A panic of that thread has been told by itself.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

impl Bare {
    pub(super) fn new(layout: Layout, tls: bool) -> Outcome<Bare> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let far = TcpStream::connect(listener.local_addr()?)?;
        let (near, _) = listener.accept()?;
        for socket in [&far, &near] {
            socket.set_nonblocking(true)?;
        }
        tune_subscriber(&near, SEND_BUFFER_BYTES)?;
        let frame = Arc::new(frames::frame(1, clock::wall())?);
        let mouth = match tls {
            false => Mouth::Plain([near.into()]),
            true => {
                let record = Vec::with_capacity(frame.len() + frames::RECORD_HEADER + 64);
                Mouth::Sealed(Box::new([Sealed::new(mio::net::TcpStream::from_std(near))?]), record)
            }
        };
        let written = Arc::new(AtomicU64::new(0));
        let writer = match layout {
            Layout::OneThread => Writer::Here(Box::new(mouth)),
            Layout::TwoCores { source, feed } => {
                cores::pin(source)?;
                spin_on(feed, mouth, &frame, &written)?
            }
        };
        Ok(Bare { writer, frame, written, far })
    }

    /// From the hand-over to the write's return, after so long without work, in nanoseconds.
    pub(super) fn shot(&mut self, idle: Duration) -> Outcome<u64> {
        self.written.store(0, Ordering::Relaxed);
        let idle_ns = u64::try_from(idle.as_nanos())?;
        let begin = clock::mono().0;
        while clock::mono().0 < begin + idle_ns {
            std::hint::spin_loop();
        }
        let handed = clock::mono().0;
        let written = match &mut self.writer {
            Writer::Here(mouth) => mouth.write(&self.frame)?,
            Writer::There { numbers, .. } => {
                numbers.push(1).map_err(|_| "the bare writer takes nothing")?;
                loop {
                    match self.written.load(Ordering::Acquire) {
                        0 => std::hint::spin_loop(),
                        FAILED => return Err("the bare writer's socket takes nothing".into()),
                        at => break at,
                    }
                }
            }
        };
        self.read_away()?;
        Ok(written.saturating_sub(handed))
    }

    fn read_away(&mut self) -> Outcome<()> {
        let mut buffer = [0; 4_096];
        loop {
            match self.far.read(&mut buffer) {
                Ok(0) => return Err("the bare writer has left".into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A thread that spins on `core` and writes the frame for every number it gets.
fn spin_on(core: usize, mut mouth: Mouth, frame: &Arc<Vec<u8>>, written: &Arc<AtomicU64>) -> Outcome<Writer> {
    let stop = Arc::new(AtomicBool::new(false));
    let (numbers, mut taken) = rtrb::RingBuffer::<usize>::new(RING);
    let (stopped, frame, written) = (Arc::clone(&stop), Arc::clone(frame), Arc::clone(written));
    let (told, pinned) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("wire-bare".to_owned()).spawn(move || {
        // The one who waits for it goes on only when it was pinned.
        let _ = told.send(cores::pin(core));
        while !stopped.load(Ordering::Relaxed) {
            if taken.pop().is_ok() {
                written.store(mouth.write(&frame).unwrap_or(FAILED), Ordering::Release);
            }
            std::hint::spin_loop();
        }
    })?;
    pinned.recv()??;
    Ok(Writer::There { numbers, stop, thread: Some(thread) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shot_writes_one_frame_plain_and_sealed() {
        for tls in [false, true] {
            let mut bare = Bare::new(Layout::OneThread, tls).unwrap();
            for _ in 0..3 {
                let took = bare.shot(Duration::from_micros(100)).unwrap();
                assert!((1..1_000_000_000).contains(&took), "{took}");
            }
        }
        // What the far end has left makes the next shot an error and not an endless wait.
        let mut bare = Bare::new(Layout::OneThread, false).unwrap();
        bare.far.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(bare.shot(Duration::ZERO).is_err() || bare.shot(Duration::ZERO).is_err());
    }
}
