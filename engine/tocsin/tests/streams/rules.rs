//! The simulated push sources hold clients to the exchanges' rules: else the other tests would prove nothing.

use std::time::Duration;

use tocsin::net::ws_client::{ConnectError, Ended, WsClient, WsUrl};
use tocsin::os::clock;
use tocsin_core::source::stream::credentials::Credentials;
use tocsin_core::source::stream::{Ask, Fresh, ParameterOrder, StreamSpec, binance, upbit};
use tocsin_core::time::WallUs;
use tocsin_sim::{SimStream, StreamKind, StreamOptions};

const PATIENCE: Duration = Duration::from_secs(10);

fn plain(kind: StreamKind, options: StreamOptions) -> SimStream {
    SimStream::start(kind, StreamOptions { plain: true, ..options }).unwrap()
}

/// Opens a session as the engine would, but for what `change` does to the time.
fn open(sim: &SimStream, spec: &StreamSpec, random: u8, late: Duration) -> Result<WsClient, ConnectError> {
    let credentials = Credentials::parse(&sim.credentials_text()).unwrap();
    let wall = WallUs(clock::wall().0 - i64::try_from(late.as_micros()).unwrap());
    let fresh = Fresh { wall, random: [random; 16] };
    let ask = Ask { credentials: Some(&credentials), order: ParameterOrder::Alphabetical, fresh };
    let upgrade = (spec.upgrade)(&ask);
    let header = upgrade.header.as_ref().map(|(name, value)| (*name, value.as_str()));
    let url = WsUrl::parse(&sim.base_url()).unwrap();
    WsClient::connect(&url, &upgrade.target, header.as_slice(), None, clock::mono() + PATIENCE)
}

fn refused(result: Result<WsClient, ConnectError>) -> (u16, String) {
    match result {
        Err(ConnectError::Refused { status, body, .. }) => (status, body),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("taken"),
    }
}

fn ended(client: &mut WsClient) -> Ended {
    loop {
        match client.receive(clock::mono() + PATIENCE, &mut |_, _| {}) {
            Ok(true) => {}
            Ok(false) => panic!("nothing ends it"),
            Err(ended) => return ended,
        }
    }
}

#[test]
fn too_many_frames_end_a_session() {
    for (kind, spec) in [(StreamKind::Binance, &binance::STREAM), (StreamKind::Upbit, &upbit::STREAM)] {
        let sim = plain(kind, StreamOptions::default());
        let mut client = open(&sim, spec, 1, Duration::ZERO).unwrap();
        for _ in 0..6 {
            let _ = client.send_text("{}");
        }
        ended(&mut client);
        assert_eq!(sim.violations(), ["too many frames"]);
    }
}

#[test]
fn a_session_without_a_ping_ends_and_so_does_an_old_one() {
    let short = Duration::from_millis(300);
    let sim = plain(StreamKind::Binance, StreamOptions { ping_timeout: short, ..StreamOptions::default() });
    ended(&mut open(&sim, &binance::STREAM, 1, Duration::ZERO).unwrap());
    assert_eq!(sim.violations(), ["no ping"]);
    let life = Some(Duration::from_millis(300));
    let sim = plain(StreamKind::Binance, StreamOptions { session_life: life, ..StreamOptions::default() });
    let end = ended(&mut open(&sim, &binance::STREAM, 1, Duration::ZERO).unwrap());
    assert!(matches!(end, Ended::Closed { code: Some(code), .. } if code.0 == 1001), "{end}");
}

#[test]
fn stale_requests_used_nonces_and_storms_are_refused() {
    let sim = plain(StreamKind::Binance, StreamOptions::default());
    let (status, body) = refused(open(&sim, &binance::STREAM, 1, Duration::from_secs(31)));
    assert!(status == 400 && body.contains("-1021"), "{body}");
    let sim = plain(StreamKind::Upbit, StreamOptions::default());
    let first = open(&sim, &upbit::STREAM, 1, Duration::ZERO);
    assert!(first.is_ok());
    let (status, body) = refused(open(&sim, &upbit::STREAM, 1, Duration::ZERO));
    assert!(status == 401 && body.contains("nonce_used"), "{body}");
    let statuses: Vec<u16> = (2..8)
        .filter_map(|n| open(&sim, &upbit::STREAM, n, Duration::ZERO).err())
        .map(|e| refused(Err(e)).0)
        .collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(sim.violations().first().map(String::as_str), Some("too many connections in a second"));
}
