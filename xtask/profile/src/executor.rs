//! `[executor]`: where launches run.

use super::{
    environment::environment,
    read::{Item, Table, absent_or_right},
    resolved::{EngineConfig, ExecutorConfig, SlurmConfig},
};

const OPTIONS_MAX: usize = 100;
/// A year.
const TIME_LIMIT_MINUTES_MAX: u32 = 366 * 24 * 60;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Slurm,
}

const KINDS: [(&str, Kind); 2] = [("local", Kind::Local), ("slurm", Kind::Slurm)];

const SLURM_KEYS: [&str; 6] =
    ["partition", "gres", "time_limit_minutes", "exclusive", "options", "env"];

/// Options of `sbatch` that have a key of their own.
const BY_KEY: [(&str, &str); 7] = [
    ("partition", "partition"),
    ("gres", "gres"),
    ("time", "time_limit_minutes"),
    ("exclusive", "exclusive"),
    ("oversubscribe", "exclusive"),
    ("export", "env"),
    ("export-file", "env"),
];

/// Options of `sbatch` by which the bench follows its jobs.
const OURS: [&str; 15] = [
    "array",
    "chdir",
    "clusters",
    "comment",
    "error",
    "hold",
    "job-name",
    "no-requeue",
    "open-mode",
    "output",
    "parsable",
    "requeue",
    "test-only",
    "wait",
    "wrap",
];

/// Reads the section.
pub(super) fn read(mut table: Table<'_>, engine: Option<&EngineConfig>) -> Option<ExecutorConfig> {
    let kind = table.require("kind", "kind = \"local\" or \"slurm\"")?;
    let config = match kind.choice(&KINDS)?.value {
        Kind::Local => Some(ExecutorConfig::Local),
        Kind::Slurm => slurm(&mut table, engine).map(ExecutorConfig::Slurm),
    };
    if let (Some(EngineConfig::Endpoint(_)), Some(ExecutorConfig::Slurm(_))) = (engine, &config) {
        kind.report(
            "a server that runs already is loaded from here, not from a cluster's nodes",
            "take [executor] out",
        );
        return None;
    }
    let is_slurm_key = |key: &str| SLURM_KEYS.contains(&key);
    table.finish(|key| is_slurm_key(key).then(|| "it takes kind = \"slurm\"".to_owned()));
    config
}

fn slurm(table: &mut Table<'_>, engine: Option<&EngineConfig>) -> Option<SlurmConfig> {
    let text = |item: Item<'_>| item.text().map(|text| text.value.to_owned());
    let partition = table.get("partition").map(text);
    let gres = table.get("gres").map(text);
    let minutes = table.get("time_limit_minutes");
    let time_limit_minutes = minutes.map(|item| item.integer_u32(1..=TIME_LIMIT_MINUTES_MAX));
    let exclusive = match table.get("exclusive") {
        Some(item) => item.boolean().map(|exclusive| exclusive.value),
        // What else runs on a node changes no simulated figure.
        None => Some(!matches!(engine, Some(EngineConfig::Simulator { .. }))),
    };
    let options = match table.get("options") {
        Some(item) => item.list(OPTIONS_MAX).and_then(|all| options(&all)),
        None => Some(Vec::new()),
    };
    let env = match table.get("env") {
        Some(item) => environment(&item, "[executor.env]"),
        None => Some(Default::default()),
    };
    Some(SlurmConfig {
        partition: absent_or_right(partition)?,
        gres: absent_or_right(gres)?,
        time_limit_minutes: absent_or_right(time_limit_minutes)?,
        exclusive: exclusive?,
        options: options?,
        env: env?,
    })
}

/// All options, or every mistake in them.
fn options(items: &[Item<'_>]) -> Option<Vec<String>> {
    let read: Vec<_> = items.iter().map(option).collect();
    read.into_iter().collect()
}

/// A long option of `sbatch` with its value in it.
fn option(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.value;
    let name = text.strip_prefix("--").unwrap_or_default().split('=').next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_name) {
        item.report(
            format!("`{text}` is no option of sbatch"),
            "expected --NAME or --NAME=VALUE, such as --account=tuning",
        );
        return None;
    }
    if let Some((_, key)) = BY_KEY.iter().find(|(option, _)| *option == name) {
        item.report(format!("`--{name}` has a key of its own"), format!("use `{key}`"));
        return None;
    }
    if OURS.contains(&name) {
        item.report(format!("`--{name}` is set by the bench"), "take it out");
        return None;
    }
    Some(text.to_owned())
}
