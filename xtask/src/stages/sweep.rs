//! A sweep: launches that differ in one argument. Each `[sweep.NAME]` of a profile is a stage.

use anyhow::Result;
use bench_core::schema::{Args, BaselineResult, Point, Role, SweepResult};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, one_file, read_if_upstream, swept};
use analysis::lenders::Lenders;
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    Trial, role,
    stage::{BASELINE, CHOOSE, PROVISION, SWEEP},
};
use report::findings;

pub struct Sweep<'a> {
    pub context: &'a Context<'a>,
    pub sweep: &'a profile::Sweep,
}

impl Sweep<'_> {
    pub(super) fn grid(&self) -> Result<Grid<'_>> {
        let is_chosen_from = self.context.has(&CHOOSE);
        let setting = |label: &str, role, args: &Args| Setting {
            label: label.to_owned(),
            role,
            args: args.clone(),
            starts: self.sweep.starts,
            first_start: 0,
            // Where nothing is chosen, the sweep's verdicts are all there is.
            in_blocks: !is_chosen_from,
        };
        let settings = self.sweep.values.iter();
        let settings = settings.map(|value| setting(&value.label, Role::Sweep, &value.args));
        // Values are held against starts of the defaults that judge nothing afterwards.
        let none = Args::new();
        let reference = is_chosen_from.then(|| setting(role::DEFAULT, Role::Default, &none));
        let loads = self.sweep.loads.iter().map(|name| self.context.load(name));
        Ok(Grid {
            profile: self.context.profile,
            settings: settings.chain(reference).collect(),
            loads: loads.collect::<Result<_>>()?,
        })
    }
}

impl Task for Sweep<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        &self.sweep.name
    }

    fn epoch(&self) -> u32 {
        SWEEP.epoch
    }

    fn needs(&self) -> Vec<String> {
        // Where settings are chosen, the baseline is measured in blocks with the chosen ones, after.
        let mut needs = self.context.needs(&SWEEP);
        needs.retain(|need| need != BASELINE.name || !self.context.has(&CHOOSE));
        needs
    }

    fn needs_for_leaves(&self) -> Vec<String> {
        vec![PROVISION.name.to_owned()]
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
        let profile = self.context.profile;
        let points = self.grid()?.points(inputs, &self.context.identity(inputs)?)?;
        let mut result = SweepResult {
            header: self.context.header(&self.sweep.name, inputs)?,
            flag: self.sweep.flag.clone(),
            findings: findings::of_sweep(&points, &Lenders::of(&points), &profile.objective),
            points,
            choice: None,
        };
        if let Some(judged) = read_if_upstream::<BaselineResult>(inputs)? {
            beside(&mut result, self.sweep, &judged.points, profile);
        }
        if result.points.iter().any(|point| point.role == Role::Default) {
            result.choice = Some(swept::best(&self.sweep.name, &result.points, profile));
        }
        one_file(&self.sweep.file, &result)
    }
}

/// Puts what a sweep is held against beside its values, so that its file stands alone.
pub fn beside(
    file: &mut SweepResult,
    sweep: &profile::Sweep,
    baseline: &[Point],
    profile: &profile::Profile,
) {
    let load = &profile.objective.load;
    file.findings.extend(findings::against_baseline(&file.points, baseline, load));
    let has_default = file.points.iter().any(|point| point.role == Role::Default);
    let is_new = |role| role != Role::Default || !has_default;
    let beside = baseline.iter().filter(|p| sweep.loads.contains(&p.load) && is_new(p.role));
    file.points.extend(beside.cloned());
}
