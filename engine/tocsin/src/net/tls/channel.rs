//! An established connection's records in both directions: what arrives is opened and judged, what
//! leaves is sealed, keys change when they must.
//!
//! Contract: sans-I/O. The caller reads where [`Channel::next`] says ([`Next::Read`]), hands in what came
//! ([`Channel::received`]), and writes what [`Channel::seal`], [`Channel::close`] and
//! [`Channel::complain`] append to its buffer, in that order and completely. Owner: the connection's
//! thread. Allocates while a record has arrived in part, never for a record that arrives whole in one
//! read. Never blocks. Failure: [`Fault`]; after one the channel only says why ([`Channel::complain`]).
//!
//! Bounds: of what arrived, one record (twice that while it grows), beside what the handshake left over;
//! [`BARREN_RECORDS`] in a row without data; one `KeyUpdate` answer, however many were asked for
//! (RFC 8446 section 4.6.3 wants one before the next data, and that is when it leaves).
//!
//! What may arrive: application data; alerts (`close_notify` ends the stream cleanly, in TLS 1.2 other
//! warnings are ignored, everything else is a fault); in TLS 1.3 a `KeyUpdate`, whole within its
//! record or in parts with nothing in between, always last in its record. Any other handshake message,
//! `ChangeCipherSpec` and a second handshake are faults. This is the server's side: a client gets session
//! tickets, which have no place here.

use core::fmt;
use core::ops::Range;

use super::record::{Alert, Content, Fault, HEADER_BYTES, Opened, Opening, Sealing, Secrets, Version};

/// Records in a row that bring no data, before a peer is cut off.
pub const BARREN_RECORDS: u8 = 32;

const KEY_UPDATE: u8 = 24;
const CLIENT_HELLO: u8 = 1;
const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;
/// Type, length (1), request.
pub(super) const KEY_UPDATE_BYTES: usize = 5;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Derives a direction's next keys from its last (TLS 1.3).
pub trait Rekey {
    /// The sending side's.
    fn next_sending(&mut self) -> Option<Secrets>;
    /// The receiving side's.
    fn next_receiving(&mut self) -> Option<Secrets>;
}

/// Where the handshake left one direction.
#[derive(Debug)]
pub struct Direction {
    /// Its keys.
    pub secrets: Secrets,
    /// Number of its next record.
    pub sequence: u64,
}

/// What a reader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes of data are at the front of its buffer.
    Data(usize),
    /// The peer has said that it sends no more.
    End,
    /// Read into the buffer, at most so many bytes, and hand them to [`Channel::received`].
    Read(usize),
}

/// See the module head.
pub struct Channel<R> {
    version: Version,
    sending: Sealing,
    receiving: Opening,
    /// `None` in TLS 1.2.
    rekey: Option<R>,
    /// Records one sending key may seal.
    most_records: u64,
    /// Apart, and only while there is something: an idle connection has nothing.
    held: Option<Box<Held>>,
    /// A handshake message of which a part is still to come.
    message: [u8; KEY_UPDATE_BYTES],
    message_bytes: u8,
    barren: u8,
    /// The peer asked for a `KeyUpdate` of ours.
    update_due: bool,
    peer_closed: bool,
    closed: bool,
}

impl<R: Rekey> Channel<R> {
    /// Takes over from a handshake. `left_over` are bytes that came after its last record; `rekey` is
    /// there in TLS 1.3.
    ///
    /// # Errors
    /// [`Fault::Internal`]: the cipher refused a key.
    pub fn new(
        version: Version,
        sending: Direction,
        receiving: Direction,
        rekey: Option<R>,
        left_over: Vec<u8>,
    ) -> Result<Channel<R>, Fault> {
        Ok(Channel {
            version,
            most_records: sending.secrets.cipher().most_records(),
            sending: Sealing::new(version, sending.secrets, sending.sequence)?,
            receiving: Opening::new(version, receiving.secrets, receiving.sequence),
            rekey,
            held: Held::of(left_over),
            message: [0; KEY_UPDATE_BYTES],
            message_bytes: 0,
            barren: 0,
            update_due: false,
            peer_closed: false,
            closed: false,
        })
    }

    /// The same with fewer records for one sending key.
    #[must_use]
    pub fn with_most_records(self, most_records: u64) -> Channel<R> {
        Channel { most_records, ..self }
    }

    /// Gives out what is held, into `buffer` (not empty), or says what is missing.
    ///
    /// # Errors
    /// What arrived is against the rules.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Next, Fault> {
        let Some(mut held) = self.held.take() else {
            return Ok(if self.peer_closed { Next::End } else { Next::Read(usize::MAX) });
        };
        let next = self.next_of(&mut held, buffer);
        self.held = Some(held).filter(|held| !held.is_spent());
        next
    }

    fn next_of(&mut self, held: &mut Held, buffer: &mut [u8]) -> Result<Next, Fault> {
        loop {
            let count = held.give_out(buffer);
            if count > 0 {
                return Ok(Next::Data(count));
            }
            if self.peer_closed {
                held.sealed = held.bytes.len();
                return Ok(Next::End);
            }
            let rest = held.bytes.get_mut(held.sealed..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Next::Read(usize::MAX));
            }
            let record = match self.receiving.record_bytes(rest)? {
                None => return Ok(Next::Read(HEADER_BYTES - rest.len())),
                Some(record) if rest.len() < record => return Ok(Next::Read(record - rest.len())),
                Some(record) => record,
            };
            let opened = self.receiving.open(rest.get_mut(..record).unwrap_or_default())?;
            let (start, end) = (held.sealed + opened.plaintext.start, held.sealed + opened.plaintext.end);
            held.sealed += record;
            if self.judge(opened.content, held.bytes.get(start..end).unwrap_or_default())? {
                held.data = start..end;
            }
        }
    }

    /// Takes the `count` bytes a read has put at the front of `buffer`. `Some`: so many bytes of data are
    /// there instead, none when the peer has said that it sends no more. `None`: nothing to give out yet.
    ///
    /// # Errors
    /// What arrived is against the rules. Data before it, in the same read, is lost with the connection.
    pub fn received(&mut self, buffer: &mut [u8], count: usize) -> Result<Option<usize>, Fault> {
        if let Some(held) = &mut self.held {
            held.compact();
            held.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            return Ok(match self.next(buffer)? {
                Next::Data(count) => Some(count),
                Next::End => Some(0),
                Next::Read(_) => None,
            });
        }
        let (mut at, mut given) = (0, 0);
        while at < count && !self.peer_closed {
            let rest = buffer.get_mut(at..count).unwrap_or_default();
            let Some(whole) = self.receiving.record_bytes(rest)?.filter(|whole| *whole <= rest.len()) else {
                self.held = Held::of(rest.to_vec());
                break;
            };
            let record = rest.get_mut(..whole).unwrap_or_default();
            let Opened { content, plaintext } = self.receiving.open(record)?;
            if self.judge(content, record.get(plaintext.clone()).unwrap_or_default())? {
                buffer.copy_within(at + plaintext.start..at + plaintext.end, given);
                given += plaintext.len();
            }
            at += whole;
        }
        Ok((given > 0 || self.peer_closed).then_some(given))
    }

    /// Appends `data`, at most a record's worth, as a record; before it a `KeyUpdate` when one is due.
    ///
    /// # Errors
    /// [`Fault::Exhausted`]: the key is used up and TLS 1.2 has no other. [`Fault::Internal`]: after the
    /// end, or too much data.
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.closed {
            return Err(Fault::Internal);
        }
        if self.update_due || self.sending.sequence() >= self.most_records {
            self.update(out)?;
        }
        self.sending.seal(Content::ApplicationData, data, out)
    }

    /// Whether it holds memory beside itself.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.held.is_none()
    }

    /// Appends `close_notify`, once.
    ///
    /// # Errors
    /// The cipher refused.
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.alert(WARNING, Alert::CloseNotify, out)
    }

    /// Appends the alert that tells the peer of `fault`, unless the end was told before.
    pub fn complain(&mut self, fault: Fault, out: &mut Vec<u8>) {
        let Some(alert) = fault.alert() else { return };
        let level = match alert {
            // RFC 5246 section 7.2.2: always a warning. The connection ends all the same.
            Alert::CloseNotify | Alert::NoRenegotiation => WARNING,
            _ => FATAL,
        };
        // Nobody is left to tell of a failure to tell.
        let _ = self.alert(level, alert, out);
    }

    fn alert(&mut self, level: u8, alert: Alert, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        self.sending.seal(Content::Alert, &[level, alert as u8], out)
    }

    /// Announces new sending keys under the old ones and goes over to them.
    fn update(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let rekey = self.rekey.as_mut().ok_or(Fault::Exhausted)?;
        let secrets = rekey.next_sending().ok_or(Fault::Internal)?;
        let message = [KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED];
        self.sending.seal(Content::Handshake, &message, out)?;
        self.sending = Sealing::new(self.version, secrets, 0)?;
        self.update_due = false;
        Ok(())
    }

    /// What an opened record means. True: data, to be given out.
    fn judge(&mut self, content: Content, bytes: &[u8]) -> Result<bool, Fault> {
        if self.message_bytes > 0 && content != Content::Handshake {
            return Err(Fault::Unexpected);
        }
        if content == Content::ApplicationData && !bytes.is_empty() {
            self.barren = 0;
            return Ok(true);
        }
        self.barren += 1;
        if self.barren > BARREN_RECORDS {
            return Err(Fault::Flood);
        }
        match content {
            Content::ApplicationData => {}
            Content::Alert => self.alerted(bytes)?,
            Content::Handshake => self.handshake(bytes)?,
            Content::ChangeCipherSpec => return Err(Fault::Unexpected),
        }
        Ok(false)
    }

    fn alerted(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let &[level, description] = bytes else { return Err(Fault::Malformed) };
        if description == Alert::CloseNotify as u8 {
            self.peer_closed = true;
            return Ok(());
        }
        match self.version {
            // RFC 8446 section 6: the level means nothing, and all but these two are errors.
            Version::Tls13 if description == Alert::UserCanceled as u8 => Ok(()),
            Version::Tls13 => Err(Fault::PeerAlert(description)),
            Version::Tls12 => match level {
                WARNING => Ok(()),
                FATAL => Err(Fault::PeerAlert(description)),
                _ => Err(Fault::Parameter),
            },
        }
    }

    fn handshake(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.version == Version::Tls12 {
            return Err(match bytes.first() {
                Some(&CLIENT_HELLO) => Fault::Renegotiation,
                _ => Fault::Unexpected,
            });
        }
        let had = usize::from(self.message_bytes);
        let room = self.message.get_mut(had..).unwrap_or_default();
        let taken = bytes.len().min(room.len());
        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let all = had + taken;
        let [kind, length @ .., request] = self.message;
        // RFC 8446 section 5.1: no empty fragments, and keys change at a record's end only.
        if bytes.is_empty() || kind != KEY_UPDATE || bytes.len() > taken {
            return Err(Fault::Unexpected);
        }
        if all > length.len() && length != [0, 0, 1] {
            return Err(Fault::Malformed);
        }
        self.message_bytes = all as u8;
        if all < KEY_UPDATE_BYTES {
            return Ok(());
        }
        self.update_due |= match request {
            UPDATE_NOT_REQUESTED => false,
            UPDATE_REQUESTED => true,
            _ => return Err(Fault::Parameter),
        };
        self.message_bytes = 0;
        let secrets = self.rekey.as_mut().and_then(R::next_receiving).ok_or(Fault::Internal)?;
        self.receiving = Opening::new(self.version, secrets, 0);
        Ok(())
    }
}

/// What arrived and was not given out yet.
#[derive(Default)]
struct Held {
    /// Opened data (`data`), then sealed bytes from `sealed` on.
    bytes: Vec<u8>,
    data: Range<usize>,
    sealed: usize,
}

impl Held {
    fn of(sealed: Vec<u8>) -> Option<Box<Held>> {
        (!sealed.is_empty()).then(|| Box::new(Held { bytes: sealed, ..Held::default() }))
    }

    /// Moves opened data to the front of `buffer`; how much.
    fn give_out(&mut self, buffer: &mut [u8]) -> usize {
        let waiting = self.bytes.get(self.data.clone()).unwrap_or_default();
        let count = waiting.len().min(buffer.len());
        let (now, room) = (waiting.get(..count), buffer.get_mut(..count));
        room.unwrap_or_default().copy_from_slice(now.unwrap_or_default());
        self.data.start += count;
        count
    }

    /// Drops what was given out.
    fn compact(&mut self) {
        if self.data.is_empty() {
            self.bytes.drain(..self.sealed.min(self.bytes.len()));
            self.sealed = 0;
        }
    }

    fn is_spent(&self) -> bool {
        self.data.is_empty() && self.sealed >= self.bytes.len()
    }
}

impl<R> fmt::Debug for Channel<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
