//! `--message-format json`: what happens, for programs, as one JSON object a line.

use bench_core::{canonical::Digest, schema::Progress};
use serde::Serialize;

/// Raised whenever a message changes its form; new events and fields do not count.
pub const FORMAT: u32 = 1;

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
        role: &'a str,
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
        role: &'a str,
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
    /// Last of all.
    End {
        /// `done`, `failed` or `interrupted`.
        outcome: &'static str,
        /// Folder of the results, from the project's root.
        results: &'a str,
        /// How long the run took.
        seconds: f64,
    },
}
