//! What is recorded, and what its signatures are worth.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use tocsin_sim::receiver::SignatureFault;
use tocsin_sim::{ReceiverOptions, SignatureVerdict, SimReceiver};

use crate::{PATIENCE, connect, post, start};

pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "whsec_q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";

/// The headers of a delivery of `body` signed with `secret`, now.
pub(crate) fn signed(secret: &str, id: &str, body: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seconds = now.as_secs();
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let hex: String = mac(secret.as_bytes(), body).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let standard = STANDARD.encode(mac(&key, &format!("{id}.{seconds}.{body}")));
    format!(
        "X-CEXPing-Signature: sha256={hex}\r\nX-CEXPingz-Signature: sha256={hex}\r\nwebhook-id: {id}\r\n\
         webhook-timestamp: {seconds}\r\nwebhook-signature: v1,{standard}\r\nX-CEXPing-Event: new_listing\r\n\
         X-CEXPing-Event-Id: {id}\r\nX-CEXPing-Attempt: 2\r\nX-CEXPing-Sent-At: {}\r\n",
        now.as_micros()
    )
}

#[test]
fn a_delivery_is_recorded_as_it_came() {
    let receiver = start();
    receiver.know(&[SECRET]).unwrap();
    let body = r#"{"event_id":"cxp_1","type":"new_listing"}"#;
    let request = post("/a?b=c", &signed(SECRET, "cxp_1", body), body);
    let mut client = connect(&receiver);
    for _ in 0..2 {
        client.write(&request).unwrap();
        client.reply().unwrap();
    }
    assert!(receiver.wait_for(2, PATIENCE) && receiver.wait_for_on("/a", 2, PATIENCE));
    let [first, second] = receiver.take().try_into().unwrap();
    assert_eq!([first.head.as_ref(), first.body.as_ref()].concat(), request);
    assert_eq!((first.method.as_str(), first.target.as_str(), first.path()), ("POST", "/a?b=c", "/a"));
    assert_eq!((first.connection, first.nth, second.connection, second.nth), (1, 1, 1, 2));
    assert_eq!(
        (first.event_type().as_deref(), first.event_id().as_deref()),
        (Some("new_listing"), Some("cxp_1"))
    );
    assert_eq!((first.attempt(), &first.signature), (Some(2), &SignatureVerdict::Valid));
    assert!(first.began <= first.at && second.began >= first.at);
    assert!(first.sent_at().unwrap() <= first.began && first.latency_us().unwrap() >= 0);
    assert!(receiver.records().is_empty() && receiver.total() == 2 && receiver.total_on("/a") == 2);
    assert!(!receiver.wait_for(1, Duration::ZERO) && receiver.forgotten() == 0);
}

#[test]
fn signatures_are_judged_by_path_and_judged_anew() {
    let receiver = start();
    let body = "{}";
    let mut client = connect(&receiver);
    for (path, secret) in [("/a", SECRET), ("/b", OTHER), ("/c", OTHER)] {
        client.write(&post(path, &signed(secret, "cxp_1", body), body)).unwrap();
        client.reply().unwrap();
    }
    let verdicts = || receiver.records().into_iter().map(|r| r.signature).collect::<Vec<_>>();
    assert_eq!(verdicts(), [const { SignatureVerdict::Unchecked }; 3]);
    receiver.know_on("/b", &[OTHER]).unwrap();
    receiver.know(&[SECRET]).unwrap();
    let mismatch = SignatureFault::Mismatch("X-CEXPing-Signature".to_owned());
    let expected = [SignatureVerdict::Valid, SignatureVerdict::Valid, SignatureVerdict::Invalid(mismatch)];
    assert_eq!(verdicts(), expected);
    receiver.know(&[SECRET, OTHER]).unwrap();
    assert!(receiver.verdict(&receiver.records_on("/c")[0]).is_valid());
    assert!(receiver.know(&["nothing"]).is_err());
}

#[test]
fn a_strict_receiver_answers_401() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let options = ReceiverOptions {
        secrets: vec![SECRET.to_owned()],
        refuses_unsigned: true,
        ca_file: Some(ca_file.clone()),
        ..ReceiverOptions::default()
    };
    let receiver = SimReceiver::start(options).unwrap();
    assert_eq!(fs::read_to_string(receiver.ca_file().unwrap()).unwrap(), receiver.ca().pem());
    let mut client = connect(&receiver);
    let mut ask = |secret: &str, sent: &str| {
        client.write(&post("/ok", &signed(secret, "cxp_1", "{\"a\":1}"), sent)).unwrap();
        client.reply().unwrap().status
    };
    assert_eq!(ask(SECRET, "{\"a\":1}"), 200);
    assert_eq!(ask(OTHER, "{\"a\":1}"), 401);
    assert_eq!(ask(SECRET, "{\"a\":2}"), 401, "one byte changed");
    assert!(
        SimReceiver::start(ReceiverOptions { secrets: vec!["x".to_owned()], ..ReceiverOptions::default() })
            .is_err()
    );
}
