//! Every behaviour that has a name: as a constructor for tests, as text for paths and the command
//! line, and as a list for people.
//!
//! Contract: [`Behaviour::parse`] reads `NAME` or `NAME/ARGUMENTS`; what it does not know it says, and
//! [`behaviours`] lists what it knows. Pure but for the allocation of what is sent.

use std::time::Duration;

use crate::error::SimError;
use crate::http::Framing;
use crate::receiver::bomb;
use crate::receiver::step::{Behaviour, Reply, Step};

/// How slowly the slow ones are.
const DRIP: Duration = Duration::from_secs(1);
/// Longer than a delivery may take.
const LATE: Duration = Duration::from_secs(11);
/// How long a connection is left alone before it is closed or spoken to.
const IDLE: Duration = Duration::from_millis(200);

/// A behaviour or greeting as people see it listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How it is written; what stands in brackets may be left out.
    pub usage: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
}

/// Makes a behaviour of its arguments and the address of the trap; `None` if they make no sense.
type Make = fn(&str, &str) -> Option<Behaviour>;

const TABLE: &[(Entry, Make)] = &[
    row("ok", "200", |a, _| none(a, Behaviour::ok)),
    row("status/CODE[/RETRY_AFTER]", "any status from 100 to 999, with Retry-After", |a, _| status(a)),
    row("status-line/TEXT", "\"HTTP/1.1 TEXT\" for what is no status: 099, 2000, abc", |a, _| {
        (!a.is_empty()).then(|| Behaviour::status_line(a))
    }),
    row("chunked", "200, chunked, several chunks", |a, _| none(a, Behaviour::chunked)),
    row("close", "200 with Connection: close", |a, _| none(a, Behaviour::close)),
    row("http10", "HTTP/1.0 200, ended by the close", |a, _| none(a, Behaviour::http10)),
    row("endless", "200, chunks without end", |a, _| none(a, Behaviour::endless)),
    row("slow-body", "200, then the body at a byte a second", |a, _| none(a, Behaviour::slow_body)),
    row("slow-head", "200 at a byte a second", |a, _| none(a, Behaviour::slow_head)),
    row("short-body", "200 that promises more body than it sends", |a, _| none(a, Behaviour::short_body)),
    row("silent", "reads the request, never answers", |a, _| none(a, Behaviour::silent)),
    row("hang-up", "closes in good order without an answer", |a, _| none(a, Behaviour::hang_up)),
    row("reset", "resets once the request is read", |a, _| none(a, Behaviour::reset)),
    row("reset-in-head", "half a head, then a reset", |a, _| none(a, Behaviour::reset_in_head)),
    row("reset-in-body", "a head, half a body, then a reset", |a, _| none(a, Behaviour::reset_in_body)),
    row("close-idle[/TIME]", "200, then closes the idle connection", |a, _| {
        Some(Behaviour::close_idle(time(a, IDLE)?))
    }),
    row("close-on-next", "200, then answers the next request by closing", |a, _| {
        none(a, Behaviour::close_on_next)
    }),
    row("drop-on-next", "200, then closes with the next request unread: a reset", |a, _| {
        none(a, Behaviour::drop_on_next)
    }),
    row("unsolicited-408[/TIME]", "200, then a 408 on the idle connection", |a, _| {
        Some(Behaviour::unsolicited_408(time(a, IDLE)?))
    }),
    row("twice", "two responses to one request", |a, _| none(a, Behaviour::twice)),
    row("late[/TIME]", "200 after a time, 11 s unless said", |a, _| Some(Behaviour::late(time(a, LATE)?))),
    row("interim[/COUNT]", "100, 103, 103, 103 (or COUNT of them), then 200", |a, _| match a {
        "" => Some(Behaviour::interim(&[100, 103, 103, 103])),
        count => Some(Behaviour::interim(&vec![103; count.parse().ok().filter(|n| *n <= 1_000)?])),
    }),
    row("switching", "101 Switching Protocols", |a, _| none(a, Behaviour::switching)),
    row("redirect/CODE", "a redirect to the trap", |a, trap| {
        Some(Behaviour::redirect(a.parse().ok().filter(|s| (300..400).contains(s))?, trap))
    }),
    row("not-modified", "304", |a, _| none(a, || Behaviour::status(304))),
    row("big-head[/BYTES]", "200 with a head of 17 KiB or so many bytes", |a, _| match a {
        "" => Some(Behaviour::big_head(17 * 1_024)),
        bytes => Some(Behaviour::big_head(bytes.parse().ok().filter(|n| *n <= 1 << 20)?)),
    }),
    row("many-headers[/COUNT]", "200 with 65 or so many header lines", |a, _| match a {
        "" => Some(Behaviour::many_headers(65)),
        count => Some(Behaviour::many_headers(count.parse().ok().filter(|n| *n <= 10_000)?)),
    }),
    row("bare-lf", "200 with lines ended by LF alone", |a, _| none(a, Behaviour::bare_lf)),
    row("nul", "200 with a NUL in a header", |a, _| none(a, Behaviour::nul)),
    row("two-lengths", "200 with the same Content-Length twice", |a, _| none(a, Behaviour::two_lengths)),
    row("differing-lengths", "200 with two Content-Length that differ", |a, _| {
        none(a, Behaviour::differing_lengths)
    }),
    row("length-and-chunked", "200 with Content-Length and Transfer-Encoding", |a, _| {
        none(a, Behaviour::length_and_chunked)
    }),
    row("chunk-overflow", "200 with a chunk size past 64 bits", |a, _| none(a, Behaviour::chunk_overflow)),
    row("gzip-bomb", "200, compressed, far larger unpacked", |a, _| none(a, Behaviour::gzip_bomb)),
    row("garbage", "bytes that are no HTTP, then a close", |a, _| none(a, Behaviour::garbage)),
];

const fn row(usage: &'static str, what: &'static str, make: Make) -> (Entry, Make) {
    (Entry { usage, what }, make)
}

/// Every behaviour with a name.
pub fn behaviours() -> impl Iterator<Item = Entry> {
    TABLE.iter().map(|(entry, _)| *entry)
}

fn none(arguments: &str, make: fn() -> Behaviour) -> Option<Behaviour> {
    arguments.is_empty().then(make)
}

fn time(arguments: &str, otherwise: Duration) -> Option<Duration> {
    if arguments.is_empty() { Some(otherwise) } else { humantime::parse_duration(arguments).ok() }
}

fn status(arguments: &str) -> Option<Behaviour> {
    let (code, retry_after) = match arguments.split_once('/') {
        None => (arguments, None),
        Some((code, value)) => (code, Some(value)),
    };
    let code: u16 = code.parse().ok().filter(|code| (100..1_000).contains(code))?;
    // A line end would make headers of what follows it.
    let retry_after = match retry_after {
        Some(value) if value.bytes().any(|b| b < b' ') => return None,
        other => other,
    };
    Some(match retry_after {
        None => Behaviour::status(code),
        Some(value) => Behaviour::retry_after(code, value),
    })
}

impl Behaviour {
    /// Reads `NAME` or `NAME/ARGUMENTS`; redirects lead to `trap`.
    ///
    /// # Errors
    /// [`SimError::Behaviour`], with the text.
    pub fn parse(text: &str, trap: &str) -> Result<Behaviour, SimError> {
        let (name, arguments) = text.split_once('/').unwrap_or((text, ""));
        let known = TABLE.iter().find(|(entry, _)| entry.usage.split(['/', '[']).next() == Some(name));
        let Some((entry, make)) = known else {
            return Err(SimError::Behaviour(format!("no behaviour is called {name:?}")));
        };
        make(arguments, trap)
            .ok_or_else(|| SimError::Behaviour(format!("{text:?} is not {}: {}", entry.usage, entry.what)))
    }

    // In good order.

    /// 200 with a short JSON body.
    #[must_use]
    pub fn ok() -> Behaviour {
        Behaviour::of("ok", vec![Step::Reply(Reply::new(200))])
    }

    /// A status with a short JSON body, or none where there can be none.
    #[must_use]
    pub fn status(status: u16) -> Behaviour {
        Behaviour::reply(Reply::new(status))
    }

    /// A status with this `Retry-After`.
    #[must_use]
    pub fn retry_after(status: u16, value: &str) -> Behaviour {
        Behaviour::reply(Reply::new(status).with("Retry-After", value))
    }

    /// 200 in chunks.
    #[must_use]
    pub fn chunked() -> Behaviour {
        Behaviour::of("chunked", vec![Step::Reply(Reply::new(200).framed(Framing::Chunked(4)))])
    }

    /// 200 with `Connection: close`, and so done.
    #[must_use]
    pub fn close() -> Behaviour {
        Behaviour::of("close", vec![Step::Reply(Reply::new(200).closing())])
    }

    /// An HTTP/1.0 200 without a length: its body ends with the connection.
    #[must_use]
    pub fn http10() -> Behaviour {
        Behaviour::of("http10", vec![Step::Reply(Reply::new(200).framed(Framing::CloseDelimited))])
    }

    /// Interim responses, then 200.
    #[must_use]
    pub fn interim(statuses: &[u16]) -> Behaviour {
        let mut steps: Vec<Step> = statuses
            .iter()
            .map(|status| match status {
                103 => Step::Send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"[..].into()),
                other => Step::Send(format!("HTTP/1.1 {other} Interim\r\n\r\n").into_bytes().into()),
            })
            .collect();
        steps.push(Step::Reply(Reply::new(200)));
        Behaviour::of("interim", steps)
    }

    /// 200 after `delay`.
    #[must_use]
    pub fn late(delay: Duration) -> Behaviour {
        Behaviour::of("late", vec![Step::Wait(delay), Step::Reply(Reply::new(200))])
    }

    /// A redirect to `location`.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Behaviour {
        Behaviour::reply(Reply::new(status).with("Location", location))
    }

    /// 101, and then bytes of another protocol.
    #[must_use]
    pub fn switching() -> Behaviour {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: example/1\r\nConnection: Upgrade\r\n\r\n\0\x01\x02";
        Behaviour::of("switching", vec![Step::Send(head[..].into()), Step::Hold])
    }

    // Slow, silent or without end.

    /// 200 and chunks without end.
    #[must_use]
    pub fn endless() -> Behaviour {
        let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
        let head = Reply::new(200).framed(Framing::Chunked(0));
        Behaviour::of("endless", vec![Step::Head(head), Step::Repeat(chunk.into())])
    }

    /// 200 at once, its body at a byte a second.
    #[must_use]
    pub fn slow_body() -> Behaviour {
        let body = [b' '; 60];
        let head = Reply::new(200).body(&body);
        Behaviour::of("slow-body", vec![Step::Head(head), Step::Drip(body[..].into(), DRIP)])
    }

    /// 200, its head at a byte a second.
    #[must_use]
    pub fn slow_head() -> Behaviour {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        Behaviour::of("slow-head", vec![Step::Drip(head[..].into(), DRIP)])
    }

    /// Reads the request and never answers.
    #[must_use]
    pub fn silent() -> Behaviour {
        Behaviour::of("silent", vec![Step::Hold])
    }

    /// 200 that promises 100 bytes of body, sends 10 and closes.
    #[must_use]
    pub fn short_body() -> Behaviour {
        let head = Reply::new(200).body(&[b' '; 100]);
        Behaviour::of("short-body", vec![Step::Head(head), Step::Send([b' '; 10][..].into()), Step::Close])
    }

    // Connections that end.

    /// Reads the request and closes in good order.
    #[must_use]
    pub fn hang_up() -> Behaviour {
        Behaviour::of("hang-up", vec![Step::Close])
    }

    /// Reads the request and resets.
    #[must_use]
    pub fn reset() -> Behaviour {
        Behaviour::of("reset", vec![Step::Reset])
    }

    /// Sends a part of the head and resets.
    #[must_use]
    pub fn reset_in_head() -> Behaviour {
        let half = b"HTTP/1.1 200 OK\r\nContent-Le";
        Behaviour::of("reset-in-head", vec![Step::Send(half[..].into()), Step::Reset])
    }

    /// Sends the head and a part of the body and resets.
    #[must_use]
    pub fn reset_in_body() -> Behaviour {
        let head = Reply::new(200).body(&[b' '; 100]);
        Behaviour::of("reset-in-body", vec![Step::Head(head), Step::Send([b' '; 50][..].into()), Step::Reset])
    }

    /// 200, then closes the connection when it has been idle for `after`.
    #[must_use]
    pub fn close_idle(after: Duration) -> Behaviour {
        Behaviour::of("close-idle", vec![Step::Reply(Reply::new(200)), Step::Idle(after), Step::Close])
    }

    /// 200, then closes in good order as the next request arrives.
    #[must_use]
    pub fn close_on_next() -> Behaviour {
        Behaviour::of("close-on-next", vec![Step::Reply(Reply::new(200)), Step::AwaitMore, Step::Close])
    }

    /// 200, then closes with the next request unread, which resets the connection.
    #[must_use]
    pub fn drop_on_next() -> Behaviour {
        Behaviour::of("drop-on-next", vec![Step::Reply(Reply::new(200)), Step::AwaitMore, Step::Abandon])
    }

    /// 200, then 408 and a close when the connection has been idle for `after`.
    #[must_use]
    pub fn unsolicited_408(after: Duration) -> Behaviour {
        let timeout = Reply::new(408).closing();
        let steps = vec![Step::Reply(Reply::new(200)), Step::Idle(after), Step::Reply(timeout), Step::Close];
        Behaviour::of("unsolicited-408", steps)
    }

    /// Two responses to one request, in one write.
    #[must_use]
    pub fn twice() -> Behaviour {
        let one = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let other = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}";
        Behaviour::raw("twice", [one, other].concat())
    }

    // No HTTP, or hardly.

    /// `HTTP/1.1 text` and an empty body: statuses that are none.
    #[must_use]
    pub fn status_line(text: &str) -> Behaviour {
        Behaviour::raw("status-line", format!("HTTP/1.1 {text} Odd\r\nContent-Length: 0\r\n\r\n"))
    }

    /// 200 with a head of about so many bytes, in header lines of 1 KiB.
    #[must_use]
    pub fn big_head(bytes: usize) -> Behaviour {
        let lines = (1..).map(|n| format!("X-Fill-{n}: {}\r\n", "a".repeat(1_000)));
        let mut head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".to_owned();
        for line in lines {
            if head.len() >= bytes {
                break;
            }
            head.push_str(&line);
        }
        Behaviour::raw("big-head", head + "\r\n")
    }

    /// 200 with so many header lines.
    #[must_use]
    pub fn many_headers(count: usize) -> Behaviour {
        let lines: String = (1..count).map(|n| format!("X-{n}: y\r\n")).collect();
        Behaviour::raw("many-headers", format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n"))
    }

    /// 200 with lines ended by LF alone.
    #[must_use]
    pub fn bare_lf() -> Behaviour {
        Behaviour::raw("bare-lf", "HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    }

    /// 200 with a NUL in the value of a header.
    #[must_use]
    pub fn nul() -> Behaviour {
        Behaviour::raw("nul", "HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 0\r\n\r\n")
    }

    /// 200 with the same `Content-Length` twice.
    #[must_use]
    pub fn two_lengths() -> Behaviour {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}";
        Behaviour::raw("two-lengths", text)
    }

    /// 200 with two `Content-Length` that differ.
    #[must_use]
    pub fn differing_lengths() -> Behaviour {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}";
        Behaviour::raw("differing-lengths", text)
    }

    /// 200 with both `Content-Length` and `Transfer-Encoding: chunked`.
    #[must_use]
    pub fn length_and_chunked() -> Behaviour {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        Behaviour::raw("length-and-chunked", [head, "2\r\n{}\r\n0\r\n\r\n"].concat())
    }

    /// 200 with a chunk whose size needs 68 bits.
    #[must_use]
    pub fn chunk_overflow() -> Behaviour {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        Behaviour::raw("chunk-overflow", [head, "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"].concat())
    }

    /// 200 with a gzip body of a few kilobytes that unpacks to megabytes.
    #[must_use]
    pub fn gzip_bomb() -> Behaviour {
        let reply = Reply::new(200).with("Content-Encoding", "gzip").body(&bomb::gzip());
        Behaviour::of("gzip-bomb", vec![Step::Reply(reply)])
    }

    /// Bytes that are no HTTP, then a close.
    #[must_use]
    pub fn garbage() -> Behaviour {
        let noise = crate::server::garbage();
        Behaviour::of("garbage", vec![Step::Send(noise.into()), Step::Close])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAP: &str = "https://127.0.0.1:1/trap";

    #[test]
    fn everything_listed_parses_as_it_is_written() {
        for entry in behaviours() {
            let bare = entry.usage.split('[').next().unwrap();
            let text = bare.replace("status/CODE", "status/503").replace("redirect/CODE", "redirect/308");
            let text = text.replace("TEXT", "099");
            Behaviour::parse(&text, TRAP).unwrap();
        }
    }

    #[test]
    fn arguments_are_checked() {
        for good in [
            "status/429/120",
            "status/429/-1",
            "status/429/1e309",
            "status/429/Sun, 06 Nov 1994 08:49:37 GMT",
            "late/11s",
            "close-idle/5ms",
            "interim/9",
            "big-head/20000",
            "many-headers/3",
            "status/999",
        ] {
            Behaviour::parse(good, TRAP).unwrap();
        }
        for bad in [
            "",
            "okay",
            "ok/1",
            "status",
            "status/",
            "status/99",
            "status/1000",
            "status/429/a\r\nX: y",
            "late/soon",
            "interim/x",
            "interim/9999999",
            "redirect/200",
            "big-head/-1",
            "silent/9",
        ] {
            let Err(SimError::Behaviour(said)) = Behaviour::parse(bad, TRAP) else {
                panic!("{bad:?} parsed")
            };
            assert!(!said.is_empty());
        }
    }

    #[test]
    fn heads_have_the_sizes_they_are_called_by() {
        let bytes = |behaviour: Behaviour| match behaviour.steps() {
            [Step::Send(bytes)] => bytes.to_vec(),
            other => panic!("{other:?}"),
        };
        let big = bytes(Behaviour::big_head(17 * 1_024));
        assert!((17 * 1_024..19 * 1_024).contains(&big.len()) && big.ends_with(b"\r\n\r\n"));
        let many = bytes(Behaviour::many_headers(65));
        assert_eq!(many.split(|b| *b == b'\n').count(), 1 + 65 + 1 + 1, "status, 65 headers, empty, end");
    }
}
