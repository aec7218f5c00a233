//! Sizes, pings, reserved bits and opcodes, lengths, masks, fragmentation, large messages.

use crate::peer::{BINARY, CLOSE, CONTINUATION, Case, End, PING, PONG, TEXT, run};

fn letters(len: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(len).collect()
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

#[test]
fn messages_of_every_length_form() {
    let sizes = [0, 1, 125, 126, 127, 128, 65_535, 65_536];
    run(sizes.into_iter().flat_map(|size| {
        [
            Case::new(format!("text of {size}")).echoed(TEXT, &letters(size)),
            Case::new(format!("binary of {size}")).echoed(BINARY, &noise(size)),
            Case::new(format!("text of {size} chopped")).echoed(TEXT, &letters(size)).in_pieces(997),
            Case::new(format!("binary of {size}, twice"))
                .echoed(BINARY, &noise(size))
                .echoed(BINARY, &noise(size)),
        ]
    }));
}

#[test]
fn pings_are_answered_and_pongs_are_not() {
    let ping = |case: Case, payload: &[u8]| case.frame(PING, payload).says(PONG, payload);
    let ten =
        |name: &str| (0..10u8).fold(Case::new(name), |case, i| ping(case, format!("payload {i}").as_bytes()));
    run([
        ping(Case::new("empty ping"), b""),
        ping(Case::new("text payload"), b"Hello, bell!"),
        ping(Case::new("binary payload"), b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        ping(Case::new("longest payload"), &[0xFE; 125]),
        ping(Case::new("longest payload, byte by byte"), &[0xFE; 125]).in_pieces(1),
        Case::new("payload too long").frame(PING, &[0xFE; 126]).ends(End::Fails(1002)),
        Case::new("unasked empty pong").frame(PONG, b""),
        Case::new("unasked pong").frame(PONG, b"unasked for"),
        ping(Case::new("unasked pong, then ping").frame(PONG, b"unasked for"), b"asked"),
        Case::new("pong too long").frame(PONG, &[1; 126]).ends(End::Fails(1002)),
        ten("ten pings"),
        ten("ten pings, byte by byte").in_pieces(1),
    ]);
}

#[test]
fn reserved_bits_fail() {
    let mut cases = Vec::new();
    for bits in 1..=7u8 {
        for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
            let first = 0x80 | bits << 4 | opcode;
            let name = format!("bits {bits} on opcode {opcode}");
            cases.push(Case::new(&name).raw(first, b"x").ends(End::Fails(1002)));
            cases.push(
                Case::new(format!("{name} after a message and before a ping"))
                    .echoed(TEXT, b"fine")
                    .raw(first, b"x")
                    .frame(PING, b"")
                    .ends(End::Fails(1002)),
            );
        }
        cases.push(
            Case::new(format!("bits {bits} on a continuation"))
                .part(TEXT, b"a")
                .raw(0x80 | bits << 4, b"b")
                .ends(End::Fails(1002)),
        );
    }
    run(cases);
}

#[test]
fn reserved_opcodes_fail() {
    run([3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF].into_iter().flat_map(|opcode| {
        [
            Case::new(format!("opcode {opcode}")).frame(opcode, b"").ends(End::Fails(1002)),
            Case::new(format!("opcode {opcode}, payload")).frame(opcode, b"payload").ends(End::Fails(1002)),
            Case::new(format!("opcode {opcode} after a message"))
                .echoed(TEXT, b"fine")
                .frame(opcode, b"payload")
                .frame(PING, b"")
                .ends(End::Fails(1002)),
        ]
    }));
}

#[test]
fn lengths_and_masks_that_break_the_rules_fail() {
    let key = [0u8; 4];
    let with = |name: &str, bytes: &[&[u8]], code| {
        Case::new(name).bytes(&bytes.concat()).ends(End::FailsAtLastByte(code))
    };
    run([
        with("unmasked text", &[&[0x81, 0x01]], 1002),
        with("unmasked close", &[&[0x88, 0x00]], 1002),
        with("125 in 16 bits", &[&[0x82, 0xFE, 0x00, 0x7D]], 1002),
        with("0 in 16 bits", &[&[0x82, 0xFE, 0x00, 0x00]], 1002),
        with("65535 in 64 bits", &[&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]], 1002),
        with("highest bit of 64", &[&[0x82, 0xFF, 0x80]], 1002),
        with("more than fits", &[&[0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0], &key], 1009),
        with("a byte more than the limit", &[&[0x82, 0xFF, 0, 0, 0, 0, 1, 0, 0, 1], &key], 1009),
    ]);
}

#[test]
fn fragments_join_and_control_frames_pass_between() {
    let ping = |case: Case, payload: &[u8]| case.frame(PING, payload).says(PONG, payload);
    let two = |name: &str| Case::new(name).part(TEXT, b"frag").frame(CONTINUATION, b"ment");
    let between = |name: &str| {
        ping(Case::new(name).part(TEXT, b"frag"), b"between")
            .frame(CONTINUATION, b"ment")
            .says(TEXT, b"fragment")
    };
    let mut five = Case::new("five fragments with pings");
    for (i, part) in ["one ", "two ", "three ", "four "].iter().enumerate() {
        five = ping(five.part(if i == 0 { TEXT } else { CONTINUATION }, part.as_bytes()), &[i as u8]);
    }
    let five = five.frame(CONTINUATION, b"five").says(TEXT, b"one two three four five");
    let fails = |case: Case| case.ends(End::Fails(1002));
    run([
        two("two fragments").says(TEXT, b"fragment"),
        two("two fragments, byte by byte").says(TEXT, b"fragment").in_pieces(1),
        between("a ping between"),
        between("a ping between, byte by byte").in_pieces(1),
        five.clone(),
        five.in_pieces(1),
        Case::new("a pong between")
            .part(BINARY, b"a")
            .frame(PONG, b"")
            .frame(CONTINUATION, b"b")
            .says(BINARY, b"ab"),
        Case::new("all empty")
            .part(TEXT, b"")
            .part(CONTINUATION, b"")
            .frame(CONTINUATION, b"")
            .says(TEXT, b""),
        Case::new("only the middle is not empty")
            .part(TEXT, b"")
            .part(CONTINUATION, b"middle")
            .frame(CONTINUATION, b"")
            .says(TEXT, b"middle"),
        two("two fragmented messages")
            .says(TEXT, b"fragment")
            .part(BINARY, b"1")
            .frame(CONTINUATION, b"2")
            .says(BINARY, b"12"),
        fails(Case::new("a fragmented ping").part(PING, b"frag").frame(CONTINUATION, b"ment")),
        fails(Case::new("a fragmented pong").part(PONG, b"frag").frame(CONTINUATION, b"ment")),
        fails(Case::new("a fragmented close").part(CLOSE, b"\x03\xe8")),
        fails(Case::new("nothing to continue, last").frame(CONTINUATION, b"x").frame(TEXT, b"y")),
        fails(Case::new("nothing to continue, not last").part(CONTINUATION, b"x").frame(TEXT, b"y")),
        fails(
            Case::new("continued after the end")
                .part(TEXT, b"a")
                .frame(CONTINUATION, b"b")
                .says(TEXT, b"ab")
                .frame(CONTINUATION, b"c"),
        ),
        fails(Case::new("text within text").part(TEXT, b"a").frame(TEXT, b"b")),
        fails(Case::new("binary within text").part(TEXT, b"a").part(BINARY, b"b")),
        fails(Case::new("text within binary").part(BINARY, b"a").part(TEXT, b"b")),
    ]);
}

#[test]
fn large_messages_whole_and_in_fragments() {
    const MIB: usize = 1_024 * 1_024;
    let fragmented = |opcode: u8, payload: &[u8], size: usize| {
        let mut case =
            Case::new(format!("{} bytes of opcode {opcode} in fragments of {size}", payload.len()));
        for (i, part) in payload.chunks(size).enumerate() {
            case = case.part(if i == 0 { opcode } else { CONTINUATION }, part);
        }
        case.frame(CONTINUATION, b"").says(opcode, payload)
    };
    let text = "상장 공지 €1 𝄞 ".repeat(4 * MIB / 27);
    let whole = |name: &str, len: usize| Case::new(name).echoed(BINARY, &noise(len));
    run([
        whole("256 KiB", MIB / 4),
        whole("1 MiB", MIB),
        whole("4 MiB", 4 * MIB),
        whole("16 MiB, the limit", 16 * MIB),
        whole("1 MiB in writes of 64 KiB", MIB).in_pieces(64 * 1_024),
        whole("1 MiB in writes of 1,000", MIB).in_pieces(1_000),
        Case::new("4 MiB of text").echoed(TEXT, text.as_bytes()),
        fragmented(BINARY, &noise(MIB), 256),
        fragmented(BINARY, &noise(MIB), 65_536),
        fragmented(TEXT, text.as_bytes(), 64),
        fragmented(TEXT, text.as_bytes(), 4_099),
        fragmented(TEXT, &letters(65_536), 1_300),
    ]);
}
