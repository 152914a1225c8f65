//! `bench run`: the load points of one launch, one after the other.
//!
//! It needs no handler for SIGTERM or SIGINT: their default action ends it at once, the kernel
//! closes the connections, the server drops the requests, and what has no record has no file
//! under its final name.

mod server;
mod silence;
mod warm_up;

pub(crate) use server::api_key;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use bench_core::schema::{Engine, Event, ServerEngine, VllmEngine};
use bench_trials::{emit, read_plan};

use crate::drive::Options;

/// Arguments of `bench run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// What to run: a launch plan as JSON
    #[arg(long, value_name = "PLAN.json")]
    plan: PathBuf,
    /// Folder for raw samples, one KEY.jsonl.gz a trial
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Address of the server, in place of the plan's
    #[arg(long)]
    url: Option<String>,
    /// How long the server may take to its first token
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    ready_timeout_s: u64,
    /// Wait on while the server looks like one that is still starting
    #[arg(long)]
    starting: bool,
    /// How long a request may take before it counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800)]
    request_timeout_s: u64,
}

/// Runs the plan.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let plan = read_plan(&args.plan)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    match &plan.engine {
        Engine::Simulator { model } => bench_trials::simulate(&plan, model, &args.out)?,
        Engine::Server(engine) => server::run(&plan, at_url(engine, args), args)?,
        Engine::Vllm(engine) => {
            let Some(url) = &args.url else {
                anyhow::bail!("the plan starts a vLLM server; start it and pass its --url");
            };
            server::run(&plan, served(engine, url), args)?;
        }
    }
    emit(&Event::Done {})
}

fn at_url(engine: &ServerEngine, args: &RunArgs) -> ServerEngine {
    let base_url = args.url.as_ref().unwrap_or(&engine.base_url);
    ServerEngine { base_url: base_url.trim_end_matches('/').to_owned(), ..engine.clone() }
}

fn served(engine: &VllmEngine, url: &str) -> ServerEngine {
    ServerEngine {
        base_url: url.trim_end_matches('/').to_owned(),
        model: engine.served_model_name.clone(),
        vocab_size: engine.vocab_size,
        api_key_env: None,
    }
}

impl RunArgs {
    fn options(&self) -> Options {
        Options { request_timeout: Duration::from_secs(self.request_timeout_s) }
    }
}
