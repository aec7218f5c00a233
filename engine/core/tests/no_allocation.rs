//! The steady state of detection allocates nothing: an unchanged answer, one that differs in badges,
//! and one that is read in full but brings nothing new. Nor does a title's score.

mod armed;

use std::time::Duration;

use armed::allocations;
use tocsin_core::classify::classify;
use tocsin_core::detect::{Detector, Findings, ListHistory, Outcome};
use tocsin_core::model::{CategoryHint, Exchange};
use tocsin_core::score;
use tocsin_core::source::exchange::upbit;
use tocsin_core::time::{Mono, Now, WallUs};

fn page(badge: bool, listed: u32) -> Vec<u8> {
    let rows: Vec<String> = (0..20)
        .map(|id| {
            format!(
                "{{\"listed_at\":\"2026-11-18T14:{listed:02}:00+09:00\",\
                 \"first_listed_at\":\"2026-11-18T09:00:00+09:00\",\"id\":{id},\"uuid\":\"{id}\",\
                 \"title\":\"노스라이트(N{id}) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)\",\"category\":\"거래\",\
                 \"need_new_badge\":{badge},\"need_update_badge\":false}}"
            )
        })
        .collect();
    let rows = rows.join(",");
    format!("{{\"success\":true,\"data\":{{\"total_count\":20,\"notices\":[{rows}],\"fixed_notices\":[]}}}}")
        .into()
}

#[test]
fn the_steady_state_allocates_nothing() {
    let mut detector = Detector::new(&upbit::WEB, Duration::from_secs(300));
    let history = ListHistory { first_start: WallUs::from_secs(1_795_000_000), baselined: false };
    detector.load_list(0, history);
    let mut findings = Findings::default();
    let now = Now { mono: Mono(1), wall: WallUs::from_secs(1_795_000_000) };
    // Buffers grow to the size of the answers.
    for listed in 0..3 {
        detector.on_body(0, &mut page(true, listed), now, &mut findings).unwrap();
    }
    assert!(findings.baselined && findings.seen.len() == 20);
    findings.clear();

    let answers = [page(true, 2), page(false, 2), page(false, 3), page(true, 3), page(true, 3)];
    for (index, mut body) in answers.into_iter().enumerate() {
        let mut outcome = Outcome::Identical;
        let allocated = allocations(|| outcome = detector.on_body(0, &mut body, now, &mut findings).unwrap());
        let expected = match index {
            0 | 4 => outcome == Outcome::Identical,
            1 | 3 => outcome == Outcome::OnlyNoise,
            _ => matches!(outcome, Outcome::Parsed(parsed) if parsed.rows == 20),
        };
        assert!(expected, "answer {index}: {outcome:?}");
        assert_eq!(allocated, 0, "answer {index}: {outcome:?}");
        assert!(findings.detected.is_empty() && findings.seen.is_empty());
    }
}

#[test]
fn a_score_allocates_nothing() {
    for (exchange, title) in [
        (
            Exchange::Binance,
            "Binance Will List Quokka (QUOK) and Wombat (WOMB) with Seed Tag Applied".to_owned(),
        ),
        (Exchange::Upbit, "쿼카(QUOK), 웜뱃(WOMB) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)".to_owned()),
        (Exchange::Binance, format!("Binance Will Delist {}", "QUOK, WOMB, ".repeat(200))),
    ] {
        let said = classify(exchange, &title, CategoryHint::None);
        let mut found = 0;
        assert_eq!(allocations(|| found = score::of(exchange, &title, &said)), 0, "{title}");
        assert!((score::LOWEST..=score::HIGHEST).contains(&found));
    }
}
