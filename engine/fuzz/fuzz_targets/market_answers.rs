//! Answers about markets never panic, and are counted as they are given. The first byte of a body chooses
//! the request it answers; bodies are separated by a zero byte (which no JSON text holds).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::limits;
use tocsin_core::market::MarketRow;
use tocsin_core::market::exchange::{ALL, OFF_BY_DEFAULT};
use tocsin_core::source::Scratch;

fuzz_target!(|input: &[u8]| {
    let requests: Vec<_> = ALL.into_iter().chain(OFF_BY_DEFAULT).flat_map(|spec| spec.requests).collect();
    let mut scratch = Scratch::default();
    for body in input.split(|b| *b == 0).take(8) {
        let Some((chosen, body)) = body.split_first() else { continue };
        let mut rows = 0;
        let request = requests[usize::from(*chosen) % requests.len()];
        let parsed = (request.parse)(&mut scratch, &mut body.to_vec(), &mut |row| {
            let (symbol, sound) = match row {
                MarketRow::Instrument(i) => (i.symbol, i.state.len() <= limits::STATE_WORD_BYTES),
                MarketRow::Volume(v) => (v.symbol, v.quote_24h.is_finite() && v.quote_24h >= 0.0),
            };
            assert!(sound && (1..=limits::SYMBOL_BYTES).contains(&symbol.len()));
            rows += 1;
        });
        assert_eq!(parsed.map_or(0, |p| p.rows), rows);
    }
});
