//! Whether an answer is the list or an accident: outages, other regions, other schemas.
//!
//! Contract: pure; a [`Guard`] a book, asked once an answer. It holds back answers that lost or gained too
//! much at once, and believes them when they stand for long. What it knows does not survive a restart:
//! then an accident that goes on must stand for its whole time again. Never fails.

use super::rules::{BookRules, micros};
use crate::time::WallUs;

/// How the list of a request looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListState {
    /// As usual.
    #[default]
    Usual,
    /// It lost, or ended, too much at once: an outage until shown otherwise.
    Shrunk,
    /// It gained too much at once.
    Grown,
}

impl ListState {
    /// Every state.
    pub const ALL: [ListState; 3] = [ListState::Usual, ListState::Shrunk, ListState::Grown];

    /// Spelling for status pages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ListState::Usual => "usual",
            ListState::Shrunk => "shrunk",
            ListState::Grown => "grown",
        }
    }
}

/// An answer in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Known instruments that are on the list and not over.
    pub(super) live: usize,
    /// Of these, absent from a complete answer.
    pub(super) absent: usize,
    /// Of these, over or with an end in this answer.
    pub(super) ended: usize,
    /// Instruments that would be new and that nobody told of.
    pub(super) fresh: usize,
    /// Known ones that would go back to before their opening.
    pub(super) reverted: usize,
}

impl Census {
    fn state(&self, rules: &BookRules) -> ListState {
        let share = |percent: usize| self.live.saturating_mul(percent);
        let lost = self.absent.saturating_mul(100) > share(rules.shrunk_percent)
            || self.absent > rules.shrunk_at_most;
        let ended =
            self.ended > rules.ended_at_most && self.ended.saturating_mul(100) > share(rules.shrunk_percent);
        let many = |count: usize| {
            count > rules.grown_at_most && count.saturating_mul(100) > share(rules.grown_percent)
        };
        if lost || ended {
            ListState::Shrunk
        } else if many(self.fresh) || many(self.reverted) {
            ListState::Grown
        } else {
            ListState::Usual
        }
    }
}

/// What is done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Each row says what it says.
    Take,
    /// Nothing is concluded.
    Hold(ListState),
    /// It stood for long: taken as known, nothing is told.
    Believe(ListState),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guard {
    state: ListState,
    since: WallUs,
    answers: u32,
}

impl Guard {
    pub(super) fn state(&self) -> ListState {
        self.state
    }

    pub(super) fn rule(&mut self, rules: &BookRules, census: &Census, received: WallUs) -> Ruling {
        let state = census.state(rules);
        if state == ListState::Usual {
            *self = Guard::default();
            return Ruling::Take;
        }
        if state != self.state {
            *self = Guard { state, since: received, answers: 0 };
        }
        self.answers = self.answers.saturating_add(1);
        let (stands, answers) = if state == ListState::Shrunk {
            (rules.shrunk_stands, rules.shrunk_answers)
        } else {
            (rules.grown_stands, rules.grown_answers)
        };
        if received.micros_since(self.since) < micros(stands) || self.answers < answers {
            return Ruling::Hold(state);
        }
        *self = Guard::default();
        Ruling::Believe(state)
    }
}
