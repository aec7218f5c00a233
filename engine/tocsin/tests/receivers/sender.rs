//! Sends what the core renders to a receiver over TLS, blocking: the test's stand-in for the webhook
//! thread. Responses are read by the core's own parser, as there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tocsin_core::http1::response::{Discard, Method, Progress, ResponseLimits, ResponseParser};
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::event::{Event, EventId, EventKind, MarketKind};
use tocsin_core::webhook::outgoing::Outgoing;
use tocsin_core::webhook::signature::{Brand, Delivery, RequestHead, Signers};
use tocsin_core::webhook::url::EndpointUrl;

/// The URL of an endpoint, loopback addresses allowed.
pub fn endpoint_url(text: &str) -> EndpointUrl {
    let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
    EndpointUrl::parse(text, &policy).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The request that carries `event` to `url`, as the engine would send it.
pub fn render(url: &str, signers: &Signers, event: &Outgoing, sent_at: WallUs) -> Vec<u8> {
    let head = RequestHead::new(&endpoint_url(url), &Brand::default());
    let Outgoing { id, kind, body, .. } = event;
    let mut request = Vec::new();
    head.write(signers, &Delivery { id, kind: *kind, attempt: 1, sent_at, body }, &mut request);
    request
}

/// An event of this kind as the core writes it, with every optional field that `full` asks for.
pub fn event(kind: EventKind, symbol: &str, full: bool) -> Outgoing {
    let ours = kind == EventKind::Ping;
    let market = match kind {
        EventKind::Ping => MarketKind::None,
        EventKind::FuturesListing => MarketKind::Perp,
        _ => MarketKind::Spot,
    };
    let event = Event {
        id: EventId::parse("cxp_01HRYV2600Y7PN147371YW66XB").unwrap(),
        kind,
        timestamp: WallUs::from_secs(1_710_432_000),
        exchange: (!ours).then_some(Exchange::Binance),
        symbol: if ours { "PING" } else { symbol }.into(),
        market,
        volume_24h_usd: full.then_some(2_847_392.5),
        ai_score: full.then_some(87),
        latency_ms: if ours { 0 } else { 312 },
        late: false,
    };
    Outgoing::of(&event).unwrap()
}

/// Now, by the clock the libraries compare timestamps with.
pub fn wall_now() -> WallUs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallUs(i64::try_from(since.as_micros()).unwrap())
}

/// A client that trusts one authority.
pub struct Sender {
    config: Arc<ClientConfig>,
}

impl Sender {
    pub fn new(ca_pem: &str) -> Sender {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        Sender { config: Arc::new(config) }
    }

    /// Sends `request` over a connection of its own; the status of the response.
    pub fn send(&self, url: &str, request: &[u8]) -> u16 {
        let address = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let name = ServerName::try_from(address.split(':').next().unwrap().to_owned()).unwrap();
        let client = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut stream = StreamOwned::new(client, stream);
        stream.write_all(request).unwrap();
        stream.flush().unwrap();
        let mut parser = ResponseParser::new(ResponseLimits::SOURCE);
        parser.start(Method::Post);
        let mut buffer = [0; 4_096];
        loop {
            // A receiver may leave without the farewell of TLS: then the length it gave decides.
            let read = stream.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                parser.end_of_stream().unwrap();
                break;
            }
            if let Progress::Complete { .. } = parser.feed(&buffer[..read], &mut Discard).unwrap() {
                break;
            }
        }
        parser.status().unwrap()
    }
}
