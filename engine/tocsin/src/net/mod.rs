//! Sockets: one stream type over plain TCP and TLS, dialling, name resolution.

pub mod dial;
pub mod dns;
pub mod echo;
pub mod egress;
pub mod http;
pub mod link;
pub mod stream;
pub mod tls;
pub mod url;
pub mod ws_client;
pub mod ws_connection;

pub use stream::Stream;
