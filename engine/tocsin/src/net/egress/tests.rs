//! The resolver over real sockets.
