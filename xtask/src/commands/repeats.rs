//! How often the objective's load is worth repeating within a start, by the stored trials.

use std::collections::BTreeMap;

use analysis::repeats::{self, Proposal};
use anyhow::{Context as _, Result};
use bench_core::{
    metric,
    schema::{LoadSpec, Measured, Outcome},
    stats::{self, Costs, Start},
};
use dag::Dag;
use engines::History;
use profile::{Profile, Trial};
use store::Store;

/// Trials of one load, by arguments, then by start, then by repeat.
type Repeated = BTreeMap<String, BTreeMap<u32, BTreeMap<u32, Measured>>>;

/// `None` where no start repeated the load.
pub fn propose(
    store: &Store,
    dag: &Dag<'_, Trial>,
    profile: &Profile,
    history: &History,
) -> Result<Option<Proposal>> {
    let objective = &profile.objective;
    let load = profile.loads.iter().find(|load| load.name == objective.load);
    let (Some(load), Some(metric)) = (load, metric::find(&objective.metric)) else {
        return Ok(None);
    };
    let repeats: Vec<LoadSpec> = (0..load.repeats).map(|repeat| load.repeat(repeat)).collect();
    let mut trials = Repeated::new();
    for (leaf, digest) in dag.stored_leaves()? {
        let repeat = repeats.iter().position(|spec| *spec == leaf.what.load);
        let (Some(repeat), Some(bytes)) = (repeat, store.get(&digest)?) else { continue };
        let outcome: Outcome = serde_json::from_slice(&bytes)
            .with_context(|| format!("reading trial {}", leaf.role))?;
        let Outcome::Measured(measured) = outcome else { continue };
        if measured.is_valid() {
            let args = serde_json::to_string(&leaf.what.args)?;
            let of_start = trials.entry(args).or_default().entry(leaf.what.replicate).or_default();
            of_start.insert(repeat as u32, measured);
        }
    }
    let start = |repeats: &BTreeMap<u32, Measured>| Start {
        block: None,
        repeats: repeats.values().filter_map(metric.value).collect(),
    };
    let spreads: Vec<_> = trials
        .values()
        .filter_map(|starts| stats::spread(metric, &starts.values().map(start).collect::<Vec<_>>()))
        .collect();
    let others_s = profile.loads.iter().filter(|other| other.name != load.name);
    let others_s: f64 = others_s.filter_map(|other| history.load_s(&other.spec)).sum();
    let (Some(start_s), Some(repeat_s)) = (history.start_s(), history.load_s(&load.spec)) else {
        return Ok(None);
    };
    Ok(repeats::propose(&spreads, Costs { start_s: start_s + others_s, repeat_s }))
}
