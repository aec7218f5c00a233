//! SIGHUP: what takes effect at once does, what needs a restart is said, what is wrong changes nothing.

use std::fs;
use std::path::Path;

use rustls::pki_types::CertificateDer;

use crate::harness::{Client, Engine, Handshake, Mode, wait_for};

const TITLE: &str = "Binance Will List Token Example (TKNX)";

/// SIGHUP, and the lines it brought.
fn reload(engine: &Engine) -> String {
    let before = engine.log().len();
    engine.signal("HUP");
    let since = || engine.log().get(before..).unwrap_or_default().to_owned();
    wait_for("the report", || {
        let said = since();
        said.contains("reload: done") || said.contains("nothing changes")
    });
    since()
}

/// A certificate of its own in two files; what clients see of it.
fn certificate(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn certificate_of(client: &Client) -> CertificateDer<'static> {
    client.tls().unwrap().peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn what_can_takes_effect_at_once_and_the_rest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = certificate(dir.path());
    let feed = format!(
        "[feed]\ncert_file = {:?}\nkey_file = {:?}\n",
        dir.path().join("cert.pem"),
        dir.path().join("key.pem")
    );
    let mut engine = Engine::start(Mode::Tls, &feed);
    let key = engine.key();
    let mut live = engine.connect(&key, "");
    assert_eq!(certificate_of(&live), first);
    assert!(reload(&engine).contains("in_force=0 needs_restart=0 files=0"), "{}", engine.log());

    let second = certificate(dir.path());
    let limits = "[feed.limits]\nip_connections = 2\n[log]\nlevel = \"debug\"\n";
    let grace = "[webhooks]\nrotation_grace = \"1h\"\nplans = [\"basic\"]\n";
    engine.configure(&format!("{feed}writers = 2\ndrain = \"100ms\"\n{limits}{grace}"));
    let said = reload(&engine);
    for key in ["feed.drain", "feed.limits.ip_connections", "log.level", "webhooks.rotation_grace"] {
        assert!(said.contains(&format!("reload: in force now key=\"{key}\"")), "{key}: {said}");
    }
    for key in ["feed.writers", "webhooks.plans"] {
        assert!(said.contains(&format!("reload: takes effect at the next restart key=\"{key}\"")), "{said}");
    }
    assert!(said.contains("was=\"200ms\" is=\"100ms\""), "{said}");
    assert!(said.contains("reload: read anew, in use now key=\"feed.cert_file\""), "{said}");
    assert!(said.contains("in_force=4 needs_restart=2 files=1"), "{said}");

    // New handshakes see the new certificate; the live session goes on with the old one.
    let fresh = engine.connect(&key, "");
    assert_eq!(certificate_of(&fresh), second);
    engine.inject("binance", TITLE);
    assert_eq!(live.json()["title"], TITLE);
    // The limit of an address counts those who were there before.
    let refused = Handshake::new("").header("X-API-Key", &key).refused(&engine);
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (429, Some("ip_connections_reached")),
        "{refused:?}"
    );
    // What waits for a restart is said again, what is in force is not.
    let again = reload(&engine);
    assert!(again.contains("in_force=0 needs_restart=2 files=0"), "{again}");
    // Taken back, and exempt on top of it.
    engine.configure(&format!("{feed}[feed.limits]\nip_connections = 2\nexempt = [\"127.0.0.0/8\"]\n"));
    let back = reload(&engine);
    assert!(back.contains("in_force=4 needs_restart=0"), "{back}");
    drop(engine.connect(&key, ""));
    assert_eq!(engine.stop(), Some(0));
}

#[test]
fn what_is_wrong_changes_nothing_and_the_service_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificate(dir.path());
    let feed = format!(
        "[feed]\ncert_file = {:?}\nkey_file = {:?}\n",
        dir.path().join("cert.pem"),
        dir.path().join("key.pem")
    );
    let engine = Engine::start(Mode::Tls, &feed);
    let key = engine.key();
    let mut live = engine.connect(&key, "");
    let limit = "[feed.limits]\nip_connections = 1\n";
    let rows = [
        (
            format!("{feed}lisen = \"x\"\n{limit}"),
            "there is no key `feed.lisen`; the nearest is `feed.listen`",
        ),
        (format!("{feed}drain = \"5\"\n{limit}"), "takes a duration"),
        (format!("{feed}{limit}[log]\nlevel = \"a==b\"\n"), "is no level or filter"),
        (format!("{feed}{limit}[sources.upbit]\nca_file = \"/nowhere\"\n"), "sources.upbit.ca_file"),
        (format!("{feed}{limit}[admin]\ntoken_file = \"/nowhere\"\n"), "/nowhere"),
        (format!("[feed]\ncert_file = \"/nowhere\"\nkey_file = \"/nowhere\"\n{limit}"), "feed.cert_file"),
    ];
    for (text, problem) in &rows {
        engine.configure(text);
        for _ in 0..2 {
            let said = reload(&engine);
            assert!(said.contains("the configuration is not usable; nothing changes"), "{said}");
            assert!(said.contains(problem), "{problem}: {said}");
        }
    }
    // A certificate and the key of another: what a renewal looks like when it is half written.
    engine.configure(&format!("{feed}{limit}"));
    let half = fs::read(dir.path().join("cert.pem")).unwrap();
    certificate(dir.path());
    fs::write(dir.path().join("cert.pem"), half).unwrap();
    let said = reload(&engine);
    assert!(said.contains("nothing changes") && said.contains("cert.pem"), "{said}");

    let fresh = engine.connect(&key, "");
    assert_eq!(certificate_of(&fresh), good, "handshakes go on, two connections are allowed");
    engine.inject("binance", TITLE);
    assert_eq!(live.json()["title"], TITLE);
}

#[test]
fn another_admin_token_and_certificate_of_the_admin_door() {
    let engine = Engine::start(Mode::Plain, "");
    let file = engine.data_dir().join("admin.token");
    let old = fs::read_to_string(&file).unwrap();
    let status = |token: &str| {
        engine
            .admin_as("GET", "/admin/v1/status", &format!("Authorization: Bearer {}\r\n", token.trim()), None)
            .0
    };
    fs::write(&file, "another token of the administrator\n").unwrap();
    assert_eq!(status(&old), 200, "until the reload");
    let said = reload(&engine);
    assert!(said.contains("files=1") && !said.contains("another token of"), "{said}");
    assert_eq!((status(&old), status("another token of the administrator")), (401, 200));

    fs::write(&file, "short\n").unwrap();
    let said = reload(&engine);
    assert!(said.contains("nothing changes") && said.contains("this one 5"), "{said}");
    assert_eq!(status("another token of the administrator"), 200);
}
