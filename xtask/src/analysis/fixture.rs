//! Points for tests.

use std::collections::BTreeMap;

use bench_core::{
    schema::{ArgValue, Point, Role, TrialRef},
    stats,
};

/// A point of a sweep: flags with numbers, and figures with one value a start.
pub fn point(label: &str, args: &[(&str, i64)], load: &str, figures: &[(&str, &[f64])]) -> Point {
    let starts = figures.iter().map(|(_, starts)| starts.len()).max().unwrap_or(0);
    let trial = |replicate: usize| TrialRef {
        key: bench_core::canonical::Digest::of(format!("{label}/{load}/{replicate}").as_bytes()),
        replicate: replicate as u32,
        invalid: None,
    };
    Point {
        label: label.to_owned(),
        role: Role::Sweep,
        args: args.iter().map(|(f, n)| ((*f).to_owned(), ArgValue::Int(*n))).collect(),
        load: load.to_owned(),
        load_digest: None,
        part: None,
        trials: (0..starts).map(trial).collect(),
        failure: None,
        saturated: false,
        metrics: figures
            .iter()
            .filter_map(|(id, starts)| Some(((*id).to_owned(), stats::estimate(starts.to_vec())?)))
            .collect::<BTreeMap<_, _>>(),
        anatomy: None,
        classes: Vec::new(),
    }
}
