//! The command line of `bench run`.

use std::{path::PathBuf, time::Duration};

use crate::drive::Options;

/// Arguments of `bench run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// What to run: a launch plan as JSON
    #[arg(long, value_name = "PLAN.json")]
    pub(super) plan: PathBuf,
    /// Folder for raw samples, one KEY.jsonl.gz a trial
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Address of the server, in place of the plan's
    #[arg(long)]
    pub(super) url: Option<String>,
    /// How long the server may take to its first token
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(super) ready_timeout_s: u64,
    /// Wait on while the server looks like one that is still starting
    #[arg(long)]
    pub(super) starting: bool,
    /// How long a request may take before it counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800)]
    pub(super) request_timeout_s: u64,
}

impl RunArgs {
    pub(super) fn options(&self) -> Options {
        Options { request_timeout: Duration::from_secs(self.request_timeout_s) }
    }
}
