//! A first look at a body that differs from the last one: only the rows that came in.
//!
//! Contract: [`Page::learn`] notes where the elements of a body's arrays lie, while nothing waits.
//! [`Page::reduce`] then recognises a later body that is the same one with complete elements put into one
//! array, and as many dropped from that array's end as the page had too many, noise aside; it gives that
//! body without the elements both have: a few hundred bytes to parse instead of thousands. It only ever
//! leaves out whole elements that the last body held as well, so what is read from the rest is a part of
//! what the body holds; the whole body is read right afterwards all the same. Owner: the source thread.
//! Allocates only while bodies grow. Never fails: what it does not recognise is read in full at once.

use memchr::{memchr2, memmem};

use super::unchanged::difference;
use crate::limits;

/// An object in an array.
#[derive(Clone, Copy, Debug)]
struct Element {
    start: usize,
    end: usize,
    /// Which array, by the order in which they begin.
    array: usize,
}

/// Where the elements of one body lie.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// By where they begin: the innermost that holds a place is the last that does.
    elements: Vec<Element>,
    open: Vec<Open>,
}

/// A bracket that has not been closed.
#[derive(Clone, Copy, Debug)]
enum Open {
    Array(usize),
    /// With its place among the elements, if it is one.
    Object(Option<usize>),
}

/// Bytes of an element by which it is found again: an identifier stands among the first.
const NEEDLE_BYTES: usize = 48;
/// More elements than any page has; a body beyond it is not learnt.
const MOST_ELEMENTS: usize = 4 * limits::ITEMS_PER_RESPONSE;

impl Page {
    /// Learns a body that has been read. One that cannot be learnt leaves nothing that could match.
    pub(super) fn learn(&mut self, body: &[u8]) {
        self.open.clear();
        self.elements.clear();
        if self.scan(body).is_none() {
            self.elements.clear();
        }
    }

    fn scan(&mut self, body: &[u8]) -> Option<()> {
        let mut arrays = 0;
        let mut at = 0;
        while let Some(byte) = body.get(at) {
            match byte {
                b'"' => at = string_end(body, at)?,
                b'{' => {
                    let element = match self.open.last() {
                        Some(Open::Array(array)) => {
                            self.elements.push(Element { start: at, end: body.len(), array: *array });
                            Some(self.elements.len() - 1)
                        }
                        _ => None,
                    };
                    self.open.push(Open::Object(element));
                }
                b'[' => {
                    self.open.push(Open::Array(arrays));
                    arrays += 1;
                }
                b'}' => {
                    let Open::Object(element) = self.open.pop()? else { return None };
                    if let Some(element) = element.and_then(|element| self.elements.get_mut(element)) {
                        element.end = at + 1;
                    }
                }
                b']' => {
                    let Open::Array(_) = self.open.pop()? else { return None };
                }
                _ => {}
            }
            if self.open.len() > limits::JSON_DEPTH || self.elements.len() > MOST_ELEMENTS {
                return None;
            }
            at += 1;
        }
        self.open.is_empty().then_some(())
    }

    /// Writes `body`, the body learnt, with one element more at the top of its longest array: what
    /// [`Page::reduce`] would recognise. It differs from the element below it in one digit.
    pub(super) fn drill(&self, body: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let siblings = |of: &Element| self.elements.iter().filter(|e| e.array == of.array).count();
        // The first of the longest: `max_by_key` gives the last of equals.
        let Some(first) = self.elements.iter().rev().max_by_key(|element| siblings(element)) else { return };
        let parts = (body.get(..first.start), body.get(first.start..first.end), body.get(first.start..));
        let (Some(before), Some(element), Some(rest)) = parts else { return };
        let value = element.iter().position(|b| *b == b':').unwrap_or(0);
        let digit = element.iter().skip(value).position(u8::is_ascii_digit);
        let Some(digit) = digit.map(|digit| value + digit) else { return };
        out.extend_from_slice(before);
        out.extend_from_slice(element);
        if let Some(changed) = out.get_mut(first.start + digit) {
            *changed = if *changed == b'9' { b'1' } else { *changed + 1 };
        }
        out.push(b',');
        out.extend_from_slice(rest);
    }

    /// Writes `body` without the elements it has in common with `last`, the body learnt, into `rest`.
    /// `false`: it differs in another way than by elements that came in at one place.
    pub(super) fn reduce(&self, last: &[u8], body: &[u8], noise: &[&str], rest: &mut Vec<u8>) -> bool {
        let Some(differs) = difference(last, body, noise) else { return false };
        let holders = self.elements.iter().rev().filter(|e| e.start <= differs.0 && differs.0 < e.end);
        let common = holders.filter_map(|pushed| self.common(last, body, noise, *pushed, differs)).next();
        let Some((from, to)) = common else { return false };
        rest.clear();
        rest.extend_from_slice(body.get(..from).unwrap_or_default());
        rest.extend_from_slice(body.get(to..).unwrap_or_default());
        true
    }

    /// What of `body` can be left out if the elements that came in stand before `pushed`, an element of
    /// `last` within which both first differ.
    fn common(
        &self,
        last: &[u8],
        body: &[u8],
        noise: &[&str],
        pushed: Element,
        (last_differs, differs): (usize, usize),
    ) -> Option<(usize, usize)> {
        // The element that came in begins as the one it pushed down does.
        let begun = last.get(pushed.start..last_differs)?;
        let first = differs.checked_sub(begun.len())?;
        if body.get(first..differs)? != begun {
            return None;
        }
        let needle = last.get(pushed.start..pushed.end.min(pushed.start + NEEDLE_BYTES))?;
        let again = differs + memmem::find(body.get(differs..)?, needle)?;
        let came_in = body.get(first..again)?.strip_suffix(b",")?;
        if !is_objects(came_in) {
            return None;
        }
        // From there on, both have the same, up to the end of the array in either.
        let (last_rest, rest) = (last.get(pushed.start..)?, body.get(again..)?);
        let (same_last, same) = difference(last_rest, rest, noise).unwrap_or((last_rest.len(), rest.len()));
        let (last_end, end) = (pushed.start + same_last, again + same);
        let siblings = || self.elements.iter().filter(|e| e.array == pushed.array && e.start >= pushed.start);
        let kept = siblings().take_while(|e| e.end <= last_end).last()?;
        let tail = last.get(kept.end..last_end)?;
        let to = end.checked_sub(tail.len())?;
        let last_of_array = siblings().next_back()?;
        let behind_is_same = body.get(to..end)? == tail
            && difference(last.get(last_of_array.end..)?, body.get(to..)?, noise).is_none();
        behind_is_same.then_some((again - 1, to))
    }
}

/// Where the string that begins at `quote` ends: its closing quote.
fn string_end(body: &[u8], quote: usize) -> Option<usize> {
    let mut at = quote + 1;
    loop {
        at += memchr2(b'"', b'\\', body.get(at..)?)?;
        if body.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// Whether a text is one or more complete objects with commas between them.
fn is_objects(text: &[u8]) -> bool {
    let (mut depth, mut at, mut after_comma) = (0_usize, 0, true);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' if depth == 0 => return false,
            b'"' => match string_end(text, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'{' if depth == 0 && !after_comma => return false,
            b'{' | b'[' => {
                depth += 1;
                after_comma = false;
            }
            b'}' | b']' => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            b',' if depth == 0 && after_comma => return false,
            b',' if depth == 0 => after_comma = true,
            _ if depth == 0 && !byte.is_ascii_whitespace() => return false,
            _ => {}
        }
        at += 1;
    }
    depth == 0 && !after_comma
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: &[&str] = &["total", "badge"];

    fn reduced(last: &str, body: &str) -> Option<String> {
        let mut page = Page::default();
        page.learn(last.as_bytes());
        let mut rest = Vec::new();
        let found = page.reduce(last.as_bytes(), body.as_bytes(), NOISE, &mut rest);
        found.then(|| String::from_utf8(rest).unwrap())
    }

    fn page(total: u32, rows: &[&str]) -> String {
        format!(r#"{{"total":{total},"lists":[{{"name":"x {{\"","rows":[{}]}}],"end":1}}"#, rows.join(","))
    }

    const A: &str = r#"{"id":101,"title":"first, \"{x}\"","tags":[{"t":1},{"t":2}],"badge":true}"#;
    const B: &str = r#"{"id":102,"title":"second ]","tags":[],"badge":false}"#;
    const C: &str = r#"{"id":103,"title":"third","tags":[{"t":3}],"badge":false}"#;
    const D: &str = r#"{"id":104,"title":"fourth }","tags":[{"t":1},{"t":9}],"badge":false}"#;

    #[test]
    fn what_both_have_is_left_out() {
        let last = page(7, &[C, B, A]);
        // Before the first, with the last dropped or kept; two at once; below the first; the count moves.
        assert_eq!(reduced(&last, &page(8, &[D, C, B])), Some(page(8, &[D])));
        assert_eq!(reduced(&last, &page(8, &[D, C, B, A])), Some(page(8, &[D])));
        assert_eq!(reduced(&last, &page(1_000, &[D, C])), Some(page(1_000, &[D])));
        let twin = D.replace("104", "105");
        assert_eq!(reduced(&last, &page(8, &[&twin, D, C])), Some(page(8, &[&twin, D])));
        assert_eq!(reduced(&last, &page(7, &[C, D, B, A])), Some(page(7, &[C, D])));
        // Badges of those both have may change.
        let aged = C.replace("\"badge\":false", "\"badge\":true");
        assert_eq!(reduced(&last, &page(8, &[D, &aged, B])), Some(page(8, &[D])));
        let aged = A.replace("true", "false");
        assert_eq!(reduced(&last, &page(8, &[D, C, B, &aged])), Some(page(8, &[D])));
    }

    #[test]
    fn anything_else_is_read_in_full() {
        let last = page(7, &[C, B, A]);
        let edited = B.replace("second", "other");
        for body in [
            page(7, &[C, B, A]),
            page(8, &[D, C, &edited, A]),
            page(8, &[&edited, C, A]),
            page(8, &[C, B]),
            page(8, &[B, A]),
            page(8, &[D, B, A]),
            page(8, &[C, B, A, D]),
            page(8, &[D]),
            page(8, &[D, C, B]).replace("\"end\":1", "\"end\":2"),
            page(8, &[D, "7", C, B]),
            // Noise among the first bytes of the row pushed down: it is not found again.
            page(8, &[D, &C.replace("\"id\"", "\"badge\":1,\"id\""), B]),
            page(8, &[D, C, B]).replace("}]}],", "}]},{\"name\":\"y\",\"rows\":[]}],"),
            String::new(),
        ] {
            assert_eq!(reduced(&last, &body), None, "{body}");
        }
        assert_eq!(reduced("", &last), None);
        assert_eq!(reduced("[{\"a\":1}", "[{\"a\":2},{\"a\":1}"), None, "not learnt: it is not closed");
        assert_eq!(reduced("[{\"a\":1}}", "[{\"a\":2},{\"a\":1}}"), None, "not learnt: it is no JSON");
        let deep = "[".repeat(limits::JSON_DEPTH + 1) + &"]".repeat(limits::JSON_DEPTH + 1);
        assert_eq!(reduced(&deep, &deep.replacen('[', "[{},", 1)), None);
    }

    #[test]
    fn an_element_of_an_inner_array_is_no_row() {
        // The tags differ first; what came in is the row around them.
        let other = r#"{"tags":[{"t":1},{"t":9}],"id":1}"#;
        let row = r#"{"tags":[{"t":1},{"t":2}],"id":2}"#;
        let (last, body) = (format!("[{row}]"), format!("[{other},{row}]"));
        assert_eq!(reduced(&last, &body), Some(format!("[{other}]")));
        // A tag that came in is an element too: the row is given with that tag alone.
        let body = format!("[{}]", row.replace("{\"t\":2}", "{\"t\":3},{\"t\":2}"));
        assert_eq!(reduced(&last, &body), Some(format!("[{}]", row.replace("2}]", "3}]"))));
    }

    #[test]
    fn objects_are_told_from_pieces() {
        for text in ["{}", "{\"a\":[{}]}", "{\"a\":\"}{\\\"\"},{}", "{} , {}"] {
            assert!(is_objects(text.as_bytes()), "{text}");
        }
        for text in
            ["", "{", "}", "{},", ",{}", "{}{}", "{},,{}", "1", "\"a\"", "{}],[{}", "{\"a", "{\"a\\\""]
        {
            assert!(!is_objects(text.as_bytes()), "{text}");
        }
    }
}
