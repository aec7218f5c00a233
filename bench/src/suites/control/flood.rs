//! The clients of the control plane that mean no good, in a process of their own that gives way to all others.
//!
//! Contract: reads commands from standard input, ends with it. `requests N`: N requests a second over
//! connections that are kept, without a credential and with a wrong one in turn. `killed N`: N connections a
//! second that end with a reset in the middle of a request. `calm`: stops, and answers with one line of
//! JSON: how many were sent, how many the server answered 429, how many failed. Owner: the main thread of a
//! process of its own; another reads the input. What it cannot send in time it leaves out and counts.

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::SockRef;

use crate::engine::Outcome;

/// Connections over which requests leave.
const KEPT: usize = 16;
/// It stands for machines elsewhere, whose work costs this one nothing.
const NICE: i32 = 19;
/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(2);

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Calm,
    Requests,
    Killed,
}

#[derive(Default)]
struct Counts {
    sent: u64,
    limited: u64,
    failed: u64,
    left_out: u64,
}

/// Plays it: `control-flood ADDRESS`.
pub(crate) fn play() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let address: SocketAddr = std::env::args().nth(2).ok_or("no address")?.parse()?;
    rustix::process::nice(NICE)?;
    let (told, commands) = channel();
    std::thread::Builder::new().name("flood-input".to_owned()).spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    })?;
    let mut way = (Way::Calm, Duration::ZERO);
    let mut counts = Counts::default();
    let mut kept: Vec<Option<TcpStream>> = (0..KEPT).map(|_| None).collect();
    let (mut due, mut number) = (Instant::now(), 0_usize);
    loop {
        match next(&commands, way.0 == Way::Calm) {
            Some(None) => {}
            Some(Some(line)) => {
                way = read_command(&line)?;
                due = Instant::now();
                if way.0 == Way::Calm {
                    let Counts { sent, limited, failed, left_out } = core::mem::take(&mut counts);
                    println!(
                        "{}",
                        json!({"sent": sent, "limited": limited, "failed": failed, "left_out": left_out})
                    );
                    io::stdout().flush()?;
                    continue;
                }
            }
            None => return Ok(()),
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // More than a tenth of a second behind: what was due is not made up for.
        let missed = due.elapsed().saturating_sub(Duration::from_millis(100));
        if !missed.is_zero() {
            counts.left_out += (missed.as_nanos() / way.1.as_nanos().max(1)) as u64;
            due = Instant::now();
        }
        due += way.1;
        counts.sent += 1;
        let place = kept.get_mut(number % KEPT).ok_or("no place")?;
        number += 1;
        let went = match way.0 {
            Way::Killed => kill(address).map(|()| 0),
            _ => request(address, place, number),
        };
        match went {
            Ok(429) => counts.limited += 1,
            Ok(_) => {}
            Err(_) => {
                counts.failed += 1;
                *place = None;
            }
        }
    }
}

/// The next command: `None` at the end of the input, `Some(None)` when there is none.
fn next(commands: &Receiver<String>, wait: bool) -> Option<Option<String>> {
    if wait {
        return commands.recv().ok().map(Some);
    }
    match commands.try_recv() {
        Ok(line) => Some(Some(line)),
        Err(TryRecvError::Empty) => Some(None),
        Err(TryRecvError::Disconnected) => None,
    }
}

fn read_command(line: &str) -> Outcome<(Way, Duration)> {
    let (way, rate) = line.split_once(' ').unwrap_or((line, "1"));
    let every = Duration::from_secs(1) / rate.parse::<u32>()?.max(1);
    match way {
        "calm" => Ok((Way::Calm, every)),
        "requests" => Ok((Way::Requests, every)),
        "killed" => Ok((Way::Killed, every)),
        _ => Err(format!("no command is called {way:?}").into()),
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One request over a kept connection; the status of the answer.
fn request(address: SocketAddr, place: &mut Option<TcpStream>, number: usize) -> io::Result<u16> {
    let stream = match place {
        Some(stream) => stream,
        None => place.insert(connect(address)?),
    };
    let credential = if number.is_multiple_of(2) { "" } else { "Authorization: Bearer act_wrong\r\n" };
    let text = format!("GET /admin/v1/status HTTP/1.1\r\nHost: flood\r\n{credential}\r\n");
    stream.write_all(text.as_bytes())?;
    read_answer(stream)
}

/// Reads one whole answer.
fn read_answer(stream: &mut TcpStream) -> io::Result<u16> {
    let mut buffer = [0; 4_096];
    let mut filled = 0;
    loop {
        let rest = buffer.get_mut(filled..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or_else(|| io::Error::other("a long answer"))?;
        match stream.read(rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let read = buffer.get(..filled).unwrap_or_default();
        let parsed = response.parse(read).map_err(io::Error::other)?;
        if let httparse::Status::Complete(head) = parsed {
            let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|h| core::str::from_utf8(h.value).ok()?.parse::<usize>().ok());
            if filled >= head + length.unwrap_or(0) {
                return Ok(response.code.unwrap_or(0));
            }
        }
    }
}

/// A client that dies in the middle of its request.
fn kill(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream
        .write_all(b"POST /admin/v1/keys HTTP/1.1\r\nHost: flood\r\nContent-Length: 100\r\n\r\n{\"tier\"")?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}
