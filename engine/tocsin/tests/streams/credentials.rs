//! Keys: from files of one's own alone, never shown; refused ones are said to be refused and not tried in a storm.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tocsin_core::source::stream::ParameterOrder;
use tocsin_sim::{StreamKind, StreamOptions};

use crate::harness::{Engine, Mode, wait_for};
use crate::push::Push;

const KEYED: [StreamKind; 2] = [StreamKind::Binance, StreamKind::Upbit];

#[test]
fn wrong_credentials_are_said_and_not_tried_again_and_again() {
    let pushes = KEYED.map(|kind| Push::start(kind, StreamOptions::default()));
    for wrong in ["sim-key\nwrong-Secret-91\n", "wrong-Key-92\nsim-secret\n"] {
        let engines = pushes.each_ref().map(|push| {
            push.write_credentials(wrong);
            Engine::start(Mode::Plain, &push.section(""))
        });
        let before = pushes.each_ref().map(|push| push.sim.upgrades().len());
        for (push, engine) in pushes.iter().zip(&engines) {
            wait_for("the refusal", || push.status(engine)["state"] == "blocked");
            assert_eq!(push.failures(engine, "unauthorized"), 1);
        }
        std::thread::sleep(Duration::from_secs(3));
        for ((push, engine), before) in pushes.iter().zip(&engines).zip(before) {
            assert!(push.sim.upgrades().len() <= before + 1, "it was asked again within seconds");
            assert_eq!(push.status(engine)["state"], "blocked");
            let shown = [engine.log(), engine.cli_json(&["status"]).to_string()].concat();
            for secret in ["wrong-Secret-91", "wrong-Key-92", "sim-secret", "sim-key"] {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
        }
    }
    for push in &pushes {
        push.write_credentials(&push.sim.credentials_text());
        push.engine("");
    }
}

#[test]
fn the_order_of_the_signed_parameters_is_a_setting() {
    let options = |order| StreamOptions { strict_order: Some(order), ..StreamOptions::default() };
    let push = Push::start(StreamKind::Binance, options(ParameterOrder::TopicSecond));
    let engine = Engine::start(Mode::Plain, &push.section(""));
    wait_for("the refusal", || push.failures(&engine, "unauthorized") == 1);
    drop(engine);
    let engine = push.engine("parameter_order = \"topic_second\"\n");
    push.told(&mut engine.connect(&engine.key(), "fields=full"), "BELX");
    let push = Push::start(StreamKind::Binance, options(ParameterOrder::Alphabetical));
    push.engine("");
}

/// An Upbit key lasts a year: then the next session is refused, and subscribers are told.
#[test]
fn a_key_that_has_expired_blocks_the_source() {
    let pushes = KEYED.map(|kind| Push::start(kind, StreamOptions::default()));
    for push in &pushes {
        let engine = push.engine("");
        let mut client = engine.connect(&engine.key(), "fields=full&sources=1");
        push.told(&mut client, "AAX");
        push.sim.expire_key(true);
        push.sim.drop_connections();
        loop {
            let told = client.json_of("source_status");
            assert_eq!(told["source"], push.name());
            if told["state"] == "blocked" {
                break;
            }
        }
        assert!(push.sim.upgrades().len() <= 3, "{:?}", push.sim.upgrades());
    }
}

#[test]
fn the_check_of_a_configuration_reads_the_file_and_says_what_is_wrong() {
    let push = Push::start(StreamKind::Binance, StreamOptions::default());
    let engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, &push.section(""));
    let check = || {
        let output = engine.cli(&["check"]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("binance (push)"), "{said}");
    std::fs::set_permissions(push.credentials_file(), PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(2), "{said}");
    for part in ["streams.binance.credentials_file", "can be read by others (mode 0644)", "chmod 600"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    push.write_credentials("sim-key\n");
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("holds 1 lines; it takes two"), "{said}");
    std::fs::remove_file(push.credentials_file()).unwrap();
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("does not exist: write the key and the secret"), "{said}");
    // The service does not start with it either, and says the same.
    let mut engine = engine;
    engine.spawn();
    assert_eq!(engine.wait(), Some(1));
    assert!(engine.log().contains("does not exist: write the key"), "{}", engine.log());
    // Switched off, nobody asks for the file.
    engine.configure("[streams.binance]\ncredentials_file = \"/nowhere\"\n");
    assert_eq!(engine.cli(&["check"]).status.code(), Some(0));
}
