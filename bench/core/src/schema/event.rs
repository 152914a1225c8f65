use serde::{Deserialize, Serialize};

use super::{Observed, Outcome, SettingFailure};
use crate::canonical::Digest;

/// What `bench run` prints, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The server answers and has generated a first token.
    Ready {
        /// [`super::FORMAT`].
        format: u32,
        /// What the server resolved its settings to.
        observed: Box<Observed>,
    },
    /// The server cannot start with these settings; no trial follows.
    Refused {
        /// Why.
        failure: SettingFailure,
    },
    /// How a trial is going; at most a few a second.
    Progress(Progress),
    /// Nothing comes any more of requests that were sent: told once, until something comes again.
    Silent {
        /// Requests that are under way.
        requests: u64,
        /// For how long nothing has come, whole seconds.
        seconds: u64,
    },
    /// Streams that had begun have stopped, while others go on.
    Stalled {
        /// Requests whose streams have stopped.
        requests: u64,
        /// Requests that are under way.
        under_way: u64,
        /// For how long nothing has come of them at least, whole seconds.
        seconds: u64,
    },
    /// A trial has ended and this is its record.
    Trial {
        /// Key of the trial.
        key: Digest,
        /// The record.
        outcome: Box<Outcome>,
        /// Raw samples, as a file name in the output folder (`.jsonl.gz`).
        samples: Option<String>,
    },
    /// The launch is over.
    Done {},
}

/// State of the load point that runs now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Key of the trial.
    pub key: Digest,
    /// Requests in the server's batch.
    pub running: u32,
    /// Requests in the server's queue.
    pub waiting: u32,
    /// Use of the KV cache, in percent.
    pub kv_cache_percent: f64,
    /// Output tokens a second, lately.
    pub output_tokens_per_s: f64,
    /// Requests that have ended.
    pub requests_done: u64,
    /// Requests planned; 0 when unknown.
    pub requests_planned: u64,
}

impl Progress {
    /// What is known without looking at the server.
    pub fn of(key: Digest, requests_done: u64, requests_planned: u64) -> Self {
        Self {
            key,
            running: 0,
            waiting: 0,
            kv_cache_percent: 0.0,
            output_tokens_per_s: 0.0,
            requests_done,
            requests_planned,
        }
    }
}
