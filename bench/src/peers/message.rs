//! The announcement every contender sends, byte for byte the size of the engine's own.
//!
//! Contract: [`TEMPLATE`] is the engine's message for a title made by [`title`], with two places to
//! fill, both of fixed width. [`read`] finds number and stamp again in any contender's message. Pure;
//! [`Template::fill`] allocates the message.

use memchr::memmem;

/// The message; its publish and detection times are any 16 digits.
pub const TEMPLATE: &str = concat!(
    r#"{"type":"announcement","title":"Binance Will List Measured Token Number {NUMBER} (MEAS)","#,
    r#""ticker":"MEAS","publisher":"binance","listingType":"spot_listing","#,
    r#""publishTimestampUs":1710345000000000,"detectedTimestampUs":1710345000005000,"#,
    r#""dispatchTimestampUs":{STAMP}}"#
);
const NUMBER: &str = "{NUMBER}";
const STAMP: &str = "{STAMP}";
const BEFORE_NUMBER: &[u8] = b"Token Number ";
const BEFORE_STAMP: &[u8] = b"\"dispatchTimestampUs\":";

/// Title of announcement `number`.
#[must_use]
pub fn title(number: u32) -> String {
    format!("Binance Will List Measured Token Number {number:06} (MEAS)")
}

/// [`TEMPLATE`], cut at its places.
pub struct Template {
    before: &'static str,
    between: &'static str,
    after: &'static str,
}

impl Template {
    /// Cuts it.
    #[must_use]
    pub fn new() -> Template {
        let (before, rest) = TEMPLATE.split_once(NUMBER).unwrap_or((TEMPLATE, ""));
        let (between, after) = rest.split_once(STAMP).unwrap_or((rest, ""));
        Template { before, between, after }
    }

    /// The message with its number and stamp.
    #[must_use]
    pub fn fill(&self, number: u32, stamp_us: u64) -> String {
        format!("{}{number:06}{}{stamp_us:016}{}", self.before, self.between, self.after)
    }
}

impl Default for Template {
    fn default() -> Template {
        Template::new()
    }
}

/// Number and stamp in microseconds of a message; `None` when it is something else.
#[must_use]
pub fn read(message: &[u8]) -> Option<(u32, u64)> {
    let number = number_after(message, BEFORE_NUMBER)?;
    Some((u32::try_from(number).ok()?, number_after(message, BEFORE_STAMP)?))
}

fn number_after(message: &[u8], label: &[u8]) -> Option<u64> {
    let rest = message.get(memmem::find(message, label)? + label.len()..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit());
    let mut count = 0;
    let value = digits.take(19).fold(0_u64, |value, digit| {
        count += 1;
        value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
    });
    (count > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_read_again() {
        let message = Template::new().fill(42, 1_710_345_000_006_000);
        assert!(message.contains(&title(42)), "{message}");
        assert_eq!(read(message.as_bytes()), Some((42, 1_710_345_000_006_000)));
        assert_eq!(message.len(), TEMPLATE.len() - NUMBER.len() - STAMP.len() + 6 + 16);
        let json: serde_json::Value = serde_json::from_str(&message).unwrap();
        assert_eq!(json["dispatchTimestampUs"], 1_710_345_000_006_000_u64);
    }

    #[test]
    fn other_messages_are_no_announcement() {
        for other in ["", "{}", "{\"type\":\"heartbeat\"}", "Token Number x", "Token Number 000001"] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }
}
