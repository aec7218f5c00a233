//! Answers of Binance never panic, and the detector agrees with the parser on what is usable.
//! The input is one body after another, separated by a zero byte (which no JSON text holds).
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tocsin_core::detect::{Detector, Findings, Outcome};
use tocsin_core::source::exchange::binance::CMS;
use tocsin_core::source::{ParseError, Scratch};
use tocsin_core::time::{Mono, Now, WallUs};

fuzz_target!(|input: &[u8]| {
    let mut scratch = Scratch::default();
    let mut detector = Detector::new(&CMS, Duration::from_secs(300));
    let mut findings = Findings::default();
    for (round, body) in input.split(|b| *b == 0).take(8).enumerate() {
        let mut items = 0;
        let parsed = (CMS.parse)(&mut scratch, &mut body.to_vec(), &mut |item| {
            assert!(!item.notice_id.as_str().is_empty() && !item.title.trim().is_empty());
            let _ = item.link.to_url();
            items += 1;
        });
        assert_eq!(parsed.map_or(0, |p| p.rows), items);
        findings.clear();
        let now = Now { mono: Mono(round as u64), wall: WallUs::from_secs(1_795_000_000) };
        let list = round % CMS.lists.len();
        match detector.on_body(list, &mut body.to_vec(), now, &mut findings) {
            Ok(Outcome::Parsed(seen)) => assert_eq!(parsed, Ok(seen)),
            Ok(Outcome::Identical) => assert!(parsed.is_ok()),
            Ok(Outcome::OnlyNoise) => {}
            // Rows of which none can be read are no answer.
            Err(ParseError::NoRow { skipped }) => {
                assert!(parsed.is_ok_and(|p| p.rows == 0 && p.skipped == skipped));
            }
            Err(error) => assert_eq!(parsed, Err(error)),
        }
    }
});
