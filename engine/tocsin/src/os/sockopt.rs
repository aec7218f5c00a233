//! Socket options, set in one place so that every connection gets them.
//!
//! Contract: plain system calls; nothing blocks or allocates. Owner: any thread. Failure: the first
//! option the kernel refuses, as `io::Error`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Unacknowledged data older than this ends a subscriber's connection, however patient TCP is.
pub const SUBSCRIBER_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for a connection to an exchange or receiver.
pub const OUTBOUND_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// For an accepted subscriber: no delay, a send buffer of about `send_buffer_bytes` (the kernel
/// doubles it for its own bookkeeping) so that a slow reader shows as lag early, and
/// [`SUBSCRIBER_USER_TIMEOUT`].
///
/// # Errors
/// The first option refused.
pub fn tune_subscriber(socket: &impl AsFd, send_buffer_bytes: u32) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(usize::try_from(send_buffer_bytes).unwrap_or(usize::MAX))?;
    socket.set_tcp_user_timeout(Some(SUBSCRIBER_USER_TIMEOUT))
}

/// For a connection we opened: no delay, keep-alive probes after 15 s so that a dead path shows
/// between polls, and [`OUTBOUND_USER_TIMEOUT`].
///
/// # Errors
/// The first option refused.
pub fn tune_outbound(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)),
    )?;
    socket.set_tcp_user_timeout(Some(OUTBOUND_USER_TIMEOUT))
}
