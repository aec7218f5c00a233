//! Webhooks as their receivers see them: the specification's receivers and the official libraries over
//! real HTTPS, the programs of `docs/webhooks.md`, its test vectors, and the schema of the events.
//!
//! Requests are rendered by the core, as the webhook thread renders them, and sent by a client of the
//! test: what is shown here is the form of a delivery, not when one is sent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod receivers;

use std::io::Write;
use std::process::{Command, Stdio};

use receivers::sender::{Sender, endpoint_url, event, render, wall_now};
use receivers::snippets::{Language, Question, ask, block, page};
use receivers::{Certificates, Checks, Kind, Receiver, installed, repository, start_receiver};
use serde_json::Value;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::event::{Event, EventId, EventKind, IdKey};
use tocsin_core::webhook::outgoing::Outgoing;
use tocsin_core::webhook::signature::{Brand, Delivery, RequestHead, Secret, Signers};

const MINUTE_US: i64 = 60_000_000;

fn secret(fill: u8) -> Secret {
    Secret::from_random([fill; 32])
}

// ---- Receivers --------------------------------------------------------------------------------------

/// One receiver and what drives it.
struct Rig {
    receiver: Receiver,
    sender: Sender,
}

impl Rig {
    fn start(kind: Kind, secret: &Secret) -> Rig {
        let certificates = Certificates::new();
        let receiver = start_receiver(kind, secret.reveal(), &certificates);
        Rig { receiver, sender: Sender::new(&certificates.ca_pem) }
    }

    fn render(&self, signers: &Signers, event: &Outgoing, sent_at: WallUs) -> Vec<u8> {
        render(&self.receiver.url, signers, event, sent_at)
    }

    /// Sends it; 200 and verified with this event in it, or 401 and refused, the answer and what the
    /// receiver says being one.
    fn is_accepted(&mut self, request: &[u8], event: &Outgoing) -> bool {
        let status = self.sender.send(&self.receiver.url, request);
        let said = self.receiver.next_request();
        let kind = self.receiver.kind;
        match status {
            200 => {
                assert_eq!(said["verified"], true, "{kind:?}: {said}");
                assert_eq!(said["event_id"], event.id.as_str(), "{kind:?}: {said}");
                assert_eq!(said["type"], event.kind.name(), "{kind:?}: {said}");
                let body: Value = serde_json::from_slice(&event.body).unwrap();
                assert_eq!(said["symbol"], body["symbol"], "{kind:?}: {said}");
                assert_eq!(said["bytes"], event.body.len(), "{kind:?}: {said}");
                true
            }
            401 => {
                assert_eq!(said["verified"], false, "{kind:?}: {said}");
                false
            }
            other => panic!("{kind:?} answered {other}: {said}"),
        }
    }
}

/// The request with the byte at `at` of its body, or so far before its end, changed.
fn with_body_byte_changed(request: &[u8], back: usize) -> Vec<u8> {
    let mut changed = request.to_vec();
    let at = changed.len() - back;
    // Stays a character of JSON and of UTF-8.
    changed[at] ^= 1;
    changed
}

/// The request with the value of every header named like `part` made what `change` makes of it.
fn with_header_changed(request: &[u8], part: &str, change: impl Fn(&str) -> String) -> Vec<u8> {
    let end = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&request[..end]).unwrap();
    let lines: Vec<String> = head
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some((name, value)) if name.to_lowercase().contains(part) => format!("{name}: {}", change(value)),
            _ => line.to_owned(),
        })
        .collect();
    assert_ne!(lines.join("\r\n"), head, "no header is named like {part}");
    [lines.join("\r\n").as_bytes(), &request[end..]].concat()
}

/// Everything that may be said of one receiver's verification.
fn it_accepts_ours_and_nothing_else(kind: Kind) {
    let (known, other) = (secret(0x11), secret(0x22));
    let mut rig = Rig::start(kind, &known);
    let signers = Signers::new(&known);
    for (event_kind, full) in EventKind::ALL.into_iter().flat_map(|k| [(k, false), (k, k != EventKind::Ping)])
    {
        let event = event(event_kind, "PEPE2USDT", full);
        let request = rig.render(&signers, &event, wall_now());
        assert!(rig.is_accepted(&request, &event), "{kind:?}: {event_kind:?}");
    }
    let event = event(EventKind::NewListing, "币安人生USDT", true);
    let request = rig.render(&signers, &event, wall_now());
    assert!(rig.is_accepted(&request, &event), "{kind:?}: letters beyond ASCII");

    for back in [1, 2, event.body.len() / 2, event.body.len()] {
        let changed = with_body_byte_changed(&request, back);
        assert!(!rig.is_accepted(&changed, &event), "{kind:?}: changed {back} bytes before the end");
    }
    let forged = rig.render(&Signers::new(&other), &event, wall_now());
    assert!(!rig.is_accepted(&forged, &event), "{kind:?}: signed with another secret");
    type Damage = fn(&str) -> String;
    let damages: [(&str, Damage); 4] = [
        ("cut short", |value| value[..value.len() - 8].to_owned()),
        ("twice", |value| value.repeat(2)),
        ("no signature at all", |_| "signed, believe me".to_owned()),
        ("empty", |_| String::new()),
    ];
    for (what, damage) in damages {
        let damaged = with_header_changed(&request, "signature", damage);
        assert!(!rig.is_accepted(&damaged, &event), "{kind:?}: {what}");
    }
    let unsigned = String::from_utf8(request.clone()).unwrap();
    let unsigned = unsigned.replace("-Signature: ", "-Ornament: ").replace("-signature: ", "-ornament: ");
    assert!(!rig.is_accepted(unsigned.as_bytes(), &event), "{kind:?}: not signed");
    assert!(rig.is_accepted(&request, &event), "{kind:?}: still well after all that");
    time_and_id_matter(&mut rig, &signers);
    rotation(&mut rig, &known, &other);
}

/// "so that its libraries verify us and an old body cannot be replayed"
fn time_and_id_matter(rig: &mut Rig, signers: &Signers) {
    let kind = rig.receiver.kind;
    let told = kind.checks() == Checks::Specified;
    let event = event(EventKind::Delisting, "PEPE2USDT", false);
    for (minutes, accepted) in [(-6, told), (-4, true), (4, true), (6, told)] {
        let request = rig.render(signers, &event, WallUs(wall_now().0 + minutes * MINUTE_US));
        assert_eq!(
            rig.is_accepted(&request, &event),
            accepted,
            "{kind:?}: signed {minutes} minutes from now"
        );
    }
    let old = rig.render(signers, &event, WallUs(wall_now().0 - 60 * MINUTE_US));
    let now = wall_now().secs().to_string();
    let pretended = with_header_changed(&old, "webhook-timestamp", |_| now.clone());
    assert_eq!(rig.is_accepted(&pretended, &event), told, "{kind:?}: an old one with a new time");
    let request = rig.render(signers, &event, wall_now());
    let renamed = with_header_changed(&request, "webhook-id", |id| id.replace("cxp_0", "cxp_1"));
    assert_eq!(rig.is_accepted(&renamed, &event), told, "{kind:?}: another id");
}

/// "A new secret is shown once; both sign during a grace": the specification's header can hold one
/// signature and keeps the old secret's.
fn rotation(rig: &mut Rig, old: &Secret, new: &Secret) {
    let kind = rig.receiver.kind;
    let event = event(EventKind::FuturesListing, "PEPE2USDT", false);
    let now = wall_now();
    let during = Signers::rotated(new, old, WallUs(now.0 + 5 * MINUTE_US));
    let after = Signers::rotated(new, old, now);
    let standard = kind.checks() == Checks::Standard;
    for (deployed, signers, accepted, what) in [
        (old, &during, true, "the old secret during the grace"),
        (new, &during, standard, "the new secret during the grace"),
        (new, &after, true, "the new secret after the grace"),
        (old, &after, false, "the old secret after the grace"),
    ] {
        rig.receiver.set_secret(deployed.reveal());
        let request = rig.render(signers, &event, now);
        assert_eq!(rig.is_accepted(&request, &event), accepted, "{kind:?}: {what}");
    }
}

#[test]
fn express_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::Express);
}

#[test]
fn fastapi_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::FastApi);
}

#[test]
fn flask_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::Flask);
}

#[test]
fn php_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::Php);
}

#[test]
fn standardwebhooks_for_python_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::StandardWebhooksPython);
}

#[test]
fn standardwebhooks_for_node_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::StandardWebhooksNode);
}

#[test]
fn svix_for_python_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::SvixPython);
}

#[test]
fn svix_for_node_accepts_ours_and_nothing_else() {
    it_accepts_ours_and_nothing_else(Kind::SvixNode);
}

// ---- Test vectors -----------------------------------------------------------------------------------

/// `docs/examples/webhook-vectors.json`, read.
struct Vectors {
    new: Secret,
    old: Secret,
    vectors: Vec<Vector>,
}

struct Vector {
    body: String,
    id: String,
    timestamp: String,
    sent_at: WallUs,
    specified: String,
    standard: String,
    /// The specified header, the next one, the standard one.
    rotating: [String; 3],
}

impl Vectors {
    fn read() -> Vectors {
        let file = repository().join("docs/examples/webhook-vectors.json");
        let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let vector = |v: &Value| {
            let rotating = &v["whileRotating"];
            assert_eq!(v["bodyBytes"], text(&v["body"]).len());
            Vector {
                body: text(&v["body"]),
                id: text(&v["webhook-id"]),
                timestamp: text(&v["webhook-timestamp"]),
                sent_at: WallUs(v["sentAtUs"].as_i64().unwrap()),
                specified: text(&v["x-cexping-signature"]),
                standard: text(&v["webhook-signature"]),
                rotating: ["x-cexping-signature", "x-cexping-signature-next", "webhook-signature"]
                    .map(|name| text(&rotating[name])),
            }
        };
        Vectors {
            new: Secret::parse(&text(&document["secret"])).unwrap(),
            old: Secret::parse(&text(&document["previousSecret"])).unwrap(),
            vectors: document["vectors"].as_array().unwrap().iter().map(vector).collect(),
        }
    }
}

impl Vector {
    /// The whole request, as the core renders it for the page's endpoint.
    fn request(&self, signers: &Signers) -> String {
        let read: Value = serde_json::from_str(&self.body).unwrap();
        let id = EventId::parse(&self.id).unwrap();
        let kind = EventKind::parse(read["type"].as_str().unwrap()).unwrap();
        let head =
            RequestHead::new(&endpoint_url("https://bot.yourdomain.com/webhook/cxp"), &Brand::default());
        let body = self.body.as_bytes();
        let mut request = Vec::new();
        head.write(
            signers,
            &Delivery { id: &id, kind, attempt: 1, sent_at: self.sent_at, body },
            &mut request,
        );
        String::from_utf8(request).unwrap()
    }
}

fn header<'a>(request: &'a str, name: &str) -> Vec<&'a str> {
    let lines = request.split("\r\n\r\n").next().unwrap().split("\r\n").skip(1);
    lines
        .filter_map(|line| line.split_once(": "))
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
        .collect()
}

#[test]
fn the_core_signs_the_published_vectors() {
    let Vectors { new, old, vectors } = Vectors::read();
    assert!(vectors.len() >= 2);
    let page = page();
    assert!(page.contains(new.reveal()));
    for vector in &vectors {
        let alone = vector.request(&Signers::new(&new));
        for spelling in ["x-cexping-signature", "x-cexpingz-signature"] {
            assert_eq!(header(&alone, spelling), [&vector.specified]);
        }
        assert_eq!(header(&alone, "webhook-id"), [&vector.id]);
        assert_eq!(header(&alone, "webhook-timestamp"), [&vector.timestamp]);
        assert_eq!(header(&alone, "webhook-signature"), [&vector.standard]);
        let until = WallUs(vector.sent_at.0 + 1);
        let rotating = vector.request(&Signers::rotated(&new, &old, until));
        let [specified, next, standard] = &vector.rotating;
        assert_eq!(header(&rotating, "x-cexping-signature"), [specified]);
        assert_eq!(header(&rotating, "x-cexping-signature-next"), [next]);
        assert_eq!(header(&rotating, "webhook-signature"), [standard]);
        for shown in [&vector.body, &vector.id, &vector.timestamp, &vector.specified, &vector.standard] {
            assert!(page.contains(shown.as_str()), "the page does not show {shown}");
        }
    }
}

/// The page's example of a whole request.
#[test]
fn the_page_shows_a_request_as_it_is_sent() {
    let Vectors { new, vectors, .. } = Vectors::read();
    let sent = vectors[0].request(&Signers::new(&new)).replace("\r\n", "\n");
    let [before, version] = sent.split("User-Agent: Tocsin-Webhooks/").collect::<Vec<_>>()[..] else {
        panic!("{sent}");
    };
    let (_, after) = version.split_once('\n').unwrap();
    let shown = block("http");
    let (shown_before, rest) = shown.split_once("User-Agent: Tocsin-Webhooks/").unwrap();
    let (_, shown_after) = rest.split_once('\n').unwrap();
    assert_eq!((shown_before, shown_after.trim_end()), (before, after));
}

// ---- The page's programs ----------------------------------------------------------------------------

fn with_char_changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] ^= 1;
    String::from_utf8(bytes).unwrap()
}

/// Questions and what is right to answer.
fn questions() -> Vec<(Question, bool)> {
    let Vectors { new, old, vectors } = Vectors::read();
    let mut all = Vec::new();
    for vector in &vectors {
        let [old_specified, _, both] = &vector.rotating;
        specified_questions(vector, &new, &old, old_specified, &mut all);
        standard_questions(vector, &new, &old, both, &mut all);
    }
    all
}

fn specified_questions(
    vector: &Vector,
    new: &Secret,
    old: &Secret,
    old_header: &str,
    all: &mut Vec<(Question, bool)>,
) {
    let ask = |body: &[u8], header: &str, secret: &Secret| Question::Specified {
        body: body.to_vec(),
        header: header.to_owned(),
        secret: secret.reveal().to_owned(),
    };
    let (body, header) = (vector.body.as_bytes(), vector.specified.as_str());
    all.push((ask(body, header, new), true));
    all.push((ask(body, old_header, old), true));
    all.push((ask(body, header, old), false));
    for at in 0..body.len() {
        let mut changed = body.to_vec();
        changed[at] ^= 1;
        all.push((ask(&changed, header, new), false));
    }
    for at in 0..header.len() {
        all.push((ask(body, &with_char_changed(header, at), new), false));
    }
    for wrong in ["", "sha256=", "sha256=é", "=", &header[..header.len() - 1], &header[7..], "sha1=00"] {
        all.push((ask(body, wrong, new), false));
    }
    all.push((ask(body, &format!("{header}00"), new), false));
    all.push((ask(b"", header, new), false));
}

fn standard_questions(
    vector: &Vector,
    new: &Secret,
    old: &Secret,
    both: &str,
    all: &mut Vec<(Question, bool)>,
) {
    let sent = vector.sent_at.secs();
    let base = |header: &str, secret: &Secret, now: i64| Question::Standard {
        body: vector.body.clone().into_bytes(),
        id: vector.id.clone(),
        timestamp: vector.timestamp.clone(),
        header: header.to_owned(),
        secret: secret.reveal().to_owned(),
        now,
    };
    let header = vector.standard.as_str();
    for secret in [new, old] {
        all.push((base(both, secret, sent), true));
    }
    let swapped: Vec<&str> = both.split(' ').rev().collect();
    all.push((base(&swapped.join(" "), new, sent), true));
    all.push((base(&format!("v1a,AAAA {header} v2,BBBB"), new, sent), true));
    all.push((base(header, old, sent), false));
    for (after, fresh) in [(-301, false), (-300, true), (0, true), (300, true), (301, false), (86_400, false)]
    {
        all.push((base(header, new, sent + after), fresh));
    }
    for at in 0..header.len() {
        all.push((base(&with_char_changed(header, at), new, sent), false));
    }
    for wrong in ["", " ", "v1,", "v1", ",", &header[3..], &header.replace("v1,", "v2,"), "v1,é"] {
        all.push((base(wrong, new, sent), false));
    }
    let mut altered = |alter: &dyn Fn(&mut Vec<u8>, &mut String, &mut String)| {
        let mut question = base(header, new, sent);
        let Question::Standard { body, id, timestamp, .. } = &mut question else { return };
        alter(body, id, timestamp);
        all.push((question, false));
    };
    for at in 0..vector.body.len() {
        altered(&|body, _, _| body[at] ^= 1);
    }
    altered(&|_, id, _| id.push('0'));
    altered(&|_, id, _| id.clear());
    let later = (sent + 1).to_string();
    let times =
        ["", "x", "1e9", "-1", "0", "99999999999999999999", "NaN", "1710432000.0", " 1710432000", &later];
    for wrong in times {
        altered(&|_, _, timestamp| wrong.clone_into(timestamp));
    }
}

fn check_answers(who: &str, questions: &[(Question, bool)], answers: &[bool]) {
    for ((question, right), answer) in questions.iter().zip(answers) {
        assert_eq!(answer, right, "{who}: {question:?}");
    }
}

fn the_page_s_program_is_right(language: Language) {
    let questions = questions();
    assert!(questions.iter().filter(|(_, right)| *right).count() > 10 && questions.len() > 500);
    let asked: Vec<Question> = questions.iter().map(|(question, _)| question.clone()).collect();
    check_answers(&format!("{language:?}"), &questions, &ask(language, &asked));
}

#[test]
fn the_page_s_python_is_right() {
    the_page_s_program_is_right(Language::Python);
}

#[test]
fn the_page_s_javascript_is_right() {
    the_page_s_program_is_right(Language::Node);
}

#[test]
fn the_page_s_php_is_right() {
    the_page_s_program_is_right(Language::Php);
}

#[test]
fn the_page_s_go_is_right() {
    the_page_s_program_is_right(Language::Go);
}

#[test]
fn the_page_s_java_is_right() {
    the_page_s_program_is_right(Language::Java);
}

#[test]
fn the_page_s_rust_is_right() {
    let file = repository().join("engine/tocsin/tests/receivers/snippets/verify.rs");
    assert_eq!(block("rust"), std::fs::read_to_string(file).unwrap(), "the page shows what is compiled here");
    let questions = questions();
    let answers: Vec<bool> = questions.iter().map(|(question, _)| question.ask_rust()).collect();
    check_answers("Rust", &questions, &answers);
}

// ---- Schema -----------------------------------------------------------------------------------------

/// Runs `validate.py` over bodies; what it counted of each type.
fn validate(bodies: &str) -> Value {
    let clients = repository().join("engine/tocsin/tests/clients");
    let mut child = Command::new(installed("python/bin/python"))
        .arg("-B")
        .arg(clients.join("validate.py"))
        .arg("messages")
        .arg(repository().join("docs/schemas/webhook-event.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bodies.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_event_fits_its_schema_and_every_schema_is_met() {
    let key = IdKey::new(&[7; 32]);
    let mut bodies = Vec::new();
    for kind in EventKind::ALL {
        bodies.push(event(kind, "PEPE2USDT", false));
        if kind != EventKind::Ping {
            bodies.push(event(kind, "币安人生USDT", true));
        }
        bodies.push(Outgoing::of(&Event::test(&key, kind, 3, WallUs::from_secs(1_764_244_800))).unwrap());
    }
    bodies.push(Outgoing::of(&Event::ping(&key, i64::MAX, WallUs(1))).unwrap());
    let lines: String =
        bodies.iter().map(|event| String::from_utf8_lossy(&event.body).into_owned() + "\n").collect();
    let examples = Vectors::read().vectors;
    let examples: String = examples.iter().map(|vector| vector.body.clone() + "\n").collect();
    let counts = validate(&(lines + &examples));
    let counts = counts.as_object().unwrap();
    assert_eq!(counts.len(), EventKind::ALL.len(), "{counts:?}");
    assert!(counts.values().all(|count| *count != 0), "not all met: {counts:?}");
}
