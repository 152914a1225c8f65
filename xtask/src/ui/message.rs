//! `--message-format json`: what happens, for programs, as one JSON object a line.

use bench_core::{
    canonical::Digest,
    schema::{Decision, Progress},
};
use serde::Serialize;

/// Raised whenever a message changes its form; new events and fields do not count.
pub const FORMAT: u32 = 2;

/// One line. docs/messages.md describes each.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Message<'a> {
    /// First of all: what will run.
    Plan {
        /// [`FORMAT`].
        format: u32,
        /// What is measured.
        engine: &'a str,
        /// The plan in words.
        plan: &'a str,
    },
    /// A stage came to a state; each is said once, or once more at the end if it did not run.
    Stage {
        /// Its name.
        name: &'a str,
        /// `cached`, `done`, `failed` or `not-run`; in a dry run `run`, `measure` or `after`.
        state: &'static str,
        /// Trials that it reads, or in a dry run lacks.
        trials: usize,
        /// Its result in a few words, or why it failed.
        note: &'a str,
    },
    /// A trial is in the store.
    Stored {
        /// The first stage that waits for it.
        stage: &'a str,
        /// Settings, load and start.
        trial_name: &'a str,
        /// Its key.
        trial: Digest,
        /// Trials of that stage that are stored.
        done: usize,
        /// Trials of that stage.
        all: usize,
    },
    /// A load point goes on; about once a second.
    Progress {
        /// The first stage that waits for it.
        stage: &'a str,
        /// Settings, load and start.
        trial_name: &'a str,
        /// The server at this moment.
        now: &'a Progress,
    },
    /// What is left to measure, after each launch.
    Left {
        /// Server starts.
        launches: usize,
        /// About how long they take, from measured starts and loads where there are some.
        seconds: f64,
    },
    /// Something that a person would want to read.
    Note {
        /// What.
        text: &'a str,
    },
    /// What came of the comparison.
    Decision {
        /// What to deploy, what carries it, and the limits with their figures.
        decision: &'a Decision,
        /// `vllm serve` with every flag; null where nothing is recommended.
        command: Option<&'a str>,
        /// Why settings or trials do not count.
        problems: &'a [String],
    },
    /// Last of all.
    End {
        /// `done`, `failed`, `none-meets` or `interrupted`.
        outcome: &'static str,
        /// The exit code that goes with it.
        exit_code: u8,
        /// Folder of the results, from the project's root.
        results: &'a str,
        /// The configuration to deploy, likewise; null where there is none.
        recommended: Option<&'a str>,
        /// How long the run took.
        seconds: f64,
    },
}
