//! The feed: who may connect, what each subscriber gets, in which order, and when it is closed.

pub mod admission;
pub mod close;
pub mod frame_log;
pub mod history;
pub mod key;
pub mod order;
pub mod reconnect;
pub mod subscription;
pub mod timers;
