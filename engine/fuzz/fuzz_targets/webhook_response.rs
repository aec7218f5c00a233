//! Whatever a receiver answers, cut anywhere: the attempt has one report, the same however the answer arrived,
//! and a verdict; a retry is never sooner than its step and never later than the longest wait.
//! First byte of the input: the cut; second: method and attempt. The rest: what the receiver sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::http1::response::{Discard, Method, Progress, ResponseLimits, ResponseParser};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::{Report, Verdict};
use tocsin_core::webhook::schedule::{LONGEST_WAIT, wait_after};

/// What an answer that arrives in pieces of `piece` bytes and then ends comes to.
fn report(bytes: &[u8], piece: usize, method: Method) -> Option<Report> {
    let mut parser = ResponseParser::new(ResponseLimits::WEBHOOK);
    parser.start(method);
    for part in bytes.chunks(piece) {
        match parser.feed(part, &mut Discard) {
            Ok(Progress::Complete { .. }) => return Report::of(&parser, None),
            Ok(_) => {}
            Err(error) => return Report::of(&parser, Some(error)),
        }
    }
    let end = parser.end_of_stream().err();
    Report::of(&parser, end)
}

fuzz_target!(|input: &[u8]| {
    let [cut, kind, bytes @ ..] = input else { return };
    let method = if kind & 1 == 0 { Method::Post } else { Method::Head };
    let now = WallUs::from_secs(1_800_000_000);
    let whole = report(bytes, usize::MAX, method);
    let cut = report(bytes, usize::from(*cut) % 30 + 1, method);
    let (Some(whole), Some(cut)) = (whole, cut) else { panic!("an answer that ended has a report") };
    assert_eq!(whole, cut);
    for resent in [false, true] {
        let Verdict::Retry { wait, .. } = Verdict::of(&whole, resent, now) else { continue };
        let attempt = kind >> 1 & 7;
        let random = u64::from(*kind) << 56;
        match wait_after(attempt, wait, random) {
            Some(wait) => assert!(wait.as_secs() >= 30 && wait <= LONGEST_WAIT),
            None => assert!(attempt == 0 || attempt >= limits::WEBHOOK_ATTEMPTS),
        }
    }
});
