//! A server's answer to an upgrade is judged alike however it arrives, and never panics.
//! First byte of the input: the cut. The rest: the answer; `$` in it stands for the right accept key,
//! which no fuzzer would guess.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::ws::handshake::{AcceptKey, read_reply};

const NONCE: [u8; 16] = *b"fuzzed, not used";
const KEY: &str = "ZnV6emVkLCBub3QgdXNlZA==";

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let accept = AcceptKey::derive(KEY);
    let answer: Vec<u8> =
        rest.iter().flat_map(|b| if *b == b'$' { accept.as_bytes().to_vec() } else { vec![*b] }).collect();
    let step = usize::from(first) % 40 + 1;
    let cut = (step..answer.len())
        .step_by(step)
        .map(|upto| read_reply(&answer[..upto], &NONCE))
        .find(|reply| *reply != Ok(None));
    if let Some(early) = cut {
        assert_eq!(read_reply(&answer, &NONCE), early);
    }
});
