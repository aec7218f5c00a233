//! All protocol and decision logic of Tocsin, sans-I/O and deterministic.
//!
//! Contract: nothing here opens a socket, reads a clock, starts a thread, takes a lock or draws a
//! random number. Time, randomness and bytes come in as arguments; decisions and bytes go out as
//! values. `clippy.toml` beside this package bans the rest, so the rule is checked and not
//! remembered. The same code therefore runs threaded, single-stepped in tests and under the
//! simulator.
//!
//! A stage imports the data types of the stage before it and never a later stage:
//! `limits`, `model` <- `http1`, `ws` <- `source` <- `detect` <- `classify` <- `score`, `wire` <- `market` <-
//! `feed`, `webhook`, `access`.

pub mod access;
pub mod classify;
pub mod detect;
pub mod feed;
pub mod http1;
pub mod limits;
pub mod market;
pub mod model;
pub mod score;
pub mod source;
pub mod time;
pub mod webhook;
pub mod wire;
pub mod ws;
