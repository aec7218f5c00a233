//! The little that writing JSON takes: strings, integers, instants, appended to a byte buffer.
//!
//! Contract: each writer appends one complete JSON value. Owned by the caller's thread; nothing is
//! allocated but what the buffer needs to grow. Nothing fails.

use crate::time::WallUs;

/// Appends `text` as a JSON string. Only what RFC 8259 section 7 demands is escaped: quotation mark,
/// backslash and the control characters below U+0020.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    string_body(out, text);
    out.push(b'"');
}

/// Appends `text` as [`string`] does, without the quotation marks around it.
pub fn string_body(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = first_special(rest) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { break };
        match *special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                // In range: both nibbles are below 16.
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
}

/// Where the first byte stands that must be escaped. Titles rarely have one: whole blocks are looked at
/// without a branch in them.
fn first_special(text: &[u8]) -> Option<usize> {
    let is_special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
    let any = |block: &[u8; 32]| block.iter().fold(false, |any, b| any | is_special(b));
    let (blocks, _) = text.as_chunks::<32>();
    let plain = blocks.iter().take_while(|block| !any(block)).count() * 32;
    let at = text.get(plain..)?.iter().position(is_special)?;
    Some(plain + at)
}

/// Appends `value` in decimal.
pub fn unsigned(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` in decimal.
pub fn signed(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends microseconds since the epoch, or `null`.
pub fn instant_or_null(out: &mut Vec<u8>, at: Option<WallUs>) {
    match at {
        Some(at) => signed(out, at.0),
        None => out.extend_from_slice(b"null"),
    }
}

/// Sixteen decimal digits of an instant: every instant from September 2001 to November 2286 has
/// exactly so many. Others are clamped into that range.
#[must_use]
pub fn sixteen_digits(at: WallUs) -> [u8; 16] {
    let mut value = at.0.clamp(1_000_000_000_000_000, 9_999_999_999_999_999).unsigned_abs();
    let mut digits = [b'0'; 16];
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
    digits
}

/// Appends `at` as an RFC 3339 instant in UTC with six decimals and `Z`, in quotes. Years outside
/// 0000 to 9999 are clamped to them.
pub fn utc(out: &mut Vec<u8>, at: WallUs) {
    // Years 0000 and 9999, first and last microsecond.
    let us = at.0.clamp(-62_167_219_200_000_000, 253_402_300_799_999_999);
    let (days, in_day) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil_from_days(days);
    let seconds = in_day / 1_000_000;
    out.push(b'"');
    padded(out, year, 4);
    out.push(b'-');
    padded(out, month, 2);
    out.push(b'-');
    padded(out, day, 2);
    out.push(b'T');
    padded(out, seconds / 3_600, 2);
    out.push(b':');
    padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    padded(out, seconds % 60, 2);
    out.push(b'.');
    padded(out, in_day % 1_000_000, 6);
    out.extend_from_slice(b"Z\"");
}

fn padded(out: &mut Vec<u8>, value: i64, width: u32) {
    let mut place = 10_i64.pow(width - 1);
    while place > 0 {
        out.push(b'0' + (value / place % 10) as u8);
        place /= 10;
    }
}

/// Proleptic Gregorian date of a day number counted from 1970-01-01. Works in years that begin on
/// 1 March, so that the leap day is the last of its year and needs no case of its own.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(DAYS_IN_400_YEARS);
    let day_of_era = from_march_0000.rem_euclid(DAYS_IN_400_YEARS);
    let leap_days_before = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days_before) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months of 31, 30, 31, 30, 31 days repeat: 153 days every five months from March on.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        let rows = [
            ("", r#""""#),
            ("Will List TOKEN (TOKEN)", r#""Will List TOKEN (TOKEN)""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\r\t\u{1}\u{1f}", r#""\n\r\t\u0001\u001f""#),
            ("币安人生 / 마켓 추가 \u{7f}\u{2028}", "\"币安人生 / 마켓 추가 \u{7f}\u{2028}\""),
        ];
        for (text, json) in rows {
            assert_eq!(written(|out| string(out, text)), json);
        }
    }

    #[test]
    fn instants_in_utc() {
        let rows = [
            (0, "\"1970-01-01T00:00:00.000000Z\""),
            (-1, "\"1969-12-31T23:59:59.999999Z\""),
            (951_782_400_000_000, "\"2000-02-29T00:00:00.000000Z\""),
            (1_710_345_030_000_001, "\"2024-03-13T15:50:30.000001Z\""),
            (1_709_164_800_000_000, "\"2024-02-29T00:00:00.000000Z\""),
            (4_107_542_399_999_999, "\"2100-02-28T23:59:59.999999Z\""),
            (4_107_542_400_000_000, "\"2100-03-01T00:00:00.000000Z\""),
            (i64::MAX, "\"9999-12-31T23:59:59.999999Z\""),
            (i64::MIN, "\"0000-01-01T00:00:00.000000Z\""),
        ];
        for (us, text) in rows {
            assert_eq!(written(|out| utc(out, WallUs(us))), text, "{us}");
        }
    }

    #[test]
    fn stamps_always_have_sixteen_digits() {
        assert_eq!(&sixteen_digits(WallUs(1_710_345_000_006_000)), b"1710345000006000");
        assert_eq!(&sixteen_digits(WallUs(-5)), b"1000000000000000");
        assert_eq!(&sixteen_digits(WallUs(i64::MAX)), b"9999999999999999");
    }

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let json = written(|out| string(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn integers_read_back(u in any::<u64>(), i in any::<i64>()) {
            prop_assert_eq!(written(|out| unsigned(out, u)), u.to_string());
            prop_assert_eq!(written(|out| signed(out, i)), i.to_string());
        }
    }
}
