//! `comprehensive`: the comprehensive benchmark at the candidate's settings, on starts that took no
//! part in the choice.
//!
//! Where a candidate does not meet the limits, the next one is measured.

use anyhow::Result;
use bench_core::schema::{Args, Candidate, Choice, LimitState, Point, ResultFile, Role};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, baseline, choose, one_file, provision};
use analysis::{Configuration, choice, decision};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::Trial;
use report::{format, words};

pub const NAME: &str = "comprehensive";
pub const FILE: &str = "comprehensive_optimized_benchmark.json";

pub struct Comprehensive<'a> {
    pub context: &'a Context<'a>,
}

impl Comprehensive<'_> {
    fn grid(&self, index: usize, args: Args) -> Grid<'_> {
        let profile = self.context.profile;
        let label =
            if index == 0 { "tuned".to_owned() } else { format!("candidate-{}", index + 1) };
        let setting = Setting::judged(profile, &label, Role::Tuned, args);
        Grid { profile, settings: vec![setting], loads: profile.loads.iter().collect() }
    }

    /// Whether every trial of a grid is stored.
    fn is_stored(grid: &Grid<'_>, inputs: &Inputs<'_>, identity: &Value) -> Result<bool> {
        Ok(grid.leaves(identity)?.iter().all(|leaf| inputs.has_leaf(&leaf.role)))
    }

    /// The points of each candidate that was measured, and the index of the one to measure next.
    fn walk(
        &self,
        inputs: &Inputs<'_>,
        candidates: &[Candidate],
    ) -> Result<(Vec<Vec<Point>>, Option<usize>)> {
        let profile = self.context.profile;
        let identity = self.context.identity(inputs)?;
        let baseline: Option<ResultFile> =
            inputs.json_if_upstream(baseline::NAME, baseline::FILE)?;
        let default = baseline.as_ref().and_then(|file| {
            let default =
                Configuration::of(&file.points, profile, |point| point.role == Role::Default)?;
            state(&default)
        });
        let (mut judged, mut states) = (Vec::new(), Vec::new());
        while let Some(next) = choice::next(default, candidates, &states) {
            let grid = self.grid(next, candidates[next].args.clone());
            if !Self::is_stored(&grid, inputs, &identity)? {
                return Ok((judged, Some(next)));
            }
            let points = grid.points(inputs, &identity)?;
            states.push(Configuration::of(&points, profile, |_| true).and_then(|c| state(&c)));
            judged.push(points);
        }
        Ok((judged, None))
    }

    fn candidates(inputs: &Inputs<'_>) -> Result<Vec<Candidate>> {
        Ok(inputs.json::<ResultFile>(choose::NAME, choose::FILE)?.candidates)
    }
}

/// How a configuration does against the limits; `None` where it gave no figures.
fn state(configuration: &Configuration<'_>) -> Option<LimitState> {
    configuration.is_measured().then(|| configuration.state())
}

impl Task for Comprehensive<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        4
    }

    fn needs(&self) -> Vec<String> {
        self.context.present(&[provision::NAME, baseline::NAME, choose::NAME])
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        json!({ "loads": profile.loads, "starts": profile.starts, "goals": super::goals(profile) })
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let identity = self.context.identity(inputs)?;
        let candidates = Self::candidates(inputs)?;
        match self.walk(inputs, &candidates)? {
            // Nothing is to be judged: the defaults stand in its place.
            (judged, None) if judged.is_empty() => self.grid(0, Args::new()).leaves(&identity),
            (_, Some(next)) => self.grid(next, candidates[next].args.clone()).leaves(&identity),
            (_, None) => Ok(Vec::new()),
        }
    }

    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let candidates = Self::candidates(inputs)?;
        let (_, Some(next)) = self.walk(inputs, &candidates)? else { return Ok(Vec::new()) };
        let identity = self.context.identity(inputs)?;
        self.grid(next, candidates[next].args.clone()).leaves(&identity)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let candidates = Self::candidates(inputs)?;
        let (judged, _) = self.walk(inputs, &candidates)?;
        let mut result = self.context.result(NAME, inputs)?;
        let settings: Vec<_> = judged
            .iter()
            .filter_map(|points| Configuration::of(points, profile, |_| true))
            .collect();
        let settings: Vec<_> = settings.iter().collect();
        let Some(decided) = decision::nearest(&settings) else {
            let identity = self.context.identity(inputs)?;
            result.points = self.grid(0, Args::new()).points(inputs, &identity)?;
            let reason = "no candidate to judge".to_owned();
            result.choice = Some(Choice { label: "default".to_owned(), args: Args::new(), reason });
            return one_file(FILE, &result);
        };
        let (args, label) = (decided.args.clone(), decided.label.to_owned());
        let flags = candidates.iter().find(|candidate| candidate.args == args);
        let reason = flags.map(|c| words::flags(&c.flags, profile)).unwrap_or_default();
        result.choice = Some(Choice { label: "tuned".to_owned(), args, reason });
        for mut point in judged.into_iter().flatten() {
            if point.label == label {
                point.label = "tuned".to_owned();
            } else {
                point.label = format::args_label(&point.args);
                point.role = Role::Sweep;
            }
            result.points.push(point);
        }
        one_file(FILE, &result)
    }
}
