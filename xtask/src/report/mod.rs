//! stub
pub mod findings {
    use bench_core::schema::*;
    pub fn of_sweep(_: &[Point], _: &crate::config::Objective) -> Vec<String> {
        vec![]
    }
    pub fn against_baseline(_: &[Point], _: &[Point], _: &str) -> Vec<String> {
        vec![]
    }
    pub fn where_time_went(_: &Anatomy, _: &Anatomy) -> String {
        String::new()
    }
}
use bench_core::{canonical::Digest, schema::ResultFile};
use std::collections::BTreeMap;
pub struct Inputs<'a> {
    pub profile: &'a crate::config::Profile,
    pub profile_digest: &'a Digest,
    pub identity: &'a ResultFile,
    pub baseline: &'a ResultFile,
    pub sweeps: &'a [ResultFile],
    pub choose: Option<&'a ResultFile>,
    pub comprehensive: Option<&'a ResultFile>,
    pub comparison: &'a ResultFile,
    pub week2: &'a ResultFile,
    pub plots: &'a [String],
}
pub fn template_digests() -> BTreeMap<String, Digest> {
    BTreeMap::new()
}
pub fn markdown(_: &Inputs<'_>) -> anyhow::Result<String> {
    Ok(String::new())
}
pub fn recommended_yaml(_: &Inputs<'_>) -> anyhow::Result<String> {
    Ok(String::new())
}
