//! Sockets: one stream type over plain TCP and TLS, dialling, name resolution.

pub mod stream;
pub mod tls;

pub use stream::Stream;
