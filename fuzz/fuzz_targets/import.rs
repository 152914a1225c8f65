//! A file to import may hold anything.

#![no_main]

#[path = "../../xtask/src/import.rs"]
mod import;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(result) = import::vllm_result(text, "before", "production") {
        let json = serde_json::to_vec(&result).expect("what was imported can be written");
        serde_json::from_slice::<bench_core::schema::ResultFile>(&json).expect("and read again");
    }
});
