//! Damage to answers: edits that a network, a cache or a careless exchange could make.

use proptest::prelude::*;

/// One edit of a body.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

/// Any one edit.
pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    let pieces = prop_oneof![
        prop::sample::select(vec![
            "null",
            "\"\"",
            "[]",
            "{}",
            "-1",
            "1e999",
            "\\u0000",
            "\\ud800",
            "99999999999999999999",
            "\"",
            "{",
            "[[[[",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop_oneof![
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        (any::<usize>(), pieces).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (any::<usize>(), 0_usize..400).prop_map(|(at, len)| Mutation::Repeat(at, len)),
    ]
}

/// Makes it.
pub(crate) fn mutate(body: &mut Vec<u8>, mutation: Mutation) {
    let size = body.len() + 1;
    match mutation {
        Mutation::Cut(at) => body.truncate(at % size),
        Mutation::Flip(at, bits) => {
            if let Some(byte) = body.get_mut(at % size) {
                *byte ^= bits;
            }
        }
        Mutation::Insert(at, piece) => drop(body.splice(at % size..at % size, piece)),
        Mutation::Repeat(at, len) => {
            let start = at % size;
            let end = (start + len).min(body.len());
            let again = body[start..end].to_vec();
            drop(body.splice(end..end, again));
        }
    }
}
