//! Bugs planted on purpose, one at a time, to see that the checkers catch them.
//!
//! Contract: a plant is a fault of the simulated threads, the simulated disk or of what stands between them
//! and the core; the core itself is never changed. Plain data.

/// See the module head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// An announcement is broadcast without having gone into shared memory first.
    SkipJournal,
    /// A change is answered, and shared memory released, before the disk has the commit.
    AckBeforeFsync,
    /// A retry starts one step of the schedule too early.
    RetryStep,
    /// A socket's readiness is lost now and then.
    LostWakeup,
    /// Announcements leave with the stamp they were serialized with.
    ForgottenStamp,
    /// A revocation reaches admission and not the live sessions.
    RevokedKeyLives,
    /// A resume begins one announcement too late.
    ResumeOffByOne,
    /// A path's confirmation is taken for a first arrival.
    RaceDropsConfirmation,
    /// The gap message of a resume is left out.
    ForgottenGap,
    /// Housekeeping goes before announcements and lets none through while it has work.
    HeartbeatsFirst,
    /// The outcome of an attempt is not put into shared memory.
    OutcomeNotJournaled,
    /// An event is offered to endpoints that its customer has switched off.
    DisabledEndpointServed,
    /// An ended session does not give its place back.
    LimitsLeak,
    /// Recovery at start applies what shared memory held in the wrong order: outcomes before events.
    RecoveryOrder,
    /// What the market watchers tell is on disk before it is told.
    MarketStoredFirst,
    /// A list of instruments that lost most of them is believed.
    MarketShrunkBelieved,
    /// A start forgets what was told of instruments.
    MarketToldForgotten,
}

impl Plant {
    /// Every one.
    pub const ALL: [Plant; 17] = [
        Plant::SkipJournal,
        Plant::AckBeforeFsync,
        Plant::RetryStep,
        Plant::LostWakeup,
        Plant::ForgottenStamp,
        Plant::RevokedKeyLives,
        Plant::ResumeOffByOne,
        Plant::RaceDropsConfirmation,
        Plant::ForgottenGap,
        Plant::HeartbeatsFirst,
        Plant::OutcomeNotJournaled,
        Plant::DisabledEndpointServed,
        Plant::LimitsLeak,
        Plant::RecoveryOrder,
        Plant::MarketStoredFirst,
        Plant::MarketShrunkBelieved,
        Plant::MarketToldForgotten,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Plant::SkipJournal => "skip-journal",
            Plant::AckBeforeFsync => "ack-before-fsync",
            Plant::RetryStep => "retry-step",
            Plant::LostWakeup => "lost-wakeup",
            Plant::ForgottenStamp => "forgotten-stamp",
            Plant::RevokedKeyLives => "revoked-key-lives",
            Plant::ResumeOffByOne => "resume-off-by-one",
            Plant::RaceDropsConfirmation => "race-drops-confirmation",
            Plant::ForgottenGap => "forgotten-gap",
            Plant::HeartbeatsFirst => "heartbeats-first",
            Plant::OutcomeNotJournaled => "outcome-not-journaled",
            Plant::DisabledEndpointServed => "disabled-endpoint-served",
            Plant::LimitsLeak => "limits-leak",
            Plant::RecoveryOrder => "recovery-order",
            Plant::MarketStoredFirst => "market-stored-first",
            Plant::MarketShrunkBelieved => "market-shrunk-believed",
            Plant::MarketToldForgotten => "market-told-forgotten",
        }
    }

    /// The inverse of [`Plant::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Plant> {
        Plant::ALL.into_iter().find(|plant| plant.name() == name)
    }
}
