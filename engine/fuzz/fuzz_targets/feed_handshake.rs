//! Whatever request heads come, in whatever order, from whatever addresses: admission decides, counts what
//! it admits and no more than the limits allow, and gives back all of it; a refusal is a whole answer.
//!
//! The input is a little program: requests with a right key, a wrong one or none and bytes of the input in
//! their target and headers, ends of sessions, revocations, time.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tocsin_core::feed::admission::address::{AddressLimits, AddressTable};
use tocsin_core::feed::admission::decide::{Admission, Decision};
use tocsin_core::feed::admission::keys::{KeyTable, key_hash};
use tocsin_core::feed::key::{AllowedExchanges, KeyId, KeyRecord, Tier};
use tocsin_core::http1::request::RequestHead;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_fuzz::Input;

const KEYS: u8 = 3;
const CONNECTIONS_AT_MOST: u32 = 5;
const CONNECTIONS_A_KEY: u32 = 2;

fn text(key: u8) -> String {
    format!("dsk_{key:064x}")
}

fn record(key: u8) -> KeyRecord {
    KeyRecord {
        id: KeyId(i64::from(key)),
        hash: key_hash(text(key).as_bytes()).unwrap(),
        label: String::new(),
        tier: Tier::Premium,
        max_connections: CONNECTIONS_A_KEY,
        allowed: AllowedExchanges::parse("upbit,binance").unwrap(),
        created_at: WallUs(0),
        expires_at: (key == 2).then(|| WallUs::from_secs(1_800_000_100)),
        revoked_at: None,
        delay: Duration::ZERO,
        redact: false,
        account: None,
    }
}

/// A request head whose target and headers hold bytes of the input.
fn head(input: &mut Input<'_>) -> Vec<u8> {
    let (kind, key) = (input.byte(), text(input.byte() % (KEYS + 2)));
    let (target, headers) = (usize::from(input.byte()) % 64, usize::from(input.byte()) % 64);
    let mut head = [&b"GET /"[..], input.bytes(target)].concat();
    if kind & 1 != 0 {
        head.extend_from_slice(format!("?api_key={key}&").as_bytes());
        head.extend_from_slice(input.bytes(target));
    }
    head.extend_from_slice(b" HTTP/1.1\r\nHost: feed\r\n");
    if kind & 2 != 0 {
        head.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        head.extend_from_slice(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    }
    if kind & 4 != 0 {
        head.extend_from_slice(format!("X-API-Key: {key}\r\n").as_bytes());
    }
    head.extend_from_slice(input.bytes(headers));
    head.extend_from_slice(b"\r\n\r\n");
    head
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut now = Now { mono: Mono(1_000_000_000), wall: WallUs::from_secs(1_800_000_000) };
    let table = AddressTable::new(AddressLimits::default(), 4);
    let mut admission = Admission::new(KeyTable::new((0..KEYS).map(record)), table, CONNECTIONS_AT_MOST);
    let mut open = Vec::new();
    while !input.is_over() {
        match input.byte() % 8 {
            0..=4 => {
                let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, input.byte() % 8));
                let head = head(&mut input);
                let Ok(head) = RequestHead::parse(&head) else { continue };
                match admission.decide(&head, address, now) {
                    Decision::Admit(admitted) => {
                        let key = admitted.subscription.key.id;
                        assert!(admission.keys.connections(key) <= CONNECTIONS_A_KEY);
                        assert!(admitted.greeting.starts_with(b"HTTP/1.1 101 "));
                        open.push((admitted.bucket, key));
                    }
                    Decision::History(query, _) => assert!(query.limit > 0),
                    Decision::Refuse(refusal) => {
                        let mut out = Vec::new();
                        refusal.write(&mut out);
                        let status = format!("HTTP/1.1 {} ", refusal.status());
                        assert!(out.starts_with(status.as_bytes()) && (400..600).contains(&refusal.status()));
                        assert!(out.windows(4).any(|end| end == b"\r\n\r\n"));
                    }
                }
            }
            5 => {
                let which = usize::from(input.byte()) % open.len().max(1);
                if which < open.len() {
                    let (bucket, key) = open.swap_remove(which);
                    admission.release(bucket, key);
                }
            }
            6 => {
                admission.keys.revoke(KeyId(i64::from(input.byte() % KEYS)), now.wall);
            }
            _ => {
                let by = Duration::from_millis(u64::from(input.byte()) * 100);
                now.mono = now.mono + by;
                now.wall = WallUs(now.wall.0 + i64::try_from(by.as_micros()).unwrap());
            }
        }
        assert_eq!(admission.connections() as usize, open.len());
        assert!(admission.connections() <= CONNECTIONS_AT_MOST);
    }
    for (bucket, key) in open.drain(..) {
        admission.release(bucket, key);
    }
    assert_eq!(admission.connections(), 0);
    for key in 0..KEYS {
        assert_eq!(admission.keys.connections(KeyId(i64::from(key))), 0, "all of it is given back");
    }
});
