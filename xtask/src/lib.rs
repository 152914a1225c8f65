//! The pipeline: a content-hashed DAG of stages over a store of trials.

#[macro_use]
mod output;

mod calibration;
mod cli;
mod commands;
mod error;
pub mod fuzz;
mod import;
mod measure;
mod memory;
mod remote;
mod results;
mod stages;
mod ui;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use analysis::gate::Gate;
use cli::{BaselineCommand, BundleCommand, Cli, Command, MessageFormat};
pub use commands::init::Given;
use commands::suite;
use error::Code;

/// Runs the command line; what failed is printed.
pub fn main(given: &Given) -> ExitCode {
    // Where this fails, a limit on files ends the program as it would have.
    let _ = engines::launch::survive_file_limits();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            error::tell_usage(&error.render().to_string(), MessageFormat::asked_for());
            return ExitCode::from(Code::CommandLine.exit_code());
        }
        // Help and version; nobody is left to hear of a closed standard output.
        Err(shown) => {
            let shown = shown.render();
            let _ = match output::is_coloured() {
                true => output::print(shown.ansi()),
                false => output::print(shown),
            };
            return ExitCode::SUCCESS;
        }
    };
    // A gate that cannot judge has found no regression.
    let is_gate = match &cli.command {
        Command::Compare(args) => args.gate,
        Command::Watch { .. } => true,
        _ => false,
    };
    let format = cli.message_format;
    let error = match run(cli, given) {
        Ok(code) => return code,
        Err(error) => error,
    };
    // What was printed so far is all that its reader wanted.
    if error.is::<output::Closed>() {
        return ExitCode::SUCCESS;
    }
    let code = Code::found(&error);
    let exit_code = match is_gate && !code.is_usage() {
        true => Gate::NotJudged.exit_code(),
        false => code.exit_code(),
    };
    error::tell(&error, exit_code, format);
    ExitCode::from(exit_code)
}

fn run(cli: Cli, given: &Given) -> Result<ExitCode> {
    let code = |well: bool| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let format = cli.message_format;
    let suite = |profile: &str, only: &[String], without: &[String], args: &cli::RunArgs| {
        suite::run(profile, only, without, args, format)
            .map(|ending| ExitCode::from(ending.exit_code()))
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
            commands::status::run(&profile.profile, offline.offline, &remote, format)
                .map(|()| code(true))
        }
        Command::Explain { what, profile, offline, remote } => {
            commands::explain::run(&profile.profile, &what, offline.offline, &remote, format)
                .map(|()| code(true))
        }
        Command::Graph { profile, format: language } => {
            commands::graph::run(&profile.profile, language, format).map(|()| code(true))
        }
        Command::Compare(args) => {
            commands::compare::run(&args, format).map(|gate| match args.gate {
                true => ExitCode::from(gate.exit_code()),
                false => ExitCode::SUCCESS,
            })
        }
        Command::Watch { profile } => commands::watch::run(&profile.profile, format)
            .map(|gate| ExitCode::from(gate.exit_code())),
        Command::Baseline(BaselineCommand::Save { name, yes, profile }) => {
            commands::baseline::save(&profile.profile, &name, yes, format).map(|()| code(true))
        }
        Command::Bundle(BundleCommand::Export { file, with_files, profile }) => {
            commands::bundle::export(&profile.profile, &file, with_files, format)
                .map(|()| code(true))
        }
        Command::Bundle(BundleCommand::Import { file }) => {
            commands::bundle::import(&file, format).map(|()| code(true))
        }
        Command::Verify => commands::verify::run(format).map(code),
        Command::Gc { yes, keep_days } => {
            commands::gc::run(yes, keep_days, format).map(|()| code(true))
        }
        Command::Baseline(BaselineCommand::Import { file, name, load }) => {
            commands::baseline::import(&file, &name, &load, format).map(|()| code(true))
        }
        Command::Completions { shell } => {
            let mut command = Cli::command().name("xtask").bin_name("xtask");
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "xtask", &mut script);
            output::text("completions", &String::from_utf8_lossy(&script), format)
                .map(|()| code(true))
        }
        Command::Reference => {
            output::text("reference", &commands::reference::text(), format).map(|()| code(true))
        }
        Command::Run { plan, out } => commands::launch::simulate(&plan, &out).map(|()| code(true)),
        Command::Device { file, gpus } => {
            commands::launch::tell_device(&file, &gpus).map(|()| code(true))
        }
        Command::Init => commands::init::run(given, format).map(|()| code(true)),
        Command::Doctor { profile } => commands::doctor::run(&profile.profile, format).map(code),
    }
}
