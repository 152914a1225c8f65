//! The built-in simulator.

use anyhow::Result;
use bench_core::{canonical::Digest, schema, sim};
use serde_json::{Value, json};

use super::Engine;
use crate::{History, finding::Finding};
use profile::Trial;

/// Measured on two cores with the default profile, samples written and compressed.
const SECONDS_A_TRIAL: f64 = 0.1;

/// Seconds a request and a token that it generates, samples written and compressed. (Measured on one core of
/// two on the model `h100-qwen2.5-7b`, 2026-11-29: 20,000 requests all at once take 0.33 s with 8 to 16 tokens
/// each, 1.35 s with 64 to 192.)
const SECONDS_A_REQUEST: f64 = 11e-6;
const SECONDS_A_TOKEN: f64 = 0.44e-6;

pub struct Simulator<'a> {
    pub model_name: &'a str,
    pub model: &'a sim::Model,
}

impl Engine for Simulator<'_> {
    fn fingerprint(&self) -> Option<Value> {
        Some(self.identity())
    }

    fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
        Ok(self.identity())
    }

    fn title(&self) -> String {
        format!("simulated {}", self.model.title)
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        Ok(schema::Engine::Simulator { model: Box::new(self.model.clone()) })
    }

    fn runs_side_by_side(&self) -> bool {
        true
    }

    fn estimate_s(&self, trials: &[&Trial], _history: &History) -> f64 {
        trials.iter().map(|trial| SECONDS_A_TRIAL + load_s(&trial.load)).sum()
    }

    fn doctor(&self) -> Vec<Finding> {
        let found = format!("built in, model {}", self.model_name);
        vec![Finding { what: "simulator".to_owned(), found: Ok(found) }]
    }
}

/// How long a load takes beyond a small one; nothing where its size is not known before.
fn load_s(load: &schema::LoadSpec) -> f64 {
    let requests = load.requests_expected().unwrap_or(0) as f64;
    let shares: f64 = load.classes.iter().map(|class| class.share.to_f64()).sum();
    let tokens = |class: &schema::Class| {
        let range = class.output_tokens;
        class.share.to_f64() / shares * f64::midpoint(range.min.into(), range.max.into())
    };
    let tokens: f64 = load.classes.iter().map(tokens).sum();
    requests * (SECONDS_A_REQUEST + SECONDS_A_TOKEN * tokens)
}

impl Simulator<'_> {
    fn identity(&self) -> Value {
        let model = Digest::of_json(self.model).expect("a model holds no floats");
        json!({
            "kind": "simulator",
            "epoch": sim::EPOCH,
            "model": self.model_name,
            "model_digest": model,
        })
    }
}

#[cfg(test)]
mod tests {
    use bench_core::{
        decimal::Decimal,
        schema::{Arrival, Class, LoadSpec, Size, TokenRange},
    };

    use super::*;

    #[test]
    fn a_load_takes_time_by_its_requests_and_tokens() {
        let load = |requests, min, max| {
            let class = Class {
                name: "all".to_owned(),
                share: Decimal::from_int(1).expect("a decimal"),
                input_tokens: TokenRange { min: 1, max: 1 },
                output_tokens: TokenRange { min, max },
                prefix: None,
            };
            LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(requests), vec![class], 1)
        };
        let large = load_s(&load(20_000, 64, 192));
        assert!((1.2..1.5).contains(&large), "{large}");
        assert!((0.3..0.4).contains(&load_s(&load(20_000, 8, 16))));
        assert!((large / load_s(&load(2_000, 64, 192)) - 10.0).abs() < 1e-9);
        assert_eq!(load_s(&LoadSpec { size: Size::DurationMs(1_000), ..load(1, 1, 1) }), 0.0);
    }
}
