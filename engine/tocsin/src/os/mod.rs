//! What the engine asks of the operating system: clocks, cores, memory, signals, socket options, what it
//! uses and whether the time is right.
//!
//! Everything here is called at start or in housekeeping, except [`clock`], [`idle`] and [`alarm`], which hot
//! loops call every turn.

pub mod addresses;
pub mod alarm;
pub mod clock;
pub mod cores;
pub mod idle;
pub mod inherited;
pub mod memory;
pub mod process;
pub mod sockopt;
pub mod timesync;
