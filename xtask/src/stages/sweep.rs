//! A sweep: launches that differ in one argument. Each `[sweep.NAME]` of a profile is a stage.

use anyhow::Result;
use bench_core::schema::{ResultFile, Role};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, Trial, baseline, choose, one_file, provision};
use crate::{
    config,
    dag::{Inputs, Leaf, Outputs, Task},
    report::findings,
};

pub struct Sweep<'a> {
    pub context: &'a Context<'a>,
    pub sweep: &'a config::Sweep,
}

impl Sweep<'_> {
    pub(super) fn grid(&self) -> Result<Grid<'_>> {
        let settings = self.sweep.values.iter().map(|value| Setting {
            label: value.label.clone(),
            role: Role::Sweep,
            args: value.args.clone(),
            starts: self.sweep.starts,
        });
        let loads = self.sweep.loads.iter().map(|name| self.context.load(name));
        Ok(Grid {
            profile: self.context.profile,
            settings: settings.collect(),
            loads: loads.collect::<Result<_>>()?,
            first_start: 0,
        })
    }
}

impl Task for Sweep<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        &self.sweep.name
    }

    fn epoch(&self) -> u32 {
        5
    }

    fn needs(&self) -> Vec<String> {
        self.context.present(&[provision::NAME, baseline::NAME])
    }

    fn needs_for_leaves(&self) -> Vec<String> {
        vec![provision::NAME.to_owned()]
    }

    fn config(&self) -> Value {
        let loads: Vec<_> =
            self.sweep.loads.iter().filter_map(|l| self.context.load(l).ok()).collect();
        json!({ "sweep": self.sweep, "loads": loads, "goals": super::goals(self.context.profile) })
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        self.grid()?.leaves(&self.context.identity(inputs)?)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let mut result = self.context.result(&self.sweep.name, inputs)?;
        result.flag = Some(self.sweep.flag.clone());
        result.points = self.grid()?.points(inputs, &self.context.identity(inputs)?)?;
        let profile = self.context.profile;
        result.findings =
            findings::of_sweep(&result.points, &profile.objective).into_iter().collect();
        if inputs.has(baseline::NAME) {
            let reference: ResultFile = inputs.json(baseline::NAME, baseline::FILE)?;
            result.findings.extend(findings::against_baseline(
                &result.points,
                &reference.points,
                &profile.objective.load,
            ));
            result.choice = Some(choose::best(&result.points, &reference.points, profile));
            // The points to judge by travel with the sweep, so that its file stands alone.
            let on_these_loads =
                reference.points.into_iter().filter(|p| self.sweep.loads.contains(&p.load));
            result.points.extend(on_these_loads);
        }
        one_file(&self.sweep.file, &result)
    }
}
