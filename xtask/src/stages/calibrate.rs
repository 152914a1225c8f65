//! `calibrate-simulator`: fits the simulator's model to trials that a real engine measured, and
//! says how well it predicts them.

use anyhow::Result;
use bench_core::sim::fit::fit;
use serde_json::Value;

use super::{Context, Trial};
use crate::{
    config::Calibrate,
    dag::{Inputs, Leaf, Outputs, Task},
    plots, report,
};

pub const NAME: &str = "calibrate-simulator";
pub const FILES: &str =
    "calibrated_model.json, calibration.csv, calibration.md, calibration.svg, calibration.png";

pub struct CalibrateSimulator<'a> {
    pub context: &'a Context<'a>,
}

impl CalibrateSimulator<'_> {
    fn calibrate(&self) -> &Calibrate {
        let calibrate = self.context.profile.calibrate.as_ref();
        calibrate.expect("only a profile with [calibrate] has the stage")
    }
}

impl Task for CalibrateSimulator<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        1
    }

    fn needs(&self) -> Vec<String> {
        Vec::new()
    }

    fn config(&self) -> Value {
        let mut config = self.calibrate().hashed();
        // What the same model says of the same trial hangs on how it is simulated.
        config["instrument_epoch"] = bench_core::INSTRUMENT_EPOCH.into();
        config["loads"] = serde_json::json!(self.context.profile.loads);
        config
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn run(&self, _inputs: &Inputs<'_>) -> Result<Outputs> {
        let calibrate = self.calibrate();
        let fit = fit(&calibrate.model, &calibrate.trials);
        let page = report::Calibration::new(calibrate, &self.context.profile.loads, &fit);
        let drawing = plots::calibration(&calibrate.trials, &fit);
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
