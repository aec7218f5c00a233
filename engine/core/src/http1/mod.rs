//! HTTP/1.1 over httparse: client response and server request state machines, the request writer.

mod chunked;
pub mod date;
pub mod request;
pub mod response;
pub mod writer;
