//! The load generator: drives a server, or the simulator, and prints one JSON event a line.

mod calibrate;
mod client;
mod clock;
mod drive;
mod export;
mod host;
mod observe;
mod probe;
mod remote;
mod run;
mod samples;
mod serve;
mod timer;

use std::{
    io::Write as _,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use clap::{Parser, Subcommand};

/// Loads a server that speaks the OpenAI API, or the built-in simulator, and measures it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the load points of a launch plan; print one JSON event a line
    Run(run::RunArgs),
    /// Ask the server of a launch plan for one token; print what came of it as JSON
    Probe(probe::ProbeArgs),
    Serve(serve::ServeArgs),
    Calibrate(calibrate::CalibrateArgs),
    Export(export::ExportArgs),
    Remote(remote::RemoteArgs),
}

fn main() -> ExitCode {
    // A write beyond the limit on the size of files then fails; the signal would end this without a word.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::<AtomicBool>::default());
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Remote(args) => remote::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where it cannot be written, such as to a full disk, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
