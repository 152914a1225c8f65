//! What strangers write, as the fuzz targets give it to its readers; none may panic.

use std::path::Path;

use bench_core::canonical::Digest;

use crate::import;
use profile::{ConfigError, ModelFolder, parse};
use store::{Action, Bundle};

/// A profile is read, or its mistakes are told.
pub fn profile(text: &str) {
    let models = ModelFolder(Path::new("bench/models").to_owned());
    let (file, source) = ("fuzz.toml".to_owned(), text.to_owned());
    if let Err(problems) = parse("fuzz", Path::new(&file), text, &models) {
        let mistakes = ConfigError::Invalid { file, source, problems };
        assert!(mistakes.to_string().starts_with("error: "));
    }
}

/// A record under a right seal that is read is written and read again, where a key can be made of its inputs:
/// that of a key holds no floats, which would not come back to the last digit.
pub fn record(text: &str) {
    let sealed = Action::sealed(text.to_owned());
    if let Some(action) = sealed.and_then(|bytes| Action::from_json(&bytes))
        && Digest::of_json(&action.key_inputs).is_ok()
    {
        assert!(Action::from_json(&action.to_json()) == Some(action));
    }
}

/// The text of a bundle under a right seal that is read is written and read again.
pub fn bundle(text: &str) {
    let packed = store::packed(text).expect("memory takes it");
    if let Ok(bundle) = Bundle::from_bytes(&packed) {
        let again = Bundle::from_bytes(&bundle.to_bytes().expect("it was small enough to read"));
        assert!(again.expect("it was just written") == bundle);
    }
}

/// A result of `vllm bench serve` that is imported can be stored.
pub fn vllm_result(text: &[u8]) {
    if let Ok(result) = import::vllm_result(text, "before", "production") {
        let json = serde_json::to_vec(&result).expect("what was imported can be written");
        serde_json::from_slice::<bench_core::schema::SavedResult>(&json).expect("and read again");
    }
}
