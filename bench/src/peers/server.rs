//! Peers in Rust: tokio-tungstenite and fastwebsockets, as one would write a broadcast with them.
//!
//! Contract: a task a connection and a broadcast channel whose messages share their bytes; one thread
//! (tokio's current-thread runtime) or several. Says on standard output where it listens, then serves
//! until it is killed. `NUMBER OFFSET` in a line on the control port is one broadcast, stamped just
//! before it is sent into the channel. Fails with a sentence on standard error.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use fastwebsockets::{Frame, OpCode, Payload, WebSocketError};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::message::Template;

/// Messages a lagging subscriber may be behind; nobody is here.
const BACKLOG: usize = 16;
/// What a subscriber says fits well; the default of 128 KiB is for uploads.
const READ_BUFFER: usize = 4 * 1_024;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The library under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Library {
    /// tokio-tungstenite.
    TokioTungstenite,
    /// fastwebsockets.
    Fastwebsockets,
}

#[derive(Parser)]
struct Args {
    library: Library,
    /// 1: the current-thread runtime.
    #[arg(long)]
    threads: usize,
    /// PEM files; without them plain.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

/// Serves as the arguments after the verb say.
pub fn run(arguments: &[String]) -> ExitCode {
    let served = Args::try_parse_from(arguments).map_err(Into::into).and_then(|args| {
        let mut builder = if args.threads > 1 {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(args.threads);
            builder
        } else {
            tokio::runtime::Builder::new_current_thread()
        };
        // The listening task is a task like any other, so that every worker may run it.
        let runtime = builder.enable_all().build()?;
        runtime.block_on(async { tokio::spawn(serve(args)).await? })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Outcome<()> {
    let tls = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
            let key = PrivateKeyDer::from_pem_file(key)?;
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
        _ => None,
    };
    let feed = TcpListener::bind("127.0.0.1:0").await?;
    let control = TcpListener::bind("127.0.0.1:0").await?;
    let (sender, _) = channel(BACKLOG);
    let ready = json!({"feed": feed.local_addr()?, "control": control.local_addr()?});
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{ready}")?;
        out.flush()?;
    }
    tokio::spawn(broadcast_lines(control, sender.clone()));
    loop {
        let (tcp, _) = feed.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(connection(args.library, tcp, tls.clone(), sender.clone()));
    }
}

/// One controlling connection after the other.
async fn broadcast_lines(control: TcpListener, sender: Sender<Utf8Bytes>) -> Outcome<()> {
    let template = Template::new();
    loop {
        let (tcp, _) = control.accept().await?;
        let mut lines = BufReader::new(tcp).lines();
        while let Some(line) = lines.next_line().await? {
            let number = line.split(' ').next().unwrap_or_default().parse()?;
            let stamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
            let message = template.fill(number, u64::try_from(stamp)?);
            // Nobody may be there yet.
            let _ = sender.send(Utf8Bytes::from(message));
        }
    }
}

/// A subscriber that breaks off ends its task and nothing else.
async fn connection(
    library: Library,
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    sender: Sender<Utf8Bytes>,
) -> Outcome<()> {
    match tls {
        None => session(library, tcp, sender).await,
        Some(tls) => session(library, tls.accept(tcp).await?, sender).await,
    }
}

async fn session<S>(library: Library, stream: S, sender: Sender<Utf8Bytes>) -> Outcome<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match library {
        Library::TokioTungstenite => tungstenite(stream, sender.subscribe()).await,
        Library::Fastwebsockets => fastwebsockets_upgrade(stream, sender).await,
    }
}

async fn tungstenite<S>(stream: S, mut messages: Receiver<Utf8Bytes>) -> Outcome<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(text) => socket.send(Message::Text(text)).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            // Pings are answered inside.
            said = socket.next() => match said {
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e.into()),
                None => return Ok(()),
            },
        }
    }
}

async fn fastwebsockets_upgrade<S>(stream: S, sender: Sender<Utf8Bytes>) -> Outcome<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request| {
        let messages = sender.subscribe();
        async move {
            let (response, upgrade) = fastwebsockets::upgrade::upgrade(&mut request)?;
            tokio::spawn(fastwebsockets_session(upgrade, messages));
            Ok::<hyper::Response<Empty<Bytes>>, WebSocketError>(response)
        }
    });
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await?)
}

async fn fastwebsockets_session(
    upgrade: fastwebsockets::upgrade::UpgradeFut,
    mut messages: Receiver<Utf8Bytes>,
) -> Outcome<()> {
    let (mut reader, mut writer) = upgrade.await?.split(tokio::io::split);
    let read = async {
        // No client here pings, so there is never anything that must be answered.
        let mut answer = |_| async { Ok::<(), WebSocketError>(()) };
        while reader.read_frame(&mut answer).await?.opcode != OpCode::Close {}
        Ok(())
    };
    let write = async {
        loop {
            match messages.recv().await {
                Ok(text) => writer.write_frame(Frame::text(Payload::Borrowed(text.as_bytes()))).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    };
    // Both futures live until one ends: a frame half read is never thrown away.
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}
