//! A file to import may hold anything.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| xtask::fuzz::vllm_result(text));
