//! Sockets that the service manager holds: a restart refuses no connection.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use crate::behind_shell;
use crate::harness::client::open_tcp;
use crate::harness::{Engine, Handshake, Mode};

/// The service, which gets these sockets as descriptors 3, 4, ... with their names.
fn holding(sockets: &[(&TcpListener, &str)]) -> Command {
    behind_shell(&handing_over(sockets))
}

/// What a shell does to hand sockets over to what it becomes.
pub(crate) fn handing_over(sockets: &[(&TcpListener, &str)]) -> String {
    let mut before = String::new();
    for (n, (socket, _)) in sockets.iter().enumerate() {
        // Only this child is meant to have it, but others of this process do no harm with it.
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
        before += &format!("exec {}<&{}; ", 200 + n, socket.as_raw_fd());
    }
    for n in 0..sockets.len() {
        before += &format!("exec {}<&{}; ", 3 + n, 200 + n);
    }
    let names: Vec<&str> = sockets.iter().map(|(_, name)| *name).collect();
    let count = sockets.len();
    before + &format!("export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={};", names.join(":"))
}

#[test]
fn who_connects_during_a_restart_waits_and_is_served() {
    let (feed, admin) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let sockets = [(&admin, "admin"), (&feed, "feed")];
    // The configured addresses are someone else's: they are not touched.
    let (taken, free) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), "[feed.limits]\nexempt = [\"127.0.0.0/8\"]");
    let taken = taken.local_addr().unwrap();
    let config = format!("[feed]\nlisten = \"{taken}\"\n[admin]\nlisten = \"{taken}\"\n{free}");
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, &config);
    engine.spawn_by(holding(&sockets));
    engine.wait_ready();
    assert_eq!(engine.feed, feed.local_addr().unwrap());
    assert_eq!(engine.admin, admin.local_addr().unwrap());
    let key = engine.key();
    let mut before = engine.connect(&key, "");

    engine.signal("TERM");
    assert_eq!(before.closed(), (Some(1012), "restart".to_owned()));
    assert_eq!(engine.wait(), Some(0));

    // Nobody serves: the connections are made all the same, and wait.
    let upgrade = Handshake::new("").header("X-API-Key", &key);
    let mut waiting = upgrade.open(&engine);
    waiting.write_all(&upgrade.request()).unwrap();
    let mut asking = open_tcp(engine.admin, None, None);
    asking.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();

    engine.spawn_by(holding(&sockets));
    engine.wait_ready();
    assert_eq!(engine.epoch, 2);
    let mut client = upgrade.response(waiting).unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(client.json()["type"], "welcome");
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    engine.inject("binance", "Binance Will List Token Example (TKNX)");
    assert_eq!(client.json()["type"], "announcement");
    assert_eq!(engine.stop(), Some(0));
}

#[test]
fn a_socket_that_does_not_fit_is_named() {
    let rows = [
        ("tocsin.socket", "descriptor 3 handed over as \"tocsin.socket\" takes feed or admin"),
        ("feed:admin", "LISTEN_FDNAMES"),
    ];
    for (name, expected) in rows {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, "");
        engine.spawn_by(holding(&[(&socket, name)]));
        assert_eq!(engine.wait(), Some(1));
        assert!(engine.log().contains(expected), "{}", engine.log());
        assert!(!engine.data_dir().exists(), "nothing is made before that is known");
    }
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, "[admin]\nlisten = \"\"");
    engine.spawn_by(holding(&[(&socket, "admin")]));
    assert_eq!(engine.wait(), Some(1));
    assert!(engine.log().contains("but admin.listen is empty"), "{}", engine.log());
}
