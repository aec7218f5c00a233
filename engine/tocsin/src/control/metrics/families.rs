//! The schema: every metric there is. Rows are only ever added, and never renamed.
//!
//! Contract: data, and closures that pick a value. Nothing fails.

mod delivery;
mod engine;
mod feed;
mod markets;
mod sources;

use std::collections::BTreeSet;

use tocsin_core::feed::admission::refusal::RefusalCode;
use tocsin_core::feed::close::CloseReason;
use tocsin_core::market::book::ListState;
use tocsin_core::market::{self, MarketEventKind};
use tocsin_core::source::backoff::Failure;
use tocsin_core::source::{SourceState, exchange, stream};
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::endpoint::{Disabled, State};

use super::{Family, Kind, Label, Readings, Samples, Scale, Section};
use crate::control::snapshot::Unready;
use crate::net::tls::TlsFailure;

/// In the order of the page and of the answer.
pub static SECTIONS: &[Section] = &[
    engine::SERVICE,
    sources::SECTION,
    markets::SECTION,
    feed::FEED,
    feed::ACCEPT,
    delivery::WEBHOOKS,
    delivery::MAIL,
    delivery::RECORDER,
    engine::THREADS,
    engine::RINGS,
    engine::STORE,
    engine::PROCESS,
    engine::CLOCK,
];

type Read = fn(&Readings, &mut Samples<'_>);

const fn counter(name: &'static str, labels: &'static [Label], help: &'static str, read: Read) -> Family {
    Family { name, kind: Kind::Counter, labels, help, read }
}

const fn gauge(name: &'static str, labels: &'static [Label], help: &'static str, read: Read) -> Family {
    Family { name, kind: Kind::Gauge, labels, help, read }
}

const fn histogram(
    name: &'static str,
    scale: Scale,
    labels: &'static [Label],
    help: &'static str,
    read: Read,
) -> Family {
    Family { name, kind: Kind::Histogram(scale), labels, help, read }
}

const SOURCE_STATES: [SourceState; 4] =
    [SourceState::Live, SourceState::Stale, SourceState::Blocked, SourceState::Down];

const ENDPOINT_STATES: [State; 6] = [
    State::Pending,
    State::Active,
    State::Suspended,
    State::Disabled(Disabled::Auto),
    State::Disabled(Disabled::User),
    State::Disabled(Disabled::Gone),
];

fn owned<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

const fn closed(name: &'static str, help: &'static str, values: fn() -> Vec<String>) -> Label {
    Label { name, help, values, closed: true }
}

const SOURCE: Label = closed("source", "an enabled source", || {
    let pushed = stream::ALL.into_iter().map(|spec| spec.name);
    owned(exchange::ALL.into_iter().map(|spec| spec.name).chain(pushed))
});
const SOURCE_STATE: Label =
    closed("state", "of a source: 1 for the one it is in", || owned(SOURCE_STATES.map(SourceState::name)));
const SOURCE_FAILURE: Label =
    closed("class", "of a failed request of a source", || owned(Failure::ALL.map(Failure::name)));
const MARKET: Label = closed("source", "of markets, that is watched", || {
    owned(market::exchange::ALL.into_iter().chain(market::exchange::OFF_BY_DEFAULT).map(|spec| spec.name))
});
const MARKET_REQUEST: Label = closed("request", "of a source of markets", || {
    let specs = market::exchange::ALL.into_iter().chain(market::exchange::OFF_BY_DEFAULT);
    let names: BTreeSet<&str> = specs.flat_map(|spec| spec.requests).map(|request| request.name).collect();
    owned(names)
});
const LIST_STATE: Label = closed("list", "how a list of instruments looks: 1 for what it is", || {
    owned(ListState::ALL.map(ListState::name))
});
const MARKET_EVENT: Label =
    closed("event", "told of a market", || owned(MarketEventKind::ALL.map(MarketEventKind::name)));
const TLS_FAILURE: Label =
    closed("reason", "of a failed TLS connection", || owned(TlsFailure::ALL.map(TlsFailure::name)));
const ANSWER: Label = closed("result", "what an answer of an exchange was", || {
    owned(["not_modified", "identical", "only_noise", "parsed"])
});
const WINDOW: Label =
    closed("window", "of the pacing: within a window of dense polling or between two", || {
        owned(["between", "within"])
    });
const CLOSE_REASON: Label = closed("reason", "why a subscriber's connection ended", || {
    owned(CloseReason::ALL.map(CloseReason::name))
});
const REFUSAL: Label =
    closed("code", "with which a connection was refused", || owned(RefusalCode::ALL.map(RefusalCode::name)));
const RESUMED: Label = closed("resumed", "whether the TLS session was resumed", || owned(["yes", "no"]));
const WEBHOOK_FAILURE: Label = closed("class", "of a failed attempt at an endpoint", || {
    owned(FailureClass::ALL.map(FailureClass::name))
});
const ENDPOINT_STATE: Label = closed("state", "of endpoints", || owned(ENDPOINT_STATES.map(State::name)));
const UNREADY: Label =
    closed("reason", "of not being ready: 1 for those that hold", || owned(Unready::ALL.map(Unready::name)));
const RING: Label = closed("ring", "from which thread to which", || {
    owned([
        "source_to_feed",
        "source_to_journal",
        "source_to_accept",
        "source_to_webhook",
        "webhook_to_journal",
        "source_to_market",
        "market_to_feed",
        "market_to_webhook",
    ])
});
const WRITER: Label = closed("writer", "of a journal in shared memory", || owned(["source", "webhook"]));
const STORE_FILE: Label = closed("file", "of the store", || owned(["database", "log"]));
const THREAD: Label = Label {
    name: "thread",
    help: "one of the engine's, as `tocsin check` lists them",
    values: || owned(["source-0", "feed-0", "accept", "webhook", "journal"]),
    closed: false,
};
const VERSION: Label = Label {
    name: "version",
    help: "of the program",
    values: || owned([env!("CARGO_PKG_VERSION")]),
    closed: false,
};
const COMMIT: Label = Label {
    name: "commit",
    help: "it was built from; `unknown` outside a checkout",
    values: || owned(["unknown"]),
    closed: false,
};
