//! Sockets: one stream type over plain TCP and TLS, dialling, name resolution.

/// A connection, plain or TLS. (Stub until `tls.rs` lands.)
pub struct Stream;
