//! Numbers as people read them: three digits and a unit.
//!
//! Contract: pure; allocates the text. Nothing fails.

use crate::result::{Target, Unit};

/// `value` of `unit`.
#[must_use]
pub fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds => nanoseconds(value),
        Unit::Bytes => scaled(value, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        Unit::PerSecond => format!("{} /s", plain(value)),
        Unit::Plain => plain(value),
    }
}

/// A time.
#[must_use]
pub fn nanoseconds(ns: f64) -> String {
    scaled(ns, 1_000.0, &["ns", "µs", "ms", "s"])
}

/// What is promised.
#[must_use]
pub fn target(unit: Unit, target: Target) -> String {
    match target {
        Target::AtMost(bound) => format!("≤ {}", value(unit, bound)),
        Target::AtLeast(bound) => format!("≥ {}", value(unit, bound)),
    }
}

/// A share of two values.
#[must_use]
pub fn ratio(ratio: f64) -> String {
    format!("{ratio:.3}")
}

/// A count with its thousands apart.
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What rounds to the next unit is written in it.
    while value.abs() >= step - 0.5 {
        let Some(next) = units.next() else { break };
        unit = next;
        value /= step;
    }
    format!("{} {unit}", digits(value))
}

fn plain(value: f64) -> String {
    if value.abs() >= 1_000.0 && value.abs() < 1e15 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(value.abs().round() as u64));
    }
    digits(value)
}

/// Three significant digits, whole numbers without a point.
fn digits(value: f64) -> String {
    let size = value.abs();
    if (value.fract() == 0.0 && size < 1_000.0) || size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        let rows = [
            (Unit::Nanoseconds, 0.0, "0 ns"),
            (Unit::Nanoseconds, 999.0, "999 ns"),
            (Unit::Nanoseconds, 999.7, "1.000 µs"),
            (Unit::Nanoseconds, 1_234.0, "1.23 µs"),
            (Unit::Nanoseconds, 45_678_901.0, "45.7 ms"),
            (Unit::Nanoseconds, 7_200e9, "7200 s"),
            (Unit::Bytes, 1_536.0, "1.50 KiB"),
            (Unit::PerSecond, 1_234_567.0, "1,234,567 /s"),
            (Unit::Plain, 0.5, "0.500"),
            (Unit::Plain, -12_345.0, "-12,345"),
            (Unit::Plain, 42.0, "42"),
        ];
        for (unit, number, text) in rows {
            assert_eq!(value(unit, number), text, "{number}");
        }
        assert_eq!(target(Unit::Nanoseconds, Target::AtMost(30_000.0)), "≤ 30 µs");
        assert_eq!([count(0), count(999), count(1_000)], ["0", "999", "1,000"]);
    }
}
