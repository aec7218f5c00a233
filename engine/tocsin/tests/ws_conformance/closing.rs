//! Close frames: order, payloads, codes, reasons.

use crate::peer::{CLOSE, CONTINUATION, Case, End, PING, TEXT, run};

#[test]
fn nothing_is_answered_after_the_close() {
    let after = |name: &str| {
        Case::new(name).echoed(TEXT, b"before").close(1000, b"bye").ends(End::Closes(Some(1000)))
    };
    run([
        after("message, then close"),
        after("two closes").close(1001, b"again"),
        after("a ping after").frame(PING, b"late"),
        after("a message after").frame(TEXT, b"late"),
        after("a broken frame after").bytes(&[0xFF; 20]),
        Case::new("close within a message")
            .part(TEXT, b"frag")
            .close(1000, b"")
            .frame(CONTINUATION, b"ment")
            .ends(End::Closes(Some(1000))),
        Case::new("256 KiB, then close, then a ping")
            .echoed(TEXT, &[b'B'; 256 * 1_024])
            .close(1000, b"")
            .frame(PING, b"late")
            .ends(End::Closes(Some(1000))),
    ]);
}

#[test]
fn close_payloads() {
    let fails =
        |name: &str, payload: &[u8], code| Case::new(name).frame(CLOSE, payload).ends(End::Fails(code));
    let longest = format!("{}€", "r".repeat(120));
    run([
        Case::new("empty").frame(CLOSE, b"").ends(End::Closes(None)),
        Case::new("a code").close(1000, b"").ends(End::Closes(Some(1000))),
        Case::new("a code and a reason").close(1000, "끝".as_bytes()).ends(End::Closes(Some(1000))),
        Case::new("the longest reason").close(1000, longest.as_bytes()).ends(End::Closes(Some(1000))),
        Case::new("the longest reason, byte by byte")
            .close(1000, longest.as_bytes())
            .in_pieces(1)
            .ends(End::Closes(Some(1000))),
        fails("one byte", b"\x03", 1002),
        fails("a reason too long", &[b"\x03\xe8".as_slice(), &[b'r'; 124]].concat(), 1002),
        fails("a reason that is not UTF-8", b"\x03\xe8\xce\xba\xed\xa0\x80", 1007),
        fails("a reason with a cut character", b"\x03\xe8\xe2\x82", 1007),
    ]);
}

#[test]
fn codes_that_may_travel_are_echoed_and_others_fail() {
    let good = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    let bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
    run(good
        .map(|code| Case::new(format!("code {code}")).close(code, b"reason").ends(End::Closes(Some(code))))
        .chain(
            bad.map(|code| Case::new(format!("code {code}")).close(code, b"reason").ends(End::Fails(1002))),
        ));
}
