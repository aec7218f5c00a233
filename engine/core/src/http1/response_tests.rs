//! Tests of the client response parser.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    result: Result<Option<usize>, ResponseError>,
    body: Vec<u8>,
    head: Option<Head>,
    etag: Option<Vec<u8>>,
}

const SMALL: ResponseLimits = ResponseLimits { head_bytes: 512, headers: 8, body_bytes: 64 };

/// Feeds `input` cut at `cuts`, then the end of the stream if nothing ended before it.
fn run(method: Method, input: &[u8], cuts: &[usize]) -> Outcome {
    let mut parser = ResponseParser::new(SMALL);
    let mut body = Vec::new();
    parser.start(method);
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
    cuts.push(input.len());
    cuts.sort_unstable();
    let mut result = Ok(None);
    let mut from = 0;
    for to in cuts {
        match parser.feed(&input[from..to], &mut body) {
            Ok(Progress::NeedMore) => {}
            Ok(Progress::Complete { consumed }) => {
                result = Ok(Some(from + consumed));
                break;
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        from = to;
    }
    if result == Ok(None) {
        result = parser.end_of_stream().map(|()| None);
    }
    // What was pushed before a failure depends on the split; only complete bodies count.
    if result.is_err() {
        body.clear();
    }
    let etag = parser.etag().map(<[u8]>::to_vec);
    Outcome { result, body, head: parser.head().cloned(), etag }
}

fn get(input: &str) -> Outcome {
    run(Method::Get, input.as_bytes(), &[])
}

#[test]
fn length_chunks_and_close_frame_a_body() {
    for (input, body, complete, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true, true),
        ("HTTP/1.1 200\r\ncontent-length: 5, 5\r\nContent-Length: 5\r\n\r\nhello", "hello", true, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true, true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n02\r\nlo\r\n0\r\n\r\n",
            "hello",
            true,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\";c\r\nhel\r\n2 ;x\r\nlo\r\n000\r\nX-T: 1\r\nY: 2\r\n\r\n",
            "hello",
            true,
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", false, false),
        ("HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 2\r\n\r\nok", "ok", true, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true, false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", "ok", true, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n", "", true, true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
            "!",
            true,
            true,
        ),
    ] {
        let got = get(input);
        assert_eq!(got.result, Ok(complete.then_some(input.len())), "{input:?}");
        assert_eq!(got.body, body.as_bytes(), "{input:?}");
        assert_eq!(got.head.unwrap().keep_alive, keep_alive, "{input:?}");
    }
    let head = run(Method::Head, b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", &[]);
    assert_eq!((head.result, head.head.unwrap().content_length), (Ok(Some(43)), Some(900_000)));
}

/// The answer stands; nothing more is sent on its connection.
#[test]
fn a_repeated_length_ends_the_connection() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5\r\nX: y\r\ncontent-length: 05",
        "Connection: keep-alive\r\nContent-Length: 5\r\nContent-Length: 5",
    ] {
        let got = get(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello"));
        assert_eq!((got.result.is_ok(), got.body.as_slice()), (true, &b"hello"[..]), "{lines}");
        let head = got.head.unwrap();
        assert_eq!((head.status, head.content_length, head.keep_alive), (200, Some(5), false), "{lines}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn every_fault_is_named() {
    use ResponseError as E;
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(600));
    let headers = "A: b\r\n".repeat(9);
    let many = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let with = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhello");
    let extras = chunked(&format!("1;{}", "e".repeat(limits::RESPONSE_CHUNK_EXTRA_BYTES)));
    let trailers = chunked(&format!("0\r\n{}", "e".repeat(limits::RESPONSE_CHUNK_EXTRA_BYTES + 1)));
    for (input, error) in [
        (long_head, E::HeadTooLarge),
        (many, E::TooManyHeaders),
        (interim, E::TooManyInterim),
        ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n".into(), E::BareLf),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n".into(), E::BareLf),
        (with("A: \0"), E::Nul),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n".into(), E::BadStatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n".into(), E::BadStatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n".into(), E::BadStatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n".into(), E::BadStatusLine),
        ("<html>\r\n\r\n".into(), E::BadStatusLine),
        ("SSH-2.0".into(), E::BadStatusLine),
        ("HTTP/1x".into(), E::BadStatusLine),
        (with("no colon"), E::BadHeader),
        (with("A : b"), E::BadHeader),
        (with("A: b\r\n folded"), E::BadHeader),
        (with("A: b\rc"), E::BadHeader),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".into(), E::SwitchingProtocols),
        (with("Content-Length: 5\r\nTransfer-Encoding: chunked"), E::LengthAndTransferEncoding),
        (with("Content-Length: 5\r\nContent-Length: 6"), E::DifferingLengths),
        (with("Content-Length: 5, 6"), E::DifferingLengths),
        (with("Content-Length: -1"), E::BadLength),
        (with("Content-Length: +5"), E::BadLength),
        (with("Content-Length: 0x5"), E::BadLength),
        (with("Content-Length: 5,"), E::BadLength),
        (with("Content-Length: "), E::BadLength),
        (with("Content-Length: 18446744073709551616"), E::BadLength),
        (with("Transfer-Encoding: gzip, chunked"), E::UnsupportedTransferEncoding),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), E::UnsupportedTransferEncoding),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), E::UnsupportedTransferEncoding),
        (with("Content-Length: 65"), E::BodyTooLarge),
        (with("Content-Length: 1000000000"), E::BodyTooLarge),
        (chunked("41"), E::BodyTooLarge),
        (
            chunked("40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n1"),
            E::BodyTooLarge,
        ),
        (chunked("ffffffffffffffff1"), E::BodyTooLarge),
        (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(65)), E::BodyTooLarge),
        (chunked("00000000000000000"), E::BadChunkSize),
        (chunked("\r\n"), E::BadChunkSize),
        (chunked("g\r\n"), E::BadChunkSize),
        (chunked(" 3\r\n"), E::BadChunkSize),
        (chunked("0x3\r\n"), E::BadChunkSize),
        (chunked("3\nhel"), E::BareLf),
        (chunked("3;a\nhel"), E::BareLf),
        (chunked("3;\0\r\n"), E::Nul),
        (chunked("3\rhel"), E::BadChunkEnd),
        (chunked("3\r\nhello\r\n"), E::BadChunkEnd),
        (chunked("3\r\nhel\n"), E::BadChunkEnd),
        (chunked("0\r\nA: b\n"), E::BareLf),
        (extras, E::ChunkExtrasTooLong),
        (trailers, E::ChunkExtrasTooLong),
        (String::new(), E::ClosedBeforeHead),
        ("HTTP/1.1 100 Continue\r\n\r\n".into(), E::ClosedInHead),
        ("HTTP/1.1 2".into(), E::ClosedInHead),
        (with("Content-Length: 6"), E::ClosedInBody),
        (chunked("3\r\nhel\r\n"), E::ClosedInBody),
    ] {
        assert_eq!(get(&input).result, Err(error), "{input:?}");
    }
}

#[test]
fn headers_of_interest_are_read() {
    let got = get("HTTP/1.1 429 Slow Down\r\nETag: W/\"a-1\"\r\nRetry-After: 120\r\nAge: 7\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nKeep-Alive: timeout=65, max=99\r\n\
         Content-Encoding: br\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(got.etag.as_deref(), Some(b"W/\"a-1\"".as_slice()));
    let head = got.head.unwrap();
    assert_eq!(
        (head.status, head.retry_after, head.age_secs, head.date),
        (429, Some(RetryAfter::Seconds(120)), Some(7), Some(WallUs(784_111_777_000_000)))
    );
    assert_eq!((head.idle_timeout_secs, head.requests_left, head.encoded), (Some(65), Some(99), true));

    let at = get("HTTP/1.1 503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(at.head.unwrap().retry_after, Some(RetryAfter::At(WallUs(784_111_777_000_000))));

    for bad in ["abc", "\"", "W/", "\"a", &format!("\"{}\"", "e".repeat(limits::ETAG_BYTES))] {
        let got = get(&format!("HTTP/1.1 200 OK\r\nETag: {bad}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((got.result.is_ok(), got.etag), (true, None), "{bad}");
    }
}

#[test]
fn any_header_can_be_looked_up_afterwards() {
    let mut parser = ResponseParser::new(ResponseLimits::SOURCE);
    let input = b"HTTP/1.1 200 OK\r\nX-Cache: Hit\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(parser.feed(b"x", &mut Discard), Err(ResponseError::Unsolicited));
    parser.start(Method::Get);
    assert_eq!(parser.header("x-cache"), None);
    assert_eq!(parser.feed(input, &mut Discard), Ok(Progress::Complete { consumed: input.len() }));
    assert_eq!(parser.header("x-cache"), Some(b"Hit".as_slice()));
    assert_eq!(parser.header("age"), None);
}

#[test]
fn bytes_after_the_response_are_left_to_the_caller() {
    let input = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
    assert_eq!(run(Method::Get, input, &[]).result, Ok(Some(40)));
}

#[test]
fn responses_follow_each_other_in_the_same_buffers() {
    let mut parser = ResponseParser::new(ResponseLimits::SOURCE);
    let mut body = Vec::with_capacity(64);
    let before = (parser.head_bytes.as_ptr(), body.as_ptr());
    for _ in 0..3 {
        parser.start(Method::Get);
        body.clear();
        let input = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(parser.feed(input, &mut body), Ok(Progress::Complete { consumed: input.len() }));
        assert_eq!(body, b"hello");
    }
    assert_eq!((parser.head_bytes.as_ptr(), body.as_ptr()), before);
}

#[test]
fn a_failure_stays_until_the_next_request() {
    let mut parser = ResponseParser::new(SMALL);
    parser.start(Method::Get);
    assert_eq!(parser.feed(b"\r\n", &mut Discard), Err(ResponseError::BadStatusLine));
    assert_eq!(parser.feed(b"HTTP/1.1 204 X\r\n\r\n", &mut Discard), Err(ResponseError::BadStatusLine));
    assert_eq!(parser.end_of_stream(), Err(ResponseError::BadStatusLine));
    parser.start(Method::Get);
    assert_eq!(parser.feed(b"HTTP/1.1 204 X\r\n\r\n", &mut Discard), Ok(Progress::Complete { consumed: 18 }));
}

/// Responses that are mostly well formed, so that splits reach every state.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![Just("200 OK"), Just("304 Not Modified"), Just("429 Slow"), Just("204")];
    let version = prop_oneof![4 => Just("1.1"), 1 => Just("1.0")];
    let header = prop_oneof![
        Just("ETag: \"x\"\r\n"),
        Just("Connection: close\r\n"),
        Just("Retry-After: 9\r\n"),
        Just("Bad\n"),
        Just("X-Y: z\r\n")
    ];
    let headers = proptest::collection::vec(header, 0..4);
    let chunks = proptest::collection::vec("[a-z]{1,20}", 0..5);
    (version, status, headers, chunks, 0..4_u8, any::<bool>()).prop_map(
        |(version, status, headers, chunks, kind, interim)| {
            let mut text = String::new();
            if interim {
                text.push_str("HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n");
            }
            text.push_str(&format!("HTTP/{version} {status}\r\n{}", headers.concat()));
            let body = chunks.concat();
            match kind {
                0 => text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len())),
                1 => {
                    text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                    for chunk in &chunks {
                        text.push_str(&format!("{:x};e=1\r\n{chunk}\r\n", chunk.len()));
                    }
                    text.push_str("0\r\nT: 1\r\n\r\n");
                }
                2 => text.push_str(&format!("\r\n{body}")),
                _ => text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len() + 1)),
            }
            text.into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn any_split_gives_the_same_result(
        input in response(), cuts in proptest::collection::vec(any::<usize>(), 0..6)
    ) {
        let whole = run(Method::Get, &input, &[]);
        prop_assert_eq!(&run(Method::Get, &input, &cuts), &whole);
        let every: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&run(Method::Get, &input, &every), &whole);
    }

    #[test]
    fn any_split_of_a_damaged_response_gives_the_same_result(
        input in response(), at in any::<proptest::sample::Index>(), byte in any::<u8>()
    ) {
        let mut input = input;
        let at = at.index(input.len());
        input[at] = byte;
        let every: Vec<usize> = (0..input.len()).collect();
        let (whole, split) = (run(Method::Get, &input, &[]), run(Method::Get, &input, &every));
        // Which of two faults in one head shows first may depend on the split, that there is one may not.
        prop_assert_eq!(whole.result.is_err(), split.result.is_err());
        if whole.result.is_ok() {
            prop_assert_eq!(whole, split);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        input in proptest::collection::vec(any::<u8>(), 0..400),
        cuts in proptest::collection::vec(any::<usize>(), 0..6)
    ) {
        let _ = run(Method::Get, &input, &cuts);
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunked.extend_from_slice(&input);
        let _ = run(Method::Get, &chunked, &cuts);
    }

    #[test]
    fn a_body_never_outgrows_its_bound(input in response()) {
        let mut parser = ResponseParser::new(ResponseLimits { body_bytes: 7, ..SMALL });
        let mut body = Vec::new();
        parser.start(Method::Get);
        let _ = parser.feed(&input, &mut body);
        prop_assert!(body.len() <= 7);
    }
}
