//! Of markets: how each request is doing, what its lists hold, what is told.

use super::super::{Family, Readings, Samples, Section};
use super::{LIST_STATE, MARKET, MARKET_EVENT, MARKET_REQUEST, SOURCE_FAILURE, SOURCE_STATE, SOURCE_STATES};
use super::{counter, gauge};
use crate::control::snapshot::{MarketRequestSnapshot, MarketSnapshot};
use tocsin_core::market::book::ListState;
use tocsin_core::source::SourceState;

pub(super) const SECTION: Section = Section {
    title: "Markets",
    intro: "Where `market.enabled` is set: each request for a list of instruments or volumes. No symbol is ever a label.",
    families: FAMILIES,
};

fn each(r: &Readings, mut of: impl FnMut(&[&str], &MarketRequestSnapshot)) {
    let requests = r.engine.market.iter().flat_map(|market| &market.requests);
    requests.for_each(|request| of(&[request.source, request.request], request));
}

fn count(r: &Readings, out: &mut Samples<'_>, which: fn(&MarketRequestSnapshot) -> u64) {
    each(r, |labels, request| out.with(labels, which(request)));
}

fn market(r: &Readings, out: &mut Samples<'_>, which: fn(&MarketSnapshot) -> u64) {
    out.maybe(r.engine.market.as_ref().map(which));
}

const FAMILIES: &[Family] = &[
    gauge(
        "tocsin_market_state",
        &[MARKET, MARKET_REQUEST, SOURCE_STATE],
        "How the request is doing.",
        |r, out| each(r, |labels, of| out.one_of(labels, SOURCE_STATES.map(SourceState::name), of.state)),
    ),
    gauge(
        "tocsin_market_list_state",
        &[MARKET, MARKET_REQUEST, LIST_STATE],
        "How its list looks; of one that shrank or grew too much nothing is concluded.",
        |r, out| each(r, |labels, of| out.one_of(labels, ListState::ALL.map(ListState::name), of.list)),
    ),
    counter("tocsin_market_requests_total", &[MARKET, MARKET_REQUEST], "Requests sent.", |r, out| {
        count(r, out, |of| of.asked);
    }),
    counter("tocsin_market_answers_total", &[MARKET, MARKET_REQUEST], "Usable answers.", |r, out| {
        count(r, out, |of| of.answers);
    }),
    counter(
        "tocsin_market_received_bytes_total",
        &[MARKET, MARKET_REQUEST],
        "Bytes of the bodies of answers.",
        |r, out| count(r, out, |of| of.bytes),
    ),
    counter(
        "tocsin_market_failures_total",
        &[MARKET, MARKET_REQUEST, SOURCE_FAILURE],
        "Requests that brought no usable answer; a refusal in so many words is forbidden.",
        |r, out| each(r, |labels, of| out.by_name(labels, &of.failures)),
    ),
    gauge(
        "tocsin_market_last_answer_timestamp_seconds",
        &[MARKET, MARKET_REQUEST],
        "When the last usable answer had been read; none before the first.",
        |r, out| each(r, |labels, of| of.last_answer_us.iter().for_each(|at| out.with(labels, *at))),
    ),
    gauge(
        "tocsin_market_instruments",
        &[MARKET, MARKET_REQUEST],
        "Instruments known, those that are gone included.",
        |r, out| count(r, out, |of| of.instruments),
    ),
    gauge(
        "tocsin_market_volumes",
        &[MARKET, MARKET_REQUEST],
        "Symbols with a volume of the last minutes.",
        |r, out| count(r, out, |of| of.volumes),
    ),
    counter(
        "tocsin_market_held_total",
        &[MARKET, MARKET_REQUEST],
        "Answers from which nothing was concluded, for the list had lost or gained too much.",
        |r, out| count(r, out, |of| of.held),
    ),
    counter(
        "tocsin_market_believed_total",
        &[MARKET, MARKET_REQUEST],
        "Lists that stood so long that they were believed, in silence.",
        |r, out| count(r, out, |of| of.believed),
    ),
    counter(
        "tocsin_market_undecided_total",
        &[MARKET, MARKET_REQUEST],
        "New pairs of which nothing was told, for the exchange's notices were not heard.",
        |r, out| count(r, out, |of| of.undecided),
    ),
    counter(
        "tocsin_market_spikes_withheld_total",
        &[MARKET, MARKET_REQUEST],
        "Volume spikes found and not told: of what is not traded, or about to end.",
        |r, out| count(r, out, |of| of.withheld),
    ),
    counter(
        "tocsin_market_rows_skipped_total",
        &[MARKET, MARKET_REQUEST],
        "Rows without a name or pair: the exchange may have changed its format.",
        |r, out| count(r, out, |of| of.rows_skipped),
    ),
    counter(
        "tocsin_market_beyond_limit_total",
        &[MARKET, MARKET_REQUEST],
        "Rows and instruments beyond a bound.",
        |r, out| count(r, out, |of| of.beyond_limit),
    ),
    counter("tocsin_market_events_total", &[MARKET_EVENT], "Events told.", |r, out| {
        r.engine.market.iter().for_each(|market| out.by_name(&[], &market.events));
    }),
    counter("tocsin_market_contexts_total", &[], "Contexts of announcements sent.", |r, out| {
        market(r, out, |of| of.contexts);
    }),
    gauge("tocsin_market_assets", &[], "Assets whose volume over all exchanges is known.", |r, out| {
        market(r, out, |of| of.assets);
    }),
    gauge(
        "tocsin_market_journal_waiting",
        &[],
        "Messages that wait for the journal's ring; while there are any nothing is asked.",
        |r, out| market(r, out, |of| of.journal_waiting),
    ),
];
