//! `calibrate-simulator`: fits the simulator's model to trials that a real engine measured, and
//! says how well it predicts them.

use anyhow::Result;
use bench_core::{
    canonical::Digest,
    schema::Outcome,
    sim::{
        self,
        fit::{fit, judge},
        predict::MeasuredTrial,
    },
};
use serde_json::Value;

use super::{Context, sweep::Sweep};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{Calibrate, Trial, role::of_stage, stage::CALIBRATE};
use report::plots;

pub struct CalibrateSimulator<'a> {
    pub context: &'a Context<'a>,
}

impl CalibrateSimulator<'_> {
    fn calibrate(&self) -> &Calibrate {
        let calibrate = self.context.profile.calibrate.as_ref();
        calibrate.expect("only a profile with [calibrate] has the stage")
    }

    /// Whether the trials are those of the profile's own sweeps.
    fn is_of_sweeps(&self) -> bool {
        self.calibrate().files.is_empty()
    }
}

impl Task for CalibrateSimulator<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        CALIBRATE.name
    }

    fn epoch(&self) -> u32 {
        CALIBRATE.epoch
    }

    fn needs(&self) -> Vec<String> {
        if self.is_of_sweeps() { self.context.needs(&CALIBRATE) } else { Vec::new() }
    }

    fn config(&self) -> Value {
        let mut config = self.calibrate().hashed();
        // What the same model says of the same trial hangs on how it is simulated.
        config["instrument_epoch"] = self.context.profile.instrument_epoch.into();
        config["simulator_epoch"] = sim::EPOCH.into();
        config["loads"] = serde_json::json!(self.context.profile.loads);
        config
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let mut leaves = Vec::new();
        if self.is_of_sweeps() {
            let identity = self.context.identity(inputs)?;
            for sweep in &self.context.profile.sweeps {
                let sweep = Sweep { context: self.context, sweep };
                let mut grid = sweep.grid()?;
                grid.loads.retain(|load| !self.calibrate().leave_out.contains(&load.name));
                let of_sweep = grid.leaves(&identity)?.into_iter();
                leaves.extend(
                    of_sweep.map(|leaf| Leaf { role: of_stage(sweep.name(), &leaf.role), ..leaf }),
                );
            }
        }
        Ok(leaves)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let calibrate = self.calibrate();
        let mut trials = calibrate.trials.clone();
        for Leaf { role, what, key } in self.leaves(inputs)? {
            if let Outcome::Measured(measured) = inputs.leaf(&role)? {
                let host = calibrate.files.len();
                let engine = Digest::of_json(&what.identity)?;
                let (args, load) = (what.args, what.load);
                trials.push(MeasuredTrial { args, load, measured, host, engine, key });
            }
        }
        let of = if calibrate.fit { fit } else { judge };
        let fit = of(&calibrate.model, &trials);
        let loads = &self.context.profile.loads;
        let page = report::CalibrationPage::new(calibrate, &trials, loads, &fit);
        let drawing = plots::calibration(&trials, &fit);
        let mut model = serde_json::to_vec_pretty(&fit.model)?;
        model.push(b'\n');
        Ok(Outputs::from([
            ("calibrated_model.json".to_owned(), model),
            ("calibration.csv".to_owned(), page.csv().into_bytes()),
            ("calibration.md".to_owned(), page.markdown().into_bytes()),
            (format!("{}.png", drawing.name), plots::png(&drawing.svg)?),
            (format!("{}.svg", drawing.name), drawing.svg.into_bytes()),
        ]))
    }
}

#[cfg(test)]
mod tests;
