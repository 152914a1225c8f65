//! A scrape may hold anything.

#![no_main]
#![allow(dead_code, reason = "the target calls a part of the module")]

#[path = "../../bench/src/observe/prometheus.rs"]
mod prometheus;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let scrape = prometheus::Scrape::parse(text, |_| true);
    assert!(scrape.sum("vllm:num_requests_running").is_none_or(|sum| !sum.is_nan()));
});
