//! The feed's rules, on a clock by hand.

use core::time::Duration;

use super::world::{EPOCH, Got, World, key, subscription};
use crate::feed::close::CloseReason;
use crate::feed::history::History;
use crate::feed::key::KeyId;
use crate::feed::look::Standing;
use crate::feed::subscription::{FieldSet, Subscription};
use crate::limits;
use crate::model::{Action, Exchange, ExchangeSet, FeedPosition, Ticker};
use crate::source::{SourceState, SourceStatus};
use crate::time::WallUs;
use crate::wire::tests::encoded_at;
use crate::ws::Opcode;

const SECOND: Duration = Duration::from_secs(1);

fn resume(seq: u64) -> Subscription {
    Subscription { resume: Some(FeedPosition { epoch: EPOCH, seq }), ..subscription(&key(1)) }
}

fn announce(world: &mut World, count: usize) {
    for _ in 0..count {
        let next = world.announcement(Exchange::Binance);
        world.announce(next);
    }
}

#[test]
fn welcome_first_then_announcements_stamped_at_dispatch() {
    let mut world = World::new();
    let client = world.join_open(Subscription { fields: FieldSet::Basic, ..subscription(&key(1)) });
    world.advance(Duration::from_millis(5));
    let next = world.announcement(Exchange::Binance);
    assert_eq!(world.announce(next), 1);
    let got = world.take(client);
    assert!(matches!(&got[0], Got::Json(welcome) if welcome["type"] == "welcome"));
    let Got::Json(announcement) = &got[1] else { panic!("{got:?}") };
    assert_eq!(announcement["dispatchTimestampUs"], world.now.wall.0);
    assert_eq!(announcement.as_object().unwrap().len(), 8);
    assert_eq!(world.pipe(client).offers, 2, "one write each");
}

#[test]
fn heartbeats_every_30_s_pings_every_15_s_whatever_the_filter() {
    let mut world = World::new();
    let mut wanted = subscription(&key(1));
    wanted.filter.exchanges = ExchangeSet::EMPTY;
    let client = world.join_open(wanted);
    announce(&mut world, 2);
    let (mut heartbeats, mut pings) = (Vec::new(), Vec::new());
    for tick in 0..1_200 {
        world.advance(Duration::from_millis(100));
        for got in world.take(client) {
            match got {
                Got::Json(value) if value["type"] == "heartbeat" => {
                    heartbeats.push(tick);
                    assert_eq!((&value["epoch"], &value["lastSeq"]), (&EPOCH.into(), &2.into()));
                    let age = world.now.wall.0 - value["timestampUs"].as_i64().unwrap();
                    assert!((0..100_000).contains(&age));
                }
                Got::Ping(payload) => {
                    pings.push(tick);
                    world.say(client, Opcode::Pong, &payload);
                }
                Got::Json(value) => assert_eq!(value["type"], "welcome"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((289..=300).contains(&heartbeats[0]) && (139..=150).contains(&pings[0]));
    assert_eq!(heartbeats.len(), 4);
    assert_eq!(pings.len(), 8);
    assert!(heartbeats.windows(2).all(|w| w[1] - w[0] == 300), "{heartbeats:?}");
    assert!(pings.windows(2).all(|w| w[1] - w[0] == 150), "{pings:?}");
    assert_eq!(world.writer.counters().rtt_us.buckets.iter().sum::<u64>(), 8);
}

#[test]
fn no_pong_for_30_s_closes_1001_and_the_connection_goes_2_s_later() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    world.advance(44 * SECOND);
    assert!(!world.take_types(client).contains(&"close 1001 pong_timeout".to_owned()));
    world.advance(SECOND + Duration::from_millis(10));
    assert_eq!(world.take_types(client).last().unwrap(), "close 1001 pong_timeout");
    assert_eq!(world.clients[client].ended, None);
    world.advance(limits::CLOSE_TIMEOUT + Duration::from_millis(10));
    assert_eq!(world.clients[client].ended, Some(CloseReason::PongTimeout));
}

#[test]
fn a_pong_that_is_no_answer_answers_nothing() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    world.advance(16 * SECOND);
    for payload in [&b""[..], b"12345678", &[0; 8], &[0xFF; 8], &[1; 9]] {
        world.say(client, Opcode::Pong, payload);
    }
    world.advance(30 * SECOND);
    assert_eq!(world.take_types(client).last().unwrap(), "close 1001 pong_timeout");
}

#[test]
fn the_fourth_message_within_60_s_closes() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    for (at, opcode) in [(0, Opcode::Text), (10, Opcode::Binary), (10, Opcode::Text)] {
        world.advance(Duration::from_millis(at));
        world.say(client, opcode, b"hello");
    }
    // 60 s after the first: a fourth is allowed, a fifth is the fourth of its minute.
    for ms in [20_000, 20_000, 19_980] {
        world.advance(Duration::from_millis(ms));
        world.answer_pings(client);
    }
    world.say(client, Opcode::Text, b"{}");
    assert_eq!(world.take_types(client), ["error"]);
    world.say(client, Opcode::Text, b"{}");
    assert_eq!(world.take_types(client), ["close 1008 rate_limit_exceeded"]);
    world.say(client, Opcode::Close, &1000_u16.to_be_bytes());
    assert_eq!(world.clients[client].ended, Some(CloseReason::RateLimitExceeded));
}

#[test]
fn more_than_30_control_frames_in_10_s_close() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    for _ in 0..2 {
        world.advance(10 * SECOND);
        world.take(client);
        for _ in 0..limits::CONTROL_FRAMES {
            world.say(client, Opcode::Ping, b"p");
        }
        assert_eq!(world.take_types(client), vec!["pong p"; limits::CONTROL_FRAMES]);
    }
    world.say(client, Opcode::Pong, b"");
    assert_eq!(world.take_types(client), ["close 1008 rate_limit_exceeded"]);
}

#[test]
fn one_test_a_minute_and_key_is_answered_whatever_the_filter() {
    let mut world = World::new();
    let shared = key(1);
    let mut wanted = subscription(&shared);
    wanted.filter.exchanges = ExchangeSet::EMPTY;
    wanted.allowed = ExchangeSet::EMPTY.with(Exchange::Upbit);
    let (one, other) = (world.join_open(wanted), world.join_open(subscription(&shared)));
    let stranger = world.join_open(subscription(&key(2)));
    world.take(one);
    world.take(other);
    world.take(stranger);
    world.say(one, Opcode::Text, br#"{"type":"test"}"#);
    let got = world.take(one);
    let [Got::Json(test)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((&test["type"], &test["publisher"]), (&"test_announcement".into(), &"upbit".into()));
    assert_eq!(test["dispatchTimestampUs"], world.now.wall.0);
    assert!(world.take(other).is_empty(), "only sent to you");
    world.advance(Duration::from_millis(17_500));
    world.answer_pings(other);
    world.say(other, Opcode::Binary, br#"{"type":"test"}"#);
    let got = world.take(other);
    let [Got::Json(error)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((&error["code"], &error["retryAfterSecs"]), (&"test_rate_limited".into(), &43.into()));
    world.say(stranger, Opcode::Text, br#"{"type":"test"}"#);
    assert!(world.take_types(stranger).contains(&"test_announcement".to_owned()));
}

#[test]
fn subscribe_changes_the_filter_from_then_on_within_the_key() {
    let mut world = World::new();
    let mut wanted = subscription(&key(1));
    wanted.allowed = ExchangeSet::EMPTY.with(Exchange::Binance).with(Exchange::Upbit);
    wanted.filter.exchanges = wanted.allowed;
    let client = world.join_open(wanted);
    world.take(client);
    world.say(client, Opcode::Text, br#"{"type":"subscribe","cex":"upbit,okx","types":"spot_listing"}"#);
    let got = world.take(client);
    let [Got::Json(answer)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(
        answer.to_string(),
        r#"{"allowedCex":"upbit","tickers":"*","type":"subscribed","types":"spot_listing"}"#
    );
    for exchange in [Exchange::Binance, Exchange::Upbit, Exchange::Okx] {
        let next = world.announcement(exchange);
        world.announce(next);
    }
    assert_eq!(world.take_types(client), ["announcement 2"]);
}

#[test]
fn edits_without_news_go_to_those_who_see_that_they_are_edits() {
    let mut world = World::new();
    let full = world.join_open(subscription(&key(1)));
    let basic = world.join_open(Subscription { fields: FieldSet::Basic, ..subscription(&key(1)) });
    for (action, full_gets, basic_gets) in
        [(Action::Created, 1, 1), (Action::Updated, 1, 0), (Action::UpdatedWithNews, 1, 1)]
    {
        world.take(full);
        world.take(basic);
        let mut announcement = world.announcement(Exchange::Upbit).announcement;
        announcement.action = action;
        world.announce(crate::wire::encode(announcement));
        assert_eq!((world.take(full).len(), world.take(basic).len()), (full_gets, basic_gets), "{action:?}");
    }
}

#[test]
fn a_redacted_subscriber_cannot_find_tickers_out_by_filtering() {
    let mut world = World::new();
    let mut wanted = subscription(&key(1));
    wanted.filter.tickers = Some(Box::new([Ticker::new("OTHER").unwrap()]));
    let open = world.join_open(wanted.clone());
    wanted.redact = true;
    let redacted = world.join_open(wanted);
    announce(&mut world, 1);
    assert_eq!(world.take_types(open), ["welcome"]);
    let got = world.take(redacted);
    assert!(matches!(&got[1], Got::Json(a) if a["title"] == "" && a["ticker"] == ""));
}

#[test]
fn ten_behind_closes_too_slow_and_nobody_else_notices() {
    for tls in [false, true] {
        let mut world = World::new();
        let quick = world.join_open(subscription(&key(1)));
        let slow = world.join(subscription(&key(1)), 20, tls);
        world.take(quick);
        for n in 1..=10 {
            announce(&mut world, 1);
            assert_eq!(world.take_types(quick), [format!("announcement {n}")]);
        }
        world.housekeep();
        announce(&mut world, 5);
        world.give_room(slow, usize::MAX);
        let types = world.take_types(slow);
        assert_eq!(types.first().unwrap(), "welcome");
        assert_eq!(types.last().unwrap(), "close 1008 too_slow", "{tls}");
        assert!(types.len() <= 3, "{types:?}");
        world.advance(3 * SECOND);
        assert_eq!(world.clients[slow].ended, Some(CloseReason::TooSlow));
    }
}

#[test]
fn nine_behind_catches_up_in_one_write() {
    let mut world = World::new();
    let client = world.join(subscription(&key(1)), 20, false);
    announce(&mut world, 9);
    let before = world.pipe(client).offers;
    world.give_room(client, usize::MAX);
    let wanted: Vec<String> = (1..=9).map(|n| format!("announcement {n}")).collect();
    let types = world.take_types(client);
    assert_eq!(types, [&["welcome".to_owned()][..], &wanted].concat());
    // The rest of the welcome may be one; the nine are one.
    assert!(world.pipe(client).offers - before <= 2);
}

#[test]
fn a_sealed_record_that_has_left_counts_no_more() {
    let mut world = World::new();
    let client = world.join(subscription(&key(1)), 100, true);
    announce(&mut world, 1);
    world.give_room(client, 10_000);
    assert_eq!(world.take_types(client), ["welcome", "announcement 1"]);
    world.pipe(client).room = 0;
    world.say(client, Opcode::Ping, b"p");
    announce(&mut world, 9);
    world.give_room(client, usize::MAX);
    let announced = (2..=10).map(|n| format!("announcement {n}"));
    let wanted: Vec<String> = ["pong p".to_owned()].into_iter().chain(announced).collect();
    assert_eq!(world.take_types(client), wanted);
}

#[test]
fn heartbeats_wait_for_room_and_then_tell_the_present() {
    let mut world = World::new();
    let client = world.join(subscription(&key(1)), 21, false);
    announce(&mut world, 3);
    world.advance(SECOND);
    for _ in 0..2 {
        world.advance(7 * SECOND);
    }
    // Blocked when the ping came due: 30 s from then the connection is dead.
    world.give_room(client, usize::MAX);
    let types = world.take_types(client);
    assert_eq!(types, ["welcome", "announcement 1", "announcement 2", "announcement 3", "ping"]);
}

#[test]
fn a_socket_that_takes_nothing_for_30_s_is_dead() {
    let mut world = World::new();
    let client = world.join(subscription(&key(1)), 21, false);
    announce(&mut world, 1);
    world.advance(14 * SECOND);
    world.advance(SECOND);
    world.advance(30 * SECOND);
    world.advance(3 * SECOND);
    assert_eq!(world.clients[client].ended, Some(CloseReason::PongTimeout));
}

#[test]
fn revoked_and_expired_keys_end_their_sessions_only() {
    let mut world = World::new();
    let mut expiring = subscription(&key(2));
    expiring.expires_at = Some(WallUs(world.now.wall.0 + 5_000_000));
    let (revoked, expired, other) = (
        world.join_open(subscription(&key(1))),
        world.join_open(expiring),
        world.join_open(subscription(&key(3))),
    );
    world.writer.revoke(world.now, KeyId(1));
    world.housekeep();
    assert_eq!(world.take_types(revoked), ["welcome", "close 1000 key_revoked"]);
    world.advance(Duration::from_millis(4_999));
    assert_eq!(world.take_types(expired), ["welcome"]);
    world.advance(Duration::from_millis(5));
    assert_eq!(world.take_types(expired), ["close 1000 key_expired"]);
    assert_eq!(world.take_types(other), ["welcome"]);
    world.writer.set_expiry(world.now, KeyId(3), Some(world.now.wall));
    world.housekeep();
    world.advance(Duration::from_millis(5));
    assert_eq!(world.take_types(other), ["close 1000 key_expired"]);
}

#[test]
fn full_subscribers_are_told_24_h_and_1_h_before_the_end() {
    let mut world = World::new();
    let hour = 3_600_000_000_i64;
    let mut wanted = subscription(&key(1));
    wanted.expires_at = Some(WallUs(world.now.wall.0 + 25 * hour));
    let full = world.join_open(wanted.clone());
    let basic = world.join_open(Subscription { fields: FieldSet::Basic, ..wanted });
    let mut told = Vec::new();
    for _ in 0..(25 * 360) {
        world.advance(10 * SECOND);
        for client in [full, basic] {
            if world.clients[client].ended.is_some() {
                continue;
            }
            for got in world.take(client) {
                match got {
                    Got::Ping(payload) => world.say(client, Opcode::Pong, &payload),
                    Got::Json(value) if value["type"] == "key_expiring" => {
                        told.push((client, value["expiresInSecs"].as_u64().unwrap()));
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!(told, [(full, 86_400), (full, 3_600)]);
    world.advance(3 * SECOND);
    assert_eq!(world.clients[full].ended, Some(CloseReason::KeyExpired));
    assert_eq!(world.clients[basic].ended, Some(CloseReason::KeyExpired));
}

#[test]
fn closes_are_answered_and_violations_named() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    world.say(client, Opcode::Close, &[&4_000_u16.to_be_bytes()[..], b"bye"].concat());
    assert_eq!(world.take_types(client), ["welcome", "close 4000 "]);
    assert_eq!(world.clients[client].ended, Some(CloseReason::PeerClosed));

    let rows: [(&mut [u8], &str, CloseReason); 3] = [
        (&mut [0x82, 0xFE, 0x04, 0x01, 0, 0, 0, 0], "close 1009 frame_too_large", CloseReason::FrameTooLarge),
        (&mut [0x82, 0x01, 0], "close 1002 unmasked_frame", CloseReason::ProtocolError),
        (&mut [0x81, 0x81, 0, 0, 0, 0, 0xFF], "close 1007 invalid_utf8", CloseReason::InvalidUtf8),
    ];
    for (bytes, close, reason) in rows {
        let client = world.join_open(subscription(&key(1)));
        world.say_bytes(client, bytes);
        assert_eq!(world.take_types(client), ["welcome", close]);
        assert!(world.pipe(client).finished, "nothing more is heard: the sending side ends");
        world.advance(3 * SECOND);
        assert_eq!(world.clients[client].ended, Some(reason));
    }
}

#[test]
fn ends_without_a_close_frame_are_counted_apart() {
    let mut world = World::new();
    let (gone, failed, broken) = (
        world.join_open(subscription(&key(1))),
        world.join_open(subscription(&key(1))),
        world.join_open(subscription(&key(1))),
    );
    world.writer.end_of_stream(world.now, world.clients[gone].slot);
    world.writer.failed(world.now, world.clients[failed].slot);
    world.pipe(broken).broken = true;
    announce(&mut world, 1);
    world.housekeep();
    let counters = world.writer.counters();
    assert_eq!(counters.closes[CloseReason::PeerGone.index()], 1);
    assert_eq!(counters.closes[CloseReason::SocketError.index()], 2);
    assert_eq!((counters.connections, counters.joins), (0, 3));
    assert_eq!(world.clients[broken].ended, Some(CloseReason::SocketError));
}

#[test]
fn resume_replays_then_goes_live_without_gap_or_duplicate() {
    let loaded = [encoded_at(EPOCH - 1, 1), encoded_at(EPOCH - 1, 2)];
    let mut world = World::with_history(History::new(EPOCH, 64, loaded, true));
    announce(&mut world, 30);
    let mut late = world.announcement(Exchange::Upbit).announcement;
    late.late = true;
    world.announce(crate::wire::encode(late));
    let from_before =
        world.join_open(Subscription { resume: FeedPosition::parse("6:1"), ..subscription(&key(1)) });
    let client = world.join_open(resume(12));
    let current = world.join_open(resume(31));
    // While it replays, more comes.
    announce(&mut world, 2);
    world.advance(Duration::from_millis(50));
    announce(&mut world, 1);
    let again = (13..=31).map(|n| format!("announcement {n} again"));
    let new = (32..=34).map(|n| format!("announcement {n}"));
    let wanted: Vec<String> = ["welcome".to_owned()].into_iter().chain(again).chain(new.clone()).collect();
    assert_eq!(world.take_types(client), wanted);
    let wanted: Vec<String> = ["welcome".to_owned()].into_iter().chain(new).collect();
    assert_eq!(world.take_types(current), wanted);
    let types = world.take_types(from_before);
    assert_eq!(types[1..3], ["announcement 2 again", "announcement 1 again"]);
    assert_eq!(types.len(), 1 + 1 + 31 + 3);
}

#[test]
fn late_announcements_are_for_history_only() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    let mut late = world.announcement(Exchange::Upbit);
    late.announcement.late = true;
    assert_eq!(world.announce(late), 0);
    assert_eq!(world.take_types(client), ["welcome"]);
    let resumed = world.join_open(resume(0));
    world.advance(Duration::from_millis(10));
    assert_eq!(world.take_types(resumed), ["welcome", "announcement 1 again"]);
}

#[test]
fn what_history_no_longer_reaches_is_named() {
    let mut world = World::new();
    announce(&mut world, 70);
    let client = world.join_open(resume(2));
    let unknown = world.join_open(resume(99));
    world.advance(Duration::from_millis(50));
    let got = world.take(client);
    assert_eq!(
        got[1],
        Got::Json(serde_json::json!({"type":"gap","fromSeq":3,"toSeq":6,"epoch":EPOCH,"toEpoch":EPOCH}))
    );
    assert_eq!(got.len(), 2 + 64);
    assert_eq!(
        world.take(unknown)[1..],
        [Got::Json(serde_json::json!({"type":"gap","fromSeq":1,"toSeq":70,"epoch":EPOCH,"toEpoch":EPOCH}))]
    );
}

#[test]
fn delayed_keys_see_the_same_feed_later() {
    let mut world = World::new();
    announce(&mut world, 1);
    world.advance(Duration::from_millis(600));
    announce(&mut world, 1);
    let delayed = Subscription { delay: SECOND, ..subscription(&key(1)) };
    let client = world.join_open(delayed.clone());
    world.advance(Duration::from_millis(395));
    assert_eq!(world.take_types(client), ["welcome"]);
    world.advance(Duration::from_millis(10));
    assert_eq!(world.take_types(client), ["announcement 1"]);
    announce(&mut world, 1);
    world.advance(Duration::from_millis(600));
    let got = world.take(client);
    let [Got::Json(second)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(second["seq"], 2);
    // Its dispatch is its release.
    assert!(world.now.wall.0 - second["dispatchTimestampUs"].as_i64().unwrap() < 20_000);
    world.advance(Duration::from_millis(410));
    assert_eq!(world.take_types(client), ["announcement 3"]);
    // Only what is released counts as lag.
    let slow = world.join(delayed, 30, false);
    announce(&mut world, 12);
    world.advance(Duration::from_millis(990));
    assert_eq!(world.take_types(slow), ["welcome"]);
    world.advance(Duration::from_millis(100));
    world.give_room(slow, usize::MAX);
    assert_eq!(world.take_types(slow).last().unwrap(), "close 1008 too_slow");
}

/// Each announcement used to put off the look at a blocked one, so that a steady stream hid its lag.
#[test]
fn a_delayed_subscriber_is_too_slow_while_announcements_keep_coming() {
    let mut world = World::new();
    let delayed = Subscription { delay: Duration::from_millis(20), ..subscription(&key(1)) };
    let client = world.join(delayed, 200, false);
    for _ in 0..60 {
        announce(&mut world, 1);
        world.advance(Duration::from_millis(10));
    }
    world.give_room(client, usize::MAX);
    assert_eq!(world.take_types(client).last().unwrap(), "close 1008 too_slow");
}

#[test]
fn source_states_go_to_those_who_asked() {
    let mut world = World::new();
    let mut wanted = subscription(&key(1));
    let plain = world.join_open(wanted.clone());
    wanted.sources = true;
    let asked = world.join_open(wanted.clone());
    wanted.filter.exchanges = ExchangeSet::EMPTY.with(Exchange::Upbit);
    let elsewhere = world.join_open(wanted);
    let mut status = SourceStatus {
        source: "binance.cms",
        exchange: Exchange::Binance,
        state: SourceState::Live,
        last_poll: None,
        last_item: None,
    };
    for state in [SourceState::Live, SourceState::Live, SourceState::Blocked] {
        status.state = state;
        world.writer.source_status(world.now, status);
        world.housekeep();
    }
    assert_eq!(world.take_types(asked), ["welcome", "source_status", "source_status"]);
    assert_eq!(world.take_types(plain), ["welcome"]);
    assert_eq!(world.take_types(elsewhere), ["welcome"]);
    world.advance(30 * SECOND);
    let heartbeat = world.take(asked).into_iter().find_map(|got| match got {
        Got::Json(value) if value["type"] == "heartbeat" => Some(value),
        _ => None,
    });
    assert_eq!(heartbeat.unwrap()["sources"][0]["state"], "blocked");
}

#[test]
fn a_drain_spreads_over_its_window() {
    let mut world = World::new();
    let clients: Vec<usize> = (0..100).map(|_| world.join_open(subscription(&key(1)))).collect();
    world.writer.drain(world.now.mono, world.now.mono + 10 * SECOND);
    let mut closed = Vec::new();
    for _ in 0..10 {
        for _ in 0..10 {
            world.advance(Duration::from_millis(100));
        }
        closed.push(clients.iter().filter(|c| world.clients[**c].got.len() > 1).count());
    }
    assert_eq!(closed, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(world.take_types(clients[50]), ["welcome", "close 1012 restart"]);
    let newcomer = world.join_open(subscription(&key(1)));
    world.housekeep();
    assert_eq!(world.take_types(newcomer), ["welcome", "close 1012 restart"]);
}

#[test]
fn an_idle_subscriber_is_small() {
    // All of an idle one: its queue and its session own no heap memory then.
    let bytes = size_of::<crate::feed::subscriber::Subscriber<[u8; 16]>>();
    assert!(bytes <= 352, "{bytes}");
}

#[test]
fn a_look_shows_everyone_a_few_numbers_at_a_time() {
    let mut world = World::new();
    let one = key(7);
    for _ in 0..70 {
        world.join(subscription(&one), 1 << 20, false);
    }
    let (mut seen, mut from, mut looks) = (Vec::new(), Some(0), 0);
    while let Some(at) = from {
        from = world.writer.look(at, |row, _| {
            seen.push(row);
            true
        });
        looks += 1;
    }
    assert_eq!(seen.iter().map(|row| row.slot).collect::<Vec<u32>>(), (0..70).collect::<Vec<u32>>());
    assert_eq!(looks, 3);
    let row = seen[0];
    assert_eq!((row.key, row.standing, row.lag, row.rtt_us), (one.id, Standing::Live, 0, None));
    assert_eq!(row.joined, world.now.mono);
    let mut count = 0;
    let next = world.writer.look(3, |_, _| {
        count += 1;
        count < 5
    });
    assert_eq!((count, next), (5, Some(8)));
}
