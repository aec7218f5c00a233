//! The body of a delivery: an event as the specification's "Payload Schema" shows it.
//!
//! Contract: [`write()`] appends one compact JSON object to a buffer the caller reuses and allocates
//! nothing else. The fields stand in the order of the specification's example; optional ones only
//! when known. "At most 65,536 bytes a body; over it optional fields are dropped in a fixed order,
//! JSON is never cut."

use std::io::Write as _;

use super::event::Event;
use crate::limits;
use crate::wire::json;

/// The body would be too long even without its optional fields. Cannot happen to an [`Event`] within
/// its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("event does not fit into a body of 65536 bytes")
    }
}

impl core::error::Error for TooLong {}

/// Which optional fields are written.
#[derive(Clone, Copy)]
struct Optional {
    volume: bool,
    score: bool,
}

/// From all to none: the score goes first, because what a bot sizes its order by is the volume.
const DROPPED: [Optional; 3] = [
    Optional { volume: true, score: true },
    Optional { volume: true, score: false },
    Optional { volume: false, score: false },
];

/// Appends the body of `event` to `out`.
///
/// # Errors
/// [`TooLong`]; then nothing is appended.
pub fn write(event: &Event, out: &mut Vec<u8>) -> Result<(), TooLong> {
    write_within(event, limits::WEBHOOK_BODY_BYTES, out)
}

fn write_within(event: &Event, most_bytes: usize, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let from = out.len();
    for optional in DROPPED {
        write_fields(event, optional, out);
        if out.len() - from <= most_bytes {
            return Ok(());
        }
        out.truncate(from);
    }
    Err(TooLong)
}

fn write_fields(event: &Event, optional: Optional, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event_id\":\"");
    out.extend_from_slice(event.id.as_str().as_bytes());
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(event.kind.name().as_bytes());
    out.extend_from_slice(b"\",\"timestamp\":");
    json::signed(out, event.timestamp.secs());
    out.extend_from_slice(b",\"exchange\":");
    json::string(out, event.exchange_name());
    out.extend_from_slice(b",\"symbol\":");
    json::string(out, &event.symbol);
    out.extend_from_slice(b",\"listing_type\":\"");
    out.extend_from_slice(event.market.name().as_bytes());
    out.push(b'"');
    // JSON has no NaN and no infinity, and no market has a negative volume.
    let volume = event.volume_24h_usd.filter(|usd| optional.volume && usd.is_finite() && *usd >= 0.0);
    if let Some(usd) = volume {
        // Writing to a vector cannot fail. The absolute value, because -0.0 is not negative.
        let _ = write!(out, ",\"volume_24h\":{:.2}", usd.abs());
    }
    if let Some(score) = event.ai_score.filter(|_| optional.score) {
        out.extend_from_slice(b",\"ai_score\":");
        json::unsigned(out, u64::from(score.min(100)));
    }
    out.extend_from_slice(b",\"latency_ms\":");
    json::unsigned(out, event.latency_ms);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Exchange;
    use crate::time::WallUs;
    use crate::webhook::event::{EventId, EventKind, MarketKind};
    use proptest::prelude::*;

    fn event() -> Event {
        Event {
            id: EventId::parse("cxp_01J9KR2MXTN4P8ZWH3QV012345").unwrap(),
            kind: EventKind::NewListing,
            timestamp: WallUs(1_710_432_000_999_999),
            exchange: Some(Exchange::Binance),
            symbol: "PEPE2USDT".into(),
            market: MarketKind::Spot,
            volume_24h_usd: Some(2_847_392.5),
            ai_score: Some(87),
            latency_ms: 312,
            late: false,
        }
    }

    fn written(event: &Event) -> String {
        let mut out = Vec::new();
        write(event, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_stand_in_the_order_of_the_example() {
        assert_eq!(
            written(&event()),
            "{\"event_id\":\"cxp_01J9KR2MXTN4P8ZWH3QV012345\",\"type\":\"new_listing\",\"timestamp\":1710432000,\
             \"exchange\":\"Binance\",\"symbol\":\"PEPE2USDT\",\"listing_type\":\"spot\",\"volume_24h\":2847392.50,\
             \"ai_score\":87,\"latency_ms\":312}"
        );
    }

    #[test]
    fn optional_fields_only_when_known() {
        for (volume, text) in [
            (None, None),
            (Some(f64::NAN), None),
            (Some(f64::INFINITY), None),
            (Some(-1.0), None),
            (Some(-0.0), Some("0.00")),
            (Some(0.005), Some("0.01")),
            (Some(1e15), Some("1000000000000000.00")),
        ] {
            let text = text.map_or(String::new(), |t| format!(",\"volume_24h\":{t}"));
            let body = written(&Event { volume_24h_usd: volume, ai_score: None, ..event() });
            assert!(body.ends_with(&format!("\"spot\"{text},\"latency_ms\":312}}")), "{volume:?}: {body}");
        }
    }

    #[test]
    fn what_is_too_long_loses_its_optional_fields_one_by_one() {
        let event = event();
        let whole = written(&event).len();
        for (most, score, volume) in [
            (whole, true, true),
            (whole - 1, false, true),
            (whole - 14, false, true),
            (whole - 15, false, false),
            (whole - 38, false, false),
        ] {
            let mut out = b"before".to_vec();
            write_within(&event, most, &mut out).unwrap();
            let body: serde_json::Value =
                serde_json::from_slice(out.strip_prefix(b"before").unwrap()).unwrap();
            assert_eq!(
                (body.get("ai_score").is_some(), body.get("volume_24h").is_some()),
                (score, volume),
                "{most}"
            );
        }
        let mut out = b"before".to_vec();
        assert_eq!(write_within(&event, whole - 39, &mut out), Err(TooLong));
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn every_event_within_its_bounds_fits_and_reads_back(
            symbol in any::<String>(), us in any::<i64>(), latency_ms in any::<u64>(),
            volume in proptest::option::of(any::<f64>()), score in proptest::option::of(any::<u8>()),
        ) {
            let symbol: String = symbol.chars().take(limits::WEBHOOK_SYMBOL_BYTES / 4).collect();
            let body = written(&Event {
                symbol: symbol.as_str().into(), timestamp: WallUs(us), latency_ms, volume_24h_usd: volume, ai_score: score, ..event()
            });
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(read["symbol"].as_str(), Some(symbol.as_str()));
            prop_assert_eq!(read["timestamp"].as_i64(), Some(us.div_euclid(1_000_000)));
            prop_assert_eq!(read["latency_ms"].as_u64(), Some(latency_ms));
            prop_assert_eq!(read.get("ai_score").is_some(), score.is_some());
            prop_assert!(body.len() <= limits::WEBHOOK_BODY_BYTES);
        }
    }
}
