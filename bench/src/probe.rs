//! `bench probe`: whether the server of a plan yields a token.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use bench_core::schema::{Contact, Engine};
use bench_trials::read_plan;

use crate::{observe::ControlPlane, run::api_key};

/// Arguments of `bench probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// The plan whose server is asked, as its first load point asks
    #[arg(long, value_name = "PLAN.json")]
    plan: PathBuf,
    /// How long it may take to the first token
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    patience_s: u64,
}

/// Asks, and prints a [`Contact`] as a line of JSON.
pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<()> {
    let plan = read_plan(&args.plan)?;
    let Engine::Server(engine) = &plan.engine else {
        anyhow::bail!("the plan names no server that runs already");
    };
    let shape = plan.trials.first().map(|trial| trial.load.request.clone()).unwrap_or_default();
    let control = ControlPlane::new(engine, api_key(engine)?.as_deref(), &shape)?;
    let patience = Duration::from_secs(args.patience_s);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let contact = runtime.block_on(async {
        match control.recognise(patience).await {
            Contact::Ready { doubt, .. } => {
                Contact::Ready { version: control.observed().await.version, doubt }
            }
            contact => contact,
        }
    });
    // What resolves names works in a thread that nobody can stop; it must not hold up the answer.
    runtime.shutdown_background();
    let line = serde_json::to_string(&contact).context("the answer is no JSON")?;
    writeln!(std::io::stdout(), "{line}").context("nobody reads the answer")
}
