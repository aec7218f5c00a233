//! The estimator and the rule, case by case. How well the rule does is measured by
//! `examples/spike_eval.rs`.

use super::*;

/// Twenty-four symbols that trade 1,000 a slot; answers say the sum of the last day.
struct Tape {
    detector: SpikeDetector,
    traded: Vec<Vec<f64>>,
    slot: usize,
    /// Microseconds in it.
    length: i64,
}

impl Tape {
    fn new(rules: SpikeRules) -> Tape {
        let traded = vec![vec![1_000.0; SLOTS]; 24];
        Tape { detector: SpikeDetector::new(rules), traded, slot: SLOTS, length: micros(rules.slot) }
    }

    /// A slot in which symbol 0 trades `first` and the others `others`; three answers near its end.
    fn slot(&mut self, first: f64, others: f64, dollars: Option<f64>) -> Vec<Spike> {
        let mut found = Vec::new();
        for (number, traded) in self.traded.iter_mut().enumerate() {
            // Some unevenness, so that there is a deviation.
            let uneven = 1.0 + 0.1 * ((self.slot * 7 + number * 3) % 5) as f64;
            traded.push(uneven * if number == 0 { first } else { others });
        }
        for part in [20, 24, 28] {
            let received = WallUs(self.slot as i64 * self.length + self.length * part / 30);
            self.detector.advance(received, &mut |_| dollars, &mut |spike| found.push(spike));
            for (number, traded) in self.traded.iter().enumerate() {
                let day: f64 = traded[traded.len() - SLOTS..].iter().sum();
                self.detector.sample(&format!("S{number}"), day);
            }
        }
        self.slot += 1;
        found
    }

    fn slots(&mut self, count: usize, first: f64, others: f64) -> Vec<Spike> {
        (0..count).flat_map(|_| self.slot(first, others, Some(10.0))).collect()
    }
}

#[test]
fn a_spike_is_told_once_and_again_only_after_a_rest() {
    let mut tape = Tape::new(SpikeRules::default());
    assert!(tape.slots(300, 1_000.0, 1_000.0).is_empty());
    let found = tape.slots(6, 10_000.0, 1_000.0);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].symbol.as_ref(), "S0");
    assert!((5.0..12.0).contains(&found[0].ratio), "{}", found[0].ratio);
    assert!(found[0].window_usd > 150_000.0 && found[0].volume_24h > 3e6, "{:?}", found[0]);
    assert!(tape.slots(12, 1_000.0, 1_000.0).is_empty());
    assert!(tape.slots(4, 10_000.0, 1_000.0).is_empty(), "within the cooldown");
    assert!(tape.slots(80, 1_000.0, 1_000.0).is_empty());
    assert_eq!(tape.slots(6, 30_000.0, 1_000.0).len(), 1);
}

#[test]
fn a_day_later_what_leaves_the_window_is_no_spike() {
    let mut tape = Tape::new(SpikeRules::default());
    tape.slots(300, 1_000.0, 1_000.0);
    tape.slots(12, 10_000.0, 1_000.0);
    assert!(tape.slots(600, 1_000.0, 1_000.0).is_empty());
    let series = &tape.detector.series[0];
    let worst = series.ring.iter().fold(0.0_f32, |worst, x| worst.max((x - 1_200.0).abs()));
    assert!(worst < 700.0, "off by little more than half of what was traded: {worst}");
}

#[test]
fn an_estimate_wrong_a_day_ago_is_no_spike_today() {
    let mut tape = Tape::new(SpikeRules::default());
    tape.slots(300, 1_000.0, 1_000.0);
    for ahead in 6..12 {
        set(&mut tape.detector.series[0].ring, (tape.slot + ahead) as u64, 12_000.0);
    }
    assert!(tape.slots(24, 1_000.0, 1_000.0).is_empty());
    let high = tape.detector.series[0].ring.iter().filter(|traded| **traded > 6_000.0).count();
    assert!(high >= 5, "the error stands, and is not judged");
}

#[test]
fn the_whole_market_is_no_spike_nor_one_slot_nor_little_money() {
    let mut tape = Tape::new(SpikeRules::default());
    tape.slots(300, 1_000.0, 1_000.0);
    assert!(tape.slots(12, 10_000.0, 10_000.0).is_empty(), "everything rose");
    tape.slots(300, 1_000.0, 1_000.0);
    assert!(tape.slots(1, 50_000.0, 1_000.0).is_empty(), "a block");
    tape.slots(100, 1_000.0, 1_000.0);
    let found: Vec<Spike> = (0..6).flat_map(|_| tape.slot(10_000.0, 1_000.0, Some(0.1))).collect();
    assert!(found.is_empty(), "a few thousand dollars");
    let found: Vec<Spike> = (0..6).flat_map(|_| tape.slot(10_000.0, 1_000.0, None)).collect();
    assert!(found.is_empty() && tape.detector.counts().unpriced > 0, "no price, no minimum to pass");
}

#[test]
fn a_shortened_day_has_as_many_slots() {
    let slot = Duration::from_millis(500);
    let cooldown = SpikeRules::default().cooldown / 600;
    let mut tape = Tape::new(SpikeRules { slot, cooldown, ..SpikeRules::default() });
    tape.slots(300, 1_000.0, 1_000.0);
    assert_eq!(tape.slots(6, 10_000.0, 1_000.0).len(), 1);
    assert!(tape.slots(12, 1_000.0, 1_000.0).is_empty());
    assert!(tape.slots(4, 10_000.0, 1_000.0).is_empty(), "within the cooldown");
    assert!(tape.slots(80, 1_000.0, 1_000.0).is_empty());
    assert_eq!(tape.slots(6, 30_000.0, 1_000.0).len(), 1, "the cooldown is of slots of this length");
}

#[test]
fn nothing_is_told_before_it_is_warm() {
    let mut tape = Tape::new(SpikeRules::default());
    tape.slots(100, 1_000.0, 1_000.0);
    assert!(tape.slots(12, 10_000.0, 1_000.0).is_empty());
}

#[test]
fn a_sum_that_collapses_is_a_gap_and_anew_if_it_stands() {
    let mut tape = Tape::new(SpikeRules::default());
    tape.slots(300, 1_000.0, 1_000.0);
    for _ in 0..6 {
        let received = WallUs(tape.slot as i64 * tape.length + tape.length / 2);
        tape.detector.advance(received, &mut |_| Some(10.0), &mut |spike| panic!("{spike:?}"));
        for number in 0..24 {
            tape.detector.sample(&format!("S{number}"), 0.0);
        }
        for traded in &mut tape.traded {
            traded.push(1_000.0);
        }
        tape.slot += 1;
    }
    assert!(tape.slots(50, 1_000.0, 1_000.0).is_empty(), "nothing was sold in those minutes");
    assert_eq!(tape.detector.counts().restarted, 0);
}

#[test]
fn it_watches_so_many_and_no_nonsense() {
    let mut detector = SpikeDetector::new(SpikeRules::default());
    detector.sample("EARLY", 1.0);
    detector.advance(WallUs::from_secs(1_000_000), &mut |_| None, &mut |_| {});
    for number in 0..=limits::MARKET_VOLUMES {
        detector.sample(&format!("S{number}"), 1.0);
    }
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        detector.sample("S0", bad);
    }
    assert_eq!(detector.len(), limits::MARKET_VOLUMES);
    assert_eq!(detector.counts().unwatched, 5);
    assert_eq!(detector.volume("S0"), Some(1.0));
}
