//! `comprehensive`: the comprehensive benchmark at the chosen settings.

use anyhow::{Result, anyhow};
use bench_core::schema::{Choice, ResultFile, Role};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, Trial, choose, one_file, provision};
use crate::dag::{Inputs, Leaf, Outputs, Task};

pub const NAME: &str = "comprehensive";
pub const FILE: &str = "comprehensive_optimized_benchmark.json";

pub struct Comprehensive<'a> {
    pub context: &'a Context<'a>,
}

impl Comprehensive<'_> {
    fn grid(&self, choice: Choice) -> Grid<'_> {
        let profile = self.context.profile;
        let setting = Setting {
            label: "tuned".to_owned(),
            role: Role::Tuned,
            args: choice.args,
            starts: profile.starts,
        };
        let loads = profile.loads.iter().collect();
        Grid { profile, settings: vec![setting], loads, first_start: 0 }
    }

    fn choice(&self, inputs: &Inputs<'_>) -> Result<Choice> {
        let chosen: ResultFile = inputs.json(choose::NAME, choose::FILE)?;
        chosen.choice.ok_or_else(|| anyhow!("{} holds no choice", choose::FILE))
    }
}

impl Task for Comprehensive<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        3
    }

    fn needs(&self) -> Vec<String> {
        vec![provision::NAME.to_owned(), choose::NAME.to_owned()]
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        json!({ "loads": profile.loads, "starts": profile.starts })
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        self.grid(self.choice(inputs)?).leaves(&self.context.identity(inputs)?)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let choice = self.choice(inputs)?;
        let mut result = self.context.result(NAME, inputs)?;
        result.points =
            self.grid(choice.clone()).points(inputs, &self.context.identity(inputs)?)?;
        result.choice = Some(choice);
        one_file(FILE, &result)
    }
}
