//! `baseline`: the comprehensive benchmark at the settings to beat and at the engine's defaults.

use anyhow::Result;
use bench_core::schema::{Args, BaselineResult, Role};
use serde_json::Value;

use super::{Context, Grid, Setting, StageResult, written};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{Stage, Trial, role, stage::BASELINE};

impl StageResult for BaselineResult {
    const STAGE: &'static Stage = &BASELINE;
}

pub struct Baseline<'a> {
    pub context: &'a Context<'a>,
}

impl Baseline<'_> {
    fn grid(&self) -> Grid<'_> {
        let profile = self.context.profile;
        let setting =
            |label, role, args: &Args| Setting::judged(profile, label, role, args.clone());
        let settings = match profile.endpoint() {
            // Whatever it runs with.
            Some(_) => vec![setting(&profile.name, Role::Default, &Args::new())],
            // Settings to beat that are the defaults are shown once.
            None if profile.baseline_args.is_empty() => {
                vec![setting(role::DEFAULT, Role::Default, &Args::new())]
            }
            None => vec![
                setting(role::BASELINE, Role::Baseline, &profile.baseline_args),
                setting(role::DEFAULT, Role::Default, &Args::new()),
            ],
        };
        Grid { profile, settings, loads: profile.loads.iter().collect() }
    }
}

impl Task for Baseline<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        BASELINE.name
    }

    fn epoch(&self) -> u32 {
        BASELINE.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&BASELINE)
    }

    fn config(&self) -> Value {
        self.grid().config()
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        self.grid().leaves(&self.context.identity(inputs)?)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        written(&BaselineResult {
            header: self.context.header(BASELINE.name, inputs)?,
            points: self.grid().points(inputs, &self.context.identity(inputs)?)?,
        })
    }
}
