//! The load generator, and the servers that it is tested against.

mod serve;

use clap::Parser;

/// Loads a server, stands in for one, and proves how well it does either.
#[derive(Parser)]
#[command(name = "bench", version)]
enum Command {
    Serve(serve::Args),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve(args) => serve::run(args),
    }
}
