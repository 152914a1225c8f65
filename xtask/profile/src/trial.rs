//! The trial: the atom of the store, and its key.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use bench_core::{
    canonical::{Digest, canonical_value},
    schema::{Args, FORMAT, LoadSpec},
};
use serde_json::{Value, json};

/// Name of a trial's raw samples among its outputs.
pub const SAMPLES: &str = "samples";

/// One load point on one launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What identifies the engine.
    pub identity: Value,
    /// How it is measured ([`bench_core::INSTRUMENT_EPOCH`]).
    pub instrument_epoch: u32,
    /// Every argument of the server.
    pub args: Args,
    /// Environment of the server.
    pub env: BTreeMap<String, String>,
    /// The arguments as a file for `--config`; `None` where they are flags.
    pub config_file: Option<String>,
    /// The load point.
    pub load: LoadSpec,
    /// Where the load's file lies, if it has one; no part of the key.
    pub data_file: Option<PathBuf>,
    /// Which start of the configuration, from 0.
    pub replicate: u32,
    /// Which block of starts it is measured in, all compared settings in random order; no part of
    /// the key. `None` where nothing is compared by it.
    pub block: Option<u32>,
}

impl Trial {
    /// What the trial's key is made of. No stage is in it, so stages share trials.
    pub fn key_inputs(&self) -> Value {
        let mut key_inputs = self.start();
        key_inputs["format"] = FORMAT.into();
        key_inputs["instrument_epoch"] = self.instrument_epoch.into();
        key_inputs["load"] = json!(self.load);
        key_inputs
    }

    /// What tells one server start from another.
    pub fn start(&self) -> Value {
        let mut start = json!({
            "engine": self.identity,
            "args": self.args,
            "env": self.env,
            "replicate": self.replicate,
        });
        if let Some(file) = &self.config_file {
            start["config_file"] = file.as_str().into();
        }
        start
    }

    /// The trial's key.
    ///
    /// # Errors
    /// When the identity holds a float.
    pub fn key(&self) -> Result<Digest> {
        Ok(Digest::of(canonical_value(&self.key_inputs())?.as_bytes()))
    }
}

/// A trial of a server with these arguments, for tests.
#[cfg(test)]
pub(crate) fn example_trial(args: &[(&str, &str)]) -> Trial {
    use bench_core::schema::{ArgValue, Arrival, Size};

    let value =
        |text: &str| text.parse().map_or_else(|_| ArgValue::Text(text.to_owned()), ArgValue::Int);
    Trial {
        identity: "engine".into(),
        instrument_epoch: bench_core::INSTRUMENT_EPOCH,
        args: args.iter().map(|(flag, v)| ((*flag).to_owned(), value(v))).collect(),
        env: BTreeMap::new(),
        config_file: None,
        load: LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), Vec::new(), 1),
        data_file: None,
        replicate: 0,
        block: None,
    }
}
