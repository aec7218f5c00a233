//! Of webhooks, of mail and of recordings.

use tocsin_core::webhook::endpoint::State;

use super::super::{Family, Readings, Samples, Scale, Section};
use super::{ENDPOINT_STATE, ENDPOINT_STATES, WEBHOOK_FAILURE, counter, gauge, histogram};
use crate::control::snapshot::{MailSnapshot, RecorderSnapshot};

pub(super) const WEBHOOKS: Section = Section {
    title: "Webhooks",
    intro: "All endpoints together; an endpoint's own figures are in the API and on the dashboard.",
    families: WEBHOOK_FAMILIES,
};

pub(super) const MAIL: Section = Section {
    title: "Mail",
    intro: "Only where a mail server is configured (`[smtp]`).",
    families: MAIL_FAMILIES,
};

pub(super) const RECORDER: Section = Section {
    title: "Recorder",
    intro: "Only where something is recorded (`record.dir`).",
    families: RECORDER_FAMILIES,
};

const WEBHOOK_FAMILIES: &[Family] = &[
    gauge("tocsin_webhook_endpoints", &[ENDPOINT_STATE], "Endpoints registered, by state.", |r, out| {
        let Some(states) = &r.endpoint_states else { return };
        for state in ENDPOINT_STATES.map(State::name) {
            let count = states.iter().find(|(name, _)| name == state).map_or(0, |(_, count)| *count);
            out.with(&[state], count);
        }
    }),
    gauge("tocsin_webhook_connections", &[], "Connections to endpoints, warm ones included.", |r, out| {
        out.one(r.engine.webhooks.connections);
    }),
    gauge(
        "tocsin_webhook_deliveries_pending",
        &[],
        "Deliveries that wait or are in flight; those held for an endpoint that is away are among them.",
        |r, out| out.one(r.engine.webhooks.pending),
    ),
    gauge("tocsin_webhook_attempts_in_flight", &[], "Attempts that wait for their answer.", |r, out| {
        out.one(r.engine.webhooks.in_flight);
    }),
    counter("tocsin_webhook_events_total", &[], "Events made of announcements.", |r, out| {
        out.one(r.engine.webhooks.events);
    }),
    counter("tocsin_webhook_delivered_total", &[], "Attempts answered with 2xx.", |r, out| {
        out.one(r.engine.webhooks.delivered);
    }),
    counter("tocsin_webhook_failures_total", &[WEBHOOK_FAILURE], "Attempts that failed.", |r, out| {
        out.by_name(&[], &r.engine.webhooks.failed);
    }),
    counter("tocsin_webhook_given_up_total", &[], "Deliveries given up after their last retry.", |r, out| {
        out.one(r.engine.webhooks.given_up);
    }),
    counter(
        "tocsin_webhook_expired_total",
        &[],
        "Deliveries that were no longer news, or at a bound.",
        |r, out| out.one(r.engine.webhooks.expired),
    ),
    counter(
        "tocsin_webhook_resent_total",
        &[],
        "Requests sent again because a kept connection had died.",
        |r, out| out.one(r.engine.webhooks.resent),
    ),
    counter("tocsin_webhook_connections_opened_total", &[], "Connections opened to endpoints.", |r, out| {
        out.one(r.engine.webhooks.opened);
    }),
    counter("tocsin_webhook_tls_resumed_total", &[], "Of these, with a resumed TLS session.", |r, out| {
        out.one(r.engine.webhooks.resumed);
    }),
    counter("tocsin_webhook_lookups_total", &[], "Names asked of the resolver.", |r, out| {
        out.one(r.engine.webhooks.lookups);
    }),
    histogram(
        "tocsin_webhook_first_write_seconds",
        Scale::NANOS,
        &[],
        "From an event becoming known to the webhook thread to each of its first requests being written on a warm connection.",
        |r, out| out.distribution(&[], &r.engine.webhooks.first_write_ns),
    ),
    histogram(
        "tocsin_webhook_first_byte_seconds",
        Scale::MICROS_FAR,
        &[],
        "From a request to the first byte of its answer.",
        |r, out| out.distribution(&[], &r.engine.webhooks.first_byte_us),
    ),
];

fn mail(r: &Readings, out: &mut Samples<'_>, of: fn(&MailSnapshot) -> u64) {
    out.maybe(r.engine.mail.as_ref().map(of));
}

const MAIL_FAMILIES: &[Family] = &[
    counter("tocsin_mail_sent_total", &[], "Mails that the server took; a digest is one.", |r, out| {
        mail(r, out, |m| m.sent);
    }),
    counter("tocsin_mail_deferred_total", &[], "Tries that failed and will be repeated.", |r, out| {
        mail(r, out, |m| m.deferred);
    }),
    counter("tocsin_mail_given_up_total", &[], "Mails given up.", |r, out| mail(r, out, |m| m.given_up)),
    counter("tocsin_mail_server_failures_total", &[], "Times that the server took nothing.", |r, out| {
        mail(r, out, |m| m.server_failures);
    }),
];

fn recorder(r: &Readings, out: &mut Samples<'_>, of: fn(&RecorderSnapshot) -> u64) {
    out.maybe(r.engine.recorder.as_ref().map(of));
}

const RECORDER_FAMILIES: &[Family] = &[
    counter("tocsin_recorder_bodies_total", &[], "Answers written with their bodies.", |r, out| {
        recorder(r, out, |of| of.bodies);
    }),
    counter("tocsin_recorder_announcements_total", &[], "Announcements written.", |r, out| {
        recorder(r, out, |of| of.announcements);
    }),
    counter(
        "tocsin_recorder_dropped_total",
        &[],
        "Lines that are missing: a ring was full, or the disk.",
        |r, out| {
            recorder(r, out, |of| of.dropped);
        },
    ),
    counter("tocsin_recorder_failures_total", &[], "Times that a file could not be written.", |r, out| {
        recorder(r, out, |of| of.failures);
    }),
];
