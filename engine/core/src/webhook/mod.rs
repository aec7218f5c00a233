//! Webhooks: which event goes to which endpoint when, what an answer means, and what becomes of an
//! endpoint that fails.

pub mod address;
pub mod attempt;
pub mod board;
pub mod body;
pub mod dispatcher;
pub mod endpoint;
pub mod event;
pub mod filter;
pub mod lane;
pub mod outgoing;
pub mod schedule;
pub mod signature;
pub mod test_budget;
pub mod url;
pub mod window;
