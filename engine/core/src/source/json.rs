//! Reading JSON through simd-json's tape: a flat list of nodes, no tree, strings left in the body.
//!
//! Contract: [`Scratch`] keeps the tape and the parser's buffers from answer to answer, so that
//! nothing is allocated once they have grown to the size of the answers. [`Json`] is a place in
//! the tape; every step from it can fail quietly with `None`. Owner: one source thread. Never
//! blocks.

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::{ParseError, ShortText};
use crate::limits;

/// Buffers for parsing, reused from answer to answer.
pub struct Scratch {
    buffers: Buffers,
    tape: Tape<'static>,
    inner: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            buffers: Buffers::with_max_depth(limits::USUAL_BODY_BYTES, limits::JSON_DEPTH),
            tape: Tape(Vec::new()),
            inner: Vec::new(),
        }
    }
}

impl core::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Scratch {
    /// Parses `body` and gives its root to `read`.
    pub(crate) fn document<T>(
        &mut self,
        body: &mut [u8],
        read: impl FnOnce(Json<'_, '_>) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        parse(&mut self.buffers, &mut self.tape, body, read)
    }

    /// Parses `body`, lets `check` refuse its root, and gives the value under `key` to `read`,
    /// whether it stands there as JSON or as a string that holds JSON.
    pub(crate) fn envelope<T>(
        &mut self,
        body: &mut [u8],
        key: &'static str,
        check: impl FnOnce(Json<'_, '_>) -> Result<(), ParseError>,
        mut read: impl FnMut(Json<'_, '_>) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        let inner = &mut self.inner;
        let outcome = parse(&mut self.buffers, &mut self.tape, body, |root| {
            check(root)?;
            let data = root.get(key).ok_or(ParseError::Missing(key))?;
            match data.str() {
                None => read(data).map(Some),
                Some(text) => {
                    inner.clear();
                    inner.extend_from_slice(text.as_bytes());
                    Ok(None)
                }
            }
        })?;
        match outcome {
            Some(value) => Ok(value),
            None => parse(&mut self.buffers, &mut self.tape, &mut self.inner, read),
        }
    }
}

/// Parses `text`, after a byte order mark if it begins with one.
fn parse<T>(
    buffers: &mut Buffers,
    spare: &mut Tape<'static>,
    text: &mut [u8],
    read: impl FnOnce(Json<'_, '_>) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    let text = match text {
        [0xEF, 0xBB, 0xBF, rest @ ..] => rest,
        whole => whole,
    };
    match text.iter().find(|b| !b.is_ascii_whitespace()) {
        None => return Err(ParseError::Empty),
        Some(b'<') => return Err(ParseError::Html),
        Some(_) => {}
    }
    let len = text.len();
    let mut tape = core::mem::replace(spare, Tape(Vec::new())).reset();
    let result = match simd_json::fill_tape(text, buffers, &mut tape) {
        Ok(()) => read(Json(&tape.0)),
        Err(error) => Err(ParseError::NotJson { offset: error.index(), len }),
    };
    *spare = tape.reset();
    result
}

/// A place in the tape: the first node is the value, those of its children follow.
#[derive(Clone, Copy)]
pub(crate) struct Json<'t, 'a>(&'t [Node<'a>]);

impl<'t, 'a> Json<'t, 'a> {
    /// The value under `key`, when this is an object that has it.
    pub(crate) fn get(self, key: &str) -> Option<Json<'t, 'a>> {
        self.entries().find_map(|(k, value)| (k == key).then_some(value))
    }

    /// Keys and values of an object; nothing for any other value.
    pub(crate) fn entries(self) -> impl Iterator<Item = (&'a str, Json<'t, 'a>)> {
        let mut rest = match self.0.split_first() {
            Some((Node::Object { .. }, children)) => children,
            _ => &[],
        };
        core::iter::from_fn(move || {
            let (Node::String(key), values) = rest.split_first()? else { return None };
            let (value, tail) = split_value(values)?;
            rest = tail;
            Some((*key, value))
        })
    }

    /// Elements of an array; nothing for any other value.
    pub(crate) fn elements(self) -> impl Iterator<Item = Json<'t, 'a>> {
        let mut rest = match self.0.split_first() {
            Some((Node::Array { .. }, children)) => children,
            _ => &[],
        };
        core::iter::from_fn(move || {
            let (value, tail) = split_value(rest)?;
            rest = tail;
            Some(value)
        })
    }

    /// Whether this is an array, or the `null` that some exchanges write for an empty one.
    pub(crate) fn is_list(self) -> bool {
        matches!(self.0.first(), Some(Node::Array { .. } | Node::Static(StaticNode::Null)))
    }

    /// Whether this is an array.
    pub(crate) fn is_array(self) -> bool {
        matches!(self.0.first(), Some(Node::Array { .. }))
    }

    /// Whether this is `null`.
    pub(crate) fn is_null(self) -> bool {
        matches!(self.0.first(), Some(Node::Static(StaticNode::Null)))
    }

    /// Whether this is an object.
    pub(crate) fn is_object(self) -> bool {
        matches!(self.0.first(), Some(Node::Object { .. }))
    }

    /// A string.
    pub(crate) fn str(self) -> Option<&'a str> {
        match self.0.first()? {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    /// `true` or `false`.
    pub(crate) fn bool(self) -> Option<bool> {
        match self.0.first()? {
            Node::Static(StaticNode::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// A whole number, also one written as a string or with a fraction of zero.
    pub(crate) fn integer(self) -> Option<i64> {
        match self.0.first()? {
            Node::Static(StaticNode::I64(value)) => Some(*value),
            Node::Static(StaticNode::U64(value)) => i64::try_from(*value).ok(),
            // Exact below 2^53; larger values are no times and no ids.
            Node::Static(StaticNode::F64(value))
                if value.trunc() == *value && value.abs() < 9_007_199_254_740_992.0 =>
            {
                Some(*value as i64)
            }
            Node::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A number, also one written as a string; never infinite or no number at all.
    pub(crate) fn number(self) -> Option<f64> {
        let number = match self.0.first()? {
            Node::Static(StaticNode::F64(value)) => *value,
            // Amounts are compared, not summed up to the last unit: rounding above 2^53 is harmless.
            Node::Static(StaticNode::I64(value)) => *value as f64,
            Node::Static(StaticNode::U64(value)) => *value as f64,
            Node::String(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// An identifier, written as a string or a whole number: not empty, no ASCII blanks or
    /// controls.
    pub(crate) fn identifier(self) -> Option<ShortText> {
        match self.0.first()? {
            Node::String(text) => {
                let text = text.trim();
                let plain = text.bytes().all(|b| b > b' ' && b != 0x7F);
                if plain && !text.is_empty() { ShortText::new(text) } else { None }
            }
            _ => self.integer().and_then(|n| u64::try_from(n).ok()).map(ShortText::decimal),
        }
    }

    /// A title: not blank, cut at [`limits::TITLE_BYTES`].
    pub(crate) fn title(self) -> Option<&'a str> {
        let text = self.str()?;
        let end = text.floor_char_boundary(limits::TITLE_BYTES);
        text.get(..end).filter(|t| !t.trim().is_empty())
    }

    /// A string or number as text for an error message; empty for anything else.
    pub(crate) fn brief(self) -> ShortText {
        match self.0.first() {
            Some(Node::String(text)) => ShortText::cut(text),
            _ => self
                .integer()
                .and_then(|n| u64::try_from(n).ok())
                .map_or(ShortText::EMPTY, ShortText::decimal),
        }
    }
}

fn split_value<'t, 'a>(nodes: &'t [Node<'a>]) -> Option<(Json<'t, 'a>, &'t [Node<'a>])> {
    let count = match nodes.first()? {
        Node::Object { count, .. } | Node::Array { count, .. } => count.checked_add(1)?,
        _ => 1,
    };
    let (value, rest) = nodes.split_at_checked(count)?;
    Some((Json(value), rest))
}
