//! The evaluation as people read it, and the targets it is held to.
//!
//! Contract: [`evaluate`] trains once for every part held out and writes tables in Markdown.

use std::fmt::Write as _;

use crate::measure::{self, Scored};
use crate::splits::{self, Part};
use crate::titles::Title;

/// "expected calibration error <= 0.05".
pub const ECE_AT_MOST: f64 = 0.05;
/// "AUC >= 0.99".
pub const AUC_AT_LEAST: f64 = 0.99;

/// What an evaluation found.
pub struct Report {
    /// Scores of all titles, each by a model that knew nothing of its exchange.
    pub exchanges: Vec<Scored>,
    /// Scores of the titles after the cut in time, by a model of those before it.
    pub time: Vec<Scored>,
    /// All of it, for people.
    pub text: String,
}

/// Holds out exchanges, then years.
///
/// # Errors
/// The titles are too few or of one kind only.
pub fn evaluate(titles: &[Title]) -> Result<Report, String> {
    let parts = splits::by_exchange(titles)?;
    let time = splits::by_time(titles)?;
    let of = |part: &Part| part.scored.iter().map(|(scored, _)| *scored).collect::<Vec<Scored>>();
    let exchanges: Vec<Scored> = parts.iter().flat_map(&of).collect();
    let mut text = String::from(
        "| Held out | Trained on | Titles | Plain | AUC | 95 % | ECE | 95 % |\n|---|---|---|---|---|---|---|---|\n",
    );
    for part in &parts {
        row(&mut text, &part.name, &part.trained_on.to_string(), &of(part));
    }
    row(&mut text, "**each exchange in turn**", "", &exchanges);
    row(&mut text, &format!("**{}**", time.name), &time.trained_on.to_string(), &of(&time));
    for (name, scored) in [("Each exchange in turn", &exchanges), (time.name.as_str(), &of(&time))] {
        reliability(&mut text, name, scored);
    }
    text.push_str("\nOn the wrong side of 50:\n");
    for part in parts.iter().chain([&time]) {
        for (scored, title) in part.scored.iter().filter(|(scored, _)| scored.plain != (scored.score >= 50)) {
            let kind = if scored.plain { "plain" } else { "not plain" };
            let _ = writeln!(text, "- without {}: {} ({kind}) {}", part.name, scored.score, title.text);
        }
    }
    Ok(Report { exchanges, time: of(&time), text })
}

fn row(text: &mut String, name: &str, trained_on: &str, scored: &[Scored]) {
    let range = |found: Option<(f64, f64)>| {
        found.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"))
    };
    let auc = measure::auc(scored).map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"));
    let _ = writeln!(
        text,
        "| {name} | {trained_on} | {} | {} | {auc} | {} | {:.4} | {} |",
        scored.len(),
        scored.iter().filter(|one| one.plain).count(),
        range(measure::interval(scored, measure::auc)),
        measure::ece(scored),
        range(measure::interval(scored, |drawn| Some(measure::ece(drawn)))),
    );
}

fn reliability(text: &mut String, name: &str, scored: &[Scored]) {
    let _ =
        write!(text, "\n{name}:\n\n| Score | Titles | Mean score | Plain, per cent |\n|---|---|---|---|\n");
    for (at, bin) in measure::bins(scored).iter().enumerate().filter(|(_, bin)| bin.titles > 0) {
        let (from, to) = ((10 * at).max(1), 10 * at + 9);
        let _ =
            writeln!(text, "| {from} to {to} | {} | {:.1} | {:.1} |", bin.titles, bin.mean(), bin.share());
    }
}
