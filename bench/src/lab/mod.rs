//! The bench on which the engine's feed thread and the floor are put side by side.
//!
//! Contract: writers live in this process, on pinned cores; the client ends of all their sockets live
//! in a child process ([`drainer`]) on another core, which checks that every subscriber gets every
//! frame once and in order. Modules: [`place`] chooses cores, [`frames`] makes what is sent,
//! [`engine`] steps a feed thread and hears what it reads off its clock, [`floor`] is the least that
//! sends the same bytes, [`stand`] puts both on sockets, [`pair`] does so with two writers,
//! [`rounds`] lets the sides take turns. Owner: a suite. Allocates outside what is timed.

pub mod clients;
pub mod drainer;
pub mod engine;
pub mod floor;
pub mod frames;
pub mod pair;
pub mod place;
pub mod rounds;
pub mod stand;
