//! A record may come from another version, or from a stranger's bundle.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| xtask::fuzz::record(text));
