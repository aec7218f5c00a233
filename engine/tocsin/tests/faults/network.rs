//! What lies between the engine and others: packets that vanish, name servers that are gone, certificates that
//! have run out.

use std::time::{Duration, Instant};

use tocsin_sim::{Category, CertChange, Draft, Kind, Options};

use crate::harness::exchange::Exchange;
use crate::harness::namespace::{Own, enter, sh};
use crate::harness::{Engine, Handshake, Mode, wait_for};

/// What was sent and not acknowledged for 30 s ends a connection (`TCP_USER_TIMEOUT`); a PONG that does not come
/// would end it after 45 s at the earliest.
const BEFORE_PONG: Duration = Duration::from_secs(44);

/// A subscriber whose packets vanish, without a FIN or a reset, is let go when what was sent to it has not been
/// acknowledged for 30 s; nobody waits for it meanwhile.
#[test]
fn a_peer_whose_packets_vanish_is_let_go_and_nobody_waits() {
    // Afterwards its address lies behind a wire whose other end takes no frame for it.
    let setup = "ip address add 10.9.0.1/32 dev lo; ip address add 10.9.0.5/32 dev lo; \
                 ip link add wire type veth peer name end; ip link set wire up; ip link set end up;";
    if !enter("network::a_peer_whose_packets_vanish_is_let_go_and_nobody_waits", Own::Network, setup) {
        return;
    }
    let engine = Engine::start(Mode::Plain, "[feed]\nlisten = \"10.9.0.1:0\"");
    let key = engine.key();
    let mut witness = engine.connect(&key, "fields=full");
    let _dead = Handshake::new("fields=full").header("X-API-Key", &key).from("10.9.0.5").connect(&engine);
    let connections = || engine.cli_json(&["status"])["feed"]["connections"].as_u64().unwrap();
    wait_for("both", || connections() == 2);
    sh("ip address del 10.9.0.5/32 dev lo; ip route add 10.9.0.5/32 dev wire src 10.9.0.1; \
        ip neighbour add 10.9.0.5 lladdr 02:00:00:00:00:01 nud permanent dev wire");

    let from = Instant::now();
    let mut seq = 0;
    while connections() == 2 {
        assert!(from.elapsed() < BEFORE_PONG, "{}", engine.cli_json(&["status"])["feed"]);
        // Few enough for it not to be closed as too slow: the kernel's buffer takes them.
        if seq < 5 {
            seq += 1;
            engine.inject("binance", &format!("Binance Will List Sample {seq} (SMP{seq})"));
            assert_eq!(witness.json_of("announcement")["seq"], seq);
        }
        // Its pings are answered.
        let _ = witness.message_within(Duration::from_millis(500)).map(|message| match message {
            crate::harness::Message::Ping(payload) => witness.send(10, &payload),
            other => assert!(matches!(other, crate::harness::Message::Binary(_)), "{other:?}"),
        });
    }
    let closed = engine.cli_json(&["status"])["feed"]["closed"].clone();
    assert_eq!(closed["socket_error"], 1, "{closed}");
}

/// Names that no longer resolve: a source that had none says that it is down; one that has addresses goes on
/// with them, over new connections too.
#[test]
fn without_name_servers_the_addresses_known_are_used() {
    if !enter("network::without_name_servers_the_addresses_known_are_used", Own::Mounts, "") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let hosts = |line: &str| std::fs::write(path("hosts"), format!("127.0.0.1 localhost\n{line}\n")).unwrap();
    hosts("");
    // Nobody answers there.
    std::fs::write(path("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    for name in ["hosts", "resolv.conf"] {
        sh(&format!("mount --bind {} /etc/{name}", path(name).display()));
    }
    let exchange = Exchange::start(Kind::Upbit, Options::plain());
    let port = exchange.sim.addr().port();
    let config = format!("{}base_url = \"http://exchange.test:{port}\"\n", {
        let section = exchange.section();
        section
            .lines()
            .filter(|line| !line.starts_with("base_url"))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    });
    let engine = Engine::start(Mode::Plain, &config);
    let mut client = engine.connect(&engine.key(), "sources=1");
    wait_for("a lookup that fails", || exchange.status(&engine)["failures"]["connect"].as_u64() > Some(0));
    assert_eq!(exchange.status(&engine)["state"], "down");
    assert_eq!(exchange.sim.request_count(), 0);

    hosts("127.0.0.1 exchange.test");
    exchange.baselined(&engine);
    wait_for("the source to be live", || exchange.status(&engine)["state"] == "live");

    hosts("");
    exchange.sim.drop_connections();
    let before = exchange.sim.counters().connections;
    let title = "샘플(SMPA) KRW 마켓 디지털 자산 추가";
    exchange.sim.publish(Draft::new(Category::Listing, title));
    assert_eq!(client.json_of("announcement")["title"], title);
    assert!(exchange.sim.counters().connections > before, "over a new connection");
    assert_eq!(exchange.status(&engine)["state"], "live");
}

/// An exchange whose certificate has run out is down, the cause is named, and the renewed one is taken.
#[test]
fn an_expired_certificate_is_named_and_the_renewed_one_taken() {
    let exchange = Exchange::start(Kind::Binance, Options::default());
    exchange.sim.set_certificate(CertChange::Expired).unwrap();
    let engine = Engine::start(Mode::Plain, &exchange.section());
    let mut client = engine.connect(&engine.key(), "");
    wait_for("the refusal", || exchange.status(&engine)["failures"]["tls_certificate"].as_u64() > Some(0));
    let status = exchange.status(&engine);
    assert_eq!((&status["state"], &status["parsed"]), (&"down".into(), &0.into()), "{status}");
    exchange.sim.set_certificate(CertChange::Renewed).unwrap();
    exchange.baselined(&engine);
    exchange.sim.publish(Draft::new(Category::Listing, "Binance Will List Sample (SMPA)"));
    assert_eq!(client.json_of("announcement")["ticker"], "SMPA");
    wait_for("the source to be live", || exchange.status(&engine)["state"] == "live");
}
