//! One benchmark a stage of an announcement's way, counted in instructions by callgrind.
//!
//! Contract: the body of a benchmark function is what is counted. What it needs is built before it, what it
//! returns is checked and dropped after it, so that a stage that stopped doing its work does not pass for
//! a quick one. Inputs are in [`inputs`]; nothing here reads a clock, a file or the environment.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark fails by panicking; the harness's macros make public items of their own and hand over values"
)]

mod inputs;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use gungraun::prelude::*;
use tocsin_core::classify::classify;
use tocsin_core::detect::Outcome;
use tocsin_core::feed::frame_log::{Class, ClassSet, FrameLog};
use tocsin_core::feed::subscription::{FieldSet, FrameKind};
use tocsin_core::limits;
use tocsin_core::model::{Announcement, CategoryHint, Classification, Exchange, ListingType};
use tocsin_core::wire::{EncodedAnnouncement, encode};
use tocsin_core::ws::{Event, Opcode, Role, Session, SessionLimits};

use inputs::{
    Answer, CHINESE_LISTING, Crowd, ENGLISH_LISTING, Heat, KOREAN_LISTING, NO_LISTING, NOW, Poll, ROWS,
    SUBSCRIBE, Signing, Site, announcement,
};

/// The harness embeds the absolute path of this package. Filled up to a fixed length, it moves no constant
/// behind it, so that what searches constants is counted alike in every directory.
#[used]
static FILL: [u8; PATH_BYTES - env!("CARGO_MANIFEST_DIR").len()] =
    [0; PATH_BYTES - env!("CARGO_MANIFEST_DIR").len()];

/// Linux's longest path.
const PATH_BYTES: usize = 4_096;

// ---- Detection -----------------------------------------------------------------------------------

fn unchanged(poll: (Poll, Outcome)) {
    assert!(matches!(poll.1, Outcome::Identical | Outcome::OnlyNoise), "{:?}", poll.1);
    assert_eq!(poll.0.findings.detected.len(), 0);
}

// An answer that says nothing new: the same bytes, or other badges only.
#[library_benchmark(setup = Poll::ready, teardown = unchanged)]
#[bench::binance_same(args = (Site::Binance, Answer::Same))]
#[bench::upbit_badges(args = (Site::Upbit, Answer::OtherBadges))]
fn detect_unchanged(mut poll: Poll) -> (Poll, Outcome) {
    let outcome = poll.read();
    (poll, outcome)
}

fn one_is_new(poll: (Poll, Outcome)) {
    assert!(matches!(poll.1, Outcome::Parsed(parsed) if parsed.rows == ROWS), "{:?}", poll.1);
    assert_eq!(poll.0.findings.detected.len(), 1);
}

// A page with one notice more on top, as long as the page before: it is parsed and compared in full.
#[library_benchmark(setup = Poll::ready, teardown = one_is_new)]
#[bench::binance(args = (Site::Binance, Answer::OneMore))]
#[bench::upbit(args = (Site::Upbit, Answer::OneMore))]
fn detect_new(mut poll: Poll) -> (Poll, Outcome) {
    let outcome = poll.read();
    (poll, outcome)
}

fn one_is_found_ahead(poll: (Poll, bool)) {
    assert!(poll.1, "the answer was not recognised as the last one with a row more");
    assert_eq!(poll.0.findings.detected.len(), 1);
}

// The same page, until what is new can be announced: of the page only the new notice is parsed.
#[library_benchmark(setup = Poll::ready, teardown = one_is_found_ahead)]
#[bench::binance(args = (Site::Binance, Answer::OneMore))]
#[bench::upbit(args = (Site::Upbit, Answer::OneMore))]
fn detect_ahead(mut poll: Poll) -> (Poll, bool) {
    let found = poll.look_ahead();
    (poll, found)
}

fn is_announced(heat: Heat) {
    assert_eq!(heat.announced(), 1);
}

fn is_confirmed(heat: Heat) {
    assert_eq!(heat.announced(), 0);
}

// What several sources of one exchange add to an announcement, and what a confirmation costs: with as many
// notices known as some months of an exchange leave.
#[library_benchmark]
#[bench::first(args = (false), setup = Heat::ready, teardown = is_announced)]
#[bench::confirms(args = (true), setup = Heat::ready, teardown = is_confirmed)]
fn race(mut heat: Heat) -> Heat {
    heat.run();
    heat
}

// ---- Classification and serialization ------------------------------------------------------------

/// As it comes out of a parser: not a constant, whose address depends on those around it.
fn title(exchange: Exchange, title: &str) -> (Exchange, String) {
    (exchange, title.to_owned())
}

fn is_spot_listing((of, _): (Classification, String)) {
    assert_eq!((of.listing_type, of.tickers.len()), (ListingType::SpotListing, 1));
}

fn is_no_listing((of, _): (Classification, String)) {
    assert_eq!(of.listing_type, ListingType::NotListing);
}

#[library_benchmark(setup = title)]
#[bench::english(args = (Exchange::Binance, ENGLISH_LISTING), teardown = is_spot_listing)]
#[bench::korean(args = (Exchange::Upbit, KOREAN_LISTING), teardown = is_spot_listing)]
#[bench::chinese(args = (Exchange::Okx, CHINESE_LISTING), teardown = is_spot_listing)]
#[bench::no_listing(args = (Exchange::Binance, NO_LISTING), teardown = is_no_listing)]
fn classify_title(title: (Exchange, String)) -> (Classification, String) {
    let (exchange, title) = title;
    (black_box(classify(exchange, black_box(&title), CategoryHint::None)), title)
}

fn has_all_texts(encoded: EncodedAnnouncement) {
    assert!(encoded.basic.json.len() < encoded.full.json.len());
    assert!(encoded.full_redacted.json.len() < encoded.full.json.len());
}

// All four texts of one announcement.
#[library_benchmark(setup = announcement, teardown = has_all_texts)]
#[bench::binance(args = (Site::Binance))]
#[bench::upbit(args = (Site::Upbit))]
fn serialize(announcement: Announcement) -> EncodedAnnouncement {
    black_box(encode(black_box(announcement)))
}

// ---- Feed ----------------------------------------------------------------------------------------

type Log = (FrameLog, Arc<EncodedAnnouncement>, ClassSet);

fn frame_log(classes: ClassSet) -> Log {
    let log = FrameLog::new(limits::FRAME_LOG_BYTES, limits::FRAME_LOG_ENTRIES);
    (log, Arc::new(encode(announcement(Site::Binance))), classes)
}

fn one_class() -> Log {
    frame_log(ClassSet::default().with(Class::new(FrameKind::Binary, FieldSet::Basic, false)))
}

fn every_class() -> Log {
    frame_log(Class::all().fold(ClassSet::default(), ClassSet::with))
}

fn is_stamped(log: (FrameLog, Arc<EncodedAnnouncement>)) {
    let frame = log.0.frame(0, Class::new(FrameKind::Binary, FieldSet::Basic, false)).unwrap();
    let digits = NOW.wall.0.to_string();
    assert!(frame.windows(16).any(|at| at == digits.as_bytes()));
}

// An encoded announcement becomes a frame a class: header, copy, and the dispatch stamp patched in it.
#[library_benchmark(teardown = is_stamped)]
#[bench::one_class(args = (), setup = one_class)]
#[bench::every_class(args = (), setup = every_class)]
fn frame_patch(log: Log) -> (FrameLog, Arc<EncodedAnnouncement>) {
    let (mut frames, encoded, classes) = log;
    let index = frames.push(Arc::clone(&encoded), classes, NOW.wall);
    let _ = black_box(index);
    (frames, encoded)
}

fn all_got_it(crowd: (Crowd, usize)) {
    let (mut crowd, sent) = crowd;
    assert_eq!(sent, 1_000);
    assert!(crowd.everyone_has_the_second_frame());
}

// One announcement to a thousand subscribers whose sockets take everything: what a subscriber costs but
// for the kernel and TLS.
#[library_benchmark]
#[bench::subscribers_1000(args = (1_000), setup = Crowd::new, teardown = all_got_it)]
fn fan_out(mut crowd: Crowd) -> (Crowd, usize) {
    let sent = crowd.broadcast();
    (crowd, sent)
}

fn one_event(got: (Session, usize, Vec<u8>)) {
    assert_eq!(got.1, 1);
}

fn masked(opcode: Opcode, payload: &[u8]) -> (Session, Vec<u8>) {
    (
        Session::new(Role::Server, SessionLimits::same(limits::CLIENT_FRAME_BYTES)),
        inputs::masked(opcode, payload),
    )
}

fn pong() -> (Session, Vec<u8>) {
    masked(Opcode::Pong, b"heartbeat-000042")
}

fn subscribe() -> (Session, Vec<u8>) {
    masked(Opcode::Text, SUBSCRIBE.as_bytes())
}

// A masked frame of a client through the session: the answer to a ping, and a change of filters.
#[library_benchmark(teardown = one_event)]
#[bench::pong(args = (), setup = pong)]
#[bench::subscribe(args = (), setup = subscribe)]
fn websocket_decode(from: (Session, Vec<u8>)) -> (Session, usize, Vec<u8>) {
    let (mut session, mut bytes) = from;
    let mut events = 0;
    let flow = session.receive::<()>(&mut bytes, &mut |event: Event<'_>| {
        black_box(event);
        events += 1;
        ControlFlow::Continue(())
    });
    let _ = black_box(flow);
    (session, events, bytes)
}

// ---- Webhooks ------------------------------------------------------------------------------------

fn is_signed(signing: Signing) {
    assert!(signing.is_signed());
}

// A whole request, head and body, with the specification's signature and the standard one.
#[library_benchmark(teardown = is_signed)]
#[bench::one_secret(args = (false), setup = Signing::new)]
#[bench::rotating(args = (true), setup = Signing::new)]
fn sign(mut signing: Signing) -> Signing {
    signing.write();
    signing
}

library_benchmark_group!(
    name = stages,
    benchmarks = [
        detect_unchanged,
        detect_new,
        detect_ahead,
        race,
        classify_title,
        serialize,
        frame_patch,
        fan_out,
        websocket_decode,
        sign
    ]
);

main!(library_benchmark_groups = stages);
