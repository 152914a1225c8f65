//! The file of a load point, read at the edge.

use std::fs::File;

use anyhow::Context as _;
use bench_core::{
    dataset::{self, Row},
    schema::{PlannedTrial, Size},
    workload::Workload,
};

/// A trial's load with the rows that it takes from its file; no more are kept.
///
/// # Errors
/// When the file cannot be read, or is not the one that was planned with.
pub fn workload(trial: &PlannedTrial) -> anyhow::Result<Workload> {
    let load = trial.load.clone();
    let Some(spec) = &load.data else { return Ok(load.into()) };
    let path = trial.data_file.as_ref().with_context(|| {
        format!(
            "trial {} wants a file of digest {}; name it as `data_file`",
            trial.key, spec.digest
        )
    })?;
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let rows_max = match load.size {
        Size::Requests(count) => count as usize,
        Size::DurationMs(_) => usize::MAX,
    };
    let mut rows: Vec<Row> = Vec::new();
    let digest = dataset::read(spec.format, file, &mut |row| {
        if rows.len() < rows_max {
            rows.push(row);
        }
    })
    .with_context(|| format!("cannot use {shown}"))?;
    anyhow::ensure!(
        digest == spec.digest,
        "{shown} is not the file that was planned with: its digest is {digest}, not {}; run the \
         suite again",
        spec.digest
    );
    Ok(Workload::new(load, rows))
}
