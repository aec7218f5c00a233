//! The engine: threads, sockets, store, control plane and command line around `tocsin-core`.

pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod logging;
pub mod net;
pub mod os;
pub mod record;
pub mod reload;
pub mod rings;
pub mod serve;
pub mod store;
pub mod supervise;
pub mod threads;
pub mod top;
pub mod topology;
