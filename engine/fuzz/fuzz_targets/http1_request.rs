//! The end of a request head is found alike however it arrives; parsing, the upgrade decision and
//! query decoding never panic. First byte of the input: the cut. The rest: what the client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::http1::request::{HeadReader, RequestHead};
use tocsin_core::ws::handshake::check_upgrade;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let whole = HeadReader::new().poll(bytes);
    let mut reader = HeadReader::new();
    let step = usize::from(first) % 40 + 1;
    let arrivals = (step..bytes.len()).step_by(step).chain([bytes.len()]);
    let cut = arrivals.map(|upto| reader.poll(&bytes[..upto])).find(|found| *found != Ok(None));
    assert_eq!(cut.unwrap_or(Ok(None)), whole);

    let Ok(head) = RequestHead::parse(bytes) else { return };
    assert!(!matches!(whole, Ok(None)), "a parsed head has an end");
    let _ = check_upgrade(&head);
    for pair in head.query_pairs() {
        let Ok((name, value)) = pair else { break };
        assert!(name.len() + value.len() <= bytes.len());
    }
});
