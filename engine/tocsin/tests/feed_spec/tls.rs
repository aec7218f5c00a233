//! Encryption of the feed.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::LISTING;
use crate::harness::client::tls_config;
use crate::harness::{Engine, Handshake, Mode, wait_for};

/// Specification, "All connections use TLS encryption": both versions that are not broken.
#[test]
fn both_versions_of_tls_are_spoken() {
    let engine = Engine::start(Mode::Tls, "");
    let key = engine.key();
    let versions = [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
    let mut clients = Vec::new();
    for (version, wanted) in versions {
        let mut handshake = Handshake::new("").header("X-API-Key", &key);
        handshake.tls = Some(tls_config(&[version]));
        let mut client = handshake.connect(&engine).ok().unwrap();
        assert_eq!(client.tls().unwrap().protocol_version(), Some(wanted));
        assert_eq!(client.json()["type"], "welcome");
        clients.push(client);
    }
    for round in 0..3 {
        engine.inject("binance", LISTING);
        for client in &mut clients {
            assert_eq!(client.json()["title"], LISTING, "{round}");
        }
    }
    for client in &mut clients {
        client.send(9, b"both ways");
        assert_eq!(client.message(), crate::harness::Message::Pong(b"both ways".to_vec()));
    }
}

/// A client that comes back pays for no second full handshake.
#[test]
fn a_client_that_comes_back_resumes_its_tls_session() {
    let engine = Engine::start(Mode::Tls, "");
    let key = engine.key();
    for (n, version) in (1..).zip([&TLS12, &TLS13]) {
        let config = tls_config(&[version]);
        let connect = || {
            let mut handshake = Handshake::new("").header("X-API-Key", &key);
            handshake.tls = Some(Arc::clone(&config));
            let mut client = handshake.connect(&engine).ok().unwrap();
            assert_eq!(client.json()["type"], "welcome");
            let kind = client.tls().unwrap().handshake_kind();
            client.send(8, &1000_u16.to_be_bytes());
            assert!(matches!(client.message(), crate::harness::Message::Close(..)));
            kind
        };
        assert_eq!(connect(), Some(HandshakeKind::Full));
        assert_eq!(connect(), Some(HandshakeKind::Resumed), "{version:?}");
        wait_for("the count", || engine.cli_json(&["status"])["accept"]["tls_resumed"] == n);
    }
}

/// Specification, "The server may use a self-signed certificate"; FEED.md, "Address": made on first
/// start, its SHA-256 fingerprint printed; "`tls = false` serves plain `ws`".
#[test]
fn the_certificate_is_made_once_and_its_fingerprint_printed() {
    let mut engine = Engine::start(Mode::Tls, "");
    let key = engine.key();
    assert!(engine.ready["url"].as_str().unwrap().starts_with("wss://"));
    let printed = engine.ready["certificate_sha256"].as_str().unwrap().to_owned();
    let shown = |engine: &Engine| {
        let client = engine.try_connect(&key, "").ok().unwrap();
        let leaf = client.tls().unwrap().peer_certificates().unwrap()[0].to_vec();
        let digest = ring::digest::digest(&ring::digest::SHA256, &leaf);
        digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    };
    assert_eq!(shown(&engine), printed);
    assert_eq!(engine.stop(), Some(0));
    engine.start_again();
    assert_eq!(shown(&engine), printed, "clients that trust it need not be told again");
    assert!(engine.log().contains(&printed));

    let plain = Engine::start(Mode::Plain, "");
    assert!(plain.ready["url"].as_str().unwrap().starts_with("ws://"));
    assert!(plain.ready["certificate_sha256"].is_null());
    let defaults = plain.cli(&["config", "default"]);
    let defaults: toml::Table = String::from_utf8(defaults.stdout).unwrap().parse().unwrap();
    let feed = &defaults["feed"];
    assert_eq!((feed["tls"].as_bool(), feed["listen"].as_str()), (Some(true), Some("0.0.0.0:9201")));
}
