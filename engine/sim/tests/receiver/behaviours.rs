//! Each behaviour, as the bytes and the end that a client sees.

use std::io;
use std::time::{Duration, Instant};

use tocsin_sim::receiver::Step;
use tocsin_sim::{Behaviour, Reply};

use crate::client::Client;
use crate::{PATIENCE, connect, post, start};

/// The first answer on a fresh connection, and the connection.
fn asked(receiver: &tocsin_sim::SimReceiver, target: &str) -> Client {
    let mut client = connect(receiver);
    client.write(&post(target, "", "{}")).unwrap();
    client
}

#[test]
fn good_answers_keep_the_connection() {
    let receiver = start();
    let mut client = connect(&receiver);
    let mut seen = Vec::new();
    for target in
        ["/ok", "/status/201", "/status/204", "/hooks/a?b=c", "/status/503", "/chunked", "/interim/0"]
    {
        client.write(&post(target, "", "{}")).unwrap();
        let reply = client.reply().unwrap();
        seen.push((reply.status, String::from_utf8(reply.body).unwrap()));
    }
    let (ok, not) = (r#"{"ok":true}"#.to_owned(), r#"{"ok":false}"#.to_owned());
    let expected = [
        (200, ok.clone()),
        (201, ok.clone()),
        (204, String::new()),
        (200, ok.clone()),
        (503, not),
        (200, ok.clone()),
        (200, ok),
    ];
    assert_eq!(seen, expected);
    assert_eq!((receiver.counters().connections, receiver.total()), (1, 7));
}

#[test]
fn statuses_and_retry_after() {
    let receiver = start();
    let mut client = connect(&receiver);
    for value in ["0", "120", "7200", "-1", "1e309"] {
        client.write(&post(&format!("/status/429/{value}"), "", "")).unwrap();
        let reply = client.reply().unwrap();
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some(value)));
    }
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    receiver.behave(
        "/dated",
        vec![Behaviour::reply(Reply::new(503).with("Date", date).with("Retry-After", date))],
    );
    client.write(&post("/dated", "", "")).unwrap();
    let reply = client.reply().unwrap();
    assert_eq!(reply.headers.iter().filter(|(name, value)| name == "Date" && value == date).count(), 1);
    assert_eq!(reply.headers.iter().filter(|(name, _)| name == "Date").count(), 1);
    for text in ["099", "600", "999", "2000"] {
        client.write(&post(&format!("/status-line/{text}"), "", "")).unwrap();
        let (first, _) = client.head().unwrap();
        assert_eq!(first, format!("HTTP/1.1 {text} Odd"));
    }
}

#[test]
fn scripts_take_turns_and_the_last_repeats() {
    let receiver = start();
    receiver.behave("/a", vec![Behaviour::status(500), Behaviour::status(410), Behaviour::ok()]);
    let mut client = connect(&receiver);
    let mut ask = |target: &str| {
        client.write(&post(target, "", "")).unwrap();
        client.reply().unwrap().status
    };
    assert_eq!(["/a", "/a?x", "/b", "/a", "/a"].map(&mut ask), [500, 410, 200, 200, 200]);
    receiver.behave("/a", Vec::new());
    receiver.otherwise(Behaviour::status(404));
    assert_eq!(["/a", "/b", "/ok"].map(&mut ask), [404, 404, 200]);
}

#[test]
fn connections_that_end_in_good_order() {
    let receiver = start();
    let mut client = asked(&receiver, "/close");
    let reply = client.reply().unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(client.rest().1.unwrap(), 0);

    let mut client = asked(&receiver, "/http10");
    let reply = client.reply().unwrap();
    assert_eq!((reply.version.as_str(), reply.header("content-length")), ("HTTP/1.0", None));
    assert_eq!(reply.body, br#"{"ok":true}"#);

    let mut client = asked(&receiver, "/hang-up");
    assert_eq!(client.rest().1.unwrap(), 0);

    let mut client = connect(&receiver);
    client.write(&post("/ok", "Connection: close\r\n", "")).unwrap();
    assert_eq!(client.reply().unwrap().header("connection"), Some("close"));
    assert_eq!(client.rest().1.unwrap(), 0);

    let mut client = asked(&receiver, "/short-body");
    let (_, headers) = client.head().unwrap();
    assert!(headers.contains(&("Content-Length".to_owned(), "100".to_owned())));
    assert_eq!(client.rest().0.len(), 10);

    let mut client = asked(&receiver, "/garbage");
    assert_eq!(client.rest().0.len(), 512);
}

fn is_reset(end: &io::Result<usize>) -> bool {
    matches!(end, Err(e) if e.kind() == io::ErrorKind::ConnectionReset)
}

#[test]
fn connections_that_are_reset() {
    let receiver = start();
    for (target, seen) in [
        ("/reset", &b""[..]),
        ("/reset-in-head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("/reset-in-body", &[b' '; 50]),
    ] {
        let mut client = asked(&receiver, target);
        let (all, end) = client.rest();
        assert!(is_reset(&end) && all.ends_with(seen), "{target}: {end:?} after {}", all.len());
    }
}

#[test]
fn idle_connections_that_do_not_last() {
    let receiver = start();
    let mut client = asked(&receiver, "/close-idle/1ms");
    assert_eq!(client.reply().unwrap().status, 200);
    assert_eq!(client.rest().1.unwrap(), 0);

    // A request in time is served.
    let mut client = asked(&receiver, "/close-idle/10s");
    assert_eq!(client.reply().unwrap().status, 200);
    client.write(&post("/status/201", "", "")).unwrap();
    assert_eq!(client.reply().unwrap().status, 201);

    let mut client = asked(&receiver, "/unsolicited-408/1ms");
    assert_eq!(client.reply().unwrap().status, 200);
    let reply = client.reply().unwrap();
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    assert_eq!(client.rest().1.unwrap(), 0);

    let before = receiver.total();
    let mut client = asked(&receiver, "/close-on-next");
    assert_eq!(client.reply().unwrap().status, 200);
    client.write(&post("/ok", "", "")).unwrap();
    assert_eq!(client.rest().1.unwrap(), 0);

    let mut client = asked(&receiver, "/drop-on-next");
    assert_eq!(client.reply().unwrap().status, 200);
    client.write(&post("/ok", "", "")).unwrap();
    let (all, end) = client.rest();
    assert!(all.is_empty() && is_reset(&end), "{end:?}");
    assert_eq!(receiver.total(), before + 2, "the second requests were not read");
}

#[test]
fn slow_ones_are_slow() {
    let receiver = start();
    let start = Instant::now();
    let mut head = asked(&receiver, "/slow-head");
    let mut body = asked(&receiver, "/slow-body");
    let mut late = asked(&receiver, "/late/300ms");
    assert_eq!(body.head().unwrap().0, "HTTP/1.1 200 OK");
    assert_eq!(body.some(1).unwrap(), b" ");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(head.some(2).unwrap(), b"HT");
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(late.reply().unwrap().status, 200);
}

#[test]
fn silence_and_no_end() {
    let receiver = start();
    let mut silent = asked(&receiver, "/silent?n=1");
    assert!(receiver.wait_for_on("/silent", 1, PATIENCE));
    let mut endless = asked(&receiver, "/endless");
    assert_eq!(endless.head().unwrap().0, "HTTP/1.1 200 OK");
    assert_eq!(endless.line().unwrap(), "4000");
    assert_eq!(endless.some(8 * 1024 * 1024).unwrap().len(), 8 * 1024 * 1024);
    drop(endless);
    // Whoever waits for an answer sees the end when the receiver stops.
    drop(receiver);
    assert!(silent.rest().0.is_empty());
}

#[test]
fn interim_answers_and_another_protocol() {
    let receiver = start();
    let mut client = connect(&receiver);
    let mut statuses = |target: &str| {
        client.write(&post(target, "", "")).unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|status| *status < 200) {
            seen.push(client.reply().unwrap().status);
        }
        seen
    };
    assert_eq!(statuses("/interim"), [100, 103, 103, 103, 200]);
    assert_eq!(statuses("/interim/9"), [[103; 9].as_slice(), &[200]].concat());
    let mut client = asked(&receiver, "/switching");
    assert_eq!(client.reply().unwrap().status, 101);
    assert_eq!(client.some(3).unwrap(), b"\0\x01\x02");
}

#[test]
fn redirects_lead_to_the_trap_which_counts() {
    let receiver = start();
    let mut client = connect(&receiver);
    for status in [301, 302, 307, 308] {
        client.write(&post(&format!("/redirect/{status}"), "", "")).unwrap();
        let reply = client.reply().unwrap();
        assert_eq!((reply.status, reply.header("location")), (status, Some(receiver.trap_url())));
    }
    client.write(&post("/not-modified", "", "")).unwrap();
    assert_eq!(client.reply().unwrap().status, 304);
    assert_eq!(receiver.trap(), 0);
    let at = receiver.trap_url().trim_start_matches("https://").trim_end_matches("/trap");
    Client::plain(at.parse().unwrap()).unwrap().rest().1.unwrap();
    assert_eq!(receiver.trap(), 1);
}

#[test]
fn heads_and_framing_that_are_wrong() {
    let receiver = start();
    for (target, expected) in [
        (
            "/twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}",
        ),
        ("/bare-lf", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("/nul", "HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("/two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        ("/differing-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}"),
        (
            "/length-and-chunked",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "/chunk-overflow",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        ),
    ] {
        let mut client = asked(&receiver, target);
        let seen = client.some(expected.len()).unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), expected, "{target}");
    }
    let mut big = asked(&receiver, "/big-head");
    let (_, headers) = big.head().unwrap();
    assert!(headers.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>() > 17 * 1_024);
    let mut many = asked(&receiver, "/many-headers");
    assert_eq!(many.head().unwrap().1.len(), 65);
    let mut bomb = asked(&receiver, "/gzip-bomb");
    let reply = bomb.reply().unwrap();
    assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
    assert!(reply.body.len() < 64 * 1_024 && reply.body.starts_with(&[0x1f, 0x8b, 8]));
}

#[test]
fn behaviours_are_made_of_steps() {
    let receiver = start();
    let steps = vec![
        Step::Head(Reply::new(202).body(b"ab")),
        Step::Wait(Duration::from_millis(1)),
        Step::Send(b"a"[..].into()),
        Step::Drip(b"b"[..].into(), Duration::from_millis(1)),
    ];
    receiver.behave("/own", vec![Behaviour::of("own", steps)]);
    let mut client = asked(&receiver, "/own");
    let reply = client.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (202, b"ab".as_slice()));
    assert_eq!(&*receiver.records()[0].behaviour, "own");
    assert!(receiver.parse("nonsense").unwrap_err().to_string().contains("nonsense"));
}
