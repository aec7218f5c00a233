//! The URL policy, rule by rule, and against the `url` crate.

use core::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::webhook::address::AnswerRefused;

fn parse(text: &str) -> Result<EndpointUrl, UrlError> {
    EndpointUrl::parse(text, &AddressPolicy::default())
}

#[test]
fn parts_of_a_url() {
    for (text, host, port, target) in [
        ("https://hooks.acme.io", "hooks.acme.io", 443, "/"),
        ("https://hooks.acme.io?a=1", "hooks.acme.io", 443, "/?a=1"),
        (
            "https://hooks.acme.io:8443/a/../b?c=%0d%0a&d={}|^",
            "hooks.acme.io",
            8443,
            "/a/../b?c=%0d%0a&d={}|^",
        ),
        ("https://a_b.xn--bcher-kva.com/", "a_b.xn--bcher-kva.com", 443, "/"),
        ("https://9.9.9.9:65535/x@y:z", "9.9.9.9", 65_535, "/x@y:z"),
        ("https://[2606:4700:0:0::1]:443/", "[2606:4700::1]", 443, "/"),
    ] {
        let url = parse(text).unwrap();
        assert_eq!((url.host().to_string().as_str(), url.port(), url.path_and_query()), (host, port, target));
        assert_eq!(parse(&url.to_string()), Ok(url), "{text}");
    }
}

#[test]
fn allowed_networks_hold_for_addresses_in_urls_too() {
    let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
    assert!(EndpointUrl::parse("https://127.0.0.1:40001/hook", &policy).is_ok());
    assert_eq!(EndpointUrl::parse("https://10.0.0.1/", &policy).unwrap_err().code(), "addr");
    assert_eq!(EndpointUrl::parse("https://localhost:40001/", &policy), Err(UrlError::Host));
}

#[test]
fn bounds() {
    let longest = format!("https://a.acme.io/{}", "x".repeat(limits::ENDPOINT_URL_BYTES - 18));
    assert_eq!(longest.len(), limits::ENDPOINT_URL_BYTES);
    assert!(parse(&longest).is_ok());
    assert_eq!(parse(&(longest + "x")), Err(UrlError::Length));
    let name = format!("{}.com", [&*"a".repeat(63); 4].join("."));
    assert_eq!(name.len(), 259);
    assert!(parse(&format!("https://{}", &name[6..])).is_ok());
    assert_eq!(parse(&format!("https://{}", &name[5..])), Err(UrlError::Host));
}

/// What a row of the cases comes to as far as this package decides, or why it does not decide it.
enum Decided {
    Verdict(&'static str, &'static str),
    Beyond(&'static str),
}

/// The answers a row scripts, one for each time the resolver is asked.
fn answers(simulated: &str) -> Vec<Vec<IpAddr>> {
    let answer = |text: &str| -> Vec<IpAddr> {
        text.split(';')
            .filter_map(|field| {
                field.trim().strip_prefix("A=").or_else(|| field.trim().strip_prefix("AAAA="))
            })
            .flat_map(|list| list.split(','))
            .map(|address| address.trim().parse().unwrap())
            .collect()
    };
    simulated.split(">>").filter(|text| !text.contains("not asked")).map(answer).collect()
}

fn decide(url: &str, stage: &str, simulated: &str) -> Decided {
    let policy = AddressPolicy::default();
    if let Err(error) = EndpointUrl::parse(url, &policy) {
        return Decided::Verdict("REJECT_URL", error.code());
    }
    if simulated.is_empty() {
        return Decided::Verdict("ALLOW", "");
    }
    for answer in answers(simulated) {
        match policy.check_answer(&answer) {
            Ok(()) => {}
            Err(AnswerRefused::Empty) => {
                return Decided::Beyond("the resolver's failure is retried by the schedule");
            }
            Err(refused) => return Decided::Verdict("REJECT_ADDR", refused.code()),
        }
    }
    match stage {
        "redirect" => Decided::Beyond("the address passes; the response is judged where it is read"),
        _ => Decided::Verdict("ALLOW", ""),
    }
}

/// Checks every row of `cases` and returns how many were decided here and how many were left.
fn check_rows(cases: &[u8]) -> (usize, usize) {
    let (mut decided, mut left) = (0, 0);
    let mut reader = csv::Reader::from_reader(cases);
    for row in reader.byte_records() {
        let row = row.unwrap();
        let field = |n: usize| core::str::from_utf8(&row[n]).unwrap();
        let (url, verdict, stage, simulated, code) = (field(0), field(1), field(3), field(4), field(5));
        match decide(url, stage, simulated) {
            Decided::Verdict(ours, our_code) => {
                assert_eq!((ours, our_code), (verdict, code), "{url:?}: {}", field(2));
                decided += 1;
            }
            Decided::Beyond(why) => {
                assert!(!verdict.starts_with("REJECT"), "{url:?} must be refused here");
                println!("left to the webhook thread: {url:?} {verdict} {code}: {why}");
                left += 1;
            }
        }
    }
    (decided, left)
}

#[test]
fn every_case_of_the_fixture_gets_its_verdict() {
    let (decided, left) = check_rows(include_bytes!("../../../../../fixtures/ssrf/cases.csv"));
    assert!(decided > 100 && left > 0, "{decided} decided, {left} left");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the cases lie outside the project")]
fn every_given_case_gets_its_verdict() {
    let Some(path) = std::env::var_os("TOCSIN_SSRF") else {
        println!("TOCSIN_SSRF is not set: the given cases are not checked");
        return;
    };
    let (decided, left) = check_rows(&std::fs::read(path).unwrap());
    println!("{decided} rows decided, {left} left");
    assert!(decided > 0);
}

/// Texts near the border between accepted and refused.
fn url_like() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z0-9_-]{1,8}(\\.[a-z0-9_-]{1,8}){1,3}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){0,4}",
        "0?x?[0-9a-f]{1,8}(\\.0?x?[0-9a-f]{1,3}){0,3}",
        "\\[[0-9a-f:.]{2,24}\\]",
        "xn--[a-z0-9-]{1,10}\\.com",
        "[ -~]{0,16}",
    ];
    (
        prop_oneof![8 => Just("https://"), 1 => Just("https:/"), 1 => Just("HTTPS://")],
        host,
        "(:[0-9]{0,6})?",
        "[/?#]?[ -~]{0,20}",
    )
        .prop_map(|(scheme, host, port, target)| [scheme, &host, &port, &target].concat())
}

proptest! {
    #[test]
    fn no_text_panics_and_what_passes_reads_back(text in any::<String>()) {
        if let Ok(url) = parse(&text) {
            prop_assert_eq!(parse(&url.to_string()), Ok(url));
        }
    }

    #[test]
    fn the_other_parser_agrees_without_being_asked(text in url_like()) {
        // Punycode is the one thing only the other parser knows.
        if let Ok(url) = EndpointUrl::by_our_rules(&text) && !text.contains("xn--") {
            prop_assert!(url.agrees_with_whatwg(&text), "{text}");
        }
        if let Ok(url) = parse(&text) {
            let other = ::url::Url::parse(&text).unwrap();
            prop_assert_eq!(other.host_str().unwrap(), url.host().to_string());
            prop_assert_eq!(other.port_or_known_default(), Some(url.port()));
            prop_assert!(url.path_and_query().starts_with('/'));
            prop_assert!(url.path_and_query().bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
