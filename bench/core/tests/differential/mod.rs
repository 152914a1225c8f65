//! vLLM's own `Scheduler` and ours, step by step on the same requests: who is scheduled, with how
//! many tokens after how many computed ones, who is preempted, how many blocks are free.
//!
//! `record.py` records vLLM's decisions. `recorded.jsonl.gz` holds those of 300 cases (seed 1);
//! `scripts/differential.sh` records thousands and replays them here.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use bench_core::sim::{
    blocks::mix,
    scheduler::{Limits, Request, Scheduler},
};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// Folder of more traces (`*.jsonl.gz`), as `scripts/differential.sh` leaves it.
const MORE: &str = "DIFFERENTIAL_TRACES";

/// Limits, requests in the order of their numbers, vLLM's steps, prefix tokens looked up and found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    limits: Limits,
    requests: Vec<Arrival>,
    steps: Vec<Step>,
    prefix: (u64, u64),
}

/// Step of the arrival, prompt tokens, output tokens, prefix group, prefix tokens, step of the abort.
type Arrival = (usize, u32, u32, u64, u32, Option<usize>);

/// `(request, tokens computed before, tokens now)` of each part, the preempted, free blocks.
type Step = (Vec<(u64, u32, u32)>, Vec<u64>, u32);

#[derive(Default)]
struct Totals {
    cases: usize,
    steps: usize,
    parts: usize,
    preemptions: usize,
    hits: u64,
    aborts: usize,
    stuck: usize,
    differing: usize,
}

fn traces() -> Vec<PathBuf> {
    let mut paths =
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("differential/recorded.jsonl.gz")];
    if let Some(folder) = std::env::var_os(MORE) {
        let entries = fs::read_dir(&folder).expect("the folder of traces is there");
        let more = entries.map(|entry| entry.expect("an entry").path());
        paths.extend(more.filter(|path| path.extension() == Some(OsStr::new("gz"))));
    }
    paths
}

/// Our decisions on a case, up to the first that differs.
fn replay(case: &Case, totals: &mut Totals) -> Result<(), String> {
    let mut scheduler = Scheduler::new(case.limits);
    for (index, expected) in case.steps.iter().enumerate() {
        for (id, (at, prompt_tokens, max_tokens, group, prefix, abort)) in (0..).zip(&case.requests)
        {
            if *at == index {
                let blocks = u64::from(prefix / case.limits.block_size);
                let shared_hashes = (0..blocks).map(|block| mix(*group, block)).collect();
                let (prompt_tokens, max_tokens) = (*prompt_tokens, *max_tokens);
                scheduler.add(Request { id, prompt_tokens, max_tokens, shared_hashes });
            }
            if *abort == Some(index) {
                totals.aborts += usize::from(scheduler.abort(id));
            }
        }
        let plan = scheduler.schedule();
        let parts = plan.scheduled.iter().map(|part| (part.id, part.computed, part.tokens));
        let mut preempted = plan.preempted.clone();
        preempted.sort_unstable();
        let found: Step = (parts.collect(), preempted, scheduler.free_blocks());
        if found != *expected {
            return Err(format!("step {index}: vLLM {expected:?}, we {found:?}"));
        }
        totals.steps += 1;
        totals.parts += found.0.len();
        totals.preemptions += found.1.len();
        scheduler.complete(&plan);
    }
    let counters = scheduler.counters();
    if (counters.prefix_queries, counters.prefix_hits) != case.prefix {
        return Err(format!("prefix tokens: vLLM {:?}, we {counters:?}", case.prefix));
    }
    totals.hits += counters.prefix_hits;
    totals.stuck += usize::from(scheduler.running() + scheduler.waiting() > 0);
    Ok(())
}

#[test]
fn every_decision_is_vllms() {
    let mut totals = Totals::default();
    for path in traces() {
        let file = fs::File::open(&path).expect("the traces are readable");
        for line in BufReader::new(GzDecoder::new(file)).lines() {
            let case: Case =
                serde_json::from_str(&line.expect("whole traces")).expect("a case a line");
            totals.cases += 1;
            if let Err(difference) = replay(&case, &mut totals) {
                totals.differing += 1;
                println!(
                    "{}, case {}, {:?}: {difference}",
                    path.display(),
                    totals.cases,
                    case.limits
                );
            }
        }
    }
    println!(
        "{} cases, {} steps, {} scheduled parts, {} preemptions, {} prefix tokens found, {} aborts, \
         {} cases with a request that never fits: {} differ",
        totals.cases,
        totals.steps,
        totals.parts,
        totals.preemptions,
        totals.hits,
        totals.aborts,
        totals.stuck,
        totals.differing
    );
    assert_eq!(totals.differing, 0, "decisions differ from vLLM's");
    let reached = [totals.preemptions, totals.hits as usize, totals.aborts, totals.stuck];
    assert!(reached.iter().all(|count| *count > 0), "the cases miss what they are to show");
}
