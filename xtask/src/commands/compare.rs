//! `compare A B`: any two results or baselines, metric by metric.

use std::path::Path;

use anyhow::{Context as _, Result};
use bench_core::schema::{Point, ResultFile, Role};

use super::{Root, read_result};
use crate::{
    stages, ui,
    usage::{self, UsageError},
};

/// Prints the comparison.
pub fn run(a: &str, b: &str) -> Result<()> {
    let root = Root::find()?;
    let (before, after) = (points(&root, a)?, points(&root, b)?);
    let rows = stages::any_two(&before, &after);
    if rows.is_empty() {
        let message =
            format!("{a} and {b} have no load in common: {} and {}", loads(&before), loads(&after));
        return Err(UsageError::new(message).into());
    }
    print!("{}", ui::comparison_table(&rows, a, b));
    Ok(())
}

fn loads(points: &[Point]) -> String {
    let mut names: Vec<&str> = points.iter().map(|point| point.load.as_str()).collect();
    names.dedup();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The points that `NAME[#LABEL]` stands for: a baseline, a profile's results, or a result file.
fn points(root: &Root, name: &str) -> Result<Vec<Point>> {
    let (source, label) = name.split_once('#').map_or((name, None), |(s, l)| (s, Some(l)));
    let files = [
        root.baselines().join(format!("{source}.json")),
        root.path().join("results").join(source).join(stages::COMPREHENSIVE_FILE),
        root.path().join("results").join(source).join(stages::BASELINE_FILE),
        Path::new(source).to_owned(),
    ];
    let existing: Vec<_> = files.iter().filter(|path| path.is_file()).collect();
    if existing.is_empty() {
        return Err(
            UsageError::new(usage::no_such("result or baseline", source, &known(root)?)).into()
        );
    }
    let results =
        existing.into_iter().map(|path| read_result(path)).collect::<Result<Vec<ResultFile>>>()?;
    let all: Vec<Point> = results.into_iter().flat_map(|result| result.points).collect();
    let labels: Vec<String> = all.iter().map(|point| point.label.clone()).collect();
    // Without a label: the tuned settings, else the first configuration there is.
    let label = match label {
        Some(label) => label.to_owned(),
        None => all
            .iter()
            .find(|point| point.role == Role::Tuned)
            .or(all.first())
            .map(|point| point.label.clone())
            .with_context(|| format!("{source} holds no measured configuration"))?,
    };
    let picked: Vec<Point> = all.into_iter().filter(|point| point.label == label).collect();
    if picked.is_empty() {
        return Err(UsageError::new(usage::no_such("configuration", &label, &labels)).into());
    }
    Ok(picked)
}

/// Names that `compare` knows: saved baselines and profiles with results.
fn known(root: &Root) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in [root.baselines(), root.path().join("results")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.push(name.trim_end_matches(".json").to_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}
