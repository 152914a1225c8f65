//! Requests that failed in trials that count all the same.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{Counts, Outcome, Point},
};

use super::Session;
use dag::Dag;
use profile::Trial;

/// Each setting and load under which requests failed, with their share and their kinds.
pub fn tolerated(session: &Session, dag: &Dag<'_, Trial>, points: &[Point]) -> Result<Vec<String>> {
    let has_failed = |point: &&Point| point.mean("failed_share").is_some_and(|share| share > 0.0);
    if !points.iter().any(|point| has_failed(&point)) {
        return Ok(Vec::new());
    }
    let records: BTreeMap<Digest, Digest> =
        dag.stored_leaves()?.into_iter().map(|(leaf, digest)| (leaf.key, digest)).collect();
    let mut lines = Vec::new();
    for point in points.iter().filter(has_failed) {
        let mut counts = Vec::new();
        for trial in point.trials.iter().filter(|trial| trial.invalid.is_none()) {
            let Some(digest) = records.get(&trial.key) else { continue };
            let Some(bytes) = session.store.get(digest)? else { continue };
            if let Outcome::Measured(record) =
                serde_json::from_slice(&bytes).context("reading a trial")?
            {
                counts.push(record.summary.counts);
            }
        }
        let line = line(&report::format::setting(point), &point.load, &counts);
        lines.extend(line.filter(|line| !lines.contains(line)));
    }
    Ok(lines)
}

/// `15 of 300 of default on burst (5.0 %: http_500 15), few enough for the trials to count`
fn line(label: &str, load: &str, counts: &[Counts]) -> Option<String> {
    let (sent, failed): (u64, u64) =
        (counts.iter().map(|c| c.sent).sum(), counts.iter().map(Counts::failed_total).sum());
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in counts.iter().flat_map(|counts| &counts.failed) {
        *kinds.entry(kind).or_default() += count;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    (failed > 0).then(|| {
        format!(
            "{failed} of {sent} of {label} on {load} ({:.1} %: {}), few enough for the trials to count",
            100.0 * failed as f64 / sent as f64,
            kinds.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_added_up_over_trials() {
        let counts = |sent, failed: &[(&str, u64)]| Counts {
            sent,
            failed: failed.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect(),
            ..Counts::default()
        };
        let both =
            [counts(150, &[("http_500", 5)]), counts(150, &[("http_500", 9), ("timeout", 1)])];
        assert_eq!(
            line("default", "burst", &both).expect("some failed"),
            "15 of 300 of default on burst (5.0 %: http_500 14, timeout 1), few enough for the trials to count"
        );
        assert_eq!(line("default", "burst", &[counts(150, &[])]), None);
    }
}
