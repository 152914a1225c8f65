//! `bench run`: the load points of one launch, one after the other.
//!
//! It needs no handler for SIGTERM or SIGINT: their default action ends it at once, the kernel
//! closes the connections, the server drops the requests, and what has no record has no file
//! under its final name.

mod server;
mod simulator;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use bench_core::{
    schema::{Arrival, Engine, Event, FORMAT, LaunchPlan, ServerEngine, Size, VllmEngine},
    workload::{Plan, Workload},
};

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
        Engine::Simulator { model } => simulator::run(&plan, model, &args.out)?,
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

/// Reads a launch plan and checks what `bench run` relies on.
pub(crate) fn read_plan(path: &Path) -> anyhow::Result<LaunchPlan> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let plan: LaunchPlan = serde_json::from_str(&text)
        .with_context(|| format!("{} is no launch plan", path.display()))?;
    anyhow::ensure!(
        plan.format == FORMAT,
        "{} has format {}, this program reads {FORMAT}; build both from one commit",
        path.display(),
        plan.format
    );
    for trial in &plan.trials {
        anyhow::ensure!(!trial.load.classes.is_empty(), "trial {} has no classes", trial.key);
    }
    Ok(plan)
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

/// Prints an event. A parent that no longer reads ends the run.
fn emit(event: &Event) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(event).context("cannot write an event as JSON")?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Requests of the plan; 0 in a closed loop with a duration, which has no number.
fn planned(load: &Workload) -> u64 {
    match (&load.arrival, load.size) {
        (_, Size::Requests(count)) => u64::from(count),
        (Arrival::ClosedLoop { .. }, Size::DurationMs(_)) => 0,
        _ => Plan::new(load).count() as u64,
    }
}
