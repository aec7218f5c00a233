//! Name resolution on a thread of its own.
//!
//! Contract: the asking thread never blocks: [`ResolverClient::ask`] puts a question into a bounded
//! ring, [`ResolverClient::poll`] takes an answer out of another. The resolver thread calls the system
//! resolver, which may block for seconds, and keeps answers for [`limits::DNS_FRESH_FOR`], so that
//! several sources of one host cost one lookup. A question that finds the ring full is refused and
//! asked again later by its owner, who goes on with the addresses known. IP addresses are never asked.
//! Allocation: on the resolver thread only.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tocsin_core::limits;
use tocsin_core::time::Mono;

use crate::os::clock;

/// Addresses of one name, at most [`limits::DNS_ADDRESSES`], in the resolver's order of preference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    list: [IpAddr; limits::DNS_ADDRESSES],
    len: usize,
}

impl Addresses {
    /// No address.
    pub const NONE: Addresses =
        Addresses { list: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); limits::DNS_ADDRESSES], len: 0 };

    /// The addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[IpAddr] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// Adds one unless it is there already; a full list ignores it.
    pub fn push(&mut self, address: IpAddr) {
        if self.as_slice().contains(&address) {
            return;
        }
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = address;
            self.len += 1;
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Addresses {
        let mut all = Addresses::NONE;
        addresses.into_iter().for_each(|a| all.push(a));
        all
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

struct Question {
    id: u32,
    host: Arc<str>,
}

/// An answer: at least one address, or none when the name has none or the lookup failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The asker's number of the question.
    pub id: u32,
    /// What was found.
    pub addresses: Addresses,
}

/// One asking thread's end. Not shared.
pub struct ResolverClient {
    questions: rtrb::Producer<Question>,
    answers: rtrb::Consumer<Answer>,
    /// Not waited for at the end: a lookup in progress may take seconds.
    wake: Thread,
}

impl ResolverClient {
    /// Asks for the addresses of `host`; the answer carries `id`. False when too many questions are
    /// waiting: ask again later.
    pub fn ask(&mut self, id: u32, host: &Arc<str>) -> bool {
        let sent = self.questions.push(Question { id, host: Arc::clone(host) }).is_ok();
        self.wake.unpark();
        sent
    }

    /// The next answer, if there is one.
    pub fn poll(&mut self) -> Option<Answer> {
        self.answers.pop().ok()
    }
}

/// The running resolver thread; dropping it asks the thread to end after the lookup in progress.
pub struct Resolver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts the thread with the system's resolver, and `clients` ends to ask it from.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(clients: usize) -> io::Result<(Resolver, Vec<ResolverClient>)> {
        Resolver::start_with(clients, |host| {
            (host, 0).to_socket_addrs().map(|all| all.map(|a| a.ip()).collect()).unwrap_or(Addresses::NONE)
        })
    }

    /// The same with another way to look names up.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start_with(
        clients: usize,
        lookup: impl Fn(&str) -> Addresses + Send + 'static,
    ) -> io::Result<(Resolver, Vec<ResolverClient>)> {
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..clients {
            let (question_in, question_out) = rtrb::RingBuffer::new(limits::DNS_QUESTIONS);
            let (answer_in, answer_out) = rtrb::RingBuffer::new(limits::DNS_QUESTIONS);
            near.push((question_in, answer_out));
            far.push(Line { questions: question_out, answers: answer_in });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("dns".into())
            .spawn(move || Service { lines: far, known: Vec::new(), lookup }.run(&stopped))?;
        let wake = thread.thread().clone();
        let clients = near
            .into_iter()
            .map(|(questions, answers)| ResolverClient { questions, answers, wake: wake.clone() })
            .collect();
        Ok((Resolver { stop, thread: Some(thread) }, clients))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

struct Line {
    questions: rtrb::Consumer<Question>,
    answers: rtrb::Producer<Answer>,
}

struct Known {
    host: Arc<str>,
    addresses: Addresses,
    at: Mono,
}

struct Service<F> {
    lines: Vec<Line>,
    known: Vec<Known>,
    lookup: F,
}

impl<F: Fn(&str) -> Addresses> Service<F> {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if !self.turn() {
                std::thread::park_timeout(Duration::from_millis(500));
            }
        }
    }

    /// Answers at most one question of each line; whether there was any.
    fn turn(&mut self) -> bool {
        let mut worked = false;
        for at in 0..self.lines.len() {
            // The answer's place is made sure of first: an unread answer leaves the question waiting.
            let question = self
                .lines
                .get_mut(at)
                .filter(|line| line.answers.slots() > 0)
                .and_then(|line| line.questions.pop().ok());
            let Some(Question { id, host }) = question else { continue };
            let addresses = self.resolve(&host);
            if let Some(line) = self.lines.get_mut(at) {
                let _ = line.answers.push(Answer { id, addresses });
            }
            worked = true;
        }
        worked
    }

    fn resolve(&mut self, host: &Arc<str>) -> Addresses {
        let now = clock::mono();
        self.known.retain(|k| now.since(k.at) < limits::DNS_FRESH_FOR);
        if let Some(known) = self.known.iter().find(|k| k.host == *host) {
            return known.addresses;
        }
        let addresses = (self.lookup)(host);
        if !addresses.as_slice().is_empty() && self.known.len() < limits::DNS_QUESTIONS {
            self.known.push(Known { host: Arc::clone(host), addresses, at: clock::mono() });
        }
        addresses
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn wait(client: &mut ResolverClient) -> Answer {
        loop {
            if let Some(answer) = client.poll() {
                return answer;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn answers_come_back_to_who_asked_and_are_kept() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let (_resolver, mut clients) = Resolver::start_with(2, move |host| {
            counted.fetch_add(1, Ordering::Relaxed);
            [IpAddr::from([10, 0, 0, u8::try_from(host.len()).unwrap()])].into_iter().collect()
        })
        .unwrap();
        let (four, five): (Arc<str>, Arc<str>) = ("four".into(), "fives".into());
        assert!(clients[0].ask(7, &four));
        assert_eq!(wait(&mut clients[0]).addresses.as_slice(), [IpAddr::from([10, 0, 0, 4])]);
        assert!(clients[1].ask(8, &five));
        assert_eq!(wait(&mut clients[1]).id, 8);
        assert!(clients[1].ask(9, &four));
        let answer = wait(&mut clients[1]);
        assert_eq!((answer.id, answer.addresses.as_slice().len()), (9, 1));
        assert_eq!(lookups.load(Ordering::Relaxed), 2, "the third question is answered from memory");
    }

    #[test]
    fn a_failed_lookup_is_answered_and_not_kept() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let (_resolver, mut clients) = Resolver::start_with(1, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Addresses::NONE
        })
        .unwrap();
        for id in 0..2 {
            assert!(clients[0].ask(id, &"gone".into()));
            assert_eq!(wait(&mut clients[0]), Answer { id, addresses: Addresses::NONE });
        }
        assert_eq!(lookups.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_system_resolver_knows_localhost() {
        let (_resolver, mut clients) = Resolver::start(1).unwrap();
        assert!(clients[0].ask(1, &"localhost".into()));
        assert!(wait(&mut clients[0]).addresses.as_slice().iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn a_list_is_bounded_and_has_no_repeats() {
        let many: Addresses = (0..=255).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(many.as_slice().len(), limits::DNS_ADDRESSES);
        let same: Addresses = std::iter::repeat_n(IpAddr::from([10, 0, 0, 1]), 5).collect();
        assert_eq!(same.as_slice().len(), 1);
    }
}
