//! How much stands behind a preview, as a number from 0 to 100: the `ai_score` of previews.
//!
//! Contract: a pure function of a few facts, by the tables below and no model: it orders previews
//! by their evidence and is no probability. `docs/markets.md` shows the table. Never fails, never allocates.

use core::time::Duration;

use crate::model::Exchange;
use crate::source::Evidence;

/// What is known behind a preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// Who says it.
    pub exchange: Exchange,
    /// How far it stands behind the endpoint.
    pub evidence: Evidence,
    /// From now to the opening, where a time in the future is said.
    pub ahead: Option<Duration>,
    /// A listing notice names the asset for this kind of market.
    pub noticed: bool,
    /// Another instrument of the same asset is ahead too.
    pub beside: bool,
    /// Times the opening had been told before.
    pub told_before: u16,
}

/// What the exchange's word for "known, not open yet" has been worth: how it is documented and how far
/// ahead it was seen (`docs/markets.md`).
const fn word_of(exchange: Exchange) -> i32 {
    match exchange {
        // Documented to be set with the announcement.
        Exchange::Okx => 75,
        // A status with a date, hours ahead.
        Exchange::Binance => 70,
        // Start times in the list of pairs.
        Exchange::Gate => 65,
        Exchange::Htx => 60,
        Exchange::Kucoin => 60,
        Exchange::Mexc => 50,
        Exchange::Bitget | Exchange::Bybit => 50,
        // States on the way to open, without a time.
        Exchange::Coinbase | Exchange::Kraken => 45,
        Exchange::CryptoCom | Exchange::Bingx => 40,
        // Lists that show a market at its opening: what looks ahead there may be anything.
        Exchange::Upbit | Exchange::Bithumb | Exchange::Coinone | Exchange::Hyperliquid => 30,
    }
}

const HOUR: u64 = 3_600;

const fn time_of(ahead: Option<Duration>) -> i32 {
    match ahead {
        None => -10,
        Some(ahead) => match ahead.as_secs() {
            ..=259_199 => 10,
            // Three days and more: plans change.
            259_200..=604_799 => 5,
            _ => 0,
        },
    }
}

const _: () = assert!(72 * HOUR == 259_200 && 7 * 24 * HOUR == 604_800);

/// The score of a preview.
#[must_use]
pub fn score(grounds: &Grounds) -> u8 {
    let mut points = word_of(grounds.exchange) + time_of(grounds.ahead);
    if matches!(grounds.evidence, Evidence::Unofficial) {
        points -= 15;
    }
    if grounds.beside {
        points += 5;
    }
    points -= 5 * i32::from(grounds.told_before.min(3));
    if grounds.noticed {
        // The exchange itself has said so in words.
        points = points.max(80) + 10;
    }
    u8::try_from(points.clamp(0, 100)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grounds(exchange: Exchange, hours: Option<u64>) -> Grounds {
        Grounds {
            exchange,
            evidence: Evidence::Official,
            ahead: hours.map(|h| Duration::from_secs(h * HOUR)),
            noticed: false,
            beside: false,
            told_before: 0,
        }
    }

    #[test]
    fn the_table_stands() {
        let okx = grounds(Exchange::Okx, Some(24));
        let cases = [
            (okx, 85),
            (Grounds { ahead: Some(Duration::from_secs(72 * HOUR)), ..okx }, 80),
            (Grounds { ahead: Some(Duration::from_secs(168 * HOUR)), ..okx }, 75),
            (Grounds { ahead: None, ..okx }, 65),
            (Grounds { beside: true, ..okx }, 90),
            (Grounds { noticed: true, ..okx }, 95),
            (Grounds { noticed: true, beside: true, ..okx }, 100),
            (Grounds { told_before: 1, ..okx }, 80),
            (Grounds { told_before: 9, ..okx }, 70),
            (grounds(Exchange::Binance, Some(1)), 80),
            (Grounds { evidence: Evidence::Unofficial, ..grounds(Exchange::Mexc, Some(100)) }, 40),
            (grounds(Exchange::Kraken, None), 35),
            (Grounds { noticed: true, ..grounds(Exchange::Kraken, None) }, 90),
            (grounds(Exchange::Upbit, None), 20),
        ];
        for (grounds, points) in cases {
            assert_eq!(score(&grounds), points, "{grounds:?}");
        }
    }

    #[test]
    fn more_evidence_never_lowers_it_and_it_keeps_to_its_range() {
        for exchange in Exchange::ALL {
            for hours in [None, Some(0), Some(71), Some(72), Some(2_000)] {
                for told_before in [0, 1, 2, 3, u16::MAX] {
                    let plain =
                        Grounds { evidence: Evidence::Unofficial, told_before, ..grounds(exchange, hours) };
                    let better = [
                        Grounds { evidence: Evidence::Official, ..plain },
                        Grounds { noticed: true, ..plain },
                        Grounds { beside: true, ..plain },
                        Grounds { told_before: 0, ..plain },
                    ];
                    for more in better {
                        assert!(score(&more) >= score(&plain), "{more:?}");
                        assert!(score(&more) <= 100);
                    }
                }
            }
        }
    }
}
