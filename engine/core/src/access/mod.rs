//! Who may use the control plane, and how often: sessions of browsers, one-time sign-in codes, rates,
//! and where a browser's request may come from.
//!
//! Contract: decisions over values. Time comes in as [`crate::time::Mono`], random bytes as arguments;
//! of a secret only its SHA-256 is kept. Every table has a bound and gives up what is idle longest.
//! Owner: the control thread. Allocates when something becomes known; never fails.

pub mod codes;
pub mod origin;
pub mod rate;
pub mod sessions;
pub mod ticket;

/// Whose a session or a code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The administrator.
    Administrator,
    /// The account of this number.
    Account(i64),
}
