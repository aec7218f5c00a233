//! The Korean rules: Upbit, Bithumb, Coinone.
//!
//! Contract: pure functions of the folded title and its signals. They allocate the symbols and
//! markets found and nothing else, and accept any text. Korean notices put the symbol in
//! parentheses after the name and name the markets (`KRW, BTC, USDT 마켓`) in parentheses or before
//! the word itself, so symbols and quotes are told apart by what follows them.

use super::lexicon::*;
use super::signals::Signals;
use super::tickers::{self, Found, Naming};
use crate::model::ListingType::{self, NotListing, SpotDelisting, SpotListing};
use crate::model::Ticker;

/// A market and an addition, but not in one phrase: a listing only if it names an asset.
const MARKET_NAMED: &str = "ko.market_named";

/// Names of the rules, as `docs/classification.md` explains them.
pub(super) const RULE_NAMES: &[&str] = &[
    "ko.event",
    "ko.caution",
    "ko.delisting",
    "ko.delisting_changed",
    "ko.deposits",
    "ko.promotion",
    "ko.listing_update",
    "ko.new_support",
    "ko.market_addition",
    MARKET_NAMED,
    "ko.listed",
    "ko.other",
];

/// A decision: type, rule, confidence.
pub(super) type Verdict = (ListingType, &'static str, u8);

/// Decides `text` and reads its symbols and markets.
pub(super) fn classify(text: &str, signals: &Signals) -> (Verdict, Found) {
    let verdict = decide(signals);
    let found = if verdict.0 == NotListing { Found::default() } else { read(text) };
    if verdict.1 == MARKET_NAMED && found.is_empty() {
        return ((NotListing, "ko.other", 96), found);
    }
    (verdict, found)
}

/// Tried top down, as the English rules are: what the notice is about first.
fn decide(signals: &Signals) -> Verdict {
    let has = |set| signals.has(set);
    let market_opens = has(KO_MARKET) && has(KO_MARKET_ADD);
    let market_named = has(KO_MARKET) && has(KO_ADD | KO_LIST | KO_OPEN);
    let starts = has(KO_SUPPORT) && has(KO_NEW | KO_AGAIN);
    let listed = has(KO_LIST);
    let fee_event = market_opens && has(KO_FEE_EVENT);
    let event_aside = fee_event || has(KO_ADD_TAG | KO_LIST_AND_EVENT);
    if has(KO_CELEBRATE | KO_EVENT_TAG) || (has(KO_EVENT) && !event_aside) {
        return (NotListing, "ko.event", 97);
    }
    if has(KO_CAUTION) && !starts {
        return (NotListing, "ko.caution", 95);
    }
    if has(KO_END) {
        return if has(KO_CANCEL) || (has(KO_WALLET) && !has(KO_END_FIRST)) {
            (NotListing, "ko.delisting_changed", 50)
        } else {
            (SpotDelisting, "ko.delisting", 90)
        };
    }
    if has(KO_WALLET) && !starts && !market_opens {
        return (NotListing, "ko.deposits", 96);
    }
    if has(KO_LEGAL) || (has(KO_PROMO) && !starts && !market_opens) {
        return (NotListing, "ko.promotion", 85);
    }
    match () {
        () if (starts || market_opens) && has(KO_CHANGE | KO_CANCEL) => {
            (SpotListing, "ko.listing_update", 50)
        }
        () if starts => (SpotListing, "ko.new_support", 95),
        () if market_opens => (SpotListing, "ko.market_addition", 94),
        () if market_named && !has(KO_ASSET) => (SpotListing, MARKET_NAMED, 50),
        () if listed && !has(KO_ASSET) => (SpotListing, "ko.listed", 50),
        () => (NotListing, "ko.other", 96),
    }
}

/// Reads symbols and the markets each of them gets, in Upbit's Korean or English form.
pub(super) fn read(text: &str) -> Found {
    let found = read_groups(text, Found::default());
    if found.is_empty() { read_groups(text, bare(text)) } else { found }
}

/// Symbols outside parentheses: an English title's list, or after a Korean name (`가나 GN 원화 마켓`).
fn bare(text: &str) -> Found {
    if text.is_ascii() {
        return tickers::bare_list(text, Naming::Spot, false, false);
    }
    let mut found = Found::default();
    let mut name_before = false;
    for word in text.split_whitespace() {
        let symbol = tickers::symbol(word.trim_end_matches(','), Naming::Spot);
        if let Some(symbol) = symbol.filter(|s| name_before && !QUOTES.contains(&s.base)) {
            found.keep(symbol);
        }
        name_before = word.ends_with(|c: char| ('가'..='힣').contains(&c)) && !word.ends_with("마켓");
    }
    found
}

/// Reads the parentheses of `text` and the markets named between them; `found` waits for markets.
fn read_groups(text: &str, found: Found) -> Found {
    let mut reader = Reader { found, waiting: 0, front: Quotes::default() };
    let mut rest = text;
    // The text between parentheses may itself say "BTC, USDT 마켓".
    while let Some(open) = rest.find('(') {
        let (outside, inside) = rest.split_at_checked(open).unwrap_or((rest, ""));
        reader.outside(outside);
        let inside = inside.strip_prefix('(').unwrap_or(inside);
        let close = inside.find([')', '(']).unwrap_or(inside.len());
        let (group, after) = inside.split_at_checked(close).unwrap_or((inside, ""));
        reader.group(group.trim());
        rest = after.strip_prefix(')').unwrap_or(after);
    }
    reader.outside(rest);
    reader.finish()
}

/// Up to [`Quotes::MOST`] quote symbols of one phrase.
#[derive(Clone, Copy, Default)]
struct Quotes<'t> {
    names: [Option<&'t str>; Quotes::MOST],
}

impl<'t> Quotes<'t> {
    /// Upbit has four quotes; a phrase names each once.
    const MOST: usize = 6;

    /// The quotes named before the last "마켓" of `text`.
    fn read(text: &'t str) -> Quotes<'t> {
        let mut quotes = Quotes::default();
        let slots = quotes.names.iter_mut();
        let names = text.split(|c: char| !c.is_alphanumeric()).filter_map(|word| match word {
            "원화" | "원화마켓" => Some("KRW"),
            _ => word.strip_suffix("마켓").or(Some(word)).filter(|w| QUOTES.contains(w)),
        });
        for (slot, name) in slots.zip(names) {
            *slot = Some(name);
        }
        quotes
    }

    fn is_empty(&self) -> bool {
        self.names.iter().all(Option::is_none)
    }
}

/// What Korean exchanges price in.
const QUOTES: [&str; 4] = ["KRW", "BTC", "USDT", "ETH"];

/// Reads a title piece by piece.
struct Reader<'t> {
    found: Found,
    /// Index of the first ticker that has no market yet.
    waiting: usize,
    /// Markets named before any ticker.
    front: Quotes<'t>,
}

impl<'t> Reader<'t> {
    /// Text outside parentheses: it may name markets, and rarely a symbol ("샌드박스 SAND" is inside).
    fn outside(&mut self, text: &'t str) {
        if let Some((before, _)) = text.rsplit_once("마켓") {
            self.quotes(Quotes::read(before));
        } else if text.contains("원화") {
            self.quotes(Quotes::read(text));
        }
    }

    /// A parenthesis: markets, or symbols, or neither.
    fn group(&mut self, inside: &'t str) {
        if inside.contains("마켓") || inside.contains("arket") {
            self.quotes(Quotes::read(inside));
        } else if inside.split(',').all(|part| member(part.trim()).is_some()) {
            for symbol in inside.split(',').filter_map(|part| member(part.trim())) {
                self.found.keep(symbol);
            }
        }
    }

    /// Gives `quotes` to every ticker that waits for its markets.
    fn quotes(&mut self, quotes: Quotes<'t>) {
        if quotes.is_empty() {
            return;
        }
        if self.found.tickers.len() <= self.waiting {
            self.front = quotes;
            return;
        }
        let Found { tickers, markets } = &mut self.found;
        for base in tickers.iter().skip(self.waiting) {
            for quote in quotes.names.iter().flatten().filter_map(|name| Ticker::new(name)) {
                tickers::keep_market(markets, base, quote);
            }
        }
        self.waiting = tickers.len();
    }

    fn finish(mut self) -> Found {
        self.quotes(self.front);
        self.found
    }
}

/// One member of a parenthesis: `SAND`, or `샌드박스 SAND`.
fn member(part: &str) -> Option<tickers::Symbol<'_>> {
    let symbol_text = match part.rsplit_once(' ') {
        Some((name, symbol)) if name.chars().any(|c| c.is_ascii()) || name.contains(symbol) => return None,
        Some((_, symbol)) => symbol,
        None => part,
    };
    // "원화(KRW) 마켓": money, and mixed case would let it pass.
    if symbol_text == "KRW" {
        return None;
    }
    let mixed = symbol_text.chars().any(|c| c.is_ascii_uppercase() || !c.is_ascii());
    let known = tickers::symbol(symbol_text, Naming::Spot).filter(|s| s.quote.is_none());
    known.or_else(|| tickers::mixed_case(symbol_text).filter(|_| mixed))
}

#[cfg(test)]
mod tests {
    use super::super::normalise::Folded;
    use super::*;

    fn show(title: &str) -> String {
        let folded = Folded::new(title);
        let found = read(folded.as_str());
        let tickers: Vec<_> = found.tickers.iter().map(Ticker::as_str).collect();
        let markets: Vec<_> = found.markets.iter().map(|m| format!("{}/{}", m.base, m.quote)).collect();
        format!("{} {}", tickers.join(","), markets.join(","))
    }

    #[test]
    fn symbols_and_markets_are_told_apart() {
        let rows = [
            ("가나(GN) 신규 거래지원 안내 (KRW, BTC 마켓)", "GN GN/KRW,GN/BTC"),
            ("가나(GN), 다라(DR) 원화 마켓 추가", "GN,DR GN/KRW,DR/KRW"),
            (
                "BTC, USDT 마켓 신규 거래지원 안내 (AAA, BBB) (AAA 거래지원 개시 시점 안내)",
                "AAA,BBB AAA/BTC,AAA/USDT,BBB/BTC,BBB/USDT",
            ),
            ("가나(GN)(KRW, USDT 마켓), 다라(DR)(KRW 마켓) 디지털 자산 추가", "GN,DR GN/KRW,GN/USDT,DR/KRW"),
            ("원화마켓 신규 상장 (가나 GN)", "GN GN/KRW"),
            (
                "[거래] 가나(GN) BTC, USDT 마켓, 다라(D3) USDT 마켓 신규 거래지원 안내",
                "GN,D3 GN/BTC,GN/USDT,D3/USDT",
            ),
            ("가나(리플)(XRP) 거래지원 종료 안내 (7/3 15:00)", "XRP "),
            ("네오, 리스크 원화 마켓 오픈", " "),
            ("가나(GN) 원화(KRW) 마켓 추가", "GN GN/KRW"),
            ("가나 GN, 다라 DR 원화 마켓 추가", "GN,DR GN/KRW,DR/KRW"),
            (" AAA, BBB (USDT Market)", "AAA,BBB AAA/USDT,BBB/USDT"),
            (" Gana(GN)(KRW, BTC market), Dara(DR)(USDT market)", "GN,DR GN/KRW,GN/BTC,DR/USDT"),
        ];
        for (title, expected) in rows {
            assert_eq!(show(title), expected, "{title}");
        }
    }
}
