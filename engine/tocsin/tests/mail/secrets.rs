//! Encryption and signing in: nothing goes to a server that cannot prove who it is, and the password
//! goes nowhere else.

use std::path::{Path, PathBuf};

use tocsin_core::webhook::endpoint::Mail;

use super::world::{MailServer, World, hasty, logs, smtp, wait_for};

const PASSWORD: &str = "correct-horse-battery";
/// `PASSWORD` and a NUL before it as AUTH PLAIN and AUTH LOGIN write it: parts of their base64.
const ENCODED: [&str; 2] = ["Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5", "b3JzZS1iYXR0ZXJ5"];
const REQUIRED: &str = "smtp://localhost:PORT?tls=required";

/// A certificate for `localhost` and its key, as files.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join(format!("{name}-cert.pem")), folder.join(format!("{name}-key.pem")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

fn one_mail() -> World {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a"]);
    world.enqueue(endpoints[0], Mail::Gone, std::time::Duration::ZERO);
    world
}

#[test]
fn starttls_and_tls_from_the_first_byte_encrypt_the_mail() {
    for (url, argument) in [
        (REQUIRED, "--require-starttls"),
        ("smtp://localhost:PORT?tls=opportunistic", "--require-starttls"),
        ("smtps://localhost:PORT", "--wrapped"),
    ] {
        let mut world = one_mail();
        let (cert, key) = certificate(world.dir.path(), "server");
        let arguments = [argument, "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        let server = MailServer::start(world.dir.path(), &arguments);
        let mut smtp = smtp(url, server.port);
        smtp.ca_file = Some(cert);
        let running = world.run(&smtp, hasty());
        wait_for("the mail sent", || running.sent() == 1);
        running.stop();
        let taken = server.taken();
        assert!(taken.len() == 1 && taken[0].encrypted, "{url}: {taken:?}");
    }
}

#[test]
fn a_server_that_is_not_who_it_should_be_gets_nothing() {
    let mut world = one_mail();
    let (cert, key) = certificate(world.dir.path(), "server");
    let (other, _) = certificate(world.dir.path(), "other");
    let arguments = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let server = MailServer::start(world.dir.path(), &arguments);
    let cases = [
        (REQUIRED, None),
        (REQUIRED, Some(other)),
        ("smtp://127.0.0.1:PORT?tls=required", Some(cert)),
        ("smtp://localhost:PORT?tls=opportunistic", None),
    ];
    for (url, ca_file) in cases {
        let mut smtp = smtp(url, server.port);
        smtp.ca_file = ca_file;
        let running = world.run(&smtp, hasty());
        wait_for("a refusal", || running.server_failures() >= 1);
        running.stop();
    }
    let plain = MailServer::start(world.dir.path(), &[]);
    let running = world.run(&smtp(REQUIRED, plain.port), hasty());
    wait_for("a refusal", || running.server_failures() >= 1);
    running.stop();
    assert!(server.taken().is_empty() && plain.taken().is_empty());
    assert_eq!(world.waiting().len(), 1, "it waits on");
}

#[test]
fn the_password_signs_in_and_is_shown_nowhere() {
    let mut world = one_mail();
    let folder = world.dir.path().to_owned();
    let (cert, key) = certificate(&folder, "server");
    let arguments = ["--require-starttls", "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let login = ["--user", "u@example.com", "--password", PASSWORD];
    let server = MailServer::start(&folder, &[arguments.as_slice(), &login].concat());
    let file = folder.join("password");
    let mut smtp = smtp("smtp://u%40example.com@localhost:PORT?tls=required", server.port);
    (smtp.ca_file, smtp.password_file) = (Some(cert), Some(file.clone()));

    // Wrong at first: a mistake of the operator's, for which no mail is given up.
    std::fs::write(&file, format!("{PASSWORD}-no\n")).unwrap();
    let running = world.run(&smtp, hasty());
    wait_for("a refusal", || running.server_failures() >= 2);
    assert_eq!((running.sent(), running.given_up()), (0, 0));
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    wait_for("the mail sent", || running.sent() == 1);
    running.stop();
    let taken = server.taken();
    assert!(taken.len() == 1 && taken[0].authenticated && taken[0].encrypted, "{taken:?}");

    let logged = logs();
    assert!(logged.contains("signing in: the server answers 535"), "{logged}");
    for secret in [PASSWORD].iter().chain(&ENCODED) {
        assert!(!logged.contains(secret) && !taken[0].content.contains(secret));
        assert!(!format!("{smtp:?}").contains(secret));
    }
}

#[test]
fn a_server_that_wants_a_user_waits_for_one() {
    let mut world = one_mail();
    let server = MailServer::start(world.dir.path(), &["--user", "u", "--password", PASSWORD]);
    let running = world.run(&smtp("smtp://127.0.0.1:PORT", server.port), hasty());
    wait_for("a refusal", || running.server_failures() >= 1);
    running.stop();
    assert_eq!(world.waiting().len(), 1, "530 is no verdict on the mail");

    let file = world.dir.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let mut signed_in = smtp("smtp://u@127.0.0.1:PORT", server.port);
    signed_in.password_file = Some(file);
    let running = world.run(&signed_in, hasty());
    wait_for("the mail sent", || running.sent() == 1);
    running.stop();
    assert!(server.taken()[0].authenticated);
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let mut world = one_mail();
    let empty = world.dir.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let missing = world.dir.path().join("missing");
    let rows = [
        (Some(missing.clone()), None, "smtp.password_file"),
        (Some(empty.clone()), None, "holds no password"),
        (None, Some(missing), "smtp.ca_file"),
        (None, Some(empty), "holds no certificate"),
    ];
    for (password_file, ca_file, problem) in rows {
        let mut smtp = smtp("smtps://u@localhost:PORT", 1);
        (smtp.password_file, smtp.ca_file) = (password_file, ca_file);
        let error = world.refused(&smtp);
        assert!(error.contains(problem) && error.contains(world.dir.path().to_str().unwrap()), "{error}");
    }
}
