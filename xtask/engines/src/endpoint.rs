//! A server that runs already: its address, and what the user says that it is.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bench_core::schema::{self, ServerEngine};
use serde_json::{Value, json};

use super::{Engine, launch_s};
use crate::{
    History,
    finding::{Finding, Missing},
};
use profile::{EndpointConfig, Trial};

pub struct Endpoint<'a> {
    pub config: &'a EndpointConfig,
    /// Stands for an identity that nobody declared: other in every run, so that nothing measured
    /// on an unknown server is ever taken for a figure of this one.
    undeclared: u64,
}

impl<'a> Endpoint<'a> {
    pub fn new(config: &'a EndpointConfig) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { config, undeclared: since.map_or(0, |time| time.as_micros() as u64) }
    }

    fn identity(&self) -> Value {
        let mut identity = json!({
            "kind": "endpoint",
            "base_url": self.config.base_url,
            "model": self.config.model,
            "declared": self.config.declared_identity,
        });
        if self.config.declared_identity.is_none() {
            identity["run"] = self.undeclared.into();
        }
        identity
    }
}

impl Engine for Endpoint<'_> {
    fn witness(&self) -> Option<Value> {
        Some(self.identity())
    }

    fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
        Ok(self.identity())
    }

    fn title(&self) -> String {
        let server = self.config.declared_identity.as_ref().unwrap_or(&self.config.base_url);
        format!("{} on {server}", self.config.model)
    }

    fn is_simulated(&self) -> bool {
        false
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        Ok(schema::Engine::Server(ServerEngine {
            base_url: self.config.base_url.clone(),
            model: self.config.model.clone(),
            vocab_size: self.config.vocab_size,
            api_key_env: self.config.api_key_env.clone(),
        }))
    }

    fn runs_side_by_side(&self) -> bool {
        false
    }

    fn estimate_s(&self, trials: &[&Trial], history: &History) -> f64 {
        launch_s(trials, 0.0, history)
    }

    fn doctor(&self) -> Vec<Finding> {
        let identity = match &self.config.declared_identity {
            Some(declared) => Ok(declared.clone()),
            None => Err(Missing {
                what: "not declared, so nothing is cached".to_owned(),
                mend: "set `identity` in [engine]: version, model, hardware".to_owned(),
            }),
        };
        let key = self.config.api_key_env.as_ref().map(|name| Finding {
            what: "API key".to_owned(),
            found: match std::env::var_os(name) {
                Some(_) => Ok(format!("in `{name}`")),
                None => Err(Missing {
                    what: format!("the environment has no `{name}`"),
                    mend: format!("export {name}=… before the run"),
                }),
            },
        });
        std::iter::once(Finding { what: "identity".to_owned(), found: identity })
            .chain(key)
            .collect()
    }
}
