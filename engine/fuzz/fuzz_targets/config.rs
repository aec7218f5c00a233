//! Whatever a configuration file holds, it is taken or an error says what is wrong with it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tocsin::config::{Config, Layers};

fuzz_target!(|text: &str| {
    let defaults = Layers::defaults().unwrap();
    let layers = match defaults.with_text(text, Path::new("fuzzed.toml")) {
        Ok(layers) => layers,
        Err(error) => return assert!(error.to_string().starts_with("fuzzed.toml")),
    };
    if let Err(error) = Config::from_layers(&layers) {
        assert!(!error.to_string().is_empty());
    }
});
