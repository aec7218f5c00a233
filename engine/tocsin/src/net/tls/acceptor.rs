//! TLS for the control plane's tokio connections, with the same certificate as the feed.
//!
//! Contract: a handshake over any asynchronous stream; the caller bounds its time. Owner: control
//! thread; hot threads never come here, they hold a [`super::Session`] of their own. Allocates.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ServerTls;

impl ServerTls {
    /// The server's side of a handshake.
    ///
    /// # Errors
    /// The peer's handshake is none, or it has gone.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

#[cfg(test)]
impl super::ClientTls {
    /// The client's side, for tests.
    pub(crate) async fn connect<S>(
        &self,
        name: &str,
        stream: S,
    ) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = super::ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        tokio_rustls::TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}
