//! What is announced, and what is not.

use std::time::Duration;

use serde_json::{Value, json};
use tocsin_core::time::WallUs;
use tocsin_sim::{Category, StreamFault, StreamKind, StreamOptions};

use crate::harness::exchange::history;
use crate::push::Push;
use crate::{every_stream, listing};

every_stream!(
    an_announcement_arrives_with_its_fields,
    twice_the_same_is_announced_once,
    a_message_in_pieces_is_read,
    a_kill_and_a_restart_announce_nothing_twice,
);

fn text<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or_else(|| panic!("{field} of {message}"))
}

fn an_announcement_arrives_with_its_fields(kind: StreamKind) {
    let push = Push::start(kind, StreamOptions::default());
    let engine = push.engine("");
    let mut client = engine.connect(&engine.key(), "fields=full");
    let pushed = push.publish("BELX");
    let got = client.json_of("announcement");
    assert_eq!((text(&got, "title"), text(&got, "publisher")), (pushed.title.as_str(), kind.name()));
    assert_eq!((text(&got, "listingType"), &got["tickers"]), ("spot_listing", &json!(["BELX"])), "{got}");
    assert_eq!((text(&got, "source"), text(&got, "action")), (push.name().as_str(), "created"));
    assert_eq!(got["publishTimestampUs"], pushed.published.0, "{got}");
    let stages = ["publish", "received", "detected", "classified", "dispatch"];
    let at = stages.map(|stage| got[format!("{stage}TimestampUs")].as_i64().unwrap());
    assert!(at.is_sorted(), "{stages:?} at {at:?}");
    match kind {
        StreamKind::Binance => {
            let id = text(&got, "noticeId");
            let (millis, title) = id.split_once('-').unwrap();
            assert_eq!(millis, (pushed.published.0 / 1_000).to_string());
            assert!(title.len() == 16 && title.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
            assert_eq!(text(&got, "url"), "");
        }
        StreamKind::Upbit | StreamKind::Gate => {
            assert_eq!(text(&got, "noticeId"), pushed.id);
            assert!(
                text(&got, "url").starts_with("https://") && text(&got, "url").contains(&pushed.id),
                "{got}"
            );
            let edited = listing(kind, "BELX") + " (2)";
            push.sim.edit(&pushed.id, &edited).unwrap();
            let edit = client.json_of("announcement");
            assert_eq!((text(&edit, "action"), text(&edit, "title")), ("updated", edited.as_str()));
            assert_eq!(edit["id"], got["id"]);
        }
    }
    assert_eq!(text(&got, "id"), format!("{}:{}", kind.name(), text(&got, "noticeId")));
    push.sim.publish(Category::Delisting, "Delisting of Token DELX (DELX)");
    assert_eq!(client.json_of("announcement")["title"], "Delisting of Token DELX (DELX)");
    push.nothing_more(&mut client);
    push.becomes(&engine, "the counts", |status| {
        status["messages"].as_u64() >= Some(3) && status["failures"] == json!({})
    });
    push.kept_the_rules();
}

fn twice_the_same_is_announced_once(kind: StreamKind) {
    let push = Push::start(kind, StreamOptions::default());
    let engine = push.engine("");
    let mut client = engine.connect(&engine.key(), "fields=full");
    push.sim.set_fault(Some(StreamFault::Twice));
    for ticker in ["AAX", "BBX", "CCX"] {
        push.told(&mut client, ticker);
    }
    push.sim.set_fault(None);
    push.nothing_more(&mut client);
    history(&engine, 4);
}

fn a_message_in_pieces_is_read(kind: StreamKind) {
    let push = Push::start(kind, StreamOptions::default());
    let engine = push.engine("");
    let mut client = engine.connect(&engine.key(), "fields=full");
    for (size, ticker) in [(7, "AAX"), (1, "BBX"), (4_096, "CCX")] {
        push.sim.set_fault(Some(StreamFault::Fragments(size)));
        push.told(&mut client, ticker);
    }
    push.sim.set_fault(None);
    push.nothing_more(&mut client);
    assert_eq!(push.status(&engine)["failures"], json!({}));
    push.kept_the_rules();
}

fn a_kill_and_a_restart_announce_nothing_twice(kind: StreamKind) {
    let push = Push::start(kind, StreamOptions::default());
    let mut engine = push.engine("");
    let key = engine.key();
    push.told(&mut engine.connect(&key, "fields=full"), "AAX");
    engine.kill();
    engine.start_again();
    push.live(&engine);
    // What was sent before comes once more, from a server that repeats itself; Gate does so unasked.
    let mut client = engine.connect(&key, "fields=full");
    push.told(&mut client, "BBX");
    assert_eq!(engine.stop(), Some(0));
    engine.start_again();
    push.live(&engine);
    let mut client = engine.connect(&key, "fields=full");
    push.nothing_more(&mut client);
    let kept = history(&engine, 3);
    let titles: Vec<&str> = kept.iter().map(|a| text(a, "title")).collect();
    assert_eq!(titles[..2], [listing(kind, "AAX"), listing(kind, "BBX")], "then the marker");
}

fn gate(options: StreamOptions) -> Push {
    Push::start(StreamKind::Gate, options)
}

/// The last article of a channel comes again on every subscription.
#[test]
fn a_replay_at_the_first_start_is_no_news() {
    let push = gate(StreamOptions::default());
    push.publish("OLDX");
    push.sim.publish(Category::Delisting, "Gate Will Delist Token OLDY (OLDY)");
    // Gate shows whole seconds: the first start has to be in a later one.
    std::thread::sleep(Duration::from_millis(1_100));
    let mut engine = push.engine("");
    let key = engine.key();
    let mut client = engine.connect(&key, "fields=full");
    std::thread::sleep(StreamOptions::default().replay_after * 4);
    push.nothing_more(&mut client);
    // Nor at the next start.
    engine.kill();
    engine.start_again();
    push.live(&engine);
    std::thread::sleep(StreamOptions::default().replay_after * 4);
    let mut client = engine.connect(&key, "fields=full");
    push.nothing_more(&mut client);
    history(&engine, 2);
}

/// What was published while the connection was away comes as a replay and is news, once, on whichever channels.
#[test]
fn what_a_reconnect_missed_is_announced_once() {
    let push = gate(StreamOptions::default());
    let engine = push.engine("");
    let mut client = engine.connect(&engine.key(), "fields=full");
    push.told(&mut client, "AAX");
    for ticker in ["BBX", "CCX"] {
        push.sim.set_fault(Some(StreamFault::Refuse { status: 503, times: None, retry_after_secs: None }));
        push.sim.drop_connections();
        crate::harness::wait_for("the end of the session", || push.sim.sessions() == 0);
        let missed = push.publish(ticker);
        push.sim.set_fault(None);
        let got = client.json_of("announcement");
        assert_eq!((&got["title"], &got["action"]), (&json!(missed.title), &json!("created")));
    }
    push.sim.drop_connections();
    crate::harness::wait_for("the end of the session", || push.sim.sessions() == 0);
    push.live(&engine);
    std::thread::sleep(StreamOptions::default().replay_after * 4);
    push.nothing_more(&mut client);
    history(&engine, 4);
}

/// Late, to history alone.
#[test]
fn what_a_reconnect_missed_long_ago_goes_to_history_alone() {
    let push = gate(StreamOptions::default());
    let mut engine = push.engine("[detect]\nfresh_for = \"1s\"\n");
    let key = engine.key();
    push.told(&mut engine.connect(&key, "fields=full"), "AAX");
    assert_eq!(engine.stop(), Some(0));
    std::thread::sleep(Duration::from_millis(1_100));
    let late = push.publish("LATX");
    std::thread::sleep(Duration::from_millis(2_100));
    engine.start_again();
    push.live(&engine);
    let mut client = engine.connect(&key, "fields=full");
    assert_eq!(history(&engine, 2)[1]["title"], late.title);
    push.nothing_more(&mut client);
    push.becomes(&engine, "the late one", |status| status["late"] == 1);
}

/// Dated before the first start, an article is remembered and never told.
#[test]
fn an_article_from_before_the_first_start_is_never_told() {
    let push = gate(StreamOptions::default());
    let engine = push.engine("");
    let mut client = engine.connect(&engine.key(), "fields=full");
    push.sim.publish_dated(
        Category::Listing,
        &listing(StreamKind::Gate, "AGEX"),
        WallUs::from_secs(1_700_000_000),
    );
    push.nothing_more(&mut client);
}
