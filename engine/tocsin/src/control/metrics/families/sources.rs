//! Of sources: how each is doing, what it is asked and what that brings.

use tocsin_core::source::SourceState;

use super::super::{Family, Readings, Samples, Scale, Section};
use super::{ANSWER, SOURCE, SOURCE_FAILURE, SOURCE_STATE, SOURCE_STATES, TLS_FAILURE, WINDOW};
use super::{counter, gauge, histogram};
use crate::control::snapshot::SourceSnapshot;
use crate::threads::source::stats::Count;

pub(super) const SECTION: Section = Section {
    title: "Sources",
    intro: "Each enabled source. Instants are seconds since 1970: `time() - tocsin_source_last_poll_timestamp_seconds` is an age.",
    families: FAMILIES,
};

fn each(r: &Readings, mut of: impl FnMut(&SourceSnapshot)) {
    r.engine.sources.iter().for_each(&mut of);
}

fn count(r: &Readings, out: &mut Samples<'_>, which: Count) {
    each(r, |source| out.with(&[source.name], source.count(which)));
}

const FAMILIES: &[Family] = &[
    gauge("tocsin_source_state", &[SOURCE, SOURCE_STATE], "How the source is doing.", |r, out| {
        each(r, |s| out.one_of(&[s.name], SOURCE_STATES.map(SourceState::name), s.state.name()));
    }),
    counter("tocsin_source_polls_total", &[SOURCE], "Requests sent.", |r, out| count(r, out, Count::Polls)),
    counter(
        "tocsin_source_answers_total",
        &[SOURCE, ANSWER],
        "Usable answers, by what they were.",
        |r, out| {
            let results = [
                ("not_modified", Count::NotModified),
                ("identical", Count::Identical),
                ("only_noise", Count::OnlyNoise),
                ("parsed", Count::Parsed),
            ];
            each(r, |s| results.iter().for_each(|(name, which)| out.with(&[s.name, name], s.count(*which))));
        },
    ),
    counter(
        "tocsin_source_read_ahead_total",
        &[SOURCE],
        "Of the answers parsed, those whose new rows were announced before the rest was parsed.",
        |r, out| count(r, out, Count::Ahead),
    ),
    counter("tocsin_source_received_bytes_total", &[SOURCE], "Bytes of answers read.", |r, out| {
        count(r, out, Count::Bytes);
    }),
    counter(
        "tocsin_source_failures_total",
        &[SOURCE, SOURCE_FAILURE],
        "Requests and connections that failed.",
        |r, out| each(r, |s| out.by_name(&[s.name], &s.failures)),
    ),
    counter(
        "tocsin_source_tls_failures_total",
        &[SOURCE, TLS_FAILURE],
        "Failures of TLS by reason; all are among the failures of class tls too.",
        |r, out| each(r, |s| out.by_name(&[s.name], &s.tls_failures)),
    ),
    gauge(
        "tocsin_source_last_poll_timestamp_seconds",
        &[SOURCE],
        "When the last usable answer was complete; none before the first.",
        |r, out| each(r, |s| s.last_poll.iter().for_each(|at| out.with(&[s.name], *at))),
    ),
    gauge(
        "tocsin_source_last_item_timestamp_seconds",
        &[SOURCE],
        "When the newest item known was published.",
        |r, out| each(r, |s| s.last_item.iter().for_each(|at| out.with(&[s.name], *at))),
    ),
    gauge(
        "tocsin_source_budget_requests_per_second",
        &[SOURCE, WINDOW],
        "Requests a second and local address that the pacing spends.",
        |r, out| {
            each(r, |s| {
                let (between, within) = s.requests_per_second;
                out.with(&[s.name, "between"], between);
                out.with(&[s.name, "within"], within);
            });
        },
    ),
    histogram(
        "tocsin_source_detection_delay_seconds",
        Scale::MICROS_LONG,
        &[SOURCE],
        "From an item's publication, as the exchange tells it, to its detection: of items that were new and found in time.",
        |r, out| each(r, |s| out.distribution(&[s.name], &s.delay_us)),
    ),
    histogram(
        "tocsin_source_processing_seconds",
        Scale::MICROS,
        &[SOURCE],
        "From reading the bytes that held such an item to its classification.",
        |r, out| each(r, |s| out.distribution(&[s.name], &s.processing_us)),
    ),
    counter(
        "tocsin_source_messages_total",
        &[SOURCE],
        "Messages of a push source: announcements, answers to subscriptions and keepalives.",
        |r, out| count(r, out, Count::Messages),
    ),
    counter("tocsin_source_announcements_total", &[SOURCE], "Announcements made.", |r, out| {
        count(r, out, Count::Announced);
    }),
    counter(
        "tocsin_source_late_announcements_total",
        &[SOURCE],
        "Of these, found too late to be broadcast.",
        |r, out| count(r, out, Count::Late),
    ),
    counter(
        "tocsin_source_race_wins_total",
        &[SOURCE],
        "New notices found in time that this source of its exchange brought first, or alone.",
        |r, out| count(r, out, Count::Won),
    ),
    counter(
        "tocsin_source_race_confirmations_total",
        &[SOURCE],
        "Items that another source of the exchange had brought before.",
        |r, out| count(r, out, Count::Confirmed),
    ),
    histogram(
        "tocsin_source_race_behind_seconds",
        Scale::MICROS_LONG,
        &[SOURCE],
        "From the first source's reading of an announcement to this one's: of the confirmations of what came first in this run.",
        |r, out| each(r, |s| out.distribution(&[s.name], &s.behind_us)),
    ),
    gauge(
        "tocsin_source_race_last_win_timestamp_seconds",
        &[SOURCE],
        "When this source last read a notice that it brought first, or alone; none before the first time.",
        |r, out| each(r, |s| s.last_won.iter().for_each(|at| out.with(&[s.name], *at))),
    ),
    counter(
        "tocsin_source_rows_skipped_total",
        &[SOURCE],
        "Rows without an identifier or title: the exchange may have changed its format.",
        |r, out| count(r, out, Count::RowsSkipped),
    ),
    gauge("tocsin_source_connections", &[SOURCE], "Connections open now.", |r, out| {
        each(r, |s| out.with(&[s.name], s.connections));
    }),
    counter("tocsin_source_connections_opened_total", &[SOURCE], "Connections opened.", |r, out| {
        count(r, out, Count::Opened);
    }),
    counter(
        "tocsin_source_tls_resumed_total",
        &[SOURCE],
        "Of these, with a resumed TLS session.",
        |r, out| count(r, out, Count::Resumed),
    ),
    counter(
        "tocsin_source_connections_rotated_total",
        &[SOURCE],
        "Connections replaced before they reached a limit of the exchange.",
        |r, out| count(r, out, Count::Rotated),
    ),
    counter(
        "tocsin_source_connections_lapsed_total",
        &[SOURCE],
        "Connections that the exchange closed while they were idle.",
        |r, out| count(r, out, Count::Lapsed),
    ),
];
