//! Of the feed: its writers, and the accept thread before them.

use super::super::{Family, Scale, Section};
use super::{CLOSE_REASON, REFUSAL, RESUMED, TLS_FAILURE, counter, gauge, histogram};

pub(super) const FEED: Section =
    Section { title: "Feed", intro: "All feed writers together.", families: FEED_FAMILIES };

pub(super) const ACCEPT: Section = Section {
    title: "Connections on their way to the feed",
    intro: "The accept thread: TLS, HTTP upgrade, key, limits.",
    families: ACCEPT_FAMILIES,
};

const FEED_FAMILIES: &[Family] = &[
    gauge("tocsin_feed_connections", &[], "Subscribers connected now.", |r, out| {
        out.one(r.engine.feed.connections);
    }),
    counter("tocsin_feed_joins_total", &[], "Subscribers taken.", |r, out| out.one(r.engine.feed.joins)),
    counter("tocsin_feed_closes_total", &[CLOSE_REASON], "Subscribers' connections that ended.", |r, out| {
        out.by_name(&[], &r.engine.feed.closed);
    }),
    counter("tocsin_feed_announcements_total", &[], "Announcements fanned out, by each writer.", |r, out| {
        out.one(r.engine.feed.announcements);
    }),
    counter(
        "tocsin_feed_late_announcements_total",
        &[],
        "Announcements that came too late to be broadcast and are only remembered, by each writer.",
        |r, out| out.one(r.engine.feed.late),
    ),
    counter(
        "tocsin_feed_out_of_order_total",
        &[],
        "Announcements fanned out after one with a larger number: another source thread was held up.",
        |r, out| out.one(r.engine.feed.out_of_order),
    ),
    counter(
        "tocsin_feed_too_large_total",
        &[],
        "Announcements too large to send; none is expected.",
        |r, out| out.one(r.engine.feed.too_large),
    ),
    counter(
        "tocsin_feed_messages_total",
        &[],
        "Announcement messages that left for subscribers.",
        |r, out| {
            out.one(r.engine.feed.messages);
        },
    ),
    counter(
        "tocsin_feed_messages_from_history_total",
        &[],
        "Of these, replayed and delayed ones.",
        |r, out| out.one(r.engine.feed.from_history),
    ),
    counter("tocsin_feed_heartbeats_total", &[], "Heartbeats that left.", |r, out| {
        out.one(r.engine.feed.heartbeats);
    }),
    counter("tocsin_feed_sent_bytes_total", &[], "Bytes taken by subscribers' sockets.", |r, out| {
        out.one(r.engine.feed.bytes);
    }),
    counter(
        "tocsin_feed_blocked_writes_total",
        &[],
        "Times that a subscriber's socket was full.",
        |r, out| out.one(r.engine.feed.blocked),
    ),
    counter(
        "tocsin_feed_extras_total",
        &[],
        "Market events and contexts that left for subscribers.",
        |r, out| out.one(r.engine.feed.extras),
    ),
    counter(
        "tocsin_feed_extras_missed_total",
        &[],
        "Of those that were for a subscriber, not sent because it was behind or still had a replay to come.",
        |r, out| out.one(r.engine.feed.extras_missed),
    ),
    counter(
        "tocsin_feed_extras_dropped_total",
        &[],
        "Market events and contexts dropped for everyone, because too many waited.",
        |r, out| out.one(r.engine.feed.extras_dropped),
    ),
    counter("tocsin_feed_client_messages_total", &[], "Messages from subscribers.", |r, out| {
        out.one(r.engine.feed.client_messages);
    }),
    histogram(
        "tocsin_feed_rtt_seconds",
        Scale::MICROS_FAR,
        &[],
        "From a PING to a subscriber to its PONG.",
        |r, out| out.distribution(&[], &r.engine.feed.rtt_us),
    ),
    histogram(
        "tocsin_feed_fanout_first_seconds",
        Scale::NANOS,
        &[],
        "From an announcement's dispatch stamp until the first subscriber's bytes were written.",
        |r, out| out.distribution(&[], &r.engine.feed.fanout_first_ns),
    ),
    histogram(
        "tocsin_feed_fanout_last_seconds",
        Scale::NANOS,
        &[],
        "The same for the last subscriber.",
        |r, out| out.distribution(&[], &r.engine.feed.fanout_last_ns),
    ),
];

const ACCEPT_FAMILIES: &[Family] = &[
    counter("tocsin_accept_connections_total", &[], "TCP connections accepted.", |r, out| {
        out.one(r.engine.accept.accepted);
    }),
    counter("tocsin_accept_admitted_total", &[], "Sessions handed to a feed writer.", |r, out| {
        out.one(r.engine.accept.admitted);
    }),
    gauge("tocsin_accept_sessions", &[], "Sessions admitted and not yet ended.", |r, out| {
        out.one(r.engine.accept.sessions);
    }),
    gauge("tocsin_accept_handshakes_in_progress", &[], "Handshakes in progress now.", |r, out| {
        out.one(r.engine.accept.handshakes_in_progress);
    }),
    counter("tocsin_accept_refusals_total", &[REFUSAL], "Requests refused.", |r, out| {
        out.by_name(&[], &r.engine.accept.refused);
    }),
    counter("tocsin_accept_tls_handshakes_total", &[RESUMED], "TLS handshakes that succeeded.", |r, out| {
        out.with(&["yes"], r.engine.accept.tls_resumed);
        out.with(&["no"], r.engine.accept.tls_full);
    }),
    counter("tocsin_accept_tls_failures_total", &[TLS_FAILURE], "TLS handshakes that failed.", |r, out| {
        out.by_name(&[], &r.engine.accept.tls_failed);
    }),
    counter("tocsin_accept_timeouts_total", &[], "Handshakes not done within their time.", |r, out| {
        out.one(r.engine.accept.timeouts);
    }),
    counter(
        "tocsin_accept_gone_total",
        &[],
        "Peers that left before their request was complete.",
        |r, out| {
            out.one(r.engine.accept.gone);
        },
    ),
    counter(
        "tocsin_accept_not_proxied_total",
        &[],
        "Connections of a peer in feed.proxy_protocol_from without its header.",
        |r, out| out.one(r.engine.accept.not_proxied),
    ),
    counter(
        "tocsin_accept_over_share_total",
        &[],
        "Connections dropped because their address had too many handshakes in progress.",
        |r, out| out.one(r.engine.accept.over_share),
    ),
    counter(
        "tocsin_accept_out_of_descriptors_total",
        &[],
        "Times that no descriptor was left for a new connection.",
        |r, out| out.one(r.engine.accept.out_of_descriptors),
    ),
    counter("tocsin_accept_history_answers_total", &[], "History queries answered.", |r, out| {
        out.one(r.engine.accept.history_answers);
    }),
    gauge(
        "tocsin_accept_invalid_keys_remembered",
        &[],
        "Keys that were tried lately and are not valid.",
        |r, out| out.one(r.engine.accept.invalid_keys_remembered),
    ),
    gauge(
        "tocsin_accept_waiting_for_writers",
        &[],
        "Messages that wait because a feed writer's ring is full.",
        |r, out| out.one(r.engine.accept.waiting_for_writers),
    ),
];
