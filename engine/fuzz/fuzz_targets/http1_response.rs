//! A response is read alike however it arrives, within its bounds, and never panics. First byte of the
//! input: the cut; second: the method asked with. The rest: what the server sends before it closes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::http1::response::{Method, Progress, ResponseError, ResponseLimits, ResponseParser};

const LIMITS: ResponseLimits = ResponseLimits { head_bytes: 1_024, headers: 16, body_bytes: 512 };

#[derive(Debug, PartialEq)]
struct Outcome {
    ended: Result<Option<usize>, ResponseError>,
    body: Vec<u8>,
    etag: Option<Vec<u8>>,
}

fn run(method: Method, bytes: &[u8], step: usize) -> Outcome {
    let mut parser = ResponseParser::new(LIMITS);
    let mut body = Vec::new();
    parser.start(method);
    let mut taken = 0;
    let mut ended = Ok(None);
    for part in bytes.chunks(step) {
        match parser.feed(part, &mut body) {
            Ok(Progress::NeedMore) => taken += part.len(),
            Ok(Progress::Complete { consumed }) => {
                ended = Ok(Some(taken + consumed));
                break;
            }
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    if ended == Ok(None) {
        ended = parser.end_of_stream().map(|()| None);
    }
    assert!(body.len() as u64 <= LIMITS.body_bytes);
    let _ = parser.header("x-cache");
    Outcome { ended, body, etag: parser.etag().map(<[u8]>::to_vec) }
}

fuzz_target!(|input: &[u8]| {
    let [first, second, bytes @ ..] = input else { return };
    let method = if second % 4 == 0 { Method::Head } else { Method::Get };
    let whole = run(method, bytes, bytes.len().max(1));
    let cut = run(method, bytes, usize::from(first % 40) + 1);
    // Which of two faults shows first may depend on the cut; that there is one may not.
    assert_eq!(whole.ended.is_err(), cut.ended.is_err());
    if whole.ended.is_ok() {
        assert_eq!(whole, cut);
    }
});
