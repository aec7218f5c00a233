//! Verifies webhooks. Cargo.toml: ring = "0.17", base64 = "0.22".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;

/// X-CEXPing-Signature: covers the body.
pub fn verify(body: &[u8], header: &str, secret: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let claimed = header.strip_prefix("sha256=").and_then(from_hex);
    claimed.is_some_and(|claimed| hmac::verify(&key, body, &claimed).is_ok())
}

/// webhook-signature: covers id and time too. `now` is in seconds since 1970.
pub fn verify_standard(body: &[u8], id: &str, timestamp: &str, header: &str, secret: &str, now: i64) -> bool {
    let sent: i64 = timestamp.parse().unwrap_or(i64::MIN);
    if now.abs_diff(sent) > 300 {
        return false;
    }
    let Ok(key) = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let mut claims = header.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    claims.any(|claimed| hmac::verify(&key, &signed, &claimed).is_ok())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}
