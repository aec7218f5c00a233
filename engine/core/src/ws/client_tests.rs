//! A client against the server's half of the same module, whole and cut at random points.

use proptest::prelude::*;

use super::super::frame::write_fragment;
use super::*;

const KEY: [u8; 4] = [0xA1, 0x02, 0xF3, 0x44];

/// What a server hears, as text.
fn served(bytes: &[u8]) -> Vec<String> {
    let mut server = Session::new(Role::Server, SessionLimits::same(1_024));
    let mut heard = Vec::new();
    let flow = server.receive::<()>(&mut bytes.to_vec(), &mut |event| {
        heard.push(format!("{event:?}"));
        ControlFlow::Continue(())
    });
    assert!(flow.is_ok(), "{flow:?}");
    heard
}

fn hear(client: &mut Client, bytes: &[u8]) -> Vec<String> {
    let mut heard = Vec::new();
    client.receive(&mut bytes.to_vec(), &mut |what| heard.push(format!("{what:?}")));
    heard
}

#[test]
fn every_frame_is_masked_with_the_key_it_was_given() {
    let mut client = Client::new(1_024);
    let mut out = Vec::new();
    assert!(client.write_text("방울", KEY, &mut out));
    assert_eq!(out[1] & 0x80, 0x80);
    assert_eq!(out[2..6], KEY);
    assert_ne!(&out[6..], "방울".as_bytes());
    assert!(client.write_ping(b"", [9; 4], &mut out));
    assert!(!client.write_ping(&[0; 126], [9; 4], &mut out));
    client.close(CloseCode::NORMAL, "rotated");
    assert!(client.write_owed([7; 4], &mut out));
    let close = Event::Close { code: Some(CloseCode::NORMAL), reason: "rotated" };
    let expected =
        [format!("{:?}", Event::Text("방울")), format!("{:?}", Event::Ping(b"")), format!("{close:?}")];
    assert_eq!(served(&out), expected);
}

#[test]
fn only_the_latest_ping_is_answered_and_its_answer_waits() {
    let mut client = Client::new(1_024);
    let mut bytes = Vec::new();
    for payload in [&b"first"[..], &[3; 125]] {
        write_frame(&mut bytes, Opcode::Ping, payload, None);
    }
    assert_eq!(hear(&mut client, &bytes), ["Ping", "Ping"]);
    assert_eq!(client.owed(), Some(Owed::Pong));
    let mut out = Vec::new();
    assert!(client.write_owed(KEY, &mut out));
    assert_eq!(served(&out), [format!("{:?}", Event::Pong(&[3; 125]))]);
    assert_eq!((client.owed(), client.write_owed(KEY, &mut out)), (None, false));
}

#[test]
fn the_servers_close_is_answered_with_its_code_and_nothing_follows() {
    for code in [Some(CloseCode::GOING_AWAY), None] {
        let mut client = Client::new(1_024);
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Ping, b"x", None);
        write_close(&mut bytes, code, "bye", None);
        write_frame(&mut bytes, Opcode::Text, b"late", None);
        assert_eq!(hear(&mut client, &bytes), ["Ping"]);
        assert_eq!((client.end(), client.is_over()), (Some(End::Closed(code)), false));
        let mut out = Vec::new();
        assert!(!client.write_text("no", KEY, &mut out) && !client.write_ping(b"", KEY, &mut out));
        client.close(CloseCode::NORMAL, "ours");
        assert!(client.write_owed(KEY, &mut out));
        assert_eq!(served(&out), [format!("{:?}", Event::Close { code, reason: "" })]);
        assert!(client.is_over() && !client.write_owed(KEY, &mut out), "no pong after a close");
    }
}

#[test]
fn messages_come_until_the_server_answers_our_close() {
    let mut client = Client::new(1_024);
    client.close(CloseCode::NORMAL, "");
    let mut out = Vec::new();
    assert!(client.write_owed(KEY, &mut out) && !client.is_over());
    let mut bytes = Vec::new();
    write_frame(&mut bytes, Opcode::Text, b"on its way", None);
    write_frame(&mut bytes, Opcode::Ping, b"", None);
    assert_eq!(hear(&mut client, &bytes), [format!("{:?}", Heard::Text("on its way")), "Ping".to_owned()]);
    assert_eq!(client.owed(), None, "nothing may follow our close frame");
    bytes.clear();
    write_close(&mut bytes, Some(CloseCode::NORMAL), "", None);
    assert!(hear(&mut client, &bytes).is_empty() && client.is_over());
}

#[test]
fn a_violation_is_answered_with_its_code() {
    let mut masked = Vec::new();
    write_frame(&mut masked, Opcode::Text, b"x", Some(KEY));
    let mut broken = Vec::new();
    write_frame(&mut broken, Opcode::Text, b"\xC3\x28", None);
    let large = [0x82, 0x7E, 0x10, 0x00];
    let rows: [(&[u8], u16, &str); 4] = [
        (&masked, 1002, "masked_frame"),
        (&broken, 1007, "invalid_utf8"),
        (&large, 1009, "frame_too_large"),
        (&[0xC1], 1002, "reserved_bits"),
    ];
    for (bytes, code, reason) in rows {
        let mut client = Client::new(1_024);
        assert!(hear(&mut client, bytes).is_empty());
        let Some(End::Violated(violation)) = client.end() else { panic!("{:?}", client.end()) };
        assert_eq!((violation.code.0, violation.reason), (code, reason));
        let mut out = Vec::new();
        assert!(client.write_owed(KEY, &mut out));
        let close = Event::Close { code: Some(CloseCode(code)), reason };
        assert_eq!(served(&out), [format!("{close:?}")]);
        assert_eq!(client.buffered_capacity(), 0);
    }
}

proptest! {
    /// Everything a well-behaved server sends is heard alike however it is cut, and in between our own
    /// frames go out whole.
    #[test]
    fn cuts_change_nothing(
        texts in proptest::collection::vec((".{0,90}", 1_usize..4, any::<bool>()), 0..6),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        masks in any::<[u8; 4]>(),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (text, parts, ping) in &texts {
            let size = text.len().div_ceil(*parts).max(1);
            let chunks: Vec<&[u8]> = match text.is_empty() {
                true => vec![b""],
                false => text.as_bytes().chunks(size).collect(),
            };
            for (i, chunk) in chunks.iter().enumerate() {
                let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
                write_fragment(&mut bytes, i + 1 == chunks.len(), opcode, chunk, None);
                if *ping && i == 0 {
                    write_frame(&mut bytes, Opcode::Ping, &[i as u8], None);
                }
            }
            if *ping {
                let ping = "Ping".to_owned();
                if chunks.len() > 1 { expected.push(ping.clone()) }
                expected.push(format!("{:?}", Heard::Text(text)));
                if chunks.len() == 1 { expected.push(ping) }
            } else {
                expected.push(format!("{:?}", Heard::Text(text)));
            }
        }
        write_close(&mut bytes, Some(CloseCode::NORMAL), "", None);
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let (mut client, mut heard, mut out) = (Client::new(1_024), Vec::new(), Vec::new());
        for piece in at.windows(2) {
            heard.extend(hear(&mut client, &bytes[piece[0]..piece[1]]));
            client.write_owed(masks, &mut out);
        }
        prop_assert_eq!(heard, expected);
        prop_assert!(client.is_over());
        let sent = served(&out);
        let pongs = sent.iter().filter(|s| s.starts_with("Pong")).count();
        prop_assert!(pongs <= texts.iter().filter(|t| t.2).count());
        let last = sent.last().cloned().unwrap_or_default();
        prop_assert!(last.starts_with("Close"), "{:?}", sent);
    }

    /// Any bytes at all: the same end however they are cut, and at most one close frame.
    #[test]
    fn noise_ends_alike(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..9) {
        let (mut whole, mut cut) = (Client::new(64), Client::new(64));
        let heard = hear(&mut whole, &bytes);
        let pieces: Vec<String> = bytes.chunks(size).flat_map(|piece| hear(&mut cut, piece)).collect();
        prop_assert_eq!(heard, pieces);
        prop_assert_eq!(whole.end(), cut.end());
    }
}
