//! What is held out: whole exchanges, and years to come.
//!
//! Contract: [`held_out`] trains once for each part, weights and calibration, on nothing that is in the
//! part, and scores the part.

use tocsin_core::model::Exchange;
use tocsin_core::score::Model;

use crate::fit;
use crate::measure::Scored;
use crate::titles::Title;

/// A part of the titles that a model is measured on and was not trained on.
pub struct Part {
    /// Name in the report.
    pub name: String,
    /// Titles trained on.
    pub trained_on: usize,
    /// Titles of the part, each with its score.
    pub scored: Vec<(Scored, Title)>,
}

/// Every exchange with this many titles is held out alone, the others together.
const ALONE: usize = 20;

/// Leaves out one exchange after the other.
///
/// # Errors
/// As [`fit::train`].
pub fn by_exchange(titles: &[Title]) -> Result<Vec<Part>, String> {
    let count = |exchange| titles.iter().filter(|title| title.exchange == exchange).count();
    let (alone, few): (Vec<Exchange>, Vec<Exchange>) =
        Exchange::ALL.into_iter().filter(|e| count(*e) > 0).partition(|e| count(*e) >= ALONE);
    let mut groups: Vec<Vec<Exchange>> = alone.into_iter().map(|e| vec![e]).collect();
    groups.extend((!few.is_empty()).then_some(few));
    let part = |group: &Vec<Exchange>| {
        let names: Vec<&str> = group.iter().map(|e| e.name()).collect();
        held_out(names.join(", "), titles, |_| true, |title| group.contains(&title.exchange))
    };
    groups.iter().map(part).collect()
}

/// The year of the cut in time.
pub const CUT: u16 = 2025;

/// Trains on titles known to be older than [`CUT`] and measures those known to be of it or later. Titles
/// of unknown age are on neither side.
///
/// # Errors
/// As [`fit::train`].
pub fn by_time(titles: &[Title]) -> Result<Part, String> {
    let known = |title: &Title| title.year.is_some();
    held_out(format!("{CUT} and later"), titles, known, |title| title.year.is_some_and(|y| y >= CUT))
}

fn held_out(
    name: String,
    titles: &[Title],
    counts: impl Fn(&Title) -> bool,
    out: impl Fn(&Title) -> bool,
) -> Result<Part, String> {
    let (held, rest): (Vec<&Title>, Vec<&Title>) = titles.iter().filter(|t| counts(t)).partition(|t| out(t));
    let bytes = fit::train(0, &rest).map_err(|error| format!("without {name}: {error}"))?;
    let model = Model::read(&bytes).map_err(|error| error.to_string())?;
    let score = |title: &Title| Scored { score: model.score(&title.features), plain: title.plain };
    let scored = held.into_iter().map(|title| (score(title), title.clone())).collect();
    Ok(Part { name, trained_on: rest.len(), scored })
}
