//! The mail thread: what is due in the outbox goes to account owners by SMTP.
//!
//! Contract: one mail for each transition of an endpoint, the latency warnings of one account in one
//! digest. A mail the server has taken is recorded in the store before the next one is tried, so that it
//! is sent exactly once across every restart; only when the process or the disk dies between the server's
//! answer and that commit is it sent again, with the same `Message-ID` (at least once). A mail the server
//! may take later is tried again as [`Retry`] says; one it refuses for good (5xx to the recipient or the
//! mail) is given up at once. Where the server takes nothing (not reachable, no TLS, wrong password,
//! sender refused) all that is due counts as tried, and no connection is made for the first pause.
//! A stop while the server has not answered leaves the mail for the next start, as a crash would.
//!
//! Owner: a plain thread of its own, not a hot one ([`Mailer::run`]); the calls that block on the network
//! are in a second one (`mail-smtp`), so that stopping takes [`STOP_PATIENCE`] at most, whatever the
//! server does. It must end before the journal thread. Allocates; blocks on disk, journal and network.
//!
//! Bounds: [`BATCH`] mails a turn, one on its way at a time. Without configuration the thread is not
//! started: mails wait in the outbox, which has a bound of its own. Failure: logged without password and
//! addresses, and tried again; nothing ends the thread but `stop`.

mod courier;
mod letter;
mod outbox;
pub mod text;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use tocsin_core::limits;
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::webhook::endpoint::Mail;

use crate::config::Smtp;
use crate::os::clock;
use courier::{Courier, Failure, GLANCE, Post};
use text::Notice;

pub use courier::Timeouts;
pub use letter::MailSender;
pub use outbox::{JournalOutbox, Outbox, OutboxError, Settled};

/// Mails read from the outbox at a time.
pub const BATCH: usize = 100;
/// Latency warnings looked for that could join a digest.
const DIGEST_LOOK_AHEAD: usize = 1_000;
/// Longest pause between two looks into the outbox.
const LOOK_PERIOD: Duration = Duration::from_secs(30);
/// After the outbox did not answer.
const OUTBOX_PAUSE: Duration = Duration::from_secs(1);
/// How long a stop waits for the verdict on the mail under way.
pub const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// When a mail that was not taken is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// The pauses; the last repeats.
    pub pauses: Vec<Duration>,
    /// Once the pauses so far add up to this, it is given up.
    pub give_up_after: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Retry { pauses: [1, 2, 5, 15, 30, 60].map(minutes).to_vec(), give_up_after: minutes(24 * 60) }
    }
}

impl Retry {
    /// The pause after the try that follows `tries` others; `None`: that was the last.
    #[must_use]
    pub fn pause(&self, tries: u32) -> Option<Duration> {
        let last = self.pauses.len().checked_sub(1)?;
        let pause = |n: usize| self.pauses.get(n.min(last)).copied().unwrap_or_default();
        let tries = usize::try_from(tries).ok()?;
        let mut waited = Duration::ZERO;
        for n in 0..tries {
            waited = waited.saturating_add(pause(n));
            if waited >= self.give_up_after || pause(n).is_zero() {
                return None;
            }
        }
        Some(pause(tries))
    }
}

/// How patient the thread is. The default is for everything but tests.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// When a mail is tried again.
    pub retry: Retry,
    /// How long the server's answers are waited for.
    pub timeouts: Timeouts,
}

/// Counters of the mail thread, for status and metrics. Only ever grow.
#[derive(Debug, Default)]
pub struct MailCounters {
    /// Mails the server took; a digest is one.
    pub sent: AtomicU64,
    /// Tries that failed and will be repeated.
    pub deferred: AtomicU64,
    /// Mails given up.
    pub given_up: AtomicU64,
    /// Times that the server took nothing.
    pub server_failures: AtomicU64,
}

/// The mail server and the sender; a reload may replace them.
pub struct MailSettings {
    sender: MailSender,
    courier: Courier,
}

impl MailSettings {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(smtp: &Smtp, sender: MailSender) -> io::Result<MailSettings> {
        MailSettings::with_timeouts(smtp, sender, Timeouts::default())
    }

    fn with_timeouts(smtp: &Smtp, sender: MailSender, timeouts: Timeouts) -> io::Result<MailSettings> {
        let courier = Courier::new(smtp, timeouts);
        courier.check().map_err(io::Error::other)?;
        Ok(MailSettings { sender, courier })
    }
}

/// Where the mail thread finds its next settings; the newest count. Clones share the place.
#[derive(Clone, Default)]
pub struct NextSettings(Arc<Mutex<Option<MailSettings>>>);

impl NextSettings {
    /// Mails that are begun from now on go by `settings`.
    pub fn put(&self, settings: MailSettings) {
        *self.0.lock() = Some(settings);
    }

    fn take(&self) -> Option<MailSettings> {
        self.0.lock().take()
    }
}

/// The mail thread's state.
pub struct Mailer<O> {
    outbox: O,
    sender: MailSender,
    post: Post,
    retry: Retry,
    wake: Receiver<()>,
    next: NextSettings,
    counters: Arc<MailCounters>,
    /// What happened and is not recorded yet: nothing is sent before it is.
    unrecorded: Option<Settled>,
    /// No connection before this.
    server_pause_until: Mono,
    /// The reason logged last, so that a server that stays away is told of once.
    told: Option<String>,
}

/// Whether a turn goes on after a mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    GoOn,
    EndTurn,
}

impl<O: Outbox> Mailer<O> {
    /// A mail thread over `outbox`, woken through `wake` when something was put into it. Reads the files
    /// that the configuration names.
    ///
    /// # Errors
    /// A file that cannot be used, or no thread can be started.
    pub fn new(
        smtp: &Smtp,
        sender: MailSender,
        outbox: O,
        wake: Receiver<()>,
        pace: Pace,
    ) -> io::Result<Mailer<O>> {
        let MailSettings { sender, courier } = MailSettings::with_timeouts(smtp, sender, pace.timeouts)?;
        Ok(Mailer {
            outbox,
            sender,
            post: Post::start(courier)?,
            retry: pace.retry,
            wake,
            next: NextSettings::default(),
            counters: Arc::default(),
            unrecorded: None,
            server_pause_until: Mono(0),
            told: None,
        })
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> Arc<MailCounters> {
        Arc::clone(&self.counters)
    }

    /// Where a reload puts other settings.
    #[must_use]
    pub fn next_settings(&self) -> NextSettings {
        self.next.clone()
    }

    /// Works until `stop` is set, which it sees within 100 ms. It need not be woken for that.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.take_settings();
            let pause = self.turn(stop);
            self.rest(pause, stop);
        }
        if let Some(settled) = self.unrecorded.take()
            && let Err(error) = self.outbox.settle(&settled)
        {
            tracing::error!(%error, "stopping before this was recorded, which may be sent again: {settled:?}");
        }
    }

    /// The pause that the server before has earned is not the next one's.
    fn take_settings(&mut self) {
        let Some(MailSettings { sender, courier }) = self.next.take() else { return };
        match Post::start(courier) {
            Ok(post) => {
                self.post = post;
                self.sender = sender;
                self.server_pause_until = Mono(0);
                self.told = None;
            }
            Err(error) => tracing::error!(%error, "mail goes on by the settings before the reload"),
        }
    }

    /// Sends what is due, at most [`BATCH`]; how long there is nothing to do then.
    fn turn(&mut self, stop: &AtomicBool) -> Duration {
        if let Some(settled) = self.unrecorded.take()
            && !self.record(settled)
        {
            return OUTBOX_PAUSE;
        }
        let now = clock::now();
        if now.mono < self.server_pause_until {
            return self.server_pause_until.since(now.mono);
        }
        let due = match self.due(now.wall) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                return LOOK_PERIOD;
            }
        };
        let full = due.len() >= BATCH;
        let mut groups = text::group(due).into_iter();
        while let Some(group) = groups.next() {
            if stop.load(Ordering::Relaxed) || self.deliver(&group, stop, &mut groups) == After::EndTurn {
                break;
            }
        }
        self.post.hang_up();
        if self.unrecorded.is_some() {
            return OUTBOX_PAUSE;
        }
        if full { Duration::ZERO } else { self.until_next(now.wall) }
    }

    /// What is due, with the latency warnings that wait for company where one of theirs is due.
    fn due(&mut self, now: WallUs) -> Result<Vec<Notice>, OutboxError> {
        let mut due = self.outbox.due(now, BATCH)?;
        let slow: BTreeSet<_> = due.iter().filter(|m| m.mail == Mail::Slow).map(|m| m.account).collect();
        if !slow.is_empty() {
            let known: BTreeSet<i64> = due.iter().map(|mail| mail.id).collect();
            let soon = later(now, limits::MAIL_DIGEST);
            let more = self.outbox.due(soon, DIGEST_LOOK_AHEAD)?;
            due.extend(more.into_iter().filter(|mail| {
                mail.mail == Mail::Slow && slow.contains(&mail.account) && !known.contains(&mail.id)
            }));
        }
        let outbox = &mut self.outbox;
        Ok(due.into_iter().map(|due| Notice { label: outbox.label(due.endpoint), due }).collect())
    }

    /// Sends one mail and records what became of it; `others` are those behind it.
    fn deliver(
        &mut self,
        group: &[Notice],
        stop: &AtomicBool,
        others: &mut dyn Iterator<Item = Vec<Notice>>,
    ) -> After {
        let verdict = match self.sender.letter(group) {
            Ok(letter) => match self.post.send(letter, stop, STOP_PATIENCE) {
                Some(verdict) => verdict,
                None => {
                    tracing::warn!("stopping while the mail server has not answered; the mail is sent again");
                    return After::EndTurn;
                }
            },
            Err(problem) => Err(Failure::Refused(problem.to_owned())),
        };
        match verdict {
            Ok(()) => {
                self.counters.sent.fetch_add(1, Ordering::Relaxed);
                self.told = None;
                self.log_sent(group);
                self.settle(vec![Settled::Sent(ids(group))])
            }
            Err(Failure::Refused(reason)) => {
                self.log_given_up(group, &reason);
                let (ids, not_before) = (ids(group), clock::wall());
                self.settle(vec![Settled::Failed { ids, not_before, give_up: true }])
            }
            Err(Failure::Deferred(reason)) => {
                tracing::warn!(account = account(group), mails = ?ids(group), reason, "a mail was not taken yet");
                let failed = self.failed(group, &reason);
                self.settle(failed)
            }
            Err(Failure::Server(reason)) => {
                self.server_failed(&reason);
                let mut all = group.to_vec();
                all.extend(others.flatten());
                let failed = self.failed(&all, &reason);
                self.settle(failed);
                After::EndTurn
            }
        }
    }

    /// The next try of these mails, together, and the end of those that have had their last.
    fn failed(&self, mails: &[Notice], reason: &str) -> Vec<Settled> {
        let pause = |mail: &Notice| self.retry.pause(mail.due.tries);
        let (again, over): (Vec<Notice>, Vec<Notice>) =
            mails.iter().cloned().partition(|mail| pause(mail).is_some());
        let mut settled = Vec::new();
        let now = clock::wall();
        for mail in &over {
            self.log_given_up(std::slice::from_ref(mail), reason);
        }
        if !over.is_empty() {
            settled.push(Settled::Failed { ids: ids(&over), not_before: now, give_up: true });
        }
        // Each by its own count, but those of one digest stay together: by the shortest.
        for group in text::group(again) {
            let pause = group.iter().filter_map(pause).min().unwrap_or_default();
            self.counters.deferred.fetch_add(1, Ordering::Relaxed);
            settled.push(Settled::Failed { ids: ids(&group), not_before: later(now, pause), give_up: false });
        }
        merge(settled)
    }

    /// Records changes in order. What could not be is kept, and ends the turn.
    fn settle(&mut self, changes: Vec<Settled>) -> After {
        for settled in changes {
            if self.unrecorded.is_some() {
                // A failed try that goes unrecorded is tried again a little early: no harm.
                return After::EndTurn;
            }
            self.record(settled);
        }
        if self.unrecorded.is_some() { After::EndTurn } else { After::GoOn }
    }

    fn record(&mut self, settled: Settled) -> bool {
        match self.outbox.settle(&settled) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "what became of a mail cannot be recorded yet");
                self.unrecorded = Some(settled);
                false
            }
        }
    }

    fn server_failed(&mut self, reason: &str) {
        self.counters.server_failures.fetch_add(1, Ordering::Relaxed);
        let pause = self.retry.pauses.first().copied().unwrap_or(LOOK_PERIOD);
        self.server_pause_until = clock::mono() + pause;
        if self.told.as_deref() == Some(reason) {
            tracing::debug!(reason, "the mail server still takes no mail");
        } else {
            tracing::warn!(reason, "the mail server takes no mail; what is due waits");
            self.told = Some(reason.to_owned());
        }
    }

    fn log_sent(&self, group: &[Notice]) {
        let endpoints: Vec<u64> = group.iter().map(|notice| notice.due.endpoint.0).collect();
        let kind = group.first().map(|notice| notice.due.mail);
        tracing::info!(account = account(group), ?endpoints, ?kind, "mail sent");
    }

    fn log_given_up(&self, group: &[Notice], reason: &str) {
        self.counters.given_up.fetch_add(1, Ordering::Relaxed);
        tracing::error!(account = account(group), mails = ?ids(group), reason, "a mail is given up");
    }

    /// Until the next is due of those that were not when the turn looked; some may be by now.
    fn until_next(&mut self, looked_at: WallUs) -> Duration {
        let now = clock::now();
        let next = match self.outbox.next_at(looked_at) {
            Ok(Some(at)) => {
                Duration::from_micros(u64::try_from(at.0.saturating_sub(now.wall.0)).unwrap_or(0))
            }
            Ok(None) => LOOK_PERIOD,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                LOOK_PERIOD
            }
        };
        next.max(self.server_pause_until.since(now.mono)).min(LOOK_PERIOD)
    }

    /// Waits until woken, stopped or `pause` is over.
    fn rest(&self, pause: Duration, stop: &AtomicBool) {
        let until = clock::mono() + pause;
        loop {
            let left = until.since(clock::mono());
            if left.is_zero() || stop.load(Ordering::Relaxed) {
                return;
            }
            match self.wake.recv_timeout(left.min(GLANCE)) {
                Ok(()) => {
                    // Any number of them is one look.
                    while self.wake.try_recv().is_ok() {}
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left.min(GLANCE)),
            }
        }
    }
}

fn ids(group: &[Notice]) -> Vec<i64> {
    group.iter().map(|notice| notice.due.id).collect()
}

fn account(group: &[Notice]) -> i64 {
    group.first().map_or(0, |notice| notice.due.account.0)
}

fn later(at: WallUs, by: Duration) -> WallUs {
    WallUs(at.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

/// One change for those that are due at the same instant.
fn merge(changes: Vec<Settled>) -> Vec<Settled> {
    let mut merged: Vec<Settled> = Vec::new();
    for change in changes {
        if let Settled::Failed { ids: more, not_before, give_up } = &change
            && let Some(Settled::Failed { ids, .. }) = merged.iter_mut().find(|other| {
                matches!(other, Settled::Failed { not_before: n, give_up: g, .. } if (n, g) == (not_before, give_up))
            })
        {
            ids.extend(more);
        } else {
            merged.push(change);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_tried_for_a_day_and_given_up() {
        let retry = Retry::default();
        let minutes: Vec<u64> =
            (0..).map_while(|tries| retry.pause(tries)).map(|pause| pause.as_secs() / 60).collect();
        assert_eq!(minutes[..7], [1, 2, 5, 15, 30, 60, 60]);
        let whole: u64 = minutes.iter().sum();
        assert!((24 * 60..25 * 60).contains(&whole), "{whole} minutes");
        assert_eq!(retry.pause(u32::MAX), None);
        let none = Retry { pauses: Vec::new(), give_up_after: Duration::MAX };
        assert_eq!(none.pause(0), None);
    }

    #[test]
    fn changes_of_one_instant_are_one() {
        let failed =
            |ids: &[i64], at, give_up| Settled::Failed { ids: ids.to_vec(), not_before: WallUs(at), give_up };
        let changes = vec![
            failed(&[1], 5, true),
            failed(&[2], 7, false),
            failed(&[3], 8, false),
            failed(&[4, 5], 7, false),
            failed(&[6], 5, false),
        ];
        let merged = [
            failed(&[1], 5, true),
            failed(&[2, 4, 5], 7, false),
            failed(&[3], 8, false),
            failed(&[6], 5, false),
        ];
        assert_eq!(merge(changes), merged);
    }
}
