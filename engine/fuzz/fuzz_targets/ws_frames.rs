//! A session hears the same, and ends the same, however its input is cut; and never panics.
//! First byte of the input: role and cut. The rest: what the peer sends.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use tocsin_core::ws::{Event, Role, Session, SessionLimits, Violation};

const MESSAGE_BYTES: usize = 300;

/// Events as text, and the violation that ended it, if any.
fn hear(role: Role, bytes: &[u8], piece: usize) -> (Vec<String>, Option<Violation>) {
    let mut session = Session::new(role, SessionLimits::same(MESSAGE_BYTES));
    let mut heard = Vec::new();
    for part in bytes.chunks(piece) {
        let flow = session.receive::<()>(&mut part.to_vec(), &mut |event| {
            if let Event::Close { code: Some(code), .. } = event {
                assert!(code.may_travel());
            }
            heard.push(format!("{event:?}"));
            ControlFlow::Continue(())
        });
        assert!(session.buffered_capacity() <= 2 * MESSAGE_BYTES + 125);
        if let Err(violation) = flow {
            assert!(session.has_ended());
            return (heard, Some(violation));
        }
    }
    (heard, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let piece = usize::from(first >> 1) % 30 + 1;
    let whole = hear(role, bytes, usize::MAX);
    assert_eq!(hear(role, bytes, piece), whole);
});
