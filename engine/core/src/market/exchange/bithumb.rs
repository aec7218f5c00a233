//! Bithumb: markets (official), in Upbit's shape. No preview: a market appears about when it opens.
//!
//! The newer ticker wants every market named; the older one answers for all with one quote, keyed by the
//! base alone, so the market's name is put together here.

use core::time::Duration;

use super::{HEADERS, amount, give_volume, plain, price, read_instruments, read_rows, refused, upbit, word};
use crate::market::{MarketRequest, MarketRow, MarketSpec, Tells};
use crate::model::Exchange;
use crate::source::{Evidence, ParseError, Parsed, Scratch};

/// `bithumb.spot`. The public limit is not certain (150 a second are reported); these take 8 a minute.
pub static SPOT: MarketSpec = MarketSpec {
    name: "bithumb.spot",
    exchange: Exchange::Bithumb,
    evidence: Evidence::Official,
    base_url: "https://api.bithumb.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/v1/market/all?isDetails=true",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_markets,
        },
        tickers("krw-tickers", "/public/ticker/ALL_KRW", parse_krw),
        tickers("btc-tickers", "/public/ticker/ALL_BTC", parse_btc),
    ],
};

const fn tickers(
    name: &'static str,
    target: &'static str,
    parse: crate::market::MarketParse,
) -> MarketRequest {
    MarketRequest {
        name,
        target,
        body: None,
        every: Duration::from_secs(60),
        complete: false,
        tells: Tells::Volumes,
        parse,
    }
}

fn parse_markets(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        let rows = upbit::rows(root)?;
        Ok(read_instruments(rows, found, |row| upbit::market(row, word(row, "market_warning"))))
    })
}

fn parse_krw(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    parse_tickers("KRW", scratch, body, found)
}

fn parse_btc(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    parse_tickers("BTC", scratch, body, found)
}

fn parse_tickers(
    quote: &str,
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        match root.get("status") {
            Some(status) if status.brief().as_str() == "0000" => {}
            Some(_) => return Err(refused(root, &["status", "message"])),
            None => return Err(ParseError::Missing("status")),
        }
        let data = root.get("data").filter(|data| data.is_object()).ok_or(ParseError::Missing("data"))?;
        // Among the markets stands the time of the answer, which is no object.
        let rows = data.entries().filter(|(key, _)| *key != "date");
        Ok(read_rows(rows, found, |(base, row), give| {
            let symbol = [quote, "-", plain(base)?].concat();
            let quote_24h = amount(row.is_object().then(|| row.get("acc_trade_value_24H"))?)?;
            give_volume(plain(&symbol)?, quote_24h, price(row.get("closing_price")), give);
            Some(())
        }))
    })
}
