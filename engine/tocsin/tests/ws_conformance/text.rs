//! UTF-8: what passes, what fails, and that it fails as soon as it can.

use crate::peer::{BINARY, CONTINUATION, Case, End, PING, PONG, TEXT, run};

const VALID: [&str; 14] = [
    "",
    "plain ASCII",
    "Grüße, κόσμε, 업비트 신규 상장, 币安人生",
    "\u{0}",
    "\u{7f}\u{80}",
    "\u{7ff}\u{800}",
    "\u{fff}\u{1000}",
    "\u{d7ff}\u{e000}",
    "\u{fffd}\u{fffe}\u{ffff}",
    "\u{10000}\u{fffff}",
    "\u{100000}\u{10ffff}",
    "\u{1fffe}\u{5ffff}\u{10fffe}",
    "\u{feff}with a byte order mark",
    "e\u{301}\u{202e}combining and bidirectional",
];

/// The last byte of each is the one that makes it hopeless.
const HOPELESS: [&[u8]; 29] = [
    b"\x80",
    b"\xbf",
    b"ok\x80",
    b"\xc0",
    b"\xc1",
    b"\xf5",
    b"\xf8",
    b"\xfc",
    b"\xfe",
    b"\xff",
    b"\xc2 ",
    b"\xc2\xc2",
    b"\xdf\x7f",
    b"\xe0\x80",
    b"\xe0\x9f",
    b"\xe1\x80 ",
    b"\xe2\x82\x28",
    b"\xed\xa0",
    b"\xed\xaf",
    b"\xed\xbf",
    b"\xef\xbf\xc0",
    b"\xf0\x80",
    b"\xf0\x8f",
    b"\xf0\x90\x80 ",
    b"\xf0\x9d\x84\xc0",
    b"\xf4\x90",
    b"\xf4\xbf",
    b"\xf7",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0",
];

#[test]
fn valid_text_passes_whole_and_cut_anywhere() {
    run(VALID.iter().flat_map(|text| {
        let bytes = text.as_bytes();
        let mut by_byte = Case::new(format!("{text:?} in fragments of a byte")).part(TEXT, b"");
        for byte in bytes {
            by_byte = by_byte.part(CONTINUATION, &[*byte]);
        }
        let middle = bytes.len() / 2;
        [
            Case::new(format!("{text:?}")).echoed(TEXT, bytes),
            Case::new(format!("{text:?}, byte by byte")).echoed(TEXT, bytes).in_pieces(1),
            Case::new(format!("{text:?} in two, a ping between"))
                .part(TEXT, &bytes[..middle])
                .frame(PING, b"")
                .says(PONG, b"")
                .frame(CONTINUATION, &bytes[middle..])
                .says(TEXT, bytes),
            by_byte.frame(CONTINUATION, b"").says(TEXT, bytes),
        ]
    }));
}

#[test]
fn invalid_text_fails_whole_and_in_fragments() {
    run(HOPELESS.into_iter().flat_map(|bytes| {
        let whole = [bytes, b" and more"].concat();
        let mut by_byte = Case::new(format!("{bytes:x?} in fragments of a byte")).part(TEXT, b"");
        for byte in bytes {
            by_byte = by_byte.part(CONTINUATION, &[*byte]);
        }
        [
            Case::new(format!("{bytes:x?}")).frame(TEXT, bytes).ends(End::Fails(1007)),
            Case::new(format!("{bytes:x?} with more")).frame(TEXT, &whole).ends(End::Fails(1007)),
            by_byte.ends(End::FailsAtLastByte(1007)),
        ]
    }));
}

#[test]
fn invalid_text_fails_in_an_unfinished_frame_at_the_byte_that_spoils_it() {
    run(HOPELESS.into_iter().flat_map(|bytes| {
        let unfinished = [bytes, b"never sent"].concat();
        let (first, second) = unfinished.split_at(bytes.len() / 2);
        [
            Case::new(format!("{bytes:x?}, frame unfinished"))
                .frame(TEXT, &unfinished)
                .cut(10)
                .ends(End::FailsAtLastByte(1007)),
            Case::new(format!("{bytes:x?}, byte by byte, frame unfinished"))
                .frame(TEXT, &unfinished)
                .cut(10)
                .in_pieces(1)
                .ends(End::FailsAtLastByte(1007)),
            Case::new(format!("{bytes:x?}, second fragment unfinished"))
                .part(TEXT, first)
                .part(CONTINUATION, second)
                .cut(10)
                .ends(End::FailsAtLastByte(1007)),
        ]
    }));
}

#[test]
fn a_character_cut_by_the_end_of_the_message_fails() {
    let cut: [&[u8]; 8] =
        [b"\xc2", b"\xe2\x82", b"\xe2", b"\xf0\x9d\x84", b"\xf0\x9d", b"\xf0", b"text\xf4\x8f\xbf", b"\xdf"];
    run(cut.into_iter().flat_map(|bytes| {
        [
            Case::new(format!("{bytes:x?}")).frame(TEXT, bytes).ends(End::FailsAtLastByte(1007)),
            Case::new(format!("{bytes:x?} in fragments"))
                .part(TEXT, bytes)
                .frame(CONTINUATION, b"")
                .ends(End::FailsAtLastByte(1007)),
        ]
    }));
}

#[test]
fn binary_is_not_judged() {
    run(HOPELESS.into_iter().map(|bytes| Case::new(format!("{bytes:x?}")).echoed(BINARY, bytes)));
}
