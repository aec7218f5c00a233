//! Times as exchanges write them: numbers of seconds to nanoseconds, digits in strings, dates
//! with or without an offset.
//!
//! Contract: pure functions; anything that is no plausible time of publication is `None`.

use super::json::Json;
use crate::time::WallUs;

/// Offset of Korea Standard Time, which has no summer time.
pub(crate) const KST_SECS: i64 = 9 * 3_600;
/// Offset of China and Singapore, which have no summer time either.
pub(super) const UTC8_SECS: i64 = 8 * 3_600;
/// No offset.
pub(crate) const UTC_SECS: i64 = 0;

/// Before any exchange existed; zero and other fillers fall below.
const EARLIEST: WallUs = WallUs::from_secs(1_230_768_000);
/// The year 2100: what lies beyond is a unit mistaken for another.
const LATEST: WallUs = WallUs::from_secs(4_102_444_800);

/// The instant `value` stands for; a date without an offset is taken to be `zone_secs` east of UTC.
pub(crate) fn instant(value: Json<'_, '_>, zone_secs: i64) -> Option<WallUs> {
    match value.integer() {
        Some(number) => from_number(number),
        None => from_text(value.str()?.trim(), zone_secs),
    }
}

/// The unit of a number follows from its size: the plausible ranges do not meet.
fn from_number(number: i64) -> Option<WallUs> {
    let us = if number < 100_000_000_000 {
        number.checked_mul(1_000_000)?
    } else if number < 100_000_000_000_000 {
        number.checked_mul(1_000)?
    } else if number < 100_000_000_000_000_000 {
        number
    } else {
        number / 1_000
    };
    plausible(WallUs(us))
}

/// `YYYY-MM-DD`, then optionally `T` or blanks and `HH:MM[:SS[.fraction]]`, then optionally `Z` or
/// `±HH[:]MM`.
pub(crate) fn from_text(text: &str, zone_secs: i64) -> Option<WallUs> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    byte(&mut rest, b"-/.")?;
    let month = digits(&mut rest, 2)?;
    byte(&mut rest, b"-/.")?;
    let day = digits(&mut rest, 2)?;
    let days = days_from_civil(year, month, day)?;
    let (mut hour, mut minute, mut second, mut micros) = (0, 0, 0, 0);
    if byte(&mut rest, b"T ").is_some() {
        while byte(&mut rest, b" ").is_some() {}
        hour = digits(&mut rest, 2)?;
        byte(&mut rest, b":")?;
        minute = digits(&mut rest, 2)?;
        if byte(&mut rest, b":").is_some() {
            second = digits(&mut rest, 2)?;
            if byte(&mut rest, b".,").is_some() {
                micros = fraction(&mut rest)?;
            }
        }
    }
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let offset = offset(&mut rest, zone_secs)?;
    let secs = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    rest.is_empty().then(|| plausible(WallUs(secs * 1_000_000 + micros)))?
}

fn offset(rest: &mut &[u8], zone_secs: i64) -> Option<i64> {
    while byte(rest, b" ").is_some() {}
    if rest.is_empty() {
        return Some(zone_secs);
    }
    if byte(rest, b"Zz").is_some() {
        return Some(0);
    }
    let sign = if byte(rest, b"+-")? == b'-' { -1 } else { 1 };
    let hours = digits(rest, 2)?;
    byte(rest, b":");
    let minutes = if rest.is_empty() { 0 } else { digits(rest, 2)? };
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Takes exactly `count` decimal digits; `count` is at most four, so nothing overflows.
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// Microseconds out of any number of fractional digits, at least one.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let (mut micros, mut unit, mut any) = (0, 100_000, false);
    while let Some((digit, tail)) = rest.split_first()
        && digit.is_ascii_digit()
    {
        micros += i64::from(digit - b'0') * unit;
        unit /= 10;
        any = true;
        *rest = tail;
    }
    any.then_some(micros)
}

/// Takes one byte if it is in `set`.
fn byte(rest: &mut &[u8], set: &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    if !set.contains(first) {
        return None;
    }
    *rest = tail;
    Some(*first)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; years run from March so that the leap
/// day is the last of one.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let day_of_year = (153 * months + 2) / 5 + day - 1;
    Some(years * 365 + leap_days + day_of_year - 719_468)
}

fn plausible(at: WallUs) -> Option<WallUs> {
    (EARLIEST..LATEST).contains(&at).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_in_every_seen_spelling() {
        let at = |secs: i64| Some(WallUs::from_secs(secs));
        for (text, want) in [
            ("2026-08-21 19:00:00", at(1_787_306_400)),
            ("2026-08-21T19:00:00+09:00", at(1_787_306_400)),
            ("2026-08-21T10:00:00Z", at(1_787_306_400)),
            ("2026-08-21 10:00 +0000", at(1_787_306_400)),
            ("2026.08.21 19:00", at(1_787_306_400)),
            ("2026-08-21T19:00:00.250Z", Some(WallUs(1_787_338_800_250_000))),
            ("2024-02-29", at(1_709_132_400)),
            ("2025-02-29", None),
            ("2026-13-01", None),
            ("2026-08-21 25:00:00", None),
            ("2026-08-21 19:00:00 KST", None),
            ("2026-08-21T", None),
            ("1970-01-01", None),
            ("", None),
        ] {
            assert_eq!(from_text(text, KST_SECS), want, "{text:?}");
        }
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let want = Some(WallUs(1_790_235_038_000_000));
        for number in [1_790_235_038, 1_790_235_038_000, 1_790_235_038_000_000] {
            assert_eq!(from_number(number), want, "{number}");
        }
        assert_eq!(from_number(1_790_235_038_000_000_000), want);
        for filler in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(from_number(filler), None, "{filler}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", number: i64) {
            let _ = from_text(&text, KST_SECS);
            let _ = from_number(number);
        }

        #[test]
        fn days_run_without_gap(day in 14_300_i64..47_000) {
            // Counting through a calendar of fixed month lengths gives the same date.
            let mut left = day;
            let mut year = 1970;
            let length = |y: i64| if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) { 366 } else { 365 };
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            let mut month = 1;
            while let Some(end) = (28..=31).rev().find(|d| days_from_civil(year, month, *d).is_some())
                && left >= end
            {
                left -= end;
                month += 1;
            }
            prop_assert_eq!(days_from_civil(year, month, left + 1), Some(day));
        }
    }
}
