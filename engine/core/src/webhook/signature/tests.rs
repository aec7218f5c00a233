//! Expected signatures were computed with Python's hmac, hashlib and base64; those of RFC 4231 and of
//! the Standard Webhooks libraries' own test stand in their documents too.

use proptest::prelude::*;

use super::*;
use crate::webhook::address::AddressPolicy;

const ID: &str = "cxp_01HRYV2600Y7PN147371YW66XB";
const BODY: &[u8] = br#"{"event_id":"cxp_01HRYV2600Y7PN147371YW66XB","type":"new_listing"}"#;
const SENT_AT: WallUs = WallUs(1_710_432_000_123_456);
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW_HEX: &str = "sha256=e017018c5773a012433c8f13a2f75d2b8203f1ef17848687f278ee1d541cf4d5";
const NEW_V1: &str = "v1,e3trs74fEc/OI1a2hCoT9I1wWdgFhXn3dWAy3BIDo+o=";
const OLD_HEX: &str = "sha256=ddae01a13fb6959bfe37d86ea6f71c2599cafab03ca36f2c7dba660797ef4f40";
const OLD_V1: &str = "v1,vQMwTz5rI6JyPhJi6oYtzNQ7tE1F7oSOEazQnPcd8bk=";

fn secrets() -> (Secret, Secret) {
    let mut counting = [0; 32];
    for (n, byte) in (0..).zip(&mut counting) {
        *byte = n;
    }
    (Secret::from_random(counting), Secret::from_random([0xab; 32]))
}

fn head(url: &str, brand: &Brand) -> RequestHead {
    let policy = AddressPolicy::default();
    RequestHead::new(&EndpointUrl::parse(url, &policy).unwrap(), brand)
}

fn request(signers: &Signers, brand: &Brand, sent_at: WallUs) -> String {
    let id = EventId::parse(ID).unwrap();
    let delivery = Delivery { id: &id, kind: EventKind::NewListing, attempt: 2, sent_at, body: BODY };
    let mut out = b"before".to_vec();
    head("https://hooks.acme.io:8443/in?a=%0d", brand).write(signers, &delivery, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

#[test]
fn vectors_of_rfc_4231() {
    for (key, data, hex) in [
        (
            &[0x0b; 20][..],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ] {
        let mut out = Vec::new();
        Signer::new(key, &[]).write_specified(data, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("sha256={hex}"));
    }
}

#[test]
fn vector_of_standard_webhooks() {
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let mut out = b"1614265330".to_vec();
    let body = br#"{"test": 2432232314}"#;
    Signer::new(&[], &key).write_standard("msg_p5jXN8AQM9LWM0D4loKWxJek", 0..10, body, &mut out);
    assert_eq!(&out[10..], b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_whole_request() {
    let (new, _) = secrets();
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        "POST /in?a=%0d HTTP/1.1",
        "Host: hooks.acme.io:8443",
        "Content-Type: application/json",
        "Content-Length: 66",
        &format!("User-Agent: Tocsin-Webhooks/{version}"),
        &format!("X-CEXPing-Signature: {NEW_HEX}"),
        &format!("X-CEXPingz-Signature: {NEW_HEX}"),
        &format!("webhook-id: {ID}"),
        "webhook-timestamp: 1710432000",
        &format!("webhook-signature: {NEW_V1}"),
        "X-CEXPing-Event: new_listing",
        &format!("X-CEXPing-Event-Id: {ID}"),
        "X-CEXPing-Attempt: 2",
        "X-CEXPing-Sent-At: 1710432000123456",
        "",
        core::str::from_utf8(BODY).unwrap(),
    ];
    assert_eq!(request(&Signers::new(&new), &Brand::default(), SENT_AT), expected.join("\r\n"));
}

#[test]
fn both_secrets_sign_until_the_grace_is_over() {
    let (new, old) = secrets();
    let signers = Signers::rotated(&new, &old, WallUs(SENT_AT.0 + 1));
    let during = request(&signers, &Brand::default(), SENT_AT);
    for line in [
        format!("\r\nX-CEXPing-Signature: {OLD_HEX}\r\n"),
        format!("\r\nX-CEXPingz-Signature: {OLD_HEX}\r\n"),
        format!("\r\nX-CEXPing-Signature-Next: {NEW_HEX}\r\n"),
        format!("\r\nwebhook-signature: {NEW_V1} {OLD_V1}\r\n"),
    ] {
        assert!(during.contains(&line), "{line}{during}");
    }
    let at = WallUs(SENT_AT.0 + 1);
    assert_eq!(request(&signers, &Brand::default(), at), request(&Signers::new(&new), &Brand::default(), at));
}

#[test]
fn the_brand_names_the_headers() {
    let (new, _) = secrets();
    let brand = Brand::new(&["Acme-Bell"]).unwrap();
    let text = request(&Signers::new(&new), &brand, SENT_AT);
    assert_eq!(text.matches("X-Acme-Bell-").count(), 5);
    assert!(!text.contains("CEXPing"));
    for (names, error) in [
        (&[][..], BadBrand::Count),
        (&["a", "b", "c", "d", "e"], BadBrand::Count),
        (&[""], BadBrand::Name),
        (&["a b"], BadBrand::Name),
        (&["a\r\nX"], BadBrand::Name),
        (&["-a"], BadBrand::Name),
        (&["é"], BadBrand::Name),
        (&["Acme", "Bell", "ACME"], BadBrand::Repeated),
    ] {
        assert_eq!(Brand::new(names), Err(error), "{names:?}");
    }
    assert_eq!(Brand::new(&["CEXPing", "CEXPingz"]), Ok(Brand::default()));
}

#[test]
fn host_header_of_every_kind_of_host() {
    for (url, host) in [
        ("https://hooks.acme.io:443/", "hooks.acme.io"),
        ("https://9.9.9.9/", "9.9.9.9"),
        ("https://[2606:4700::1]:8443/", "[2606:4700::1]:8443"),
    ] {
        let start = format!("POST / HTTP/1.1\r\nHost: {host}\r\n");
        assert!(head(url, &Brand::default()).to_length.starts_with(start.as_bytes()), "{url}");
    }
}

#[test]
fn secrets_read_back_and_never_show() {
    let (new, old) = secrets();
    assert_eq!(new.reveal(), NEW);
    assert_eq!(Secret::parse(NEW), Ok(new.clone()));
    let short = format!("whsec_{}", STANDARD.encode([1; 31]));
    let long = format!("whsec_{}", STANDARD.encode([1; 33]));
    let unpadded = NEW.trim_end_matches('=');
    for bad in
        ["", "whsec_", &NEW[6..], &short, &long, unpadded, &format!("{NEW} "), &NEW.replace("whsec", "WHSEC")]
    {
        assert_eq!(Secret::parse(bad), Err(BadSecret), "{bad}");
    }
    let shown = format!("{:?} {:#?}", new, Signers::rotated(&new, &old, SENT_AT));
    for part in ["whsec", &NEW[6..20], "[0, 1, 2", "171, 171"] {
        assert!(!shown.contains(part), "{shown}");
    }
}

proptest! {
    #[test]
    fn any_request_parses_whole_and_any_changed_body_is_signed_otherwise(
        target in "/[!-\\[\\]-~&&[^#]]{0,40}", body in proptest::collection::vec(any::<u8>(), 1..300),
        attempt in any::<u8>(), us in any::<i64>(), at in any::<prop::sample::Index>(),
    ) {
        let (new, old) = secrets();
        let signers = Signers::rotated(&new, &old, SENT_AT);
        let head = head(&format!("https://hooks.acme.io{target}"), &Brand::default());
        let id = EventId::parse(ID).unwrap();
        let write = |body: &[u8]| {
            let mut out = Vec::new();
            head.write(&signers, &Delivery { id: &id, kind: EventKind::Ping, attempt, sent_at: WallUs(us), body }, &mut out);
            out
        };
        let out = write(&body);
        let mut table = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut table);
        prop_assert_eq!(request.parse(&out), Ok(httparse::Status::Complete(out.len() - body.len())));
        prop_assert_eq!((request.method, request.path), (Some("POST"), Some(target.as_str())));
        prop_assert_eq!(request.headers[0].name, "Host");
        prop_assert!(out.ends_with(&body));
        let mut changed = body.clone();
        changed[at.index(body.len())] ^= 1;
        let other = write(&changed);
        let mut table = [httparse::EMPTY_HEADER; 16];
        let mut changed_request = httparse::Request::new(&mut table);
        prop_assert!(changed_request.parse(&other).is_ok());
        for (ours, theirs) in request.headers.iter().zip(changed_request.headers.iter()) {
            prop_assert_eq!(ours.name.to_ascii_lowercase().contains("signature"), ours.value != theirs.value);
        }
    }
}
