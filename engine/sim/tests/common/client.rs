//! The smallest client that can look at a simulated exchange or receiver: blocking, over TCP or TLS, with its
//! own reading of responses so that it shares no mistake with the server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tocsin_sim::SimExchange;

/// A failing test ends rather than hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Trusts one authority, and takes up earlier sessions.
pub(crate) fn tls_config(ca_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

impl Client {
    /// Connects to an exchange, over TLS unless it is plain.
    pub(crate) fn connect(sim: &SimExchange) -> io::Result<Client> {
        if sim.base_url().starts_with("http:") {
            return Client::plain(sim.addr());
        }
        Client::tls(sim.addr(), &tls_config(sim.ca_pem()))
    }

    /// Connects without TLS.
    pub(crate) fn plain(addr: SocketAddr) -> io::Result<Client> {
        Client::plain_with(addr, PATIENCE)
    }

    /// The same, for a peer that may never say a thing.
    pub(crate) fn plain_with(addr: SocketAddr, patience: Duration) -> io::Result<Client> {
        let socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Client { stream: BufReader::new(Box::new(socket)) })
    }

    /// Connects over TLS; the handshake is complete on return.
    pub(crate) fn tls(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Client> {
        let socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(addr.ip().to_string()).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client { stream: BufReader::new(Box::new(stream)) })
    }

    /// Sends exactly these bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    pub(crate) fn send(&mut self, target: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: sim\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(head.as_bytes())
    }

    pub(crate) fn get(&mut self, target: &str) -> io::Result<Reply> {
        self.get_with(target, &[])
    }

    pub(crate) fn get_with(&mut self, target: &str, headers: &[(&str, &str)]) -> io::Result<Reply> {
        self.send(target, headers)?;
        self.reply()
    }

    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let (first, headers) = self.head()?;
        let mut words = first.split(' ');
        let version = words.next().unwrap_or("").to_owned();
        let status = words.next().and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut reply = Reply { version, status, headers, body: Vec::new() };
        if matches!(status, 100..=199 | 204 | 304) {
            return Ok(reply);
        }
        if let Some(length) = reply.header("content-length") {
            reply.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut reply.body)?;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            while let size @ 1.. = usize::from_str_radix(&self.line()?, 16).unwrap() {
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk)?;
                reply.body.extend(chunk);
                assert_eq!(self.line()?, "");
            }
            assert_eq!(self.line()?, "");
        } else {
            self.stream.read_to_end(&mut reply.body)?;
        }
        Ok(reply)
    }

    pub(crate) fn head(&mut self) -> io::Result<(String, Vec<(String, String)>)> {
        let first = self.line()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => return Ok((first, headers)),
            }
        }
    }

    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.pop();
        String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// The next so many bytes.
    pub(crate) fn some(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Everything until the end of the connection, and how it ended.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, io::Result<usize>) {
        let mut all = Vec::new();
        let end = self.stream.read_to_end(&mut all);
        (all, end)
    }
}
