//! The pipeline: a content-hashed DAG of stages over a store of trials.

#[macro_use]
mod output;

mod calibration;
mod cli;
mod commands;
pub mod fuzz;
mod import;
mod measure;
mod memory;
mod remote;
mod results;
mod stages;
mod ui;
mod usage;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use analysis::gate::Gate;
use cli::{BaselineCommand, BundleCommand, Cli, Command};
use commands::suite;

/// Runs the command line; what failed is printed.
pub fn main() -> ExitCode {
    // Where this fails, a limit on files ends the program as it would have.
    let _ = engines::launch::survive_file_limits();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            output::complain(&error.render().to_string());
            return ExitCode::from(2);
        }
        // Help and version.
        Err(shown) => shown.exit(),
    };
    // A gate that cannot judge has found no regression.
    let is_gate = match &cli.command {
        Command::Compare(args) => args.gate,
        Command::Watch { .. } => true,
        _ => false,
    };
    let error = match run(cli) {
        Ok(code) => return code,
        Err(error) => error,
    };
    // What was printed so far is all that its reader wanted.
    if error.is::<output::Closed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(mistakes) = error.downcast_ref::<profile::ConfigError>() {
        mistakes.print();
        return ExitCode::from(2);
    }
    if error.is::<usage::UsageError>() {
        output::complain(&format!("error: {error}\nnothing was changed."));
        return ExitCode::from(2);
    }
    output::complain(&format!("error: {error:#}"));
    if is_gate { ExitCode::from(Gate::NotJudged.exit_code()) } else { ExitCode::FAILURE }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let code = |well: bool| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let suite = |profile: &str, only: &[String], without: &[String], args: &cli::RunArgs| {
        suite::run(profile, only, without, args).map(|ending| ExitCode::from(ending.exit_code()))
    };
    match cli.command {
        Command::Suite { profile, only, without, run } => {
            suite(&profile.profile, &only, &without, &run)
        }
        Command::Stage { name, profile, run } => suite(&profile.profile, &[name], &[], &run),
        Command::Launch(args) => {
            commands::launch::run(&args, &engines::launch::interrupt_flag()?).map(|()| code(true))
        }
        Command::Status { profile, offline, remote } => {
            let plan = commands::status::run(&profile.profile, offline.offline, &remote);
            plan.map(|()| code(true))
        }
        Command::Explain { what, profile, offline, remote } => {
            let why = commands::explain::run(&profile.profile, &what, offline.offline, &remote);
            why.map(|()| code(true))
        }
        Command::Graph { profile, format } => {
            commands::graph::run(&profile.profile, format).map(|()| code(true))
        }
        Command::Compare(args) => commands::compare::run(&args).map(|gate| match args.gate {
            true => ExitCode::from(gate.exit_code()),
            false => ExitCode::SUCCESS,
        }),
        Command::Watch { profile, message_format } => {
            commands::watch::run(&profile.profile, message_format)
                .map(|gate| ExitCode::from(gate.exit_code()))
        }
        Command::Baseline(BaselineCommand::Save { name, yes, profile }) => {
            commands::baseline::save(&profile.profile, &name, yes).map(|()| code(true))
        }
        Command::Bundle(BundleCommand::Export { file, profile }) => {
            commands::bundle::export(&profile.profile, &file).map(|()| code(true))
        }
        Command::Bundle(BundleCommand::Import { file }) => {
            commands::bundle::import(&file).map(|()| code(true))
        }
        Command::Verify => commands::verify::run().map(code),
        Command::Gc { yes, keep_days } => commands::gc::run(yes, keep_days).map(|()| code(true)),
        Command::Baseline(BaselineCommand::Import { file, name, load }) => {
            commands::baseline::import(&file, &name, &load).map(|()| code(true))
        }
        Command::Completions { shell } => {
            let mut command = Cli::command().name("xtask").bin_name("xtask");
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "xtask", &mut script);
            output::print(String::from_utf8_lossy(&script)).map(|()| code(true))
        }
        Command::Reference => output::print(commands::reference::text()).map(|()| code(true)),
        Command::Run { plan, out } => commands::launch::simulate(&plan, &out).map(|()| code(true)),
        Command::Device { file, gpus } => {
            commands::launch::tell_device(&file, &gpus).map(|()| code(true))
        }
        Command::Doctor { profile } => commands::doctor::run(&profile.profile).map(code),
    }
}
