//! Exits before parsing: is this body one that was read already?
//!
//! Contract: compares a body with the last two of the same list (two, because the edges of a cache
//! can answer in turn with an older and a newer page). Equal length and bytes is one `memcmp`.
//! Otherwise, the walk over both bodies passes only differences that lie in the scalar value of a
//! key known to carry no news; any other difference, also one it cannot place, means the body has
//! to be read. Looking at the newest identifier alone would be quicker but proves nothing: a title
//! is edited in place, and an item can come in below the first. Owner: the source thread.
//! Allocates only while bodies grow. Never fails.

use super::Outcome;

/// The last two bodies of a list that were read.
#[derive(Debug, Default)]
pub(super) struct RecentBodies {
    latest: Vec<u8>,
    before: Vec<u8>,
    /// `before` holds a body that is not yet known to be usable.
    staged: bool,
    /// Counts what `latest` has held, so that whoever learnt something of it can tell whether it still stands.
    generation: u64,
}

impl RecentBodies {
    /// The body given last that was not byte for byte known.
    pub(super) fn newest(&self) -> &[u8] {
        if self.staged { &self.before } else { &self.latest }
    }

    /// How `body` was recognised, if it was. It then counts as the latest.
    pub(super) fn compare(&mut self, body: &[u8], noise: &[&str]) -> Option<Outcome> {
        if core::mem::take(&mut self.staged) {
            self.before.clear();
        }
        for swaps in 0..2 {
            if !self.latest.is_empty() && self.latest == body {
                self.generation += swaps;
                return Some(Outcome::Identical);
            }
            core::mem::swap(&mut self.latest, &mut self.before);
        }
        for _ in 0..2 {
            if !self.latest.is_empty() && only_noise(&self.latest, body, noise) {
                keep(&mut self.latest, body);
                self.generation += 1;
                return Some(Outcome::OnlyNoise);
            }
            core::mem::swap(&mut self.latest, &mut self.before);
        }
        None
    }

    /// Keeps a copy of `body`, before parsing scrambles it, in place of the older one.
    pub(super) fn stage(&mut self, body: &[u8]) {
        keep(&mut self.before, body);
        self.staged = true;
    }

    /// The staged body was read in full.
    pub(super) fn commit(&mut self) {
        self.staged = false;
        self.generation += 1;
        core::mem::swap(&mut self.latest, &mut self.before);
    }

    /// The last body, and the number by which it is told from those before.
    pub(super) fn latest(&self) -> (&[u8], u64) {
        (&self.latest, self.generation)
    }
}

/// Copies `body`; a buffer that has to grow gets a quarter more, as bodies vary a little in length.
fn keep(buffer: &mut Vec<u8>, body: &[u8]) {
    buffer.clear();
    if buffer.capacity() < body.len() {
        buffer.reserve_exact(body.len() + body.len() / 4);
    }
    buffer.extend_from_slice(body);
}

/// Whether the bodies differ only within scalar values of the keys in `noise`.
fn only_noise(old: &[u8], new: &[u8], noise: &[&str]) -> bool {
    !noise.is_empty() && difference(old, new, noise).is_none()
}

/// Where two bodies first differ otherwise than within scalar values of the keys in `noise`, in each.
///
/// A key cannot be mistaken for text: within a JSON string every quote is escaped, so `"key"`
/// before a colon, without a backslash, is a key.
pub(super) fn difference(old: &[u8], new: &[u8], noise: &[&str]) -> Option<(usize, usize)> {
    let (mut old_at, mut new_at) = (0, 0);
    loop {
        let (old_rest, new_rest) =
            (old.get(old_at..).unwrap_or_default(), new.get(new_at..).unwrap_or_default());
        let same = common_prefix(old_rest, new_rest);
        if same == old_rest.len() && same == new_rest.len() {
            return None;
        }
        let differs = Some((old_at + same, new_at + same));
        // Only what both share since the last difference is searched, so each turn gets ahead.
        let Some(value) = new_rest.get(..same).and_then(|shared| scalar_start(shared, noise)) else {
            return differs;
        };
        let (Some(old_value), Some(new_value)) = (old_rest.get(value..), new_rest.get(value..)) else {
            return differs;
        };
        old_at += value + scalar_bytes(old_value);
        new_at += value + scalar_bytes(new_value);
    }
}

/// Where the value begins in whose middle (or at whose start) `shared` ends, if its key is noise.
fn scalar_start(shared: &[u8], noise: &[&str]) -> Option<usize> {
    let value = shared.iter().rposition(|b| !is_scalar(*b))? + 1;
    let before = shared.get(..value)?.strip_suffix(b":")?.trim_ascii_end().strip_suffix(b"\"")?;
    let is_key = |key: &&str| {
        let quoted = before.strip_suffix(key.as_bytes()).and_then(|b| b.strip_suffix(b"\""));
        quoted.is_some_and(|b| b.last() != Some(&b'\\'))
    };
    noise.iter().any(is_key).then_some(value)
}

fn scalar_bytes(text: &[u8]) -> usize {
    text.iter().position(|b| !is_scalar(*b)).unwrap_or(text.len())
}

/// Bytes of numbers, `true`, `false`, `null` and the blanks around them.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-. \t\r\n".contains(&byte)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let ((a_blocks, _), (b_blocks, _)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    let blocks = a_blocks.iter().zip(b_blocks).take_while(|(x, y)| x == y).count() * 32;
    let rest = a.iter().skip(blocks).zip(b.iter().skip(blocks)).take_while(|(x, y)| x == y);
    blocks + rest.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: &[&str] = &["total", "badge"];

    #[test]
    fn only_values_of_noise_may_differ() {
        let base = r#"{"total":9,"rows":[{"id":1,"badge":true,"title":"a"},{"id":2, "badge" : false ,"title":"b"}]}"#;
        let mut cases = vec![
            (base.to_owned(), true),
            (base.replace(":9", ":10"), true),
            (base.replace(":9", ":-1.5e3"), true),
            (base.replace("true", "false"), true),
            (base.replace(":9", ":10").replace("true", "false").replace(": false", ": true"), true),
            (base.replace("\"a\"", "\"c\""), false),
            (base.replace("\"b\"", "\"c\"").replace(":9", ":8"), false),
            (base.replace(":9", ":\"9\""), false),
            (base.replace(":9", ":[9]"), false),
            (base.replace("\"id\":2", "\"id\":3"), false),
            (base.replace("\"id\":2", "\"id\":23"), false),
            (format!("{base} "), false),
            (base.replace(":9,", ":9,\"new\":1,"), false),
            (base.replace("\"total\"", "\"totals\""), false),
        ];
        // Text that looks like a key: its quotes are escaped.
        let text = base.replace("\"a\"", r#""x \"total\":1""#);
        cases.push((text.clone(), false));
        assert!(!only_noise(text.as_bytes(), text.replace("\":1", "\":2").as_bytes(), NOISE));
        for (body, want) in cases {
            assert_eq!(only_noise(base.as_bytes(), body.as_bytes(), NOISE), want, "{body}");
            assert_eq!(only_noise(body.as_bytes(), base.as_bytes(), NOISE), want, "{body}");
            assert!(!only_noise(base.as_bytes(), body.as_bytes(), &[]), "{body}");
        }
    }

    #[test]
    fn prefixes_are_counted_across_blocks() {
        let text: Vec<u8> = (0..200).collect();
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 0x80;
            assert_eq!(common_prefix(&text, &other), at);
            assert_eq!(common_prefix(&text, &text[..at]), at);
        }
    }
}
