//! What a start consists of: vLLM's log lines, each with the time at which it was seen.
//!
//! vLLM stamps its lines to the second, so they are read as they are written. Pure.

use bench_core::schema::{CompileCache, ServerStart, StartPart};

/// The line by which a part has ended; any of the texts (0.22.1 and 0.32.0).
const ENDS: [(StartPart, &[&str]); 8] = [
    (StartPart::Imports, &["(APIServer pid="]),
    (StartPart::EngineProcess, &["Initializing a V1 LLM engine"]),
    (StartPart::Device, &["Starting to load model"]),
    (StartPart::Weights, &["Model loading took", "Initializing model took"]),
    (StartPart::Compile, &["torch.compile took", "torch.compile and initial profiling"]),
    (StartPart::KvCache, &["KV cache size:"]),
    (StartPart::GraphCapture, &["Graph capturing finished"]),
    (StartPart::WarmUp, &["init engine (profile, create kv cache, warmup model) took"]),
];

const COLD: &str = "Compiling a graph for compile range";
const WARM: &str = "Directly load ";

/// How far a start has come.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    ends_s: Vec<(StartPart, f64)>,
    compile_cache: Option<CompileCache>,
}

impl Parts {
    /// Takes a line of the log that was seen at this time since the start.
    pub fn note(&mut self, line: &str, at_s: f64) {
        if line.contains(COLD) {
            self.compile_cache = Some(CompileCache::Cold);
        } else if line.contains(WARM) && self.compile_cache.is_none() {
            self.compile_cache = Some(CompileCache::Warm);
        }
        let has = |needles: &[&str]| needles.iter().any(|needle| line.contains(needle));
        let Some(&(part, _)) = ENDS.iter().rfind(|(_, needles)| has(needles)) else { return };
        match self.ends_s.last_mut() {
            // Each process of the API server goes on to tell of itself.
            Some((last, _)) if *last > part || part == StartPart::Imports => {}
            Some((last, end_s)) if *last == part => *end_s = at_s,
            _ => self.ends_s.push((part, at_s)),
        }
    }

    /// The parts of a start that took so long in all.
    pub fn start(&self, ready_s: f64, launcher_import_s: Option<f64>) -> ServerStart {
        let ends = self.ends_s.iter().copied().chain([(StartPart::ApiServer, ready_s)]);
        let mut from_s = 0.0;
        let mut length = |to_s: f64| {
            let to_s = to_s.clamp(from_s, ready_s);
            to_s - std::mem::replace(&mut from_s, to_s)
        };
        ServerStart {
            launcher_import_s,
            compile_cache: self.compile_cache,
            parts_s: ends.map(|(part, to_s)| (part, length(to_s))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A second a line.
    fn of(log: &str) -> ServerStart {
        let mut parts = Parts::default();
        for (i, line) in log.lines().enumerate() {
            parts.note(line, i as f64);
        }
        parts.start(log.lines().count() as f64, None)
    }

    #[test]
    fn parts_of_real_starts() {
        let h100 = of(include_str!("testdata/h100-started_max_num_seqs_4096.log"));
        assert_eq!(h100.compile_cache, Some(CompileCache::Cold));
        assert_eq!(h100.parts_s.len(), StartPart::ALL.len(), "{h100:?}");
        let cpu = of(include_str!("testdata/cpu-ok.log"));
        assert_eq!(cpu.compile_cache, None, "enforce-eager");
        let told: Vec<_> = cpu.parts_s.keys().copied().collect();
        let silent =
            |part: &StartPart| !matches!(part, StartPart::Compile | StartPart::GraphCapture);
        assert_eq!(told, StartPart::ALL.into_iter().filter(silent).collect::<Vec<_>>());
    }

    #[test]
    fn graphs_from_the_cache_are_warm() {
        let log = "INFO Directly load AOT compilation from path /x\ntorch.compile took 4.2 s";
        assert_eq!(of(log).compile_cache, Some(CompileCache::Warm));
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_start(
            lines in prop::collection::vec((0..ENDS.len() + 1, 0.0..10.0_f64), 0..30),
            ready_s in 0.0..100.0_f64,
        ) {
            let mut parts = Parts::default();
            let mut at_s = 0.0;
            for (end, wait_s) in lines {
                at_s += wait_s;
                parts.note(ENDS.get(end).map_or("another line", |(_, needles)| needles[0]), at_s);
            }
            let start = parts.start(ready_s, None);
            let sum: f64 = start.parts_s.values().sum();
            prop_assert!((sum - ready_s).abs() < 1e-9);
            prop_assert!(start.parts_s.values().all(|s| *s >= 0.0));
        }
    }
}
