//! What the mails say: from what is due to subject and body.
//!
//! Contract: pure and deterministic. One mail for each transition, but the latency warnings of one
//! account are one digest ([`group`]). A URL is shown without its query string, where people keep
//! tokens. No control character of a name, label, URL or detail reaches a subject or a body, so none of
//! them can begin a header or a line. Allocates; never fails.

use std::fmt::Write;

use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::endpoint::Mail;

use crate::control::reply::rfc3339;
use crate::store::webhook::mail::DueMail;

/// A mail that is due, with its endpoint's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// From the outbox.
    pub due: DueMail,
    /// The endpoint's label; empty: none, or the endpoint is gone.
    pub label: String,
}

/// What a mail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// One line, at most [`SUBJECT_CHARS`] long.
    pub subject: String,
    /// Short lines, but for a URL that is long.
    pub body: String,
}

/// Latency warnings one digest takes; there are five endpoints an account.
pub const DIGEST_MAILS: usize = 20;
/// Longest subject: a host name is at most 253.
pub const SUBJECT_CHARS: usize = 320;
/// Lines are broken here.
const LINE_CHARS: usize = 76;
/// Of a detail, label or name no more is shown.
const PART_CHARS: usize = 256;

/// Which of these go out together, in the order of their oldest: the latency warnings of one account
/// to one address, everything else alone.
#[must_use]
pub fn group(due: Vec<Notice>) -> Vec<Vec<Notice>> {
    let mut groups: Vec<Vec<Notice>> = Vec::new();
    for notice in due {
        let joins = |group: &&mut Vec<Notice>| {
            group.len() < DIGEST_MAILS
                && group.first().is_some_and(|first| {
                    first.due.mail == Mail::Slow
                        && notice.due.mail == Mail::Slow
                        && (first.due.account, &first.due.to) == (notice.due.account, &notice.due.to)
                })
        };
        match groups.iter_mut().rev().find(joins) {
            Some(group) => group.push(notice),
            None => groups.push(vec![notice]),
        }
    }
    groups
}

/// The text of one group; `None` of an empty one. `self_healing`: a disabled endpoint is probed and
/// comes back by itself.
#[must_use]
pub fn write(group: &[Notice], self_healing: bool) -> Option<Text> {
    let first = group.first()?;
    let host = clean(host(&first.due.url));
    let mut body = wrap(&format!("Hello {},", clean(&first.due.name)), "");
    body.push('\n');
    let subject = match first.due.mail {
        Mail::AutoDisabled => {
            disabled(&mut body, first, self_healing);
            format!("Webhook endpoint disabled after {} failures: {host}", limits::WEBHOOK_FAILURES)
        }
        Mail::Recovered => {
            recovered(&mut body, first);
            format!("Webhook endpoint is back: {host}")
        }
        Mail::Gone => {
            gone(&mut body, first);
            format!("Webhook endpoint is gone (410): {host}")
        }
        Mail::Slow => {
            slow(&mut body, group);
            "Webhook endpoints are slow".to_owned()
        }
    };
    Some(Text { subject: cut(&subject, SUBJECT_CHARS), body })
}

fn disabled(body: &mut String, notice: &Notice, self_healing: bool) {
    let mut text = format!(
        "Your webhook {} was disabled at {}, after {} failures in a row; no event is sent to it now.{}",
        endpoint(notice),
        at(notice),
        limits::WEBHOOK_FAILURES,
        last_failure(notice),
    );
    if self_healing {
        text.push_str(
            " It is tried again after 5, 15 and 60 minutes, then every hour for a day; the first answer of \
             2xx enables it.",
        );
    }
    body.push_str(&wrap(&text, ""));
    enable(body, notice, if self_healing { "To enable it at once:" } else { "To enable it:" });
    replay(body, notice, "To have what it missed sent afterwards:");
}

fn recovered(body: &mut String, notice: &Notice) {
    let text = format!(
        "Your webhook {} answers again and was enabled at {}. What is still news has been sent to it now, \
         older events were not.",
        endpoint(notice),
        at(notice),
    );
    body.push_str(&wrap(&text, ""));
    replay(body, notice, "To have them sent (put the time when it was disabled in place of this one):");
}

fn gone(body: &mut String, notice: &Notice) {
    let text = format!(
        "Your webhook {} was disabled at {}, because it answered 410 Gone twice. No event is sent to it, and \
         it is not tried again.{}",
        endpoint(notice),
        at(notice),
        last_failure(notice),
    );
    body.push_str(&wrap(&text, ""));
    enable(body, notice, "If it is there after all, enable it:");
    replay(body, notice, "To have what it missed sent afterwards:");
}

fn slow(body: &mut String, group: &[Notice]) {
    let (these, take) = match group {
        [_] => ("This webhook endpoint", "takes"),
        _ => ("These webhook endpoints", "take"),
    };
    let text = format!(
        "{these} {take} longer than {} seconds to answer one request in twenty. After 10 seconds an answer \
         counts as a failure, and {} failures in a row disable an endpoint. Answer 2xx first and do the work \
         after.",
        limits::WEBHOOK_SLOW.as_secs(),
        limits::WEBHOOK_FAILURES,
    );
    body.push_str(&wrap(&text, ""));
    body.push('\n');
    for notice in group {
        let detail = clean(&notice.due.detail);
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        body.push_str(&wrap(&format!("{}, at {}{detail}", endpoint(notice), at(notice)), "  "));
    }
    let ways = ["GET /v1/webhooks/ID/deliveries", "tocsin webhooks deliveries ID"];
    what_to_do(body, "The delivery log shows where the time goes:", &ways.map(str::to_owned));
}

/// "endpoint 7 (label), https://host/path".
fn endpoint(notice: &Notice) -> String {
    let url = notice.due.url.split(['?', '#']).next().unwrap_or_default();
    let label = clean(&notice.label);
    let label = if label.is_empty() { String::new() } else { format!(" ({label})") };
    format!("endpoint {}{label}, {}", notice.due.endpoint.0, clean_whole(url))
}

/// When it happened, in whole seconds: never later than it was.
fn at(notice: &Notice) -> String {
    let at = notice.due.at.0;
    rfc3339(WallUs(at - at.rem_euclid(1_000_000)))
}

fn last_failure(notice: &Notice) -> String {
    match clean(&notice.due.detail).trim_end_matches('.') {
        "" => String::new(),
        detail => format!(" Last failure: {detail}."),
    }
}

fn enable(body: &mut String, notice: &Notice, why: &str) {
    let id = notice.due.endpoint.0;
    let ways = [format!("POST /v1/webhooks/{id}/enable"), format!("tocsin webhooks enable {id}")];
    what_to_do(body, why, &ways);
}

fn replay(body: &mut String, notice: &Notice, why: &str) {
    let (id, at) = (notice.due.endpoint.0, at(notice));
    let ways = [
        format!("POST /v1/webhooks/{id}/replay {{\"since\":\"{at}\"}}"),
        format!("tocsin webhooks replay {id} --since {at}"),
    ];
    what_to_do(body, why, &ways);
}

/// The request of the customer, and the command on the server; whole lines, to be copied.
fn what_to_do(body: &mut String, why: &str, [request, command]: &[String; 2]) {
    let _ = write!(body, "\n{why}\n  {request}\n  or, on the server: {command}\n");
}

/// Host and port of an `https://` URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Control characters and line separators are spaces; cut at [`PART_CHARS`].
fn clean(text: &str) -> String {
    cut(&clean_whole(text), PART_CHARS)
}

fn clean_whole(text: &str) -> String {
    text.trim().replace(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'), " ")
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Breaks lines at spaces; each starts with `indent`.
fn wrap(text: &str, indent: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    let mut used = 0;
    for word in text.split_whitespace() {
        let chars = word.chars().count();
        if used > 0 && used + 1 + chars > LINE_CHARS {
            lines.push('\n');
            used = 0;
        }
        let before = if used == 0 { indent } else { " " };
        lines.push_str(before);
        lines.push_str(word);
        used += before.len() + chars;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::webhook::accounts::AccountId;
    use tocsin_core::webhook::board::EndpointId;

    fn notice(id: i64, account: i64, mail: Mail) -> Notice {
        let due = DueMail {
            id,
            account: AccountId(account),
            to: format!("owner{account}@example.org"),
            name: "Ada".to_owned(),
            endpoint: EndpointId(7),
            url: "https://hooks.example.org:8443/in/a?token=SECRET".to_owned(),
            mail,
            detail: "server_error, status 503".to_owned(),
            at: WallUs(1_770_000_000_999_999),
            tries: 0,
        };
        Notice { due, label: "prod".to_owned() }
    }

    fn one_line(text: &Text) -> String {
        text.body.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_mail_says_what_where_when_why_and_what_to_do() {
        let at = "2026-02-02T02:40:00Z";
        let place = "endpoint 7 (prod), https://hooks.example.org:8443/in/a";
        let enable = "POST /v1/webhooks/7/enable or, on the server: tocsin webhooks enable 7";
        let replay = format!(
            "POST /v1/webhooks/7/replay {{\"since\":\"{at}\"}} or, on the server: tocsin webhooks replay 7 --since {at}"
        );
        let failure = "Last failure: server_error, status 503.";
        let rows = [
            (
                Mail::AutoDisabled,
                "disabled after 3 failures: hooks.example.org:8443",
                vec![failure, enable, &replay],
            ),
            (Mail::Recovered, "is back: hooks.example.org:8443", vec!["was enabled at", &replay]),
            (Mail::Gone, "is gone (410): hooks.example.org:8443", vec![failure, enable, &replay]),
            (Mail::Slow, "endpoints are slow", vec!["This webhook endpoint takes longer than 5 seconds"]),
        ];
        for (mail, subject, parts) in rows {
            let text = write(&[notice(1, 1, mail)], true).unwrap();
            let body = one_line(&text);
            assert!(
                text.subject.starts_with("Webhook endpoint") && text.subject.ends_with(subject),
                "{text:?}"
            );
            for part in [place, at, "Hello Ada, "].into_iter().chain(parts) {
                assert!(body.contains(part), "{mail:?} does not say {part:?}: {body}");
            }
            assert!(!text.body.contains("SECRET"), "{body}");
            assert!(text.body.lines().all(|line| line.chars().count() <= LINE_CHARS), "{}", text.body);
        }
    }

    #[test]
    fn self_healing_is_promised_only_where_it_is_on() {
        let disabled = [notice(1, 1, Mail::AutoDisabled)];
        let (on, off) = (write(&disabled, true).unwrap(), write(&disabled, false).unwrap());
        assert!(
            one_line(&on).contains("every hour for a day") && one_line(&on).contains("enable it at once: ")
        );
        assert!(!one_line(&off).contains("every hour") && one_line(&off).contains("To enable it: "));
    }

    #[test]
    fn a_digest_lists_every_endpoint() {
        let mut group = vec![notice(1, 1, Mail::Slow), notice(2, 1, Mail::Slow)];
        group[1].due.endpoint = EndpointId(8);
        group[1].due.url = "https://b.example.org/".to_owned();
        group[1].due.detail = "P95 6.2 s".to_owned();
        group[1].label = String::new();
        let text = write(&group, true).unwrap();
        assert_eq!(text.subject, "Webhook endpoints are slow");
        let body = one_line(&text);
        assert!(body.contains("These webhook endpoints take longer"), "{body}");
        assert!(
            body.contains("endpoint 7 (prod), https://hooks.example.org:8443/in/a, at 2026-02-02"),
            "{body}"
        );
        assert!(
            body.contains("endpoint 8, https://b.example.org/, at 2026-02-02T02:40:00Z: P95 6.2 s"),
            "{body}"
        );
        assert_eq!(write(&[], true), None);
    }

    #[test]
    fn only_latency_warnings_of_one_account_and_address_go_together() {
        let mut moved = notice(6, 1, Mail::Slow);
        moved.due.to = "new@example.org".to_owned();
        let due = vec![
            notice(1, 1, Mail::Slow),
            notice(2, 2, Mail::Slow),
            notice(3, 1, Mail::AutoDisabled),
            notice(4, 1, Mail::Slow),
            notice(5, 1, Mail::AutoDisabled),
            moved,
        ];
        let ids = |groups: Vec<Vec<Notice>>| -> Vec<Vec<i64>> {
            groups.iter().map(|group| group.iter().map(|notice| notice.due.id).collect()).collect()
        };
        assert_eq!(ids(group(due)), [vec![1, 4], vec![2], vec![3], vec![5], vec![6]]);
        let many = (1..=45).map(|id| notice(id, 1, Mail::Slow)).collect();
        assert_eq!(group(many).iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 5]);
    }

    #[test]
    fn no_control_character_comes_through() {
        let evil = "x\r\nBcc: victim@example.com\r\n\r\n\u{0}\u{85}\u{2028}Injected";
        for mail in [Mail::AutoDisabled, Mail::Recovered, Mail::Gone, Mail::Slow] {
            let mut notice = notice(1, 1, mail);
            notice.label = evil.to_owned();
            notice.due.name = evil.to_owned();
            notice.due.detail = evil.to_owned();
            notice.due.url = format!("https://{evil}/{evil}");
            let text = write(&[notice], true).unwrap();
            assert!(!text.subject.contains(char::is_control), "{text:?}");
            assert!(!text.body.contains(|c: char| c != '\n' && c.is_control()), "{text:?}");
        }
    }

    #[test]
    fn everything_has_a_bound() {
        let long = "é".repeat(10_000);
        let mut notice = notice(1, 1, Mail::Gone);
        notice.label.clone_from(&long);
        notice.due.name.clone_from(&long);
        notice.due.detail.clone_from(&long);
        notice.due.url = format!("https://{long}/");
        let text = write(&[notice], true).unwrap();
        assert!(text.subject.chars().count() <= SUBJECT_CHARS + 1);
        assert!(text.body.chars().count() < 12_000, "the URL alone is whole");
    }
}
