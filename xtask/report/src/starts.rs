//! Server starts, taken apart.

use std::collections::BTreeMap;

use bench_core::schema::{CompileCache, Measured, Outcome, ServerStart, StartPart};
use serde::Serialize;

use super::{TrialView, format};
use analysis::engine_time::EngineTime;

/// Every start of a server here; nothing where none was.
#[derive(Debug, Serialize)]
pub struct StartsView {
    header: String,
    rows: Vec<Vec<String>>,
    /// In words, what all of it took.
    total: String,
    forked: bool,
}

impl StartsView {
    /// The starts of these trials, in their order.
    pub fn new(trials: &[TrialView]) -> Option<Self> {
        let measured = trials.iter().filter_map(|trial| match &trial.record {
            Outcome::Measured(record) => Some((trial, record)),
            Outcome::Refused(_) => None,
        });
        let mut seen = BTreeMap::new();
        let starts: Vec<_> = measured
            .clone()
            .filter_map(|(trial, record)| {
                let start = record.observed.start.as_ref()?;
                let is_new = seen.insert(record.launch.clone(), ()).is_none();
                is_new.then_some((trial, record, start))
            })
            .collect();
        let is_told = |part: &StartPart| starts.iter().any(|s| s.2.parts_s.contains_key(part));
        let parts: Vec<StartPart> = StartPart::ALL.into_iter().filter(is_told).collect();
        let has_graphs = starts.iter().any(|(.., start)| start.compile_cache.is_some());
        let row = |(trial, record, start): &(&TrialView, &Measured, &ServerStart)| {
            let seconds = |s: Option<f64>| {
                s.map_or_else(|| format::NOTHING.to_owned(), |s| format::number(s, 1))
            };
            let mut row = vec![trial.settings.clone(), trial.start.to_string()];
            row.extend(has_graphs.then(|| {
                match start.compile_cache {
                    Some(CompileCache::Cold) => "compiled",
                    Some(CompileCache::Warm) => "from the cache",
                    None => format::NOTHING,
                }
                .to_owned()
            }));
            row.extend(parts.iter().map(|part| seconds(start.parts_s.get(part).copied())));
            row.push(seconds(record.observed.start_s));
            row
        };
        let titles = parts.iter().map(|part| format!(" | >{}", part.title()));
        let graphs = if has_graphs { " | Graphs" } else { "" };
        (!starts.is_empty()).then(|| Self {
            header: format!("Settings | Start{graphs}{} | >whole", titles.collect::<String>()),
            rows: starts.iter().map(row).collect(),
            total: total(&EngineTime::of(measured.map(|(_, record)| {
                (&*record.launch, &record.observed, record.summary.duration_s)
            }))),
            forked: starts.iter().any(|(.., start)| start.launcher_import_s.is_some()),
        })
    }
}

/// `17 starts took 5.1 min, loads 20.3 min; …`
pub fn total(time: &EngineTime) -> String {
    let minutes = |s: f64| format!("{} min", format::number(s / 60.0, 1));
    let imports = match time.launcher_imports_s {
        0.0 => String::new(),
        s => format!(", the imports before them {}", minutes(s)),
    };
    let starts = if time.starts == 1 { "start" } else { "starts" };
    format!(
        "{} {starts} took {}{imports}, the loads {}; a start for each of the {} trials, the \
         ordinary way, would have taken {}{}",
        time.starts,
        minutes(time.starts_s),
        minutes(time.loads_s),
        time.trials,
        if time.launcher_imports_s > 0.0 { "about " } else { "" },
        minutes(time.ordinary_s),
    )
}
