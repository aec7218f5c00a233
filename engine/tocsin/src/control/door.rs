//! The doors of the control plane: the Unix socket and the TCP listener, and the loop behind them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, SockAddr, Socket, Type};
use tocsin_core::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::api::{Door, router};
use super::client::Peer;
use super::{Control, live};
use crate::config;
use crate::net::tls::SharedTls;

/// A TLS handshake, and a request head, each have this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After this a connection is asked to end, then has [`LAST_REQUEST`] for the request in progress.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
const LAST_REQUEST: Duration = Duration::from_secs(35);
/// The control plane gives way: its thread, and those it starts.
const NICE: i32 = 5;
/// Between two looks at the stop flag.
const LOOK_AT_STOP: Duration = Duration::from_millis(20);
/// After accept(2) failed (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both doors, open: connections wait until [`run`] takes them.
#[derive(Debug)]
pub struct Listeners {
    socket: UnixListener,
    socket_path: PathBuf,
    tcp: Option<TcpListener>,
    tls: Option<SharedTls>,
}

impl Listeners {
    /// Opens the socket (mode 0600 before it listens) and the TCP listener; `inherited` is one that the
    /// service manager opened in place of `admin.listen`. The caller holds the store's lock, so a socket file
    /// on which nobody listens is a left-over and replaced.
    ///
    /// # Errors
    /// What is in the way, with its path or address; or there is an inherited listener although
    /// `admin.listen` is empty.
    pub fn bind(admin: &config::Admin, inherited: Option<TcpListener>) -> io::Result<Listeners> {
        let socket = bind_socket(&admin.socket)
            .map_err(|e| io::Error::new(e.kind(), format!("admin.socket {}: {e}", admin.socket.display())))?;
        let tcp = match (admin.listen, inherited) {
            (None, None) => None,
            (None, Some(_)) => {
                let problem = "a socket was handed over as \"admin\", but admin.listen is empty: disable one";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
            (Some(_), Some(listener)) => Some(listener),
            (Some(address), None) => Some(
                listen(address)
                    .map_err(|e| io::Error::new(e.kind(), format!("admin.listen {address}: {e}")))?,
            ),
        };
        Ok(Listeners { socket, socket_path: admin.socket.clone(), tcp, tls: None })
    }

    /// Serves the TCP listener over TLS (`admin.tls`). The socket stays plain.
    #[must_use]
    pub fn with_tls(self, tls: SharedTls) -> Listeners {
        Listeners { tls: Some(tls), ..self }
    }

    /// Where a browser on this machine finds the TCP listener.
    #[must_use]
    pub fn base_url(&self) -> Option<String> {
        let mut address = self.tcp_address()?;
        if address.ip().is_unspecified() {
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let [v4, v6] = loopback;
            address.set_ip(if address.is_ipv4() { v4 } else { v6 });
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{address}"))
    }

    /// Where the TCP listener is, with the port it was given.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let address = SockAddr::unix(path)?;
    match UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another service listens there")),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address)?;
    // Between bind and listen nobody can connect: the mode is right before the first client.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Serves both doors until `stop`, then removes the socket file; requests in progress are cut off.
/// Blocks: the control thread's whole life.
///
/// # Errors
/// The runtime cannot be made.
pub fn run(listeners: Listeners, control: &Arc<Control>, stop: &AtomicBool) -> io::Result<()> {
    // Where threads share cores, hot ones go first. A kernel that refuses leaves it as it was.
    let _ = rustix::process::nice(NICE);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    runtime.block_on(async {
        let Listeners { socket, socket_path, tcp, tls } = listeners;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        let at_socket = router(Arc::clone(control), Door::Socket);
        let accept = async move || Ok((socket.accept().await?.0, None));
        tokio::spawn(serve_door(Arc::clone(control), at_socket, None, accept));
        if let Some(tcp) = tcp {
            let tcp = tokio::net::TcpListener::from_std(tcp)?;
            let at_tcp = router(Arc::clone(control), Door::Tcp);
            let accept = async move || {
                let (stream, peer) = tcp.accept().await?;
                stream.set_nodelay(true)?;
                Ok((stream, Some(peer.ip())))
            };
            tokio::spawn(serve_door(Arc::clone(control), at_tcp, tls, accept));
        }
        tokio::spawn(live::pump(Arc::clone(control)));
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_AT_STOP).await;
        }
        if let Err(error) = std::fs::remove_file(&socket_path) {
            tracing::warn!(path = %socket_path.display(), %error, "the admin socket could not be removed");
        }
        Ok(())
    })
}

/// Takes connections at one door, at most [`limits::ADMIN_CONNECTIONS`] at a time.
///
/// A TLS handshake costs more than an answer: an address over its rate gets none. That of a proxy
/// that others come through is not counted.
async fn serve_door<S>(
    control: Arc<Control>,
    router: axum::Router,
    tls: Option<SharedTls>,
    accept: impl AsyncFn() -> io::Result<(S, Option<IpAddr>)>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match accept().await {
            Ok((stream, address)) => {
                if tls.is_some() && address.is_some_and(|address| !control.shakes_hands_with(address)) {
                    continue;
                }
                let (router, tls) = (router.clone(), tls.as_ref().map(SharedTls::get));
                let peer = Peer { address, tls: tls.is_some() };
                tokio::spawn(async move {
                    match tls {
                        None => serve_connection(stream, peer, router).await,
                        Some(tls) => {
                            if let Ok(Ok(stream)) =
                                tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await
                            {
                                serve_connection(stream, peer, router).await;
                            }
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control plane could not take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<S>(stream: S, peer: Peer, router: axum::Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(limits::HANDSHAKE_HEAD_BYTES * 2);
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    // A connection's own failure (the peer went away) is nobody else's business.
    if tokio::time::timeout(CONNECTION_LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_REQUEST, connection).await;
    }
}
