//! Titles of test announcements: shaped as each exchange writes them, about assets that do not exist.
//!
//! Contract: a pure choice by the random number given. Fails never: a key that may have no exchange
//! at all gets a Binance one, since the test proves the connection and not the filter.

use super::json;
use crate::model::{Exchange, ExchangeSet, ListingType};

/// What was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Who is said to publish it.
    pub(super) exchange: Exchange,
    /// What it is said to be.
    pub(super) listing_type: ListingType,
    /// The asset.
    pub(super) ticker: &'static str,
    name: &'static str,
    title: &'static str,
}

struct Template {
    exchange: Exchange,
    listing_type: ListingType,
    /// `{T}` stands for the symbol, `{N}` for the name.
    title: &'static str,
}

/// Symbols and names of no asset anywhere.
const ASSETS: [(&str, &str); 6] = [
    ("MOCKX", "MOCKX"),
    ("TSTCOIN", "Test Coin"),
    ("DUMMYX", "Dummy Protocol"),
    ("FAKEUSE", "Fakeuse Network"),
    ("SAMPLEX", "Sample Exchange Token"),
    ("NOTREALX", "Not Real"),
];

const fn template(exchange: Exchange, listing_type: ListingType, title: &'static str) -> Template {
    Template { exchange, listing_type, title }
}

use Exchange as E;
use ListingType::{FuturesDelisting, FuturesListing, SpotDelisting, SpotListing};

static TEMPLATES: [Template; 27] = [
    template(E::Binance, SpotListing, "Binance Will List {N} ({T})"),
    template(
        E::Binance,
        FuturesListing,
        "Binance Futures Will Launch USDⓈ-Margined {T}USDT Perpetual Contract",
    ),
    template(E::Binance, SpotDelisting, "Binance Will Delist {T}"),
    template(E::Upbit, SpotListing, "{N}({T}) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)"),
    template(E::Upbit, SpotDelisting, "{N}({T}) 거래지원 종료 안내"),
    template(E::Bithumb, SpotListing, "[마켓 추가] {N}({T}) 원화 마켓 추가"),
    template(E::Bithumb, SpotDelisting, "{N}({T}) 거래지원 종료 안내"),
    template(E::Okx, SpotListing, "OKX will list {T} ({N}) for spot trading"),
    template(E::Okx, FuturesListing, "OKX to list perpetual futures for {T} crypto"),
    template(E::Bybit, SpotListing, "New Listing: {T}/USDT on the spot market"),
    template(E::Bybit, FuturesListing, "New listing: {T}USDT Perpetual Contract"),
    template(E::Bitget, SpotListing, "Bitget will list {N} ({T}) in the spot section"),
    template(E::Bitget, FuturesListing, "{T}USDT now launched for futures trading"),
    template(E::Kucoin, SpotListing, "{N} ({T}) gets listed on KuCoin"),
    template(E::Kucoin, FuturesDelisting, "KuCoin Futures will delist the {T}USDT perpetual contract"),
    template(E::Gate, SpotListing, "Gate will list {N} ({T}) on spot"),
    template(E::CryptoCom, SpotListing, "{N} ({T}) is now listed on the Crypto.com Exchange"),
    template(E::Htx, SpotListing, "HTX will list {T} ({N})"),
    template(E::Bingx, SpotListing, "{T} ({N}) spot trading opens on BingX"),
    template(E::Bingx, FuturesListing, "BingX adds the {T}USDT perpetual"),
    template(E::Mexc, SpotListing, "{N} ({T}) joins the MEXC spot market"),
    template(E::Mexc, FuturesListing, "MEXC futures: {T}USDT perpetual goes live"),
    template(E::Coinbase, SpotListing, "{N} ({T}) spot trading will begin on Coinbase"),
    template(E::Coinone, SpotListing, "{N}({T}) 원화 마켓 신규 상장 안내"),
    template(E::Kraken, SpotListing, "{N} ({T}) is available for trading on Kraken"),
    template(E::Hyperliquid, FuturesListing, "{T}-USD perpetual is live on Hyperliquid"),
    template(E::Hyperliquid, SpotListing, "{T}/USDC spot is live on Hyperliquid"),
];

/// Draws one of the templates whose exchange is in `allowed`. The same number draws the same.
pub(super) fn choose(allowed: ExchangeSet, random: u64) -> Chosen {
    let candidates = || TEMPLATES.iter().filter(|t| allowed.contains(t.exchange));
    let count = candidates().count().max(1) as u64;
    // Both remainders are below the lengths they index.
    let nth = (random % count) as usize;
    let (ticker, name) = ASSETS[(random / count % ASSETS.len() as u64) as usize];
    let template = candidates().nth(nth).unwrap_or(&TEMPLATES[0]);
    Chosen {
        exchange: template.exchange,
        listing_type: template.listing_type,
        ticker,
        name,
        title: template.title,
    }
}

impl Chosen {
    /// Appends the title as a JSON string.
    pub(super) fn write_title(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        let mut rest = self.title;
        while let Some((before, after)) = rest.split_once('{') {
            json::string_body(out, before);
            json::string_body(out, if after.starts_with('T') { self.ticker } else { self.name });
            rest = after.get(2..).unwrap_or_default();
        }
        json::string_body(out, rest);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_exchange_has_one_and_only_allowed_ones_are_drawn() {
        for exchange in Exchange::ALL {
            let only = ExchangeSet::EMPTY.with(exchange);
            for random in 0..50 {
                assert_eq!(choose(only, random).exchange, exchange);
            }
        }
        assert_eq!(choose(ExchangeSet::EMPTY, 7).exchange, Exchange::Binance);
    }

    #[test]
    fn every_template_with_every_asset_can_be_drawn() {
        let mut seen = BTreeSet::new();
        for random in 0..(TEMPLATES.len() * ASSETS.len()) as u64 {
            let mut title = Vec::new();
            choose(ExchangeSet::ALL, random).write_title(&mut title);
            seen.insert(String::from_utf8(title).unwrap());
        }
        // Upbit and Bithumb word a delisting alike.
        assert_eq!(seen.len(), (TEMPLATES.len() - 1) * ASSETS.len());
        assert!(seen.contains("\"Binance Will List MOCKX (MOCKX)\""));
    }
}
