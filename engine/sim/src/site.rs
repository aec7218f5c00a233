//! What a simulated exchange does with a connection: requests in turn, each answered whole or
//! misdelivered.
//!
//! Contract: a [`Site`] says what to answer and how to misdeliver it; this file moves the bytes. How
//! it fails: a connection's troubles end that connection.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use crate::http::{Framing, Request, RequestReader, Response};
use crate::server::{After, Handler, Link, Transport, garbage};

/// What a listener serves.
pub(crate) trait Site: Send + Sync + 'static {
    /// Whether the connection just accepted is to be reset.
    fn resets_on_accept(&self) -> bool;
    /// The TLS configuration for a new connection; `None` for plain HTTP.
    fn tls(&self) -> Option<Arc<ServerConfig>>;
    /// The answer to the `nth` request (from 1) of a connection.
    fn answer(&self, peer: IpAddr, connection: u64, nth: u32, request: &Request) -> Answer;
}

/// A response and how it travels.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) framing: Framing,
    pub(crate) close: bool,
    pub(crate) delivery: Delivery,
}

impl Answer {
    /// `response` in good order.
    pub(crate) const fn whole(response: Response) -> Answer {
        Answer { response, framing: Framing::ContentLength, close: false, delivery: Delivery::Whole }
    }
}

/// How much of a response arrives, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    ResetInHead,
    ResetInBody(usize),
    Slow(u32),
    Garbage,
    Short,
    Huge { bytes: u64, chunked: bool },
    Never,
}

/// What follows an answer.
impl<S: Site> Handler for S {
    fn serve(&self, link: &Link) -> After {
        if self.resets_on_accept() {
            return After::Reset;
        }
        let Ok(mut transport) = link.transport(self.tls()) else { return After::Close };
        let mut reader = RequestReader::default();
        let mut nth = 0;
        let after = loop {
            let Ok(Some(request)) = reader.next(&mut transport) else { break After::Close };
            nth += 1;
            let answer = self.answer(link.peer, link.number, nth, &request);
            link.count(|c| {
                c.requests += 1;
                c.not_modified += u64::from(answer.response.status == 304);
            });
            match deliver(link, &mut transport, &answer, request.keep_alive) {
                Ok(After::KeepAlive) => {}
                Ok(after) => break after,
                Err(_) => break After::Close,
            }
        };
        transport.finish(after);
        after
    }
}

fn deliver(link: &Link, out: &mut Transport, answer: &Answer, keep_alive: bool) -> io::Result<After> {
    let Answer { response, framing, .. } = answer;
    let close = answer.close || !keep_alive || *framing == Framing::CloseDelimited;
    let head = response.head(*framing, response.body.len() as u64, close);
    let body = response.framed_body(*framing);
    match answer.delivery {
        Delivery::Whole => {
            link.send(out, &[head, body].concat())?;
            return Ok(if close { After::Close } else { After::KeepAlive });
        }
        Delivery::ResetInHead => {
            link.send(out, head.get(..head.len() / 2).unwrap_or(&head))?;
            return Ok(After::Reset);
        }
        Delivery::ResetInBody(after) => {
            let part = body.get(..after).unwrap_or(&body);
            link.send(out, &[&head, part].concat())?;
            return Ok(After::Reset);
        }
        Delivery::Slow(bytes_per_second) => {
            link.send(out, &head)?;
            send_slowly(link, out, &body, bytes_per_second)?;
            return Ok(if close { After::Close } else { After::KeepAlive });
        }
        Delivery::Garbage => link.send(out, &garbage())?,
        Delivery::Short => {
            let half = body.get(..body.len() / 2).unwrap_or(&body);
            link.send(out, &[&head, half].concat())?;
        }
        Delivery::Huge { bytes, chunked } => send_huge(link, out, response, bytes, chunked)?,
        Delivery::Never => {
            // Reading notices when the peer gives up, or when the server stops.
            let mut sink = [0; 256];
            while matches!(out.read(&mut sink), Ok(1..)) {}
        }
    }
    Ok(After::Close)
}

fn send_slowly(link: &Link, out: &mut Transport, body: &[u8], bytes_per_second: u32) -> io::Result<()> {
    let rate = bytes_per_second.max(1);
    // Twenty slices a second, or one byte at a time below that.
    let (slice, wait) = if rate >= 20 {
        (rate as usize / 20, Duration::from_millis(50))
    } else {
        (1, Duration::from_secs(1) / rate)
    };
    for part in body.chunks(slice) {
        if link.pause(wait) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        link.send(out, part)?;
    }
    Ok(())
}

fn send_huge(link: &Link, out: &mut Transport, like: &Response, bytes: u64, chunked: bool) -> io::Result<()> {
    let framing = if chunked { Framing::Chunked(0) } else { Framing::ContentLength };
    link.send(out, &like.head(framing, bytes, true))?;
    // White space is JSON until the very end, so no parser can stop early.
    let block = vec![b' '; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let part = block.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&block);
        if chunked {
            link.send(out, format!("{:x}\r\n", part.len()).as_bytes())?;
            link.send(out, part)?;
            link.send(out, b"\r\n")?;
        } else {
            link.send(out, part)?;
        }
        left -= part.len() as u64;
    }
    if chunked { link.send(out, b"0\r\n\r\n") } else { Ok(()) }
}
