//! `visualize`: the plots, as SVG and as PNG drawn from the SVG.

use anyhow::Result;
use bench_core::schema::ResultFile;
use serde_json::{Value, json};

use super::{Context, baseline, compare, comprehensive};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::Trial;
use report::plots;

pub const NAME: &str = "visualize";

pub struct Visualize<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Visualize<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        3
    }

    fn needs(&self) -> Vec<String> {
        let context = self.context;
        let mut needs = context.present(&[baseline::NAME, comprehensive::NAME, compare::NAME]);
        needs.extend(context.sweep_names());
        needs
    }

    fn config(&self) -> Value {
        let latency_load = self.context.profile.latency_load();
        json!({ "objective": self.context.profile.objective, "latency_load": latency_load, "sweeps": self.context.sweep_names().collect::<Vec<_>>() })
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let read = read_all(self.context, inputs)?;
        let drawings = plots::draw_all(&plots::Inputs {
            baseline: &read.baseline,
            sweeps: &read.sweeps,
            comprehensive: read.comprehensive.as_ref(),
            comparison: &read.comparison,
            objective_metric: &self.context.profile.objective.metric,
            objective_load: &self.context.profile.objective.load,
            latency_load: self.context.profile.latency_load(),
        })?;
        let mut outputs = Outputs::new();
        for drawing in drawings {
            outputs.insert(format!("{}.png", drawing.name), plots::png(&drawing.svg)?);
            outputs.insert(format!("{}.svg", drawing.name), drawing.svg.into_bytes());
        }
        Ok(outputs)
    }
}

/// The result files that plots and report are made of.
pub struct Results {
    pub baseline: ResultFile,
    pub sweeps: Vec<ResultFile>,
    pub comprehensive: Option<ResultFile>,
    pub comparison: ResultFile,
}

/// Reads the results of the stages upstream.
pub fn read_all(context: &Context<'_>, inputs: &Inputs<'_>) -> Result<Results> {
    let sweeps = context.profile.sweeps.iter();
    Ok(Results {
        baseline: inputs.json(baseline::NAME, baseline::FILE)?,
        sweeps: sweeps.map(|s| inputs.json(&s.name, &s.file)).collect::<Result<_>>()?,
        comprehensive: inputs.json_if_upstream(comprehensive::NAME, comprehensive::FILE)?,
        comparison: inputs.json(compare::NAME, compare::FILE)?,
    })
}
