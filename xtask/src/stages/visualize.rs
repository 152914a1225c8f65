//! `visualize`: the plots, as SVG and as PNG drawn from the SVG.

use anyhow::Result;
use bench_core::schema::{
    BaselineResult, Column, CompareResult, Comparison, ComprehensiveResult, LayoutsResult, Point,
    Role, SweepResult,
};
use serde_json::{Value, json};

use super::{Context, comprehensive, one_file, read, read_if_upstream, sweep};
use analysis::{layouts, lenders::Lenders};
use dag::{Inputs, Outputs, Task};
use profile::{
    Trial,
    stage::{CHOOSE, VISUALIZE},
};
use report::{plots, words};

/// The figures of the plot of layouts.
const LAYOUTS: &str = "layouts.json";

pub struct Visualize<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Visualize<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        VISUALIZE.name
    }

    fn epoch(&self) -> u32 {
        VISUALIZE.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&VISUALIZE)
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        json!({
            "objective": profile.objective,
            "latency_load": profile.latency_load(),
            "reference": profile.reference,
            "sweeps": self.context.sweep_names().collect::<Vec<_>>(),
            "spread": profile.spreads.hashed(),
        })
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let read = read_all(self.context, inputs)?;
        let layouts = layouts::points(self.context.profile, read.measured());
        let drawings = plots::draw_all(&plots::Inputs {
            baseline: &read.baseline,
            sweeps: &read.sweeps,
            comprehensive: read.comprehensive.as_ref(),
            comparisons: &read.comparison.comparisons,
            targets: &read.comparison.targets,
            limits: &read.comparison.decision.limits,
            reference: report::reference(self.context.profile),
            objective_metric: &self.context.profile.objective.metric,
            objective_load: &self.context.profile.objective.load,
            latency_load: self.context.profile.latency_load(),
            lenders: &read.lenders,
            layouts: &layouts,
            candidate: words::candidate_name(&read.comparison.decision),
        })?;
        let mut outputs = Outputs::new();
        if !layouts.is_empty() {
            let header = self.context.header(VISUALIZE.name, inputs)?;
            outputs = one_file(LAYOUTS, &LayoutsResult { header, layouts })?;
        }
        for drawing in drawings {
            outputs.insert(format!("{}.png", drawing.name), plots::png(&drawing.svg)?);
            outputs.insert(format!("{}.svg", drawing.name), drawing.svg.into_bytes());
        }
        Ok(outputs)
    }
}

/// The result files that plots and report are made of.
pub struct Results {
    pub baseline: BaselineResult,
    pub sweeps: Vec<SweepResult>,
    pub comprehensive: Option<ComprehensiveResult>,
    pub comparison: CompareResult,
    pub lenders: Lenders,
}

impl Results {
    /// Stage and points of each file, those of the fresh starts first.
    fn measured(&self) -> impl Iterator<Item = (&str, &[Point])> {
        let judged = self.comprehensive.as_ref().map(ComprehensiveResult::measured);
        let sweeps = self.sweeps.iter().map(SweepResult::measured);
        judged.into_iter().chain([self.baseline.measured()]).chain(sweeps)
    }

    /// The points of each file.
    fn points(&mut self) -> impl Iterator<Item = &mut Vec<Point>> {
        let sweeps = self.sweeps.iter_mut().map(|file| &mut file.points);
        let comprehensive = self.comprehensive.iter_mut().map(|file| &mut file.points);
        std::iter::once(&mut self.baseline.points).chain(sweeps).chain(comprehensive)
    }
}

/// Reads the results of the stages upstream, every figure with the interval that verdicts use.
pub fn read_all(context: &Context<'_>, inputs: &Inputs<'_>) -> Result<Results> {
    let mut baseline: BaselineResult = read(inputs)?;
    let mut comprehensive: Option<ComprehensiveResult> = read_if_upstream(inputs)?;
    let mut sweeps = Vec::new();
    for of in &context.profile.sweeps {
        let mut file: SweepResult = inputs.json(&of.name, &of.file)?;
        if context.has(&CHOOSE) {
            sweep::beside(&mut file, of, &baseline.points, context.profile);
        }
        sweeps.push(file);
    }
    let mut comparison: CompareResult = read(inputs)?;
    if let Some(comprehensive) = &mut comprehensive {
        comprehensive::with_all_starts(&mut baseline.points, &mut comprehensive.points);
        if comprehensive.candidate.is_none() {
            comprehensive.points.retain(|point| point.role != Role::Tuned);
            without_candidate(&mut comparison);
        }
    }
    let lenders = context.lenders(inputs)?;
    let mut results = Results { baseline, sweeps, comprehensive, comparison, lenders };
    let measured: Vec<Point> = results.points().flat_map(|points| points.iter().cloned()).collect();
    results.lenders = results.lenders.and(&measured);
    let lenders = results.lenders.clone();
    results.points().for_each(|points| *points = lenders.figures(points));
    Ok(results)
}

/// Where nothing was a candidate, the defaults stand in its place: nobody is shown them twice.
fn without_candidate(comparison: &mut CompareResult) {
    for row in &mut comparison.comparisons {
        row.columns.remove(&Column::Tuned);
        *row = Comparison {
            metric: row.metric.clone(),
            load: row.load.clone(),
            columns: std::mem::take(&mut row.columns),
            ..Comparison::default()
        };
    }
    comparison.targets.iter_mut().for_each(|target| drop(target.columns.remove(&Column::Tuned)));
    comparison.floors.iter_mut().for_each(|floor| drop(floor.columns.remove(&Column::Tuned)));
}
