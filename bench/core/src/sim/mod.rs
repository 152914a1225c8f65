//! The simulator: vLLM v1's scheduler and KV block pool on a virtual clock.

use serde::{Deserialize, Serialize};

/// A fitted model of one engine on one machine. Holds no floats, so that it has a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What is simulated, such as `H100 80GB, Qwen2.5-7B`.
    pub title: String,
}
