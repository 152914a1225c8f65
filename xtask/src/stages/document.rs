//! `document`: the report and the configuration to deploy.

use std::collections::BTreeMap;

use anyhow::Result;
use bench_core::{canonical::Digest, schema::ResultFile};
use serde_json::Value;

use super::{
    Context, Trial, baseline, choose, compare, comprehensive, confirm, provision, visualize,
};
use crate::{
    dag::{Inputs, Leaf, Outputs, Task},
    report,
};

pub const NAME: &str = "document";

pub struct Document<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Document<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        1
    }

    fn needs(&self) -> Vec<String> {
        let mut needs = self.context.present(&[
            provision::NAME,
            baseline::NAME,
            choose::NAME,
            comprehensive::NAME,
            compare::NAME,
            confirm::NAME,
            visualize::NAME,
        ]);
        needs.extend(self.context.sweep_names());
        needs
    }

    fn config(&self) -> Value {
        let mut config = self.context.profile.hashed();
        if let Some(calibration) = &self.context.calibration {
            // By its digest, since a key holds no floats.
            let text = serde_json::to_vec(calibration).expect("a calibration is JSON");
            config["calibration"] = Digest::of(&text).to_string().into();
        }
        config
    }

    fn templates(&self) -> BTreeMap<String, Digest> {
        report::template_digests()
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let read = visualize::read_all(self.context, inputs)?;
        let identity: ResultFile = inputs.json(provision::NAME, provision::FILE)?;
        let optional = |stage: &str, file: &str| {
            inputs.has(stage).then(|| inputs.json::<ResultFile>(stage, file)).transpose()
        };
        let choose = optional(choose::NAME, choose::FILE)?;
        let confirmation = optional(confirm::NAME, confirm::FILE)?;
        let names = inputs.file_names(visualize::NAME);
        let plots: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".svg").map(str::to_owned)).collect();
        let report_inputs = report::Inputs {
            profile: self.context.profile,
            profile_digest: &self.context.profile.digest(),
            identity: &identity,
            baseline: &read.baseline,
            sweeps: &read.sweeps,
            choose: choose.as_ref(),
            comprehensive: read.comprehensive.as_ref(),
            comparison: &read.comparison,
            confirmation: confirmation.as_ref(),
            week2: self.context.week2,
            calibration: self.context.calibration.as_ref(),
            plots: &plots,
        };
        Ok(Outputs::from([
            ("OPTIMIZATION_RESULTS.md".to_owned(), report::markdown(&report_inputs)?.into_bytes()),
            ("recommended.yaml".to_owned(), report::recommended_yaml(&report_inputs)?.into_bytes()),
        ]))
    }
}
