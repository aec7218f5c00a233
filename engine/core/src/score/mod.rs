//! `ai_score`: how likely a careful reader of the title alone would say, with no second reading, that
//! the notice is the listing or delisting the event tells: of its type and of its symbols.
//!
//! Contract: [`of`] is a pure function of its arguments and of the model compiled in. It works in
//! integers only, so it gives the same score on every machine; it allocates nothing, locks nothing and
//! cannot fail. Called once or twice an announcement that makes events: by its source thread, after the feed
//! has it and while the webhook thread wakes, and by that thread if it is first; never by a feed thread.
//! `docs/score.md` says what the number means and how it was measured; the package `score/` trains the model.

mod evidence;
mod features;
mod model;

pub use evidence::Evidence;
pub use features::{EVIDENCE_SLOTS, Features, SLOTS, WORD_SLOTS};
pub use model::{HIGHEST, LOWEST, MODEL_BYTES, Model, ModelError, fingerprint};

use crate::model::{Classification, Exchange};

/// The model shipped with the engine, as `tocsin-score train` wrote it.
pub const SHIPPED: &[u8] = include_bytes!("model.bin");

/// Score of a classified title, [`LOWEST`] to [`HIGHEST`]. It speaks of the listing or delisting that
/// `classification` says; of a title that announces none it says nothing of use.
#[must_use]
pub fn of(exchange: Exchange, title: &str, classification: &Classification) -> u8 {
    MODEL.score(&Features::read(exchange, title, classification))
}

#[allow(clippy::panic, reason = "evaluated when the engine is compiled, never when it runs")]
static MODEL: Model<'static> = match Model::read(SHIPPED) {
    Ok(model) => model,
    Err(_) => panic!("engine/core/src/score/model.bin is no model: train it again"),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::classify;
    use crate::model::CategoryHint;

    fn score(exchange: Exchange, title: &str) -> u8 {
        of(exchange, title, &classify(exchange, title, CategoryHint::None))
    }

    /// What the number is for: plain notices above what people also read otherwise, on exchanges and of
    /// years the labelled titles have none of.
    #[test]
    fn plain_notices_score_high_and_those_with_a_second_reading_low() {
        use Exchange::{Binance, Bingx, Bithumb, CryptoCom, Okx, Upbit};
        for (exchange, title) in [
            (Binance, "Binance Will List Quokka (QUOK) with Seed Tag Applied"),
            (Binance, "Binance Futures Will Launch USDⓈ-Margined QUOKUSDT Perpetual Contract (2031-03-01)"),
            (Binance, "Binance Will Delist QUOK, WOMB on 2031-03-01"),
            (Upbit, "쿼카(QUOK) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)"),
            (Bithumb, "[마켓 추가] 쿼카(QUOK) 원화 마켓 추가"),
            (Okx, "OKX to list QUOK (Quokka) for spot trading"),
            (CryptoCom, "Crypto.com Will List Quokka (QUOK)"),
        ] {
            assert!(score(exchange, title) >= 85, "{} {title}", score(exchange, title));
        }
        for (exchange, title) in [
            (Binance, "Binance Adds QUOK/TRY and WOMB/EUR Trading Pairs"),
            (Binance, "Introducing Quokka (QUOK) on Binance Launchpool! Farm QUOK by Staking BNB"),
            (Binance, "Quokka (QUOK) Will Be Available on Binance Alpha and Binance Futures (2031-01-01)"),
            (Binance, "Binance Futures Will Launch USDⓈ-Margined IBMUSDT Equity Perpetual Contract"),
            (Binance, "Binance Will List QUOKUP and QUOKDOWN Binance Leveraged Tokens"),
            (Upbit, "쿼카(QUOK) 신규 거래지원 안내 (BTC, USDT 마켓) (거래지원 개시 시점 변경 안내)"),
            (Bingx, "BingX will list QUOKUSDT Stock Index Perpetual Futures"),
        ] {
            assert!(score(exchange, title) <= 30, "{} {title}", score(exchange, title));
        }
    }

    #[test]
    fn the_shipped_model_is_small_and_reads() {
        assert_eq!(SHIPPED.len(), MODEL_BYTES);
        const { assert!(MODEL_BYTES <= 64 * 1_024) };
        assert_eq!(Model::read(SHIPPED).unwrap().trained_on(), MODEL.trained_on());
    }
}
