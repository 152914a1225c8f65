//! `predict`: what the simulator says of every setting of the search, before anything is measured.

use anyhow::Result;
use bench_core::{
    parallel,
    schema::Args,
    search::{Predicted, predict},
    sim,
    workload::Workload,
};
use serde_json::{Value, json};

use super::{Context, one_file, tune};
use dag::{Inputs, Outputs, Task};
use profile::{Trial, stage::PREDICT};

pub struct Predict<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Predict<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        PREDICT.name
    }

    fn epoch(&self) -> u32 {
        PREDICT.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&PREDICT)
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        json!({
            "tune": tune::config(self.context),
            "args": profile.engine_args,
            // What a model says of a trial hangs on how it is simulated and summarized.
            "instrument_epoch": profile.instrument_epoch,
            "simulator_epoch": sim::EPOCH,
        })
    }

    fn run(&self, _inputs: &Inputs<'_>) -> Result<Outputs> {
        one_file(PREDICT.file(), &self.predictions())
    }
}

impl Predict<'_> {
    /// One of each setting, the defaults first.
    fn predictions(&self) -> Vec<Predicted> {
        let settings: Vec<Args> = tune::settings(self.context);
        let loads = tune::loads(self.context);
        let Some((_, model)) = &tune::tune(self.context).model else {
            return vec![Predicted::Unknown; settings.len()];
        };
        // The rows of a data file are read where it is driven, not here.
        if loads.iter().any(|load| load.spec.data.is_some()) {
            return vec![Predicted::Unknown; settings.len()];
        }
        let loads: Vec<Workload> = loads.iter().map(|load| load.spec.clone().into()).collect();
        let goals = tune::goals(self.context);
        let profile = self.context.profile;
        parallel::map(&settings, |args| predict(model, args, profile.price(args), &loads, &goals))
    }
}
