//! Trials on the simulator, in virtual time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::{
    canonical::Digest,
    schema::{Event, FORMAT, LaunchPlan, Outcome, PlannedTrial, Progress},
    sim::{self, Model},
};

use crate::{Recorder, emit, planned, prompts, workload};

/// A simulated hour takes seconds: progress is for the eye and follows the real clock.
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);

/// Runs every trial of the plan on one simulated server, samples into the folder `out`, and prints
/// the events.
///
/// # Errors
/// When a file cannot be read or written, or nobody reads the events.
pub fn simulate(plan: &LaunchPlan, model: &Model, out: &Path) -> anyhow::Result<()> {
    let server = match sim::launch(model, &plan.args, plan.replicate) {
        Ok(server) => server,
        Err(failure) => return emit(&Event::Refused { failure }),
    };
    let observed = server.observed();
    emit(&Event::Ready { format: FORMAT, observed: Box::new(observed.clone()) })?;
    for trial in &plan.trials {
        let PlannedTrial { key, .. } = trial;
        let load = &workload(trial)?;
        let mut recorder = Recorder::create(out, key, load)?;
        let mut written = Ok(());
        let mut ticker = Ticker { key: *key, planned: planned(load), last: Instant::now() };
        let mut printed = Ok(());
        let observation = server.run(
            load,
            &mut |sample| {
                if written.is_ok() {
                    written = recorder.push(&sample);
                }
            },
            &mut |progress| {
                if printed.is_ok() {
                    printed = ticker.print(&progress);
                }
            },
        );
        written.context("cannot write samples")?;
        printed?;
        let (summarizer, samples) = recorder.finish()?;
        let mut measured = summarizer.finish(&observation, &observed, &plan.launch, None);
        // Times are those of drawn requests, as many and about as long.
        measured.answers = prompts(trial)?
            .map(|prompts| sim::answers(model, &plan.args, plan.replicate, &prompts));
        let outcome = Box::new(Outcome::Measured(measured));
        emit(&Event::Trial { key: *key, outcome, samples: Some(samples) })?;
    }
    Ok(())
}

/// Prints progress now and then.
struct Ticker {
    key: Digest,
    planned: u64,
    last: Instant,
}

impl Ticker {
    fn print(&mut self, progress: &sim::Progress) -> anyhow::Result<()> {
        if self.last.elapsed() < PROGRESS_PERIOD {
            return Ok(());
        }
        self.last = Instant::now();
        emit(&Event::Progress(Progress {
            key: self.key,
            running: progress.running,
            waiting: progress.waiting,
            kv_cache_percent: progress.kv_cache_percent,
            output_tokens_per_s: progress.output_tokens as f64 * 1e9 / progress.now_ns as f64,
            requests_done: progress.requests_done,
            requests_planned: self.planned,
        }))
    }
}
