//! How each exchange phrases what it announces in English.

use crate::options::Kind;

/// Titles by type; `{asset}` stands for name and ticker, `{name}`, `{ticker}` and `{date}` for themselves.
pub(super) struct Phrases {
    pub(super) listing: &'static str,
    pub(super) contract: &'static str,
    pub(super) delisting: &'static str,
    pub(super) contract_delisting: &'static str,
    /// Neither listings nor delistings.
    pub(super) others: [&'static str; 4],
}

/// The phrases of `kind`; Binance and the Korean ones have inventions of their own.
pub(super) const fn of(kind: Kind) -> Phrases {
    match kind {
        Kind::Okx | Kind::Binance | Kind::Upbit | Kind::Bithumb | Kind::Coinone => Phrases {
            listing: "OKX to list {asset} for spot trading",
            contract: "OKX to list perpetual futures for {ticker}USDT",
            delisting: "OKX to delist {ticker} spot trading pairs",
            contract_delisting: "OKX to delist perpetual futures for {ticker}USDT",
            others: ["OKX to support {ticker} crypto migration", POSTPONED, WALLET, CONTEST],
        },
        Kind::Bybit => Phrases {
            listing: "Bybit to List {asset} on Spot",
            contract: "New listing: {ticker}USDT Perpetual Contract, with up to 25x leverage",
            delisting: "Delisting of {ticker}",
            contract_delisting: "Delisting of {ticker}USDT Perpetual Contract",
            others: ["{ticker} Token Splash — Grab a share of the prize pool", POSTPONED, WALLET, CONTEST],
        },
        Kind::Bitget => Phrases {
            listing: "[Initial Listing] Bitget Will List {asset}. Come and grab a share of 50,000 {ticker}",
            contract: "{ticker}USDT now launched for futures trading and trading bots",
            delisting: "Notice of Delisting {ticker}/USDT Spot Trading Pair",
            contract_delisting: "[Important] Bitget to delist {ticker}USDT futures and related services",
            others: ["Bitget Spot Cross Margin adds {ticker}/USDT", POSTPONED, WALLET, CONTEST],
        },
        Kind::Kucoin => Phrases {
            listing: "{asset} Gets Listed on KuCoin! World Premiere!",
            contract: "KuCoin Futures Has Launched USDT Margined {ticker} Contract",
            delisting: "ST: KuCoin Will Delist {asset}",
            contract_delisting: "KuCoin Futures Will Delist the {ticker}USDT Perpetual Contract and Related Services ({date})",
            others: ["KuCoin Isolated Margin Adds the {asset} Trading Pair", POSTPONED, WALLET, CONTEST],
        },
        Kind::Cryptocom => Phrases {
            listing: "Crypto.com Exchange Will List {asset}",
            contract: "Crypto.com Exchange Will List {ticker}USD Perpetual Contract",
            delisting: "Crypto.com Exchange Will Delist {asset}",
            contract_delisting: "Crypto.com Exchange Will Delist {ticker}USD Perpetual Contract",
            others: ["Crypto.com Exchange Adjusts the Tick Size of {ticker}", POSTPONED, WALLET, CONTEST],
        },
        Kind::Htx => Phrases {
            listing: "HTX Will Support {asset} Spot Trading",
            contract: "HTX Launches {ticker}/USDT Perpetual Futures",
            delisting: "HTX Will Delist Certain Tokens Including {ticker}",
            contract_delisting: "HTX Will Delist {ticker}USDT Perpetual Futures",
            others: ["HTX Futures Increases the Leverage of {ticker} Contracts", POSTPONED, WALLET, CONTEST],
        },
        Kind::Bingx => Phrases {
            listing: "{asset} Coin Gets Listed on BingX Spot",
            contract: "BingX Adds {ticker}USDT for Perpetual Futures",
            delisting: "BingX Will Delist {ticker} From Spot Trading & Other Services",
            contract_delisting: "BingX Will Delist {ticker}USDT for Perpetual Futures on {date}",
            others: ["BingX Adjusts the Funding Interval of {ticker}", POSTPONED, WALLET, CONTEST],
        },
        Kind::Mexc => Phrases {
            listing: "[Initial Listing] MEXC Will List {asset} in Innovation Zone and Open Trading for {ticker}/USDT Trading Pair",
            contract: "First in Market: MEXC to List {ticker}USDT Futures",
            delisting: "Delisting of {asset}",
            contract_delisting: "MEXC Will Delist {ticker}USDT Perpetual Futures",
            others: ["{asset} Voting Results and Airdrop Rules", POSTPONED, WALLET, CONTEST],
        },
    }
}

const POSTPONED: &str = "Postponement of the Listing of {asset}";
const WALLET: &str = "Wallet Maintenance for the {name} Network - {date}";
const CONTEST: &str = "{asset} Trading Competition: Share a Reward Pool";
