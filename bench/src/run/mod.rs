//! `bench run`: the load points of one launch, one after the other.
//!
//! It needs no handler for SIGTERM or SIGINT: their default action ends it at once, the kernel
//! closes the connections, the server drops the requests, and what has no record has no file
//! under its final name.

mod answers;
mod args;
mod server;
mod silence;
mod unread;
mod warm_up;

pub(crate) use args::RunArgs;
pub(crate) use server::api_key;

use std::fs;

use anyhow::Context as _;
use bench_core::schema::{Engine, Event, ServerEngine, VllmEngine};
use bench_trials::{emit, read_plan};

/// Runs the plan.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let plan = read_plan(&args.plan)?;
    unread::watch().context("cannot start the thread that watches standard output")?;
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
