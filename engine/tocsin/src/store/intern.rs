//! Names that the engine knows as `&'static str` (rules, sources), read back from disk.
//!
//! Contract: equal text gives the same reference for the life of the process. At most
//! [`limits::INTERNED_NAMES`] distinct names are ever kept; beyond that, and for text over
//! [`limits::INTERNED_NAME_BYTES`], the answer is `"unknown"`, so a foreign database cannot make
//! the process grow. Takes a lock and may allocate: used only while opening and reading the store.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tocsin_core::limits;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The one `&'static str` equal to `name`, or `"unknown"` past the bounds.
pub(crate) fn intern(name: &str) -> &'static str {
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name) {
        return known;
    }
    if names.len() >= limits::INTERNED_NAMES || name.len() > limits::INTERNED_NAME_BYTES {
        return "unknown";
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_and_long_ones_are_refused() {
        assert!(std::ptr::eq(intern("binance.will_list"), intern(&["binance.", "will_list"].concat())));
        assert_eq!(intern(&"x".repeat(limits::INTERNED_NAME_BYTES + 1)), "unknown");
    }
}
