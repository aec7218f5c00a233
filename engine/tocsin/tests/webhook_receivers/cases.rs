//! Every receiver that misbehaves, and some that do not, with what becomes of a delivery to it.
//!
//! Data alone: the tests of the webhook thread run it against the engine, those of the simulator
//! (`engine/sim/tests/receiver/verdicts.rs`) against the core, so that neither is trusted to be right
//! about the other.

use std::time::Duration;

use tocsin_core::webhook::attempt::FailureClass::{self, *};
use tocsin_core::webhook::attempt::Verdict;
use tocsin_core::webhook::schedule::Wait;
use tocsin_sim::{Behaviour, Greeting, Reply};

/// How a receiver is made to misbehave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// By the path of the URL, at every request.
    Path(&'static str),
    /// By a script for a path: the last repeats.
    Script(fn() -> Vec<Behaviour>),
    /// By how every connection is met.
    Met(Greeting),
}

/// One receiver and its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it does.
    pub(crate) name: &'static str,
    /// How.
    pub(crate) made: Made,
    /// What its first delivery comes to in the first attempt. A transparent resend is part of it.
    pub(crate) verdict: Verdict,
    /// A second delivery comes on the connection of the first and is answered there.
    pub(crate) reused: bool,
}

impl Case {
    /// The attempt lasts until its deadline.
    pub(crate) fn lasts(&self) -> bool {
        self.verdict.class() == Some(Timeout)
    }
}

const fn case(name: &'static str, made: Made, verdict: Verdict, reused: bool) -> Case {
    Case { name, made, verdict, reused }
}

const fn retry(class: FailureClass) -> Verdict {
    Verdict::Retry { class, wait: Wait::Step }
}

const fn permanent(class: FailureClass) -> Verdict {
    Verdict::Permanent { class }
}

const fn limited(asked_secs: u64) -> Verdict {
    Verdict::Retry { class: RateLimited, wait: Wait::Doubled { asked: Duration::from_secs(asked_secs) } }
}

const fn unavailable(asked_secs: u64) -> Verdict {
    Verdict::Retry { class: ServerError, wait: Wait::Held { asked: Duration::from_secs(asked_secs) } }
}

/// The `Date` that the dates below are read on.
const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn dated(status: u16, retry_after: &str) -> Vec<Behaviour> {
    vec![Behaviour::reply(Reply::new(status).with("Date", NOW).with("Retry-After", retry_after))]
}

/// Every case, in the order of the issue.
pub(crate) fn cases() -> Vec<Case> {
    [answers(), slow_and_broken(), idle_connections(), statuses(), rate_limits(), tls(), malformed()].concat()
}

fn answers() -> Vec<Case> {
    use Made::Path;
    use Verdict::Delivered;
    vec![
        case("200", Path("/ok"), Delivered, true),
        case("201", Path("/status/201"), Delivered, true),
        case("202", Path("/status/202"), Delivered, true),
        case("204", Path("/status/204"), Delivered, true),
        case("chunked", Path("/chunked"), Delivered, true),
        case("Connection: close", Path("/close"), Delivered, false),
        case("HTTP/1.0, ended by the close", Path("/http10"), Delivered, false),
        case("endless body", Path("/endless"), Delivered, false),
        case("body at a byte a second", Path("/slow-body"), Delivered, false),
        case("body that is cut short", Path("/short-body"), Delivered, false),
        case("reset within the body", Path("/reset-in-body"), Delivered, false),
        case("two responses to one request", Path("/twice"), Delivered, false),
        case("100, 103 x3, then 200", Path("/interim"), Delivered, true),
        case("eight interim heads", Path("/interim/8"), Delivered, true),
        case("nine interim heads", Path("/interim/9"), retry(BadResponse), false),
        case("101", Path("/switching"), retry(BadResponse), false),
        case("gzip bomb", Path("/gzip-bomb"), Delivered, true),
    ]
}

fn slow_and_broken() -> Vec<Case> {
    use Made::{Met, Path};
    vec![
        case("head at a byte a second", Path("/slow-head"), retry(Timeout), false),
        case("never answers", Path("/silent"), retry(Timeout), false),
        case("accepts and never reads", Met(Greeting::NeverRead), retry(Timeout), false),
        case("reads and never shakes hands", Met(Greeting::Silent), retry(Timeout), false),
        case("200 after the timeout", Path("/late/11s"), retry(Timeout), false),
        case("reset on accept", Met(Greeting::Reset), retry(Reset), false),
        case("close on accept", Met(Greeting::Close), retry(Reset), false),
        case("reset after the request", Path("/reset"), retry(Reset), false),
        case("close after the request", Path("/hang-up"), retry(Reset), false),
        case("reset within the head", Path("/reset-in-head"), retry(Reset), false),
    ]
}

/// Their second delivery succeeds too, on another connection.
fn idle_connections() -> Vec<Case> {
    use Made::Script;
    use Verdict::Delivered;
    vec![
        case(
            "closes the idle connection",
            Script(|| vec![Behaviour::close_idle(Duration::from_millis(50)), Behaviour::ok()]),
            Delivered,
            false,
        ),
        case(
            "closes as the next request arrives",
            Script(|| vec![Behaviour::close_on_next(), Behaviour::ok()]),
            Delivered,
            false,
        ),
        case(
            "closes with the next request unread",
            Script(|| vec![Behaviour::drop_on_next(), Behaviour::ok()]),
            Delivered,
            false,
        ),
        case(
            "408 on the idle connection",
            Script(|| vec![Behaviour::unsolicited_408(Duration::from_millis(50)), Behaviour::ok()]),
            Delivered,
            false,
        ),
    ]
}

fn statuses() -> Vec<Case> {
    use Made::Path;
    vec![
        case("301 to the trap", Path("/redirect/301"), retry(Redirect), true),
        case("302 to the trap", Path("/redirect/302"), retry(Redirect), true),
        case("307 to the trap", Path("/redirect/307"), retry(Redirect), true),
        case("308 to the trap", Path("/redirect/308"), retry(Redirect), true),
        case("304", Path("/not-modified"), retry(Redirect), true),
        case("400", Path("/status/400"), permanent(ClientError), true),
        case("401", Path("/status/401"), retry(Unauthorized), true),
        case("403", Path("/status/403"), permanent(ClientError), true),
        case("404", Path("/status/404"), permanent(ClientError), true),
        case("422", Path("/status/422"), permanent(ClientError), true),
        case("408", Path("/status/408"), retry(NotProcessed), true),
        case("421", Path("/status/421"), retry(NotProcessed), true),
        case("425", Path("/status/425"), retry(NotProcessed), true),
        case("410", Path("/status/410"), permanent(Gone), true),
        case("500", Path("/status/500"), retry(ServerError), true),
        case("502", Path("/status/502"), retry(ServerError), true),
        case("503", Path("/status/503"), retry(ServerError), true),
        case("503, Retry-After 45", Path("/status/503/45"), unavailable(45), true),
        case("status 099", Path("/status-line/099"), retry(BadResponse), false),
        case("status 600", Path("/status-line/600"), retry(BadStatus), true),
        case("status 999", Path("/status-line/999"), retry(BadStatus), true),
        case("status 2000", Path("/status-line/2000"), retry(BadResponse), false),
    ]
}

fn rate_limits() -> Vec<Case> {
    use Made::{Path, Script};
    vec![
        case("429", Path("/status/429"), limited(0), true),
        case("429, Retry-After 0", Path("/status/429/0"), limited(0), true),
        case("429, Retry-After 120", Path("/status/429/120"), limited(120), true),
        case("429, Retry-After 7200", Path("/status/429/7200"), limited(7_200), true),
        case("429, Retry-After -1", Path("/status/429/-1"), limited(0), true),
        case("429, Retry-After 1e309", Path("/status/429/1e309"), limited(0), true),
        case("429, Retry-After soon", Path("/status/429/soon"), limited(0), true),
        case(
            "429, Retry-After in two minutes",
            Script(|| dated(429, "Sun, 06 Nov 1994 08:51:37 GMT")),
            limited(120),
            true,
        ),
        case(
            "429, Retry-After in an hour, in the form of RFC 850",
            Script(|| dated(429, "Sunday, 06-Nov-94 09:49:37 GMT")),
            limited(3_600),
            true,
        ),
        case(
            "429, Retry-After in the past",
            Script(|| dated(429, "Sun, 06 Nov 1994 08:49:27 GMT")),
            limited(0),
            true,
        ),
        case(
            "429, Retry-After a date that is none",
            Script(|| dated(429, "Sun, 99 Nov 1994 08:49:37 GMT")),
            limited(0),
            true,
        ),
    ]
}

fn tls() -> Vec<Case> {
    use Made::Met;
    vec![
        case("TLS 1.2", Met(Greeting::Tls12), Verdict::Delivered, true),
        case("self-signed", Met(Greeting::SelfSigned), retry(TlsUntrusted), false),
        case("unknown authority", Met(Greeting::OtherCa), retry(TlsUntrusted), false),
        case("expired", Met(Greeting::Expired), retry(TlsExpired), false),
        case("not yet valid", Met(Greeting::NotYetValid), retry(TlsExpired), false),
        case("wrong name", Met(Greeting::WrongName), retry(TlsName), false),
        case("TLS 1.1 only", Met(Greeting::Tls11Only), retry(Tls), false),
        case("alert protocol_version", Met(Greeting::VersionAlert), retry(Tls), false),
        case("no common cipher", Met(Greeting::NoCommonCipher), retry(Tls), false),
        case("plain HTTP", Met(Greeting::PlainHttp), retry(Tls), false),
        case("no TLS at all", Met(Greeting::Garbage), retry(Tls), false),
    ]
}

fn malformed() -> Vec<Case> {
    use Made::Path;
    use Verdict::Delivered;
    vec![
        case("head of 17 KiB", Path("/big-head"), retry(OversizedHead), false),
        case("65 headers", Path("/many-headers"), retry(OversizedHead), false),
        case("64 headers", Path("/many-headers/64"), Delivered, true),
        case("bare LF", Path("/bare-lf"), retry(BadResponse), false),
        case("NUL in a header", Path("/nul"), retry(BadResponse), false),
        case("no HTTP at all", Path("/garbage"), retry(BadResponse), false),
        // "Two CLs: this result stands, the connection is closed, never reused", equal or not.
        case("Content-Length twice", Path("/two-lengths"), Delivered, false),
        case("Content-Length that differ", Path("/differing-lengths"), Delivered, false),
        case("Content-Length with Transfer-Encoding", Path("/length-and-chunked"), Delivered, false),
        case("chunk size overflow", Path("/chunk-overflow"), Delivered, false),
    ]
}
