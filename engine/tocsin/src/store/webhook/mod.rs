//! What the store keeps for webhooks: accounts, endpoints with sealed secrets, events with whom they
//! went to, deliveries not concluded, the delivery log, mail to be sent.
//!
//! Contract: as the rest of the store. A success is a bit beside its event, not a row; a delivery that
//! waits for a retry is a row; the delivery log is a ring of a fixed number of rows an endpoint.

pub mod accounts;
pub mod deliveries;
pub mod endpoints;
pub mod mail;
pub mod secrets;
