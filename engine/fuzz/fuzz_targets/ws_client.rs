//! A client's session hears the same and ends the same however its input is cut, never owes more than two
//! frames, and what it writes a server understands.
//! First byte of the input: the cut. The rest: what the server sends.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use tocsin_core::ws::client::{Client, End};
use tocsin_core::ws::{Event, Role, Session, SessionLimits};

const MESSAGE_BYTES: usize = 300;
const MASK: [u8; 4] = [0x5A, 0x01, 0xFE, 0x77];

/// What was heard as text, how it ended, and what was written.
fn talk(bytes: &[u8], piece: usize) -> (Vec<String>, Option<End>, Vec<u8>) {
    let mut client = Client::new(MESSAGE_BYTES);
    let (mut heard, mut out) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        client.receive(&mut part.to_vec(), &mut |what| heard.push(format!("{what:?}")));
        assert!(client.buffered_capacity() <= 2 * MESSAGE_BYTES + 125);
        let mut written = 0;
        while client.write_owed(MASK, &mut out) {
            written += 1;
        }
        assert!(written <= 1, "a close frame takes the place of a pong");
        assert_eq!(client.owed(), None);
        assert_eq!(client.is_over(), client.end().is_some());
    }
    (heard, client.end(), out)
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let whole = talk(bytes, usize::MAX);
    let cut = talk(bytes, usize::from(first) % 30 + 1);
    assert_eq!((whole.0, whole.1), (cut.0, cut.1));
    for mut out in [whole.2, cut.2] {
        let mut server = Session::new(Role::Server, SessionLimits::same(MESSAGE_BYTES));
        let flow = server.receive::<()>(&mut out, &mut |event| {
            assert!(matches!(event, Event::Pong(_) | Event::Close { .. }));
            ControlFlow::Continue(())
        });
        assert!(flow.is_ok(), "{flow:?}");
    }
});
