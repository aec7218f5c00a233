//! Fits weights and calibration, and turns them into a model of the engine.
//!
//! Contract: single-threaded, without a random source: the same titles give the same bytes. Fails only
//! where the titles are too few or all of one kind.
//!
//! Weights: logistic regression with an L2 penalty over the slots seen in at least [`SEEN_AT_LEAST`]
//! titles, minimised by smartcore's L-BFGS. Its ready-made `LogisticRegression` is the same minimiser over
//! a dense matrix; a title sets some forty of thousands of slots, so the sum is written out here and takes
//! milliseconds instead of minutes. Calibration: Platt's two numbers, fitted on sums that each came from weights
//! which had not seen the title nor any of its form: the titles are dealt into [`FOLDS`] folds by family,
//! and each fold is summed with weights of the others.

use smartcore::optimization::FunctionOrder;
use smartcore::optimization::first_order::FirstOrderOptimizer;
use smartcore::optimization::first_order::lbfgs::LBFGS;
use smartcore::optimization::line_search::Backtracking;
use tocsin_core::score::{EVIDENCE_SLOTS, Evidence, Features, HIGHEST, LOWEST, Model, SLOTS};

use crate::titles::{Title, mixed};

/// Folds the calibration is fitted over.
pub const FOLDS: u64 = 5;
/// A slot seen in fewer titles is given no weight.
pub const SEEN_AT_LEAST: usize = 3;
/// Strength of the penalty on weights.
pub const PENALTY: f64 = 0.5;
/// Evidence with a name counts so much more than a word before the penalty feels it.
pub const EVIDENCE_SCALE: f64 = 2.0;
/// And the evidence that all kinds of second reading share: what carries over to kinds not seen.
pub const SECOND_READING_SCALE: f64 = 6.0;
/// Units of a sum in one natural logarithm of odds.
const UNITS: f64 = 1_024.0;
/// Kept clear of the range of an `i16`.
const LARGEST_WEIGHT: f64 = 30.0;

/// Weights and bias in logarithms of odds.
struct Weights {
    bias: f64,
    slots: Vec<(usize, f64)>,
}

impl Weights {
    fn quantised(&self) -> (i32, Box<[i16; SLOTS]>) {
        let mut weights = Box::new([0; SLOTS]);
        for &(slot, weight) in &self.slots {
            if let Some(place) = weights.get_mut(slot) {
                *place = rounded(weight.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT) * UNITS) as i16;
            }
        }
        (rounded(self.bias * UNITS), weights)
    }
}

/// Trains on `titles`: the bytes of a model, marked with the fingerprint of the file they are of.
///
/// # Errors
/// The titles are too few or of one kind only.
pub fn train(trained_on: u64, titles: &[&Title]) -> Result<Vec<u8>, String> {
    let mut sums = Vec::with_capacity(titles.len());
    for fold in 0..FOLDS {
        let in_fold = |title: &Title| mixed(title.family) % FOLDS == fold;
        let others: Vec<&Title> = titles.iter().copied().filter(|title| !in_fold(title)).collect();
        let (bias, weights) = weights(&others)?.quantised();
        let bytes = Model::write(trained_on, bias, &[0; THRESHOLDS], &weights);
        let model = Model::read(&bytes).map_err(|error| error.to_string())?;
        let held_out = titles.iter().filter(|title| in_fold(title));
        sums.extend(held_out.map(|title| (f64::from(model.sum(&title.features)) / UNITS, title.plain)));
    }
    let (bias, weights) = weights(titles)?.quantised();
    Ok(Model::write(trained_on, bias, &Platt::fit(&sums).thresholds(), &weights))
}

/// Fits weights.
fn weights(titles: &[&Title]) -> Result<Weights, String> {
    let plain = titles.iter().filter(|title| title.plain).count();
    if plain == 0 || plain == titles.len() {
        return Err(format!("{} titles, {plain} of them plain: both kinds are needed", titles.len()));
    }
    let mut seen = vec![0_usize; SLOTS];
    for slot in titles.iter().flat_map(|title| title.features.slots()) {
        if let Some(count) = seen.get_mut(slot) {
            *count += 1;
        }
    }
    let enough = seen.iter().enumerate().filter(|(_, count)| **count >= SEEN_AT_LEAST);
    let columns: Vec<usize> = enough.map(|(slot, _)| slot).collect();
    let loss = Loss::new(titles, &columns);
    let minimiser = LBFGS { max_iter: 500, g_atol: 1e-6, ..LBFGS::default() };
    let line_search = Backtracking { order: FunctionOrder::THIRD, ..Backtracking::default() };
    let start = vec![0.0; columns.len() + 1];
    let found =
        minimiser.optimize(&|x: &Vec<f64>| loss.value(x), &|g, x| loss.gradient(g, x), &start, &line_search);
    let bias = found.x.last().copied().unwrap_or_default();
    let slots = columns.iter().zip(&found.x).map(|(&slot, x)| (slot, x * scale(slot))).collect();
    Ok(Weights { bias, slots })
}

/// What is minimised: the penalised logarithmic loss of weights, with the bias, unpenalised, behind them.
struct Loss {
    /// Of each title the columns that are set with their values, and the label.
    rows: Vec<(Vec<(usize, f64)>, bool)>,
}

impl Loss {
    fn new(titles: &[&Title], columns: &[usize]) -> Loss {
        let row = |features: &Features| {
            let set =
                features.slots().filter_map(|slot| Some((columns.binary_search(&slot).ok()?, scale(slot))));
            set.chain([(columns.len(), 1.0)]).collect()
        };
        Loss { rows: titles.iter().map(|title| (row(&title.features), title.plain)).collect() }
    }

    fn value(&self, x: &[f64]) -> f64 {
        let of_row = |(row, plain): &(Vec<(usize, f64)>, bool)| {
            let toward = if *plain { -sum(row, x) } else { sum(row, x) };
            // ln(1 + e^t) without overflow.
            toward.max(0.0) + (-toward.abs()).exp().ln_1p()
        };
        let penalised = x.split_last().map_or(0.0, |(_, weights)| weights.iter().map(|w| w * w).sum());
        self.rows.iter().map(of_row).sum::<f64>() + PENALTY / 2.0 * penalised
    }

    fn gradient(&self, gradient: &mut [f64], x: &[f64]) {
        for (g, w) in gradient.iter_mut().zip(x) {
            *g = PENALTY * w;
        }
        if let Some(bias) = gradient.last_mut() {
            *bias = 0.0;
        }
        for (row, plain) in &self.rows {
            let error = 1.0 / (1.0 + (-sum(row, x)).exp()) - f64::from(u8::from(*plain));
            for &(column, value) in row {
                if let Some(g) = gradient.get_mut(column) {
                    *g += error * value;
                }
            }
        }
    }
}

fn sum(row: &[(usize, f64)], x: &[f64]) -> f64 {
    row.iter().map(|&(column, value)| value * x.get(column).copied().unwrap_or_default()).sum()
}

fn scale(slot: usize) -> f64 {
    if slot == Evidence::SecondReading as usize {
        SECOND_READING_SCALE
    } else if slot < EVIDENCE_SLOTS {
        EVIDENCE_SCALE
    } else {
        1.0
    }
}

const THRESHOLDS: usize = (HIGHEST - LOWEST) as usize;

/// Platt's calibration: the logarithm of odds is `slope * sum + offset`.
struct Platt {
    slope: f64,
    offset: f64,
}

/// Newton's steps; it has converged after fewer than ten.
const STEPS: usize = 50;

impl Platt {
    /// Maximum likelihood, with Platt's targets, which stand one title of each kind away from certainty.
    fn fit(sums: &[(f64, bool)]) -> Platt {
        let plain = sums.iter().filter(|(_, plain)| *plain).count() as f64;
        let other = sums.len() as f64 - plain;
        let (high, low) = ((plain + 1.0) / (plain + 2.0), 1.0 / (other + 2.0));
        let mut platt = Platt { slope: 1.0, offset: 0.0 };
        for _ in 0..STEPS {
            let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
            for &(sum, plain) in sums {
                let p = 1.0 / (1.0 + (-(platt.slope * sum + platt.offset)).exp());
                let (error, weight) = (p - if plain { high } else { low }, p * (1.0 - p));
                g = [g[0] + error * sum, g[1] + error];
                h = [h[0] + weight * sum * sum, h[1] + weight * sum, h[2] + weight];
            }
            let determinant = h[0] * h[2] - h[1] * h[1];
            if determinant <= 0.0 {
                break;
            }
            platt.slope -= (h[2] * g[0] - h[1] * g[1]) / determinant;
            platt.offset -= (h[0] * g[1] - h[1] * g[0]) / determinant;
        }
        platt
    }

    /// The sums from which on the score is 2, 3, ... 99: where the probability is half a per cent below.
    fn thresholds(&self) -> [i32; THRESHOLDS] {
        core::array::from_fn(|k| {
            let probability = (k as f64 + f64::from(LOWEST) + 0.5) / 100.0;
            let odds = (probability / (1.0 - probability)).ln();
            rounded((odds - self.offset) / self.slope.max(1e-3) * UNITS)
        })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates, and weights are kept far inside")]
fn rounded(value: f64) -> i32 {
    value.round() as i32
}
