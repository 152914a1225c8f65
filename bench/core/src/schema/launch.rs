use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Args, LoadSpec};
use crate::canonical::Digest;

/// One server start and the load points it serves: the contents of PLAN.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchPlan {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Identifies the start in records; the simulator's is derived from what is launched.
    pub launch: String,
    /// What is started or addressed.
    pub engine: Engine,
    /// Arguments of the server.
    pub args: Args,
    /// Environment of the server, on top of the caller's.
    pub env: BTreeMap<String, String>,
    /// A file for `--config` that holds the arguments, in place of flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// Which of the repeated starts of one configuration this is, from 0.
    pub replicate: u32,
    /// Load points, in the order in which they run.
    pub trials: Vec<PlannedTrial>,
}

/// A load point and the key under which its record is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTrial {
    /// Key of the trial.
    pub key: Digest,
    /// The load point.
    pub load: LoadSpec,
    /// The file of [`LoadSpec::data`], here; its digest must be the load's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Engine {
    /// The built-in simulator on a virtual clock.
    Simulator {
        /// The fitted model, whole, so that a plan needs no other file.
        model: Box<crate::sim::Model>,
    },
    /// A vLLM server to start here; `xtask launch` turns it into [`Engine::Server`] once it
    /// has a port.
    Vllm(VllmEngine),
    /// A running server that speaks the OpenAI API.
    Server(ServerEngine),
}

impl Engine {
    /// GPUs that a server of it is started on, by their numbers on that machine: none on a CPU. `None`
    /// where no server is started.
    pub fn gpus_mut(&mut self) -> Option<&mut Vec<u32>> {
        match self {
            Self::Vllm(engine) => Some(&mut engine.gpus),
            Self::Simulator { .. } | Self::Server(_) => None,
        }
    }

    /// The same, to be read.
    pub fn gpus(&self) -> Option<&[u32]> {
        match self {
            Self::Vllm(engine) => Some(&engine.gpus),
            Self::Simulator { .. } | Self::Server(_) => None,
        }
    }
}

/// How a vLLM server is started: `PYTHON -m vllm.entrypoints.openai.api_server --model MODEL …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VllmEngine {
    /// The interpreter that has vLLM.
    pub python: String,
    /// Folder or hub id of the model.
    pub model: String,
    /// Name under which it is served.
    pub served_model_name: String,
    /// Whether the weights are made up (`--load-format dummy`).
    pub dummy_weights: bool,
    /// See [`ServerEngine::vocab_size`].
    pub vocab_size: u32,
    /// Devices, as in `CUDA_VISIBLE_DEVICES`; empty on a CPU.
    pub gpus: Vec<u32>,
    /// How long a start may take.
    pub start_timeout_s: u64,
    /// How it is started.
    #[serde(default, skip_serializing_if = "StartWay::is_ordinary")]
    pub start: StartWay,
}

/// How a vLLM server is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartWay {
    /// As a process of its own, which imports vLLM.
    #[default]
    Ordinary,
    /// As a fork of a process that has imported vLLM.
    Forked,
}

impl StartWay {
    /// Records from before there was another way do not name it.
    pub fn is_ordinary(&self) -> bool {
        *self == Self::Ordinary
    }
}

/// Where a server answers and what it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerEngine {
    /// Such as `http://127.0.0.1:8000`, without a slash at the end.
    pub base_url: String,
    /// Name of the served model.
    pub model: String,
    /// Prompts of token ids are drawn from `0..vocab_size`, special tokens left out.
    pub vocab_size: u32,
    /// Name of the environment variable that holds the API key; `VLLM_API_KEY`, else
    /// `OPENAI_API_KEY`, where it names none. The key itself is in no plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
}
