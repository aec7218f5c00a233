//! Each greeting, as a TLS library and a bare socket see it.

use std::io;
use std::time::Duration;

use tocsin_sim::{Greeting, ReceiverOptions, SimReceiver};

use crate::client::{Client, tls_config};
use crate::{connect, post, start};

/// What a client says that cannot shake hands.
fn refused(receiver: &SimReceiver, greeting: Greeting) -> io::Error {
    receiver.greet(vec![greeting]).unwrap();
    match Client::tls(receiver.addr(), &tls_config(receiver.ca().pem())) {
        Ok(_) => panic!("{greeting:?} was taken"),
        Err(e) => e,
    }
}

#[test]
fn every_fault_of_tls_is_the_one_meant() {
    let receiver = start();
    for (greeting, said) in [
        (Greeting::SelfSigned, "UnknownIssuer"),
        (Greeting::OtherCa, "UnknownIssuer"),
        (Greeting::Expired, "expired"),
        (Greeting::NotYetValid, "not valid yet"),
        (Greeting::WrongName, "not valid for name"),
        (Greeting::Tls11Only, "ServerDoesNotSupportTls12Or13"),
        (Greeting::VersionAlert, "ProtocolVersion"),
        (Greeting::NoCommonCipher, "HandshakeFailure"),
        (Greeting::PlainHttp, "InvalidContentType"),
        (Greeting::Garbage, "InvalidContentType"),
        (Greeting::Close, "end of file"),
    ] {
        let error = refused(&receiver, greeting);
        assert!(error.to_string().contains(said), "{greeting:?}: {error}");
    }
    let error = refused(&receiver, Greeting::Reset);
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    assert_eq!((receiver.total(), receiver.counters().requests), (0, 0));
}

#[test]
fn greetings_take_turns_and_the_last_repeats() {
    let receiver = start();
    receiver.greet(vec![Greeting::Reset, Greeting::Expired, Greeting::Tls12]).unwrap();
    let config = tls_config(receiver.ca().pem());
    for good in [false, false, true, true] {
        let client = Client::tls(receiver.addr(), &config);
        assert_eq!(client.is_ok(), good);
        if let Ok(mut client) = client {
            client.write(&post("/ok", "", "")).unwrap();
            assert_eq!(client.reply().unwrap().status, 200);
        }
    }
}

#[test]
fn some_never_answer() {
    let receiver = start();
    for greeting in [Greeting::NeverRead, Greeting::Silent] {
        receiver.greet(vec![greeting]).unwrap();
        let mut client = Client::plain_with(receiver.addr(), Duration::from_millis(300)).unwrap();
        client.write(b"\x16\x03\x01").unwrap();
        let (all, end) = client.rest();
        assert!(all.is_empty() && end.is_err(), "{greeting:?}");
    }
}

#[test]
fn plain_http_is_plain() {
    let receiver = start();
    receiver.greet(vec![Greeting::PlainHttp]).unwrap();
    let mut client = Client::plain(receiver.addr()).unwrap();
    client.write(b"\x16\x03\x01\0\x01\x01").unwrap();
    assert_eq!(client.reply().unwrap().status, 400);
    assert_eq!(client.rest().1.unwrap(), 0);
}

#[test]
fn one_authority_serves_many_and_names_are_free() {
    let ca = SimReceiver::new_ca().unwrap();
    let start = |hosts: &[&str]| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let options = ReceiverOptions { ca: Some(ca.clone()), hosts, ..ReceiverOptions::default() };
        SimReceiver::start(options).unwrap()
    };
    let (first, second) = (start(&["hooks.acme.io", "127.0.0.1"]), start(&["127.0.0.1"]));
    let config = tls_config(ca.pem());
    for receiver in [&first, &second] {
        let mut client = Client::tls(receiver.addr(), &config).unwrap();
        client.write(&post("/", "", "")).unwrap();
        assert_eq!(client.reply().unwrap().status, 200);
    }
    assert_eq!(first.url("/a"), format!("https://hooks.acme.io:{}/a", first.addr().port()));
    assert_eq!(second.base_url(), format!("https://{}", second.addr()));
    let elsewhere = start(&["hooks.acme.io"]);
    assert!(Client::tls(elsewhere.addr(), &config).is_err());
}

#[test]
fn sessions_are_taken_up_again_and_that_is_recorded() {
    let receiver = start();
    let config = tls_config(receiver.ca().pem());
    for _ in 0..2 {
        let mut client = Client::tls(receiver.addr(), &config).unwrap();
        client.write(&post("/ok", "", "")).unwrap();
        client.reply().unwrap();
    }
    let resumed: Vec<bool> = receiver.records().iter().map(|r| r.resumed).collect();
    assert_eq!(resumed, [false, true]);
}

#[test]
fn hundreds_of_connections_are_served_at_once() {
    let receiver = start();
    let config = tls_config(receiver.ca().pem());
    let mut clients: Vec<Client> = (0..320).map(|_| Client::tls(receiver.addr(), &config).unwrap()).collect();
    for client in &mut clients {
        client.write(&post("/ok", "", "")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.reply().unwrap().status, 200);
    }
    let counters = receiver.counters();
    assert_eq!((counters.connections, counters.refused, receiver.total()), (320, 0, 320));
    drop(clients);
    let few = ReceiverOptions { connections: 1, ..ReceiverOptions::default() };
    let few = SimReceiver::start(few).unwrap();
    let _first = connect(&few);
    assert!(Client::tls(few.addr(), &tls_config(few.ca().pem())).is_err());
    assert_eq!(few.counters().refused, 1);
}
