//! A feed of the past: one feed writer and the accept thread, and nothing behind them but what is pushed.
//!
//! Contract: the threads, the handshake, the keys and the messages are the service's own; announcements
//! get positions of an epoch that no service has ([`EPOCH`]), so that a client never takes a place here for
//! one there, and full messages say `"replayed":true`. Neither store nor webhooks are touched. Owner: the
//! main thread of `tocsin replay`, which may wait. Fails at start as the service does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rtrb::{Producer, PushError, RingBuffer};
use tocsin_core::feed::history::History;
use tocsin_core::feed::key::KeyRecord;
use tocsin_core::limits;
use tocsin_core::model::{Announcement, FeedPosition};
use tocsin_core::wire::{self, EncodedAnnouncement};

use super::{StartError, doing};
use crate::config::{Config, Idle};
use crate::net::tls::ServerTls;
use crate::os::clock;
use crate::rings::{SourceToFeed, ToAccept};
use crate::threads::accept::{self, AcceptParts, AcceptSettings, AcceptStats, AcceptThread, WriterLink};
use crate::threads::feed::{FeedRings, FeedStats, FeedThread};
use crate::threads::{Pulse, run_loop};
use crate::topology;

/// Services count from 1.
pub const EPOCH: u64 = 0;
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// See the module head. Dropping it without [`ReplayFeed::stop`] leaves its threads running.
pub struct ReplayFeed {
    /// Where it listens, with the port it was given.
    pub address: SocketAddr,
    /// SHA-256 of the certificate; `None` when it serves plain `ws`.
    pub fingerprint: Option<String>,
    to_feed: Producer<SourceToFeed>,
    to_accept: Producer<Arc<EncodedAnnouncement>>,
    commands: Producer<ToAccept>,
    waker: Arc<mio::Waker>,
    stats: Arc<AcceptStats>,
    feed_stats: Arc<FeedStats>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    drain: Duration,
    sent: u64,
}

impl ReplayFeed {
    /// Listens at `listen`, with the configuration's limits and, unless `plain`, its certificate.
    ///
    /// # Errors
    /// The port, the certificate, a thread.
    pub fn start(
        config: &Config,
        listen: SocketAddr,
        plain: bool,
        keys: Vec<KeyRecord>,
    ) -> Result<ReplayFeed, StartError> {
        let tls = if plain { None } else { Some(certificate(config, listen)?) };
        let listener = accept::listen(listen).map_err(doing(&format!("--listen {listen}")))?;
        let address = listener.local_addr().map_err(doing("reading the feed's address"))?;
        let (to_feed, sources) = RingBuffer::new(topology::SOURCE_TO_FEED);
        let (to_accept, announcements) = RingBuffer::new(topology::SOURCE_TO_ACCEPT);
        let (commands, asked) = RingBuffer::new(topology::CONTROL_TO_ACCEPT);
        let (join, joined) = RingBuffer::new(topology::ACCEPT_TO_FEED);
        let (released, ended) = RingBuffer::new(topology::Plan::sessions_per_writer(config));
        // Nobody looks at the subscribers of a replay.
        let (looked, _) = RingBuffer::new(topology::FEED_TO_CONTROL);
        let rings = FeedRings { sources: vec![sources], market: None, accept: joined, released, looked };
        let history = History::new(EPOCH, limits::HISTORY_IN_MEMORY, [], true);
        let feed_stats = Arc::new(FeedStats::default());
        let mut feed =
            FeedThread::new(rings, history, Arc::clone(&feed_stats), clock::mono().0, Box::new(clock::now))
                .map_err(doing("starting a feed writer"))?;
        let stats = Arc::new(AcceptStats::default());
        let mut accept = AcceptThread::new(AcceptParts {
            listener,
            tls: tls.clone(),
            settings: AcceptSettings::from(&config.feed),
            keys,
            history: Vec::new(),
            commands: asked,
            announcements: vec![announcements],
            writers: vec![WriterLink { to_feed: join, released: ended }],
            stats: Arc::clone(&stats),
        })
        .map_err(doing("starting the accept thread"))?;
        let waker = accept.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let (feed_stop, accept_stop) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            spawn("feed-0", move || {
                run_loop(&mut feed, Idle::Block, &feed_stop, &Arc::new(Pulse::default()));
            })?,
            spawn("accept", move || accept.run(&accept_stop, &Pulse::default()))?,
        ];
        let fingerprint = tls.as_ref().map(ServerTls::fingerprint_text);
        let drain = config.feed.drain;
        Ok(ReplayFeed {
            address,
            fingerprint,
            to_feed,
            to_accept,
            commands,
            waker,
            stats,
            feed_stats,
            stop,
            threads,
            drain,
            sent: 0,
        })
    }

    /// Clients that get what is sent from now on; published four times a second.
    #[must_use]
    pub fn listening(&self) -> u64 {
        self.feed_stats.connections.load(Ordering::Relaxed)
    }

    /// Clients connected now, those on their way to the writer included.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.stats.sessions.get()
    }

    /// Sends an announcement to everyone; waits while the writer has more than it can take.
    pub fn send(&mut self, mut announcement: Announcement) {
        self.sent += 1;
        announcement.position = FeedPosition { epoch: EPOCH, seq: self.sent };
        let mut encoded = wire::encode(announcement);
        encoded.mark_replayed();
        let encoded = Arc::new(encoded);
        let mut message = SourceToFeed::Announcement(Arc::clone(&encoded));
        while let Err(PushError::Full(back)) = self.to_feed.push(message) {
            message = back;
            std::thread::sleep(LOOK);
        }
        // For `GET /v1/announcements`; whoever asks less often than the ring is deep misses nothing.
        let mut encoded = encoded;
        while let Err(PushError::Full(back)) = self.to_accept.push(encoded) {
            encoded = back;
            let _ = self.waker.wake();
            std::thread::sleep(LOOK);
        }
    }

    /// Closes every client as a service that stops does, then ends the threads. True when all ended
    /// properly.
    pub fn stop(mut self) -> bool {
        let until = clock::mono() + self.drain;
        // A ring that nobody takes from cuts them off.
        if self.commands.push(ToAccept::Drain(until)).is_ok() {
            let _ = self.waker.wake();
        }
        let cut_off = until + limits::CLOSE_TIMEOUT;
        while self.sessions() > 0 && clock::mono() < cut_off {
            std::thread::sleep(LOOK);
        }
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        self.threads.into_iter().all(|thread| thread.join().is_ok())
    }
}

fn certificate(config: &Config, listen: SocketAddr) -> Result<ServerTls, StartError> {
    match (&config.feed.cert_file, &config.feed.key_file) {
        (Some(cert), Some(key)) => Ok(ServerTls::from_pem_files(cert, key)?),
        _ => Ok(ServerTls::self_signed(&config.data_dir, listen)?),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(doing(&format!("starting thread {name}")))
}
