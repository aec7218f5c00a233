//! Our server's side against rustls as the client, over a wire in memory that gives and takes as much as
//! a test wants: every version and cipher, both ways.

use std::collections::VecDeque;
use std::path::Path;

use rustls::crypto::ring as provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CipherSuite, Error, ProtocolVersion, RootCertStore, SupportedCipherSuite};

use super::super::{GENERATED_CERT, ServerTls, TlsFailure, failure_of};
use super::*;

/// The server's socket.
struct Wire {
    incoming: VecDeque<u8>,
    /// Most one read gives.
    part: usize,
    outgoing: Vec<u8>,
    /// What the socket still takes.
    room: usize,
    writes: usize,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(self.part);
        self.incoming.read(&mut buffer[..most])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.writes += 1;
        self.outgoing.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All but those of TLS 1.2 with an RSA certificate: their records are the same.
fn suites() -> Vec<SupportedCipherSuite> {
    let rsa = |suite: &SupportedCipherSuite| {
        format!("{suite:?}").contains("RSA_WITH") && !format!("{suite:?}").contains("ECDSA")
    };
    let suites: Vec<_> = provider::ALL_CIPHER_SUITES.iter().copied().filter(|s| !rsa(s)).collect();
    assert_eq!(suites.len(), 6);
    suites
}

fn is_13(suite: SupportedCipherSuite) -> bool {
    suite.version().version == ProtocolVersion::TLSv1_3
}

/// A certificate of its own for every test.
struct Fixture {
    server: ServerTls,
    roots: RootCertStore,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let server = ServerTls::self_signed(dir.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        let cert: &Path = &dir.path().join(GENERATED_CERT);
        roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
        Fixture { server, roots }
    }

    fn client_config(&self, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
        let mut crypto = provider::default_provider();
        crypto.cipher_suites = vec![suite];
        let config = ClientConfig::builder_with_provider(Arc::new(crypto))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        Arc::new(config)
    }

    fn shake(&self, suite: SupportedCipherSuite, part: usize) -> Talk {
        self.shake_with(&self.client_config(suite), part, |_| {})
    }

    /// `eager` is what the client does the moment it may, so that it arrives with its last flight.
    fn shake_with(
        &self,
        config: &Arc<ClientConfig>,
        part: usize,
        eager: impl Fn(&mut ClientConnection),
    ) -> Talk {
        let mut client = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        let mut handshake = Handshake::new(&self.server.feed).unwrap();
        let mut wire =
            Wire { incoming: VecDeque::new(), part, outgoing: Vec::new(), room: usize::MAX, writes: 0 };
        let mut was_eager = false;
        loop {
            if !client.is_handshaking() && !was_eager {
                was_eager = true;
                eager(&mut client);
            }
            while client.wants_write() {
                client.write_tls(&mut wire.incoming).unwrap();
            }
            if handshake.advance(&mut wire).unwrap() {
                break;
            }
            hand_over(&mut wire, &mut client).unwrap();
        }
        let server = Established::after(&mut handshake).unwrap();
        let mut talk = Talk { client, server, wire };
        talk.client_reads().unwrap();
        if !was_eager {
            eager(&mut talk.client);
            talk.client_sends();
        }
        talk
    }
}

/// Gives the client what the server has written.
fn hand_over(wire: &mut Wire, client: &mut ClientConnection) -> Result<(), Error> {
    let bytes = std::mem::take(&mut wire.outgoing);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

struct Talk {
    client: ClientConnection,
    server: Established,
    wire: Wire,
}

impl Talk {
    fn client_sends(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire.incoming).unwrap();
        }
    }

    fn client_writes(&mut self, bytes: &[u8]) {
        self.client.writer().write_all(bytes).unwrap();
        self.client_sends();
    }

    /// What arrived at the client.
    fn client_reads(&mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        let bytes = std::mem::take(&mut self.wire.outgoing);
        let mut rest = &bytes[..];
        loop {
            if !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
            }
            self.client.process_new_packets()?;
            // `WouldBlock` or the end, both of which the caller expects.
            let _ = self.client.reader().read_to_end(&mut all);
            if rest.is_empty() {
                return Ok(all);
            }
        }
    }

    fn server_writes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count =
                self.server.write(&mut self.wire, &bytes[..bytes.len().min(PLAINTEXT_BYTES)]).unwrap();
            bytes = &bytes[count..];
        }
    }

    /// What arrived at the server until there is no more. True: and the client said it was the end.
    fn server_reads(&mut self, room: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut buffer, mut all) = (vec![0; room], Vec::new());
        loop {
            match self.server.read(&mut self.wire, &mut buffer) {
                Ok(0) => return Ok((all, true)),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok((all, false)),
                Err(e) => return Err(e),
            }
        }
    }

    fn fault(&mut self) -> Fault {
        let error = self.server_reads(4_096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        *error.get_ref().unwrap().downcast_ref().unwrap()
    }
}

fn message(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

#[test]
fn every_suite_talks_both_ways_whatever_the_parts() {
    let fixture = Fixture::new();
    for suite in &suites() {
        for part in [1, 2, 3, 5, 6, 100, 1_460, 16_384, 100_000] {
            let mut talk = fixture.shake(*suite, part);
            for room in [1, 300, 4_096, 16_384] {
                for count in [1, 2, 300, 16_384, 40_000] {
                    talk.client_writes(&message(count));
                    assert_eq!(talk.server_reads(room).unwrap(), (message(count), false));
                    talk.server_writes(&message(count));
                    assert!(talk.client_reads().unwrap() == message(count), "{suite:?} {count}");
                }
            }
            assert!(talk.server.channel.is_idle() && talk.server.waiting.is_empty());
        }
    }
}

#[test]
fn a_message_is_one_write() {
    let fixture = Fixture::new();
    for suite in &suites() {
        let mut talk = fixture.shake(*suite, 4_096);
        let before = talk.wire.writes;
        for _ in 0..10 {
            talk.server_writes(&message(300));
        }
        assert_eq!(talk.wire.writes - before, 10);
    }
}

#[test]
fn what_comes_with_the_last_flight_of_the_handshake_is_not_lost() {
    let fixture = Fixture::new();
    for suite in &suites() {
        for part in [1, 7, 1_000, 100_000] {
            let talk = fixture.shake_with(&fixture.client_config(*suite), part, |client| {
                client.writer().write_all(b"GET / HTTP/1.1\r\n").unwrap();
                if is_13(*suite) {
                    // Asks for ours, which rustls would have answered under keys it has given away.
                    client.refresh_traffic_keys().unwrap();
                }
                client.writer().write_all(&message(5_000)).unwrap();
                client.send_close_notify();
            });
            let mut talk = talk;
            let (read, ended) = talk.server_reads(1_000).unwrap();
            assert_eq!(read, [b"GET / HTTP/1.1\r\n".to_vec(), message(5_000)].concat());
            assert!(ended, "{suite:?} {part}");
            talk.server_writes(b"101");
            assert_eq!(talk.client_reads().unwrap(), b"101");
            assert!(talk.server.channel.is_idle());
        }
    }
}

#[test]
fn tickets_leave_before_anything_else_and_resume() {
    let fixture = Fixture::new();
    for suite in &suites() {
        let config = fixture.client_config(*suite);
        for resumed in [false, true, true] {
            let mut talk = fixture.shake_with(&config, 100_000, |_| {});
            assert_eq!(talk.server.resumed, resumed, "{suite:?}");
            talk.client_writes(b"in");
            assert_eq!(talk.server_reads(10).unwrap().0, b"in");
            talk.server_writes(b"out");
            assert_eq!(talk.client_reads().unwrap(), b"out");
        }
    }
}

#[test]
fn keys_change_in_both_directions_amid_data() {
    let fixture = Fixture::new();
    for suite in suites().iter().filter(|s| is_13(**s)) {
        let mut talk = fixture.shake(*suite, 11);
        for round in 0..200_u32 {
            if round % 3 == 0 {
                talk.client.refresh_traffic_keys().unwrap();
            }
            talk.client_writes(&round.to_be_bytes());
            assert_eq!(talk.server_reads(100).unwrap().0, round.to_be_bytes());
            if round % 2 == 0 {
                talk.server_writes(&round.to_le_bytes());
                assert_eq!(talk.client_reads().unwrap(), round.to_le_bytes());
            }
        }
    }
}

#[test]
fn a_used_up_key_is_changed_in_13_and_ends_the_connection_in_12() {
    let fixture = Fixture::new();
    for suite in &suites() {
        let mut talk = fixture.shake(*suite, 100_000);
        // The handshake's own records count.
        talk.server.channel = talk.server.channel.with_most_records(10);
        let mut got = Vec::new();
        for sent in 0..60_u8 {
            match talk.server.write(&mut talk.wire, &[sent]) {
                Ok(count) => assert_eq!(count, 1),
                Err(error) => {
                    assert!(!is_13(*suite) && sent > 5);
                    assert_eq!(failure_of(&error), TlsFailure::Protocol);
                    break;
                }
            }
            got.extend(talk.client_reads().unwrap());
        }
        assert!(got.len() == 60 || !is_13(*suite));
        assert_eq!(got, (0..got.len()).map(|n| n as u8).collect::<Vec<_>>());
        talk.client_reads().unwrap();
        let closed = talk.client.process_new_packets().unwrap().peer_has_closed();
        assert_eq!(closed, !is_13(*suite), "{suite:?}");
    }
}

#[test]
fn ends_are_told_both_ways() {
    let fixture = Fixture::new();
    for suite in &suites() {
        let mut talk = fixture.shake(*suite, 1_000);
        talk.server_writes(b"last");
        assert!(talk.server.close(&mut talk.wire).unwrap());
        assert!(talk.server.close(&mut talk.wire).unwrap());
        assert_eq!(talk.client_reads().unwrap(), b"last");
        assert!(talk.client.process_new_packets().unwrap().peer_has_closed());
        talk.client_writes(b"thanks");
        talk.client.send_close_notify();
        talk.client_sends();
        assert_eq!(talk.server_reads(4).unwrap(), (b"thanks".to_vec(), true));
        assert_eq!(talk.server_reads(4).unwrap(), (Vec::new(), true));
    }
}

#[test]
fn any_bit_changed_on_the_way_is_told_as_what_it_is() {
    let fixture = Fixture::new();
    for suite in &suites() {
        let bits = {
            let mut talk = fixture.shake(*suite, 1_000);
            talk.client_writes(b"price");
            talk.wire.incoming.len() * 8
        };
        // Every byte behind the header, another bit of each.
        for bit in (HEADER_BITS..bits).step_by(9) {
            let mut talk = fixture.shake(*suite, 1_000);
            talk.client_writes(b"price");
            talk.wire.incoming[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(talk.fault(), Fault::BadRecord);
            let told = talk.client_reads().unwrap_err();
            assert_eq!(told, Error::AlertReceived(AlertDescription::BadRecordMac));
            // And the other way.
            let mut talk = fixture.shake(*suite, 1_000);
            talk.server_writes(b"price");
            talk.wire.outgoing[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(talk.client_reads().unwrap_err(), Error::DecryptError);
            talk.client_sends();
            let error = talk.server_reads(100).unwrap_err();
            assert_eq!(failure_of(&error), TlsFailure::PeerAlert, "{error}");
        }
    }
}

const HEADER_BITS: usize = super::super::record::HEADER_BYTES * 8;

#[test]
fn a_full_socket_holds_one_write_and_the_order_stays() {
    let fixture = Fixture::new();
    for suite in &suites() {
        for room in [0, 1, 4, 5, 6, 29, 100, 300] {
            let mut talk = fixture.shake(*suite, 1_000);
            talk.wire.room = room;
            assert_eq!(talk.server.write(&mut talk.wire, &message(300)).unwrap(), 300);
            assert!(!talk.server.waiting.is_empty());
            let more = talk.server.write(&mut talk.wire, b"more").unwrap_err();
            assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
            talk.wire.room = 1;
            assert!(!talk.server.waiting.flush(&mut talk.wire).unwrap());
            // The end waits behind it.
            assert!(!talk.server.close(&mut talk.wire).unwrap());
            talk.wire.room = usize::MAX;
            assert!(talk.server.waiting.flush(&mut talk.wire).unwrap());
            assert_eq!(talk.client_reads().unwrap(), message(300), "{suite:?} {room}");
            assert!(talk.client.process_new_packets().unwrap().peer_has_closed());
        }
    }
}

#[test]
fn an_alert_behind_a_full_socket_stays_behind_what_was_taken() {
    let fixture = Fixture::new();
    let mut talk = fixture.shake(suites()[0], 1_000);
    talk.wire.room = 10;
    talk.server_writes(&message(100));
    talk.wire.incoming.extend([23, 3, 3, 0, 20]);
    talk.wire.incoming.extend([0; 20]);
    assert_eq!(talk.fault(), Fault::BadRecord);
    talk.wire.room = usize::MAX;
    assert!(talk.server.waiting.flush(&mut talk.wire).unwrap());
    assert_eq!(talk.client_reads().unwrap_err(), Error::AlertReceived(AlertDescription::BadRecordMac));
}

#[test]
fn a_handshake_that_fails_tells_the_client_why() {
    let fixture = Fixture::new();
    let config = fixture.client_config(suites()[0]);
    let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = VecDeque::new();
    client.write_tls(&mut hello).unwrap();
    let mut wire = Wire { incoming: hello, part: 50, outgoing: Vec::new(), room: usize::MAX, writes: 0 };
    // The suite the client asked for becomes one that nobody has.
    let [high, low] = u16::from(CipherSuite::TLS13_AES_256_GCM_SHA384).to_be_bytes();
    let bytes = wire.incoming.make_contiguous();
    let at = bytes.windows(2).rposition(|pair| pair == [high, low]).unwrap();
    bytes[at] = 0x5a;
    let mut handshake = Handshake::new(&fixture.server.feed).unwrap();
    let error = handshake.advance(&mut wire).unwrap_err();
    assert_eq!(failure_of(&error), TlsFailure::Incompatible, "{error}");
    let told = hand_over(&mut wire, &mut client).unwrap_err();
    assert!(matches!(told, Error::AlertReceived(_)), "{told}");
}

#[test]
fn handshakes_in_many_small_records_come_through() {
    let fixture = Fixture::new();
    for suite in &suites() {
        for (most, part) in [(32, 1), (32, 100_000), (100, 64), (300, 4_096)] {
            let mut config = ClientConfig::clone(&fixture.client_config(*suite));
            config.max_fragment_size = Some(most);
            let config = Arc::new(config);
            for resumed in [false, true] {
                let mut talk = fixture.shake_with(&config, part, |client| {
                    client.writer().write_all(&message(500)).unwrap();
                });
                assert_eq!(talk.server.resumed, resumed, "{suite:?} {most} {part}");
                assert_eq!(talk.server_reads(400).unwrap(), (message(500), false));
            }
        }
    }
}

/// A client's first flight, in records of at most `most` bytes.
fn hello(fixture: &Fixture, suite: SupportedCipherSuite, most: usize) -> Vec<u8> {
    let mut config = ClientConfig::clone(&fixture.client_config(suite));
    config.max_fragment_size = Some(most);
    let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives a new handshake these bytes, to the end or to its error.
fn feed(fixture: &Fixture, bytes: &[u8], part: usize) -> io::Result<bool> {
    let mut handshake = Handshake::new(&fixture.server.feed)?;
    let incoming = bytes.iter().copied().collect();
    let mut wire = Wire { incoming, part, outgoing: Vec::new(), room: usize::MAX, writes: 0 };
    let outcome = handshake.advance(&mut wire);
    if outcome.is_err() {
        // Finished with, and it says so again.
        assert!(handshake.advance(&mut wire).is_err() && handshake.finish().is_err());
    }
    outcome
}

#[test]
fn hellos_changed_anywhere_are_errors_or_wait_and_never_a_panic() {
    let fixture = Fixture::new();
    for (suite, most, part) in [(suites()[0], 16_000, 4_096), (suites()[5], 40, 4_096), (suites()[2], 33, 17)]
    {
        let hello = hello(&fixture, suite, most);
        for at in 0..hello.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = hello.clone();
                changed[at] ^= change;
                // And records behind it that fit nowhere.
                changed.extend_from_slice(&hello);
                let _ = feed(&fixture, &changed, part);
            }
            let _ = feed(&fixture, &[&hello[..at], &hello].concat(), part);
        }
    }
}

#[test]
fn a_handshake_without_end_is_bounded() {
    let fixture = Fixture::new();
    // A message of 16 MB in records of one byte, and one in full records.
    for record in [1_usize, 16_384] {
        let mut handshake = Handshake::new(&fixture.server.feed).unwrap();
        let mut wire = Wire {
            incoming: VecDeque::new(),
            part: 4_096,
            outgoing: Vec::new(),
            room: usize::MAX,
            writes: 0,
        };
        let mut message = vec![1, 0xff, 0xff, 0xff];
        message.resize(300_000, 0);
        for part in message.chunks(record) {
            wire.incoming.extend([22, 3, 3, (part.len() >> 8) as u8, part.len() as u8]);
            wire.incoming.extend(part);
        }
        let error = handshake.advance(&mut wire).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(wire.incoming.len() > 100_000, "{}", wire.incoming.len());
    }
}

#[test]
fn what_stays_of_a_session_is_small() {
    assert!(size_of::<Established>() <= 800, "{}", size_of::<Established>());
}
