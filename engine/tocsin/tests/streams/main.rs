//! Push sources to subscribers: simulated streams over real sockets and TLS, the real engine. What is sent is
//! announced once, as it is; a replay is no news; sessions end, are refused and replaced, and nothing is lost or
//! told twice for it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod beside;
mod credentials;
mod failures;
mod news;
mod push;
mod rules;
mod sessions;

/// Makes a test of every function named for each of the three.
macro_rules! every_stream {
    ($($name:ident),* $(,)?) => {
        mod binance { $(#[test] fn $name() { super::$name(tocsin_sim::StreamKind::Binance); })* }
        mod upbit { $(#[test] fn $name() { super::$name(tocsin_sim::StreamKind::Upbit); })* }
        mod gate { $(#[test] fn $name() { super::$name(tocsin_sim::StreamKind::Gate); })* }
    };
}
pub(crate) use every_stream;

/// A spot listing of this ticker, as the exchange would write it.
fn listing(kind: tocsin_sim::StreamKind, ticker: &str) -> String {
    match kind {
        tocsin_sim::StreamKind::Binance => format!("Binance Will List Token {ticker} ({ticker})"),
        tocsin_sim::StreamKind::Upbit => format!("토큰({ticker}) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)"),
        tocsin_sim::StreamKind::Gate => format!("Gate Will List Token {ticker} ({ticker}) for Spot Trading"),
    }
}
