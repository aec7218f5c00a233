//! HTTP/1.1 over httparse: client response and server request state machines.

pub mod request;
pub mod response;
