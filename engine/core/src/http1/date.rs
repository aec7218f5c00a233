//! HTTP dates (RFC 9110 5.6.7), as they come in `Date` and `Retry-After`.
//!
//! Contract: pure, allocation-free; anything that is not a date is `None`. "A recipient that parses a
//! timestamp value in an HTTP field MUST accept all three HTTP-date formats."

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Seconds since the UNIX epoch of an IMF-fixdate (`Sun, 06 Nov 1994 08:49:37 GMT`), an RFC 850 date
/// (`Sunday, 06-Nov-94 08:49:37 GMT`; 00..69 is 20xx) or an asctime date (`Sun Nov  6 08:49:37 1994`).
/// The weekday is not checked.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    // At most six words in any of the three forms; a seventh makes the pattern below fail.
    let mut words: [&[u8]; 7] = [b""; 7];
    let mut count = 0;
    for word in text.split(|b| matches!(b, b' ' | b'-' | b',')).filter(|w| !w.is_empty()) {
        *words.get_mut(count)? = word;
        count += 1;
    }
    match words.get(..count)? {
        [_, day, month, year, clock, b"GMT"] => {
            let year = match (number(year)?, year.len()) {
                (y, 2) if y < 70 => y + 2_000,
                (y, 2) => y + 1_900,
                (y, 4) => y,
                _ => return None,
            };
            instant(year, month_number(month)?, number(day)?, clock)
        }
        [_, month, day, clock, year] if year.len() == 4 => {
            instant(number(year)?, month_number(month)?, number(day)?, clock)
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    digits.iter().try_fold(0_i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

fn month_number(name: &[u8]) -> Option<i64> {
    (1..).zip(MONTHS).find(|(_, m)| m.as_slice() == name).map(|(n, _)| n)
}

fn instant(year: i64, month: i64, day: i64, clock: &[u8]) -> Option<i64> {
    let mut parts = clock.split(|b| *b == b':');
    let (hour, minute, second) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    // 60 is a leap second; it reads as the next minute's first.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that the
/// leap day comes last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_formats_tell_one_instant() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(parse(b"Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse(b"Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(parse(b"Sun, 04 Oct 2026 12:00:00 GMT"), Some(1_791_115_200));
    }

    #[test]
    fn what_is_not_a_date_is_none() {
        for text in [
            "",
            "120",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nox 1994 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sun, 06 Nov 1994 08:49:37:11 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = parse(&text);
        }

        #[test]
        fn days_advance_by_one(year in 1970_i64..2200, day in 1_i64..28, month in 1_i64..13) {
            prop_assert_eq!(days_from_epoch(year, month, day + 1), days_from_epoch(year, month, day) + 1);
            prop_assert_eq!(days_from_epoch(year + 1, 1, 1), days_from_epoch(year, 12, 31) + 1);
        }
    }
}
