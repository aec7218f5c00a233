//! The feed: who may connect, what each subscriber gets, in which order, and when it is closed.

pub mod key;
pub mod subscription;
