//! The feed: who may connect, what each subscriber gets, in which order, and when it is closed.

pub mod admission;
pub mod burst;
pub mod client_message;
pub mod close;
pub mod counters;
pub mod extras;
pub mod frame_log;
pub mod history;
pub mod key;
pub mod look;
pub mod order;
pub mod outlet;
pub mod reconnect;
mod rotation;
pub mod slots;
pub mod socket;
pub mod subscriber;
pub mod subscription;
pub mod timers;
pub mod writer;
