//! A profile may come from a stranger.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| xtask::fuzz::profile(text));
