//! Where the engine's time went: starts by part, and loads.

use std::collections::BTreeMap;

use bench_core::schema::{Observed, StartPart};

/// Totals over launches whose servers were started here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineTime {
    /// Server starts.
    pub starts: usize,
    /// Trials on them.
    pub trials: usize,
    /// Of all starts.
    pub starts_s: f64,
    /// The same by part, as far as it is known.
    pub parts_s: BTreeMap<StartPart, f64>,
    /// Imports of the processes that servers are forks of.
    pub launcher_imports_s: f64,
    /// Of all loads.
    pub loads_s: f64,
    /// What a start for every trial, the ordinary way, would have taken; of forked servers estimated
    /// as a start with its own imports.
    pub ordinary_s: f64,
}

impl EngineTime {
    /// Of these trials: the launch of each, what was observed of its server, and how long its load
    /// took. Where no server was started here there is nothing to count.
    pub fn of<'a>(trials: impl IntoIterator<Item = (&'a str, &'a Observed, f64)>) -> Self {
        let mut total = Self::default();
        let mut launches = BTreeMap::new();
        for (launch, observed, load_s) in trials {
            let (Some(start_s), Some(start)) = (observed.start_s, &observed.start) else {
                continue;
            };
            total.trials += 1;
            total.loads_s += load_s;
            total.ordinary_s += observed.ordinary_start_s().unwrap_or(start_s);
            launches.insert(launch, (start_s, start));
        }
        let mut imports_s = Vec::new();
        for (start_s, start) in launches.into_values() {
            total.starts += 1;
            total.starts_s += start_s;
            for (part, part_s) in &start.parts_s {
                *total.parts_s.entry(*part).or_default() += part_s;
            }
            imports_s.extend(start.launcher_import_s);
        }
        // Forks of one launcher tell the same of it.
        imports_s.sort_by(f64::total_cmp);
        imports_s.dedup();
        total.launcher_imports_s = imports_s.iter().sum();
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_core::schema::ServerStart;

    #[test]
    fn starts_count_once_and_imports_once_a_launcher() {
        let observed = |start_s: f64, launcher_import_s| {
            let parts_s = BTreeMap::from([(StartPart::ApiServer, start_s)]);
            let start = ServerStart { launcher_import_s, parts_s, ..ServerStart::default() };
            Observed { start_s: Some(start_s), start: Some(start), ..Observed::default() }
        };
        let trials = [
            ("a", observed(20.0, Some(10.0))),
            ("a", observed(20.0, Some(10.0))),
            ("b", observed(30.0, Some(10.0))),
            ("c", observed(60.0, None)),
            ("simulated", Observed { start_s: Some(1.0), ..Observed::default() }),
        ];
        let found =
            EngineTime::of(trials.iter().map(|(launch, observed)| (*launch, observed, 5.0)));
        assert_eq!((found.starts, found.trials), (3, 4));
        assert_eq!((found.starts_s, found.loads_s, found.launcher_imports_s), (110.0, 20.0, 10.0));
        assert_eq!(found.parts_s, BTreeMap::from([(StartPart::ApiServer, 110.0)]));
        assert_eq!(found.ordinary_s, 40.0 + 40.0 + 50.0 + 60.0);
    }
}
