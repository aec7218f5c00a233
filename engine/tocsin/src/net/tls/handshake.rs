//! The server's handshake: rustls does all of it, then hands the session over.
//!
//! Contract: [`Handshake::advance`] moves as far as the socket allows; when it is done,
//! [`Handshake::finish`] takes keys and sequence numbers out of rustls through its kernel-offload interface
//! and drops the rest; the traffic secrets for a later `KeyUpdate` were told on the way (`schedule`). Owner: the accept thread. Allocates (rustls does); never
//! blocks. Failure: `io::Error` of kind `InvalidData` with the rustls error; the alert rustls has for it was
//! offered to the socket.
//!
//! INVARIANT: rustls gets the records one by one, and none behind the handshake's last. Whatever it
//! read further would be lost in the hand-over: data, a `close_notify`, and worst the answer to a
//! `KeyUpdate`, whose keys rustls would have changed already. Finished ends its record (rustls checks), so
//! no part of a message is lost either.
//!
//! Bound: [`INCOMING_BYTES`] of messages not complete yet, as the TLS library has it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ConnectionTrafficSecrets, HandshakeKind, ProtocolVersion, ServerConfig};

use super::channel::{Channel, Direction};
use super::record::{Cipher, Fault, HEADER_BYTES, Secrets, Version};
use super::schedule::{self, KeySchedule, Told};
use super::waiting::Waiting;

/// Bytes of records whose messages are not complete, at most.
const INCOMING_BYTES: usize = 64 * 1_024;
/// Bytes read at once: a client's whole flight, as a rule.
const READ_BYTES: usize = 4 * 1_024;

/// A server's handshake under way.
pub(in crate::net) struct Handshake {
    /// `None` once handed over or failed.
    connection: Option<UnbufferedServerConnection>,
    incoming: Vec<u8>,
    /// So many bytes of `incoming` rustls has been shown: whole records.
    shown: usize,
    /// The traffic secrets, once rustls has derived them (TLS 1.3).
    told: Told,
    pub(super) outgoing: Waiting,
}

impl Handshake {
    pub(super) fn new(config: &Arc<ServerConfig>) -> io::Result<Handshake> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Handshake {
            connection: Some(connection),
            incoming: Vec::new(),
            shown: 0,
            told: Told::default(),
            outgoing: Waiting::default(),
        })
    }

    /// `Ok(true)`: done; what `outgoing` still holds leaves before anything else.
    pub(super) fn advance(&mut self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        loop {
            match self.process() {
                Ok(true) => {
                    // The last flight and session tickets, not waited for.
                    self.outgoing.flush(socket)?;
                    return Ok(true);
                }
                Ok(false) => {}
                Err(error) => {
                    // The alert tells the peer what it did; if it cannot leave now, nobody waits for it.
                    self.take_alert();
                    self.connection = None;
                    let _ = self.outgoing.flush(socket);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            if !self.outgoing.flush(socket)? {
                return Ok(false);
            }
            if self.incoming.len() >= INCOMING_BYTES {
                let error = rustls::InvalidMessage::HandshakePayloadTooLarge;
                return Err(io::Error::new(io::ErrorKind::InvalidData, rustls::Error::from(error)));
            }
            let mut chunk = [0; READ_BYTES];
            match socket.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.incoming.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    /// Shows rustls what has arrived, record by record, and takes what it has to send. True: done.
    fn process(&mut self) -> Result<bool, rustls::Error> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(rustls::Error::General("the handshake is over".to_owned()));
        };
        loop {
            let shown = self.incoming.get_mut(..self.shown).unwrap_or_default();
            // What another connection left untaken is not this one's.
            drop(schedule::take_told());
            let UnbufferedStatus { discard, state } = connection.process_tls_records(shown);
            self.told.add(schedule::take_told());
            let again = match state? {
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut self.outgoing)?;
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    // It waits in `outgoing`, in order.
                    data.done();
                    true
                }
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => false,
                // No record behind the handshake is shown, and early data is never allowed.
                _ => return Err(rustls::Error::General("traffic within the handshake".to_owned())),
            };
            self.incoming.drain(..discard.min(self.incoming.len()));
            self.shown = self.shown.saturating_sub(discard);
            if again {
                continue;
            }
            if !connection.is_handshaking() {
                return Ok(true);
            }
            let Some(record) = next_record(self.incoming.get(self.shown..).unwrap_or_default()) else {
                return Ok(false);
            };
            self.shown += record;
        }
    }

    /// After an error, all rustls still has to say is its alert. Asked for while there is one and no
    /// longer, and with what it was shown before: else it would look at records again, at places that it
    /// remembers.
    fn take_alert(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        while connection.wants_write() {
            let shown = self.incoming.get_mut(..self.shown).unwrap_or_default();
            let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process_tls_records(shown).state
            else {
                return;
            };
            if encode(&mut data, &mut self.outgoing).is_err() {
                return;
            }
        }
    }

    /// Ends rustls' part: the records go on in a [`Channel`]. Also whether the session was resumed.
    pub(super) fn finish(&mut self) -> io::Result<(Channel<KeySchedule>, bool)> {
        let connection = self.connection.take().ok_or(io::ErrorKind::NotConnected)?;
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        // What the interface keeps for a later `KeyUpdate` is dropped: half a kilobyte and more.
        let (secrets, kernel) = connection.dangerous_into_kernel_connection().map_err(io::Error::other)?;
        let version = match kernel.protocol_version() {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            other => return Err(io::Error::other(format!("no records of {other:?}"))),
        };
        let direction = |(sequence, secrets): (u64, ConnectionTrafficSecrets)| {
            secrets_of(&secrets).map(|secrets| Direction { secrets, sequence }).ok_or(Fault::Internal)
        };
        let left_over = self.incoming.split_off(self.shown.min(self.incoming.len()));
        let told = std::mem::take(&mut self.told);
        let rekey = |cipher| match version {
            Version::Tls12 => Ok(None),
            Version::Tls13 => told.server_schedule(cipher).map(Some).ok_or(Fault::Internal),
        };
        let channel = direction(secrets.tx)
            .and_then(|tx| Ok((rekey(tx.secrets.cipher())?, tx, direction(secrets.rx)?)))
            .and_then(|(rekey, tx, rx)| Channel::new(version, tx, rx, rekey, left_over))
            .map_err(io::Error::other)?;
        Ok((channel, resumed))
    }
}

impl core::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

/// Length of the record at the front, when it is all there. A header that no record has goes to
/// rustls at once, with everything behind it: it refuses it.
fn next_record(bytes: &[u8]) -> Option<usize> {
    const MOST_BYTES: usize = (1 << 14) + 2_048;
    let &[content, major, _, high, low] = bytes.first_chunk::<HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=23).contains(&content) || major != 3 || length > MOST_BYTES {
        return Some(bytes.len());
    }
    (bytes.len() >= HEADER_BYTES + length).then_some(HEADER_BYTES + length)
}

fn encode(
    data: &mut EncodeTlsData<'_, ServerConnectionData>,
    outgoing: &mut Waiting,
) -> Result<(), rustls::Error> {
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        _ => 0,
    };
    let written = data.encode(outgoing.grow(needed));
    written.map(|_| ()).map_err(|e| rustls::Error::General(e.to_string()))
}

fn secrets_of(secrets: &ConnectionTrafficSecrets) -> Option<Secrets> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::Chacha20Poly1305, key, iv),
        _ => return None,
    };
    Secrets::new(cipher, key.as_ref(), iv.as_ref().try_into().ok()?)
}
