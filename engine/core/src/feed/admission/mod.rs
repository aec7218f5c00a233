//! Who may connect: the specification's handshake, authentication and connection limits.
//!
//! Contract: pure decisions over tables this module owns; time comes in as an argument. One owner,
//! the accept thread; nothing here is shared. Every table is bounded and says what happens at its
//! bound. A decision may allocate (one connection's worth); nothing blocks. Refusals are values
//! ([`refusal::Refusal`]) that know their status, body and headers.

pub mod address;
pub mod decide;
pub mod history;
pub mod keys;
pub mod query;
pub mod refusal;
