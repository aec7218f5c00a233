//! Labelled titles, as far as they would make events.
//!
//! Contract: [`read`] takes the text of a JSON Lines file, an object a line with `exchange`, `title`,
//! `listing_type`, `tickers`, `ambiguous`, `alt_tickers` and, where known, `published` and `provenance`.
//! It fails on the first line it cannot read and names it. The order of the file is kept.

use serde::Deserialize;
use tocsin_core::classify::classify;
use tocsin_core::model::{CategoryHint, Exchange, ListingType};
use tocsin_core::score::Features;

#[derive(Deserialize)]
struct Row {
    exchange: String,
    title: String,
    listing_type: String,
    #[serde(default)]
    tickers: Vec<String>,
    #[serde(default)]
    ambiguous: bool,
    alt_tickers: Option<Vec<String>>,
    published: Option<String>,
    #[serde(default)]
    provenance: String,
}

/// A title that would make events, and what people said of it.
#[derive(Clone, Debug)]
pub struct Title {
    /// Who published it.
    pub exchange: Exchange,
    /// As published.
    pub text: String,
    /// What the model looks at.
    pub features: Features,
    /// The label: people, without a second reading, say the type and the symbols the classifier says.
    pub plain: bool,
    /// The year it was published in, where that is known.
    pub year: Option<u16>,
    /// The same for titles that differ in symbols and numbers only: they stay on one side of every split.
    pub family: u64,
}

/// Reads a file of labelled titles; titles that make no event are left out.
///
/// # Errors
/// A line is not such an object, or is of an unknown exchange.
pub fn read(text: &str) -> Result<Vec<Title>, String> {
    let mut titles = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))?;
        let exchange = Exchange::parse(&row.exchange)
            .ok_or_else(|| format!("line {}: unknown exchange {:?}", at + 1, row.exchange))?;
        titles.extend(title(exchange, row));
    }
    Ok(titles)
}

fn title(exchange: Exchange, row: Row) -> Option<Title> {
    let year = year_of(&row);
    let said = classify(exchange, &row.title, CategoryHint::None);
    if said.listing_type == ListingType::NotListing || said.tickers.is_empty() {
        return None;
    }
    let symbols: Vec<&str> = said.tickers.iter().map(tocsin_core::model::Ticker::as_str).collect();
    let same_symbols = row.tickers == symbols || row.alt_tickers.is_some_and(|other| other == symbols);
    let plain = !row.ambiguous && row.listing_type == said.listing_type.name() && same_symbols;
    let features = Features::read(exchange, &row.title, &said);
    let family = family(&features);
    Some(Title { exchange, text: row.title, features, plain, year, family })
}

/// Of the slots that are set: titles of one form have one family, whatever they are about.
fn family(features: &Features) -> u64 {
    features.slots().fold(0x9e37_79b9_7f4a_7c15, |hash, slot| mixed(hash ^ slot as u64))
}

/// One step of splitmix64.
pub(crate) fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The year of a row: of `published`; else of the date in its own title; else, in the corpus the shipped
/// model was trained on, 2021 for pages captured in the years to 2021 (`html_capture`) and 2025 for what a
/// relay passed on from 2025 on (`relay`). Good for a cut between those two and for no other.
fn year_of(row: &Row) -> Option<u16> {
    let era = match row.provenance.as_str() {
        "html_capture" => Some(2021),
        "relay" => Some(2025),
        _ => None,
    };
    row.published.as_deref().and_then(year_in).or_else(|| year_in(&row.title)).or(era)
}

/// The first number from 2017 to 2039 that stands alone.
fn year_in(text: &str) -> Option<u16> {
    let numbers = text.split(|c: char| !c.is_alphanumeric()).filter(|n| n.len() == 4);
    numbers.filter_map(|number| number.parse().ok()).find(|year| (2017..2040).contains(year))
}
