//! Reads symbols out of a folded title: parenthesised, in bare lists, inside contract names, as pairs.
//!
//! Contract: [`Found`] keeps symbols in the title's order without repeats, at most
//! [`limits::TICKERS_PER_ANNOUNCEMENT`]; later ones are dropped. It allocates what it keeps and
//! nothing else, and accepts any text.

use crate::limits;
use crate::model::{Market, Ticker};

/// What one title names.
#[derive(Default)]
pub(super) struct Found {
    pub(super) tickers: Vec<Ticker>,
    pub(super) markets: Vec<Market>,
}

impl Found {
    /// Keeps `symbol` unless it is known, no ticker at all, or one too many.
    pub(super) fn keep(&mut self, symbol: Symbol<'_>) {
        let Some(base) = Ticker::new(symbol.base) else { return };
        if let Some(quote) = symbol.quote.and_then(Ticker::new) {
            keep_market(&mut self.markets, &base, quote);
        }
        if !self.tickers.contains(&base) && self.tickers.len() < limits::TICKERS_PER_ANNOUNCEMENT {
            self.tickers.push(base);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tickers.is_empty()
    }
}

/// Keeps the market `base`/`quote` unless it is known or one too many.
pub(super) fn keep_market(markets: &mut Vec<Market>, base: &Ticker, quote: Ticker) {
    let known = markets.iter().any(|m| m.base == *base && m.quote == quote);
    if !known && markets.len() < limits::MARKETS_PER_ANNOUNCEMENT {
        markets.push(Market { base: base.clone(), quote });
    }
}

/// How names of contracts are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// Symbols stand for themselves; only an undoubted `USDT` is taken off.
    Spot,
    /// `BTCUSDT`, `ONEUSD`: the quote is taken off.
    Contract,
    /// Coin-margined: `BNBUSD` is BNB in USD, never BN in BUSD.
    CoinMargined,
}

/// A symbol as written, split from its quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Symbol<'t> {
    pub(super) base: &'t str,
    pub(super) quote: Option<&'t str>,
}

/// Quotes of contract names, the longest ending first.
const CONTRACT_QUOTES: [&str; 7] = ["FDUSD", "USDT", "USDC", "USD1", "BUSD", "PERP", "USD"];

/// Assets with contracts quoted in `U`.
const QUOTED_IN_U: [&str; 6] = ["BTC", "ETH", "BNB", "SOL", "XRP", "DOGE"];

/// Quotes of pairs written with a dash, as Coinbase does.
const DASH_QUOTES: [&str; 12] =
    ["USD", "USDC", "USDT", "EUR", "GBP", "BTC", "ETH", "AUD", "SGD", "CAD", "PERP", "BRL"];

/// Fiat money: a quote, never an asset by itself.
const FIAT: [&str; 20] = [
    "USD", "EUR", "GBP", "AUD", "BRL", "TRY", "RUB", "UAH", "NGN", "JPY", "KRW", "IDR", "ZAR", "PLN", "RON",
    "ARS", "MXN", "CZK", "COP", "KZT",
];

/// Upper-case words of notices that are no symbols. In a contract name (`APRUSDT`) they are.
const NOT_SYMBOLS: [&str; 41] = [
    "OKX", "MEXC", "HTX", "UTC", "KST", "AM", "PM", "API", "NFT", "BSC", "FTX", "BEP2", "BEP20", "ERC20",
    "TRC20", "APR", "APY", "ROI", "UM", "CM", "OTC", "VIP", "P2P", "IEO", "FAQ", "USA", "EEA", "EU", "UK",
    "TWAP", "BLVT", "TGE", "LIST", "WILL", "ST", "CEO", "ETP", "GMT+8", "V2", "V3", "DEX",
];

/// Those of them that are assets too: in parentheses after a name they are meant as such.
const SYMBOLS_IN_PARENTHESES: [&str; 7] = ["APR", "OTC", "NFT", "USA", "CEO", "HTX", "DEX"];

/// Reads one word as a symbol: upper case and digits with at least one letter, or another script.
pub(super) fn symbol(word: &str, naming: Naming) -> Option<Symbol<'_>> {
    // Most words of a title end here: symbols and quotes end in a capital, a digit or another script.
    if word.ends_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    let word = word.trim_start_matches('$');
    if let Some((base, quote)) = word.split_once('/') {
        return (is_upper(base) && is_upper(quote)).then_some(Symbol { base, quote: Some(quote) });
    }
    if let Some((base, quote)) = word.split_once('-') {
        return (is_upper(base) && DASH_QUOTES.contains(&quote))
            .then_some(Symbol { base, quote: Some(quote) });
    }
    let split = split_quote(word, naming);
    if split.quote.is_some() && is_number(split.base) {
        // "4USDT" is a contract where contracts are named, "500USDT" a sum of money anywhere.
        return (naming != Naming::Spot && split.base.len() < 3).then_some(split);
    }
    if split.quote.is_some() && is_symbol_text(split.base) {
        return Some(split);
    }
    // "USDT Margined": alone, a quote of contracts is what they are margined in.
    if !is_upper(word) {
        return None;
    }
    let margin = naming != Naming::Spot && CONTRACT_QUOTES.contains(&word);
    let no_symbol = margin || NOT_SYMBOLS.contains(&word) || FIAT.contains(&word);
    (!no_symbol).then_some(Symbol { base: word, quote: None })
}

/// Takes the quote off a contract name.
fn split_quote(word: &str, naming: Naming) -> Symbol<'_> {
    let whole = Symbol { base: word, quote: None };
    let fits = |quote: &str| word.strip_suffix(quote).filter(|base| !base.is_empty());
    if naming == Naming::Spot {
        return match fits("USDT") {
            Some(base) if !matches!(base, "B" | "T") => Symbol { base, quote: Some("USDT") },
            _ => whole,
        };
    }
    // "BNBUSD_PERP", "BTCUSD_0326": what follows the quote is the kind or the day of settlement.
    let word = word.split_once('_').map_or(word, |(name, _)| name);
    let fits = |quote: &str| word.strip_suffix(quote).filter(|base| !base.is_empty());
    if let Some(base) = fits("U").filter(|base| QUOTED_IN_U.contains(base)) {
        return Symbol { base, quote: Some("U") };
    }
    for quote in CONTRACT_QUOTES {
        let Some(base) = fits(quote) else { continue };
        // BNBUSD ends in BUSD by accident: nobody trades BN.
        let accident = quote == "BUSD" && (naming == Naming::CoinMargined || base.chars().count() < 3);
        if !accident {
            return Symbol { base, quote: Some(quote) };
        }
    }
    whole
}

/// Whether a bare word has the look of a symbol.
fn is_upper(word: &str) -> bool {
    is_symbol_text(word) && !word.chars().any(char::is_lowercase)
}

/// Letters and digits only, at least one letter, no leverage (`50X`) and no Hangul, which is a name.
fn is_symbol_text(word: &str) -> bool {
    let mut letters = 0;
    for c in word.chars() {
        match c {
            // The circled letters of USDⓈ-M are letters to Unicode.
            '\u{2460}'..='\u{24ff}' | '\u{ac00}'..='\u{d7a3}' => return false,
            _ if c.is_ascii_digit() => {}
            _ if c.is_alphabetic() => letters += 1,
            _ => return false,
        }
    }
    letters > 0 && word.len() <= limits::TICKER_BYTES && !is_leverage(word)
}

/// Digits only.
fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

/// `50X`, `12x`, but not `1000X`, which is a multiplied symbol.
fn is_leverage(word: &str) -> bool {
    word.strip_suffix(['x', 'X'])
        .is_some_and(|n| matches!(n.len(), 2 | 3) && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A character that can stand inside a word.
const fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '-' | '/' | '.' | '\'' | '_' | '$' | '+')
        || (!c.is_ascii() && !is_mark(c))
}

/// Signs beyond ASCII that are neither letters nor parts of words.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{a0}'..='\u{bf}' | '\u{d7}' | '\u{2000}'..='\u{206f}' | '\u{2600}'..='\u{27bf}' | '\u{3000}'..='\u{303f}' | '\u{1f000}'..='\u{1ffff}')
}

/// A word or a single other character of a title.
#[derive(Clone, Copy)]
enum Piece<'t> {
    Word(&'t str),
    Sign(char),
}

/// Cuts a folded title into words and signs; blanks are dropped. Where `scripts` is true a change
/// between ASCII and another script also ends a word, as Chinese needs.
struct Pieces<'t> {
    rest: &'t str,
    scripts: bool,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        let length = if is_word_char(first) {
            let other = |c: char| !is_word_char(c) || (self.scripts && c.is_ascii() != first.is_ascii());
            self.rest.find(other).unwrap_or(self.rest.len())
        } else {
            first.len_utf8()
        };
        let (piece, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let word = piece.trim_matches(['.', '\'', '-', '/', '+']);
        Some(if is_word_char(first) && !word.is_empty() { Piece::Word(word) } else { Piece::Sign(first) })
    }
}

/// The first list of bare symbols in `text`: `A, B & C and D`. Words before it are skipped;
/// parentheses are skipped too, so `U (Union), K` is U and K. With `whole` it must reach the end.
pub(super) fn bare_list(text: &str, naming: Naming, scripts: bool, whole: bool) -> Found {
    let mut found = Found::default();
    let mut depth = 0_u32;
    let mut joined = true;
    let mut pieces = Pieces { rest: text, scripts };
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Sign('(' | '[') => depth += 1,
            Piece::Sign(')' | ']') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Piece::Sign(',' | '&' | '+' | '/' | ';') => joined = true,
            Piece::Word("and" | "And" | "or" | "和" | "与" | "及") => joined = true,
            // In a title all in capitals it is no symbol.
            Piece::Word("AND") if !joined => joined = true,
            // "AAAUSDT and COIN-M BBBUSD": the list goes on in another margin.
            Piece::Word(word) if joined && is_margin(word) => {}
            Piece::Sign(_) | Piece::Word(_) => {
                let read = match piece {
                    // Cut by script, a word of another script is Chinese prose.
                    Piece::Word(word) if (joined || found.is_empty()) && (!scripts || word.is_ascii()) => {
                        symbol(word, naming).or_else(|| perp_itself(word, pieces.rest))
                    }
                    _ => None,
                };
                match read {
                    Some(symbol) => found.keep(symbol),
                    None if whole => return Found::default(),
                    None if !found.is_empty() => return found,
                    None => {}
                }
                joined = false;
            }
        }
    }
    found
}

/// PERP where it is an asset ("PERP Perpetual Contract") and not the kind of contract.
fn perp_itself<'t>(word: &'t str, after: &str) -> Option<Symbol<'t>> {
    (word == "PERP" && after.trim_start().starts_with("Perpetual"))
        .then_some(Symbol { base: word, quote: None })
}

/// A bare list at the very beginning of `text`, or after "for".
pub(super) fn list_at_once(text: &str, naming: Naming) -> Found {
    let text = text.trim_start();
    let list = text.strip_prefix("for ").or_else(|| text.strip_prefix("For ")).unwrap_or(text);
    match (Pieces { rest: list, scripts: false }).next() {
        Some(Piece::Word(word)) if symbol(word, naming).is_some() => bare_list(list, naming, false, false),
        _ => Found::default(),
    }
}

/// `COIN-M`, `USDⓈ-Margined`, `BUSD-Margined`.
fn is_margin(word: &str) -> bool {
    word.ends_with("-M") || word.ends_with("-Margined") || word.ends_with("-margined")
}

/// Every pair written `A/B` or `A-B` in `text`.
pub(super) fn pairs(text: &str) -> Found {
    let mut found = Found::default();
    for piece in (Pieces { rest: text, scripts: false }) {
        if let Piece::Word(word) = piece
            && let Some(symbol) = symbol(word, Naming::Spot)
            && symbol.quote.is_some()
            && word.contains(['/', '-'])
        {
            found.keep(symbol);
        }
    }
    found
}

/// A parenthesis and the text before it.
struct Group<'t> {
    before: &'t str,
    inside: &'t str,
}

/// The innermost parentheses of `text`, left to right.
fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.match_indices(')').filter_map(|(close, _)| {
        let head = text.get(..close)?;
        let open = head.rfind('(')?;
        let inside = head.get(open + 1..)?;
        // A second `)` with no `(` of its own would find an outer, already read one.
        (!inside.contains(')')).then_some(Group { before: text.get(..open)?, inside: inside.trim() })
    })
}

/// Symbols introduced by parentheses in `text`: `Name (T)`, and `T (Name)` where `symbol_first`
/// says that the exchange writes so or the parenthesis holds no symbol.
pub(super) fn parenthesised(text: &str, naming: Naming, symbol_first: bool) -> Found {
    let mut found = Found::default();
    for group in groups(text) {
        let (before, last) = last_word(group.before);
        let outside = symbol(last, naming);
        let inside = inside_symbol(group.inside, naming);
        // "DIA (DIA)" and "ASP (ASPECTA)" differ only in the exchange's habit.
        let alone = symbol_first && outside.is_some() && !ends_in_name(before);
        let upper = !group.inside.chars().any(char::is_lowercase);
        match (outside, inside) {
            (Some(outer), _) if alone => found.keep(outer),
            (Some(outer), Some(_)) if !upper => found.keep(outer),
            (_, Some(inner)) => found.keep(inner),
            (Some(outer), None) if is_name(group.inside) => found.keep(outer),
            // "4 (4)": a number is a symbol where its name is the same.
            (None, None) if last == group.inside && is_number(last) => {
                found.keep(Symbol { base: last, quote: None });
            }
            (_, None) => keep_all(&mut found, group.inside, naming),
        }
    }
    found
}

/// The word just before a parenthesis, and what stands before it.
fn last_word(text: &str) -> (&str, &str) {
    let text = text.trim_end();
    let cut = text
        .rfind(|c: char| !is_word_char(c))
        .map_or(0, |at| at + text.get(at..).and_then(|s| s.chars().next()).map_or(0, char::len_utf8));
    text.split_at_checked(cut).unwrap_or(("", text))
}

/// Whether the text before a symbol ends in a capitalised word, so that the symbol is the last
/// word of a name ("Pump AI (PUMPAI)").
fn ends_in_name(before: &str) -> bool {
    let (_, word) = last_word(before);
    before.ends_with(' ') && !before.trim_end().ends_with(',') && word.starts_with(|c: char| c.is_uppercase())
}

/// The one symbol inside a parenthesis, in any case ("XAUt"), if it is one.
fn inside_symbol(inside: &str, naming: Naming) -> Option<Symbol<'_>> {
    let inside = inside.trim_start_matches('$');
    let has_mark = inside.chars().any(|c| c.is_uppercase() || c.is_ascii_digit() || !c.is_ascii());
    let split = symbol(inside, naming);
    if split.is_some() {
        return split;
    }
    let word = NOT_SYMBOLS.contains(&inside) && !SYMBOLS_IN_PARENTHESES.contains(&inside);
    let known_word = word || FIAT.contains(&inside) || inside.starts_with("ERC");
    (has_mark && is_symbol_text(inside) && !known_word).then_some(Symbol { base: inside, quote: None })
}

/// A symbol spelt in mixed case ("XAUt"), where its place leaves no doubt that it is one.
pub(super) fn mixed_case(word: &str) -> Option<Symbol<'_>> {
    is_symbol_text(word).then_some(Symbol { base: word, quote: None })
}

/// Whether a parenthesis holds a name: words, none of them about time or state.
fn is_name(inside: &str) -> bool {
    let first = inside.chars().next();
    first.is_some_and(char::is_alphabetic)
        && inside.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '.' | '-' | '\'' | '&'))
        && !["UTC", "old", "new", "token", "Token", "network"].iter().any(|w| inside.contains(w))
}

/// A list inside one parenthesis: `(AAA, BBB)`. All of it or nothing.
fn keep_all(found: &mut Found, inside: &str, naming: Naming) {
    let parts = || inside.split([',', '&']).map(str::trim);
    if parts().count() > 1 && parts().all(|p| symbol(p, naming).is_some()) {
        parts().filter_map(|p| symbol(p, naming)).for_each(|s| found.keep(s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found) -> String {
        found.tickers.iter().map(Ticker::as_str).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn quotes_are_taken_off_contract_names() {
        let rows = [
            ("BTCUSDT", Naming::Contract, "BTC", Some("USDT")),
            ("BUSDT", Naming::Contract, "B", Some("USDT")),
            ("USUSDT", Naming::Contract, "US", Some("USDT")),
            ("USDCUSDT", Naming::Contract, "USDC", Some("USDT")),
            ("FTTBUSD", Naming::Contract, "FTT", Some("BUSD")),
            ("BNBUSD", Naming::Contract, "BNB", Some("USD")),
            ("SHIBUSD", Naming::CoinMargined, "SHIB", Some("USD")),
            ("SPCXUSD1", Naming::Contract, "SPCX", Some("USD1")),
            ("BTCU", Naming::Contract, "BTC", Some("U")),
            ("TUTU", Naming::Contract, "TUTU", None),
            ("NEIROETH", Naming::Contract, "NEIROETH", None),
            ("1000SATS", Naming::Contract, "1000SATS", None),
            ("龙虾USDT", Naming::Contract, "龙虾", Some("USDT")),
            ("BNBUSD_PERP", Naming::CoinMargined, "BNB", Some("USD")),
            ("4USDT", Naming::Contract, "4", Some("USDT")),
            ("BFUSD", Naming::Spot, "BFUSD", None),
            ("USDT", Naming::Spot, "USDT", None),
            ("ALU/USDT", Naming::Spot, "ALU", Some("USDT")),
            ("USDC-AUD", Naming::Spot, "USDC", Some("AUD")),
        ];
        for (word, naming, base, quote) in rows {
            assert_eq!(symbol(word, naming), Some(Symbol { base, quote }), "{word}");
        }
        for word in [
            "50X",
            "125x",
            "2026",
            "500USDT",
            "USDT",
            "USDⓈ-M",
            "X-Perp",
            "Spot/Convert",
            "UTC",
            "리플",
            "Sep",
            "",
        ] {
            assert_eq!(symbol(word, Naming::Contract), None, "{word}");
        }
    }

    #[test]
    fn bare_lists_end_at_the_first_word() {
        let rows = [
            (" A, B & C and D on 2026-01-01", "A,B,C,D"),
            (" USDⓈ-Margined AAAUSDT, BBBUSDT, and CCC Perpetual", "AAA,BBB,CCC"),
            (" U (Union), K (2026-01-01)", "U,K"),
            (" USDⓈ-M 4USDT, 1000XUSDT and COIN-M CCCUSD Perpetual", "4,1000X,CCC"),
            (" USDⓈ-M PERP Perpetual Contract", "PERP"),
            (" USDC PERP", ""),
            (" A + B / C AND D on 2026-01-01", "A,B,C,D"),
            (" the new thing", ""),
            (" BEP2 TrueThing", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(names(&bare_list(text, Naming::Contract, false, false)), expected, "{text}");
        }
        assert_eq!(names(&bare_list(" AAA, BBB", Naming::Spot, false, true)), "AAA,BBB");
        assert_eq!(names(&bare_list(" AAA, BBB on Earn", Naming::Spot, false, true)), "");
    }

    #[test]
    fn parentheses_in_both_orders() {
        let rows = [
            (" Some Coin (SOME) and Other (OTH)", false, "SOME,OTH"),
            (" SOPH (Sophon) for spot trading", false, "SOPH"),
            (" OLD(Walton)", false, "OLD"),
            (" ASP (ASPECTA) for spot", true, "ASP"),
            (" Virtual Thing AI (VTAI) for spot", true, "VTAI"),
            (" Metal (XAUt) with a tag", false, "XAUT"),
            (" Thing on the X network (ERC-20 token).", false, ""),
            (" AAA trading pairs(s) (UTC) (2026-01-01) (old)", false, ""),
            (" 币安人生 (币安人生)", false, "币安人生"),
            (" aPriori (APR), APENFT (NFT) at 08:00 (UTC)", false, "APR,NFT"),
            (" 4 (4) and Season (2)", false, "4"),
            (" new (AAA, BBB)", false, "AAA,BBB"),
        ];
        for (text, symbol_first, expected) in rows {
            assert_eq!(names(&parenthesised(text, Naming::Spot, symbol_first)), expected, "{text}");
        }
    }
}
