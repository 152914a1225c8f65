//! Trials on the simulator, in virtual time.

use std::{io, path::Path};

use anyhow::Context as _;
use bench_core::{
    schema::{Event, FORMAT, LaunchPlan, Outcome, PlannedTrial},
    sim::{self, Model},
};

use super::emit;
use crate::samples::Recorder;

/// Runs every trial of the plan on one simulated server.
pub(super) fn run(plan: &LaunchPlan, model: &Model, out: &Path) -> anyhow::Result<()> {
    let mut server = match sim::launch(model, &plan.args, plan.replicate) {
        Ok(server) => server,
        Err(failure) => return emit(&Event::Refused { failure }),
    };
    emit(&Event::Ready { format: FORMAT, observed: server.observed().clone() })?;
    for PlannedTrial { key, load } in &plan.trials {
        let mut recorder = Recorder::create(out, key, load)?;
        let mut written: io::Result<()> = Ok(());
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
                    printed = emit(&Event::Progress(progress));
                }
            },
        );
        written.context("cannot write samples")?;
        printed?;
        let (summarizer, samples) = recorder.finish()?;
        let measured = summarizer.finish(&observation, server.observed(), &plan.launch, None);
        let outcome = Box::new(Outcome::Measured(measured));
        emit(&Event::Trial { key: *key, outcome, samples: Some(samples) })?;
    }
    Ok(())
}
