//! Plots: pure functions from results to SVG text, and pictures of them.
//!
//! A new plot is one file and one line of [`PLOTS`].

mod calibration;
mod canvas;
mod capacity;
mod configurations;
mod dashboard;
mod data;
#[cfg(test)]
mod fixture;
mod front;
mod latency;
pub mod layouts;
mod number;
mod panel;
mod png;
mod queue_time;
mod scale;
mod style;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod throughput;

use anyhow::{Result, ensure};
use bench_core::schema::{Role, SweepResult};

pub use self::{
    calibration::draw as calibration,
    capacity::draw as capacity,
    data::{Drawing, Inputs, Reference},
    png::png,
};

/// A plot by its name.
struct Plot {
    name: &'static str,
    draw: fn(&Inputs<'_>) -> String,
}

/// Every plot but that of layouts and those of the sweeps, which hang on the profile.
static PLOTS: [Plot; 5] = [
    Plot { name: "queue_time_optimization_comparison", draw: queue_time::draw },
    Plot { name: "throughput_optimization_comparison", draw: throughput::draw },
    Plot { name: "latency_percentiles_comparison", draw: latency::draw },
    Plot { name: "throughput_against_latency", draw: front::draw },
    Plot { name: "optimization_summary_dashboard", draw: dashboard::draw },
];

/// A sweep without the points that it carries to be judged by: those are drawn as lines.
fn only_swept(sweep: &SweepResult) -> SweepResult {
    let mut sweep = sweep.clone();
    sweep.points.retain(|point| point.role == Role::Sweep);
    sweep
}

/// Draws every plot: those of [`PLOTS`], the layouts where settings differ in them, then `sweep_NAME` for each
/// sweep.
///
/// # Errors
/// When two sweeps would be drawn into the same file.
pub fn draw_all(inputs: &Inputs<'_>) -> Result<Vec<Drawing>> {
    let sweeps: Vec<_> = inputs.sweeps.iter().map(only_swept).collect();
    let inputs = &Inputs { sweeps: &sweeps, ..*inputs };
    let mut drawings: Vec<Drawing> = PLOTS
        .iter()
        .map(|plot| Drawing { name: plot.name.to_owned(), svg: (plot.draw)(inputs) })
        .collect();
    if !inputs.layouts.is_empty() {
        let name = layouts::NAME.to_owned();
        drawings.push(Drawing { name, svg: layouts::draw(inputs) });
    }
    for sweep in inputs.sweeps {
        let name = format!("sweep_{}", sweep.header.stage.replace('-', "_"));
        ensure!(
            drawings.iter().all(|drawing| drawing.name != name),
            "sweep {}: its plot has the same file name as another's ({name}); rename one",
            sweep.header.stage
        );
        drawings.push(Drawing { name, svg: sweep::draw(inputs, sweep) });
    }
    Ok(drawings)
}
