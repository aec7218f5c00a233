//! The wall clock and the spellings of time the exchanges use. Never fails: a time outside the
//! calendar becomes the epoch.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::Offset;
use tocsin_core::time::WallUs;

const KST: Offset = Offset::constant(9);
const UTC8: Offset = Offset::constant(8);

/// Microseconds since the epoch, now.
pub(crate) fn wall_now() -> WallUs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallUs(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn timestamp(at: WallUs) -> Timestamp {
    Timestamp::from_microsecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Upbit's spelling: `2026-08-21T21:50:05+09:00`, whole seconds.
pub(crate) fn kst_iso(at: WallUs) -> String {
    KST.to_datetime(timestamp(at)).strftime("%Y-%m-%dT%H:%M:%S+09:00").to_string()
}

/// Bithumb's spelling: `2026-08-21 19:00:00`, Korean time without saying so.
pub(crate) fn kst_bare(at: WallUs) -> String {
    KST.to_datetime(timestamp(at)).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-08-21T12:50:05Z`, as Coinbase writes times.
pub(crate) fn utc_iso(at: WallUs) -> String {
    Offset::UTC.to_datetime(timestamp(at)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Coinone's spelling: `2026-08-21T21:50:05.123456+09:00`.
pub(crate) fn kst_micros(at: WallUs) -> String {
    KST.to_datetime(timestamp(at)).strftime("%Y-%m-%dT%H:%M:%S%.6f+09:00").to_string()
}

/// BingX's spelling: `2026-08-21T20:50:05+08:00`, whole seconds.
pub(crate) fn utc8_iso(at: WallUs) -> String {
    UTC8.to_datetime(timestamp(at)).strftime("%Y-%m-%dT%H:%M:%S+08:00").to_string()
}

/// KuCoin's web spelling: `2026-08-21 20:50:05`, the time of UTC+8 without saying so.
pub(crate) fn utc8_bare(at: WallUs) -> String {
    UTC8.to_datetime(timestamp(at)).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// MEXC's spelling: `2026-08-21T12:50:05.123Z`.
pub(crate) fn utc_millis(at: WallUs) -> String {
    Offset::UTC.to_datetime(timestamp(at)).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// `2026-08-21`, UTC, as Binance writes dates into titles.
pub(crate) fn utc_date(at: WallUs) -> String {
    Offset::UTC.to_datetime(timestamp(at)).strftime("%Y-%m-%d").to_string()
}

/// `08/21 15:00`, Korean time, as Upbit and Bithumb write dates into titles.
pub(crate) fn kst_short(at: WallUs) -> String {
    KST.to_datetime(timestamp(at)).strftime("%m/%d %H:00").to_string()
}

/// The `Date` header (RFC 9110 section 5.6.7).
pub(crate) fn http_date(at: WallUs) -> String {
    Offset::UTC.to_datetime(timestamp(at)).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let at = WallUs(1_787_316_605_123_456);
        assert_eq!(kst_iso(at), "2026-08-21T21:50:05+09:00");
        assert_eq!(kst_bare(at), "2026-08-21 21:50:05");
        assert_eq!(kst_micros(at), "2026-08-21T21:50:05.123456+09:00");
        assert_eq!(utc8_iso(at), "2026-08-21T20:50:05+08:00");
        assert_eq!(utc8_bare(at), "2026-08-21 20:50:05");
        assert_eq!(utc_millis(at), "2026-08-21T12:50:05.123Z");
        assert_eq!(utc_date(at), "2026-08-21");
        assert_eq!(utc_iso(at), "2026-08-21T12:50:05Z");
        assert_eq!(kst_short(at), "08/21 21:00");
        assert_eq!(http_date(at), "Fri, 21 Aug 2026 12:50:05 GMT");
        assert_eq!(utc_date(WallUs(i64::MAX)), "1970-01-01");
    }
}
