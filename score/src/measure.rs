//! How good scores are: area under the curve, calibration error, intervals.
//!
//! Contract: pure and deterministic; the bootstrap draws from a seeded generator.

use crate::titles::mixed;

/// A score beside the label.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// 1 to 99.
    pub score: u8,
    /// The label.
    pub plain: bool,
}

/// Share of pairs of a plain title and another in which the plain one scores higher; equal scores count
/// half. None without both kinds.
#[must_use]
pub fn auc(scored: &[Scored]) -> Option<f64> {
    let mut counts = [[0_u64; 2]; 256];
    for one in scored {
        if let Some(count) = counts.get_mut(usize::from(one.score)) {
            count[usize::from(one.plain)] += 1;
        }
    }
    let (mut halves, mut others) = (0, 0);
    for [other, plain] in counts {
        halves += plain * (2 * others + other);
        others += other;
    }
    let plain: u64 = counts.iter().map(|[_, plain]| plain).sum();
    (plain * others > 0).then(|| halves as f64 / (2 * plain * others) as f64)
}

/// One row of a reliability table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bin {
    /// Titles in it.
    pub titles: usize,
    /// Plain ones.
    pub plain: usize,
    /// Sum of their scores.
    pub scores: u64,
}

impl Bin {
    /// Mean score in per cent.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.scores as f64 / self.titles.max(1) as f64
    }

    /// Share of plain titles in per cent.
    #[must_use]
    pub fn share(&self) -> f64 {
        100.0 * self.plain as f64 / self.titles.max(1) as f64
    }
}

/// Ten bins of ten scores each.
#[must_use]
pub fn bins(scored: &[Scored]) -> [Bin; 10] {
    let mut bins = [Bin::default(); 10];
    for one in scored {
        if let Some(bin) = bins.get_mut(usize::from(one.score / 10).min(9)) {
            bin.titles += 1;
            bin.plain += usize::from(one.plain);
            bin.scores += u64::from(one.score);
        }
    }
    bins
}

/// Expected calibration error: distance of mean score and share of plain titles, over [`bins`], weighted
/// by their titles.
#[must_use]
pub fn ece(scored: &[Scored]) -> f64 {
    let total: f64 =
        bins(scored).iter().map(|bin| bin.titles as f64 * (bin.mean() - bin.share()).abs()).sum();
    total / 100.0 / scored.len().max(1) as f64
}

/// Draws of the bootstrap.
const DRAWS: usize = 2_000;

/// 95 % interval of `figure` by drawing titles with replacement; none where it cannot be computed.
#[must_use]
pub fn interval(scored: &[Scored], figure: impl Fn(&[Scored]) -> Option<f64>) -> Option<(f64, f64)> {
    let mut state = 1_u64;
    let mut drawn = Vec::with_capacity(scored.len());
    let mut values = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        drawn.clear();
        for _ in scored {
            state = state.wrapping_add(1);
            let at = mixed(state) % scored.len() as u64;
            drawn.extend(scored.get(at as usize));
        }
        values.extend(figure(&drawn));
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(of: &[(u8, bool)]) -> Vec<Scored> {
        of.iter().map(|&(score, plain)| Scored { score, plain }).collect()
    }

    #[test]
    fn area_under_the_curve_counts_pairs() {
        for (of, expected) in [
            (vec![(90, true), (10, false)], Some(1.0)),
            (vec![(10, true), (90, false)], Some(0.0)),
            (vec![(50, true), (50, false)], Some(0.5)),
            (vec![(90, true), (40, true), (50, false), (40, false)], Some(0.625)),
            (vec![(90, true)], None),
            (vec![], None),
        ] {
            assert_eq!(auc(&scored(&of)), expected, "{of:?}");
        }
    }

    #[test]
    fn calibration_error_weighs_bins_by_their_titles() {
        assert_eq!(ece(&[]), 0.0);
        // Three titles of 90: two thirds plain, 23.3 off; one of 5 that is not: 5 off.
        let found = ece(&scored(&[(90, true), (90, true), (90, false), (5, false)]));
        assert!((found - (3.0 * (90.0 - 200.0 / 3.0) + 5.0) / 400.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn an_interval_holds_its_figure() {
        let of: Vec<(u8, bool)> = (0..100).map(|at| (at, at % 10 != 0 && at > 30)).collect();
        let scored = scored(&of);
        let (low, high) = interval(&scored, auc).unwrap();
        let here = auc(&scored).unwrap();
        assert!(low < here && here < high && high <= 1.0, "{low} {here} {high}");
        assert_eq!(interval(&scored, auc), Some((low, high)), "the draws are seeded");
        assert_eq!(interval(&[], auc), None);
    }
}
