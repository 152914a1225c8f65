//! The command line. `--help` and completions come from these definitions; a test runs every command in README.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measure a vLLM server, turn its knobs, and prove which setting is better.
///
/// Every step is a node in a content-hashed DAG: a second run redoes only what changed. Without
/// --profile everything runs on the built-in simulator and needs no GPU.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// `human`, or `json`: one object a line, for programs (docs/messages.md).
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = MessageFormat::Human,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub message_format: MessageFormat,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run every stage: provision, sweep, choose, benchmark, compare, draw, document.
    ///
    /// What is finished is not run again. Ends with what to deploy, and why. Exit code 0: all stages
    /// are done; 1: a stage failed, or nothing valid was measured; 2: the profile or the command
    /// line is wrong, and nothing was changed; 4: no setting meets the limits; 130: interrupted.
    Suite {
        #[command(flatten)]
        profile: ProfileArg,
        /// Run only these stages and what they need, such as queue-time,max-num-seqs.
        #[arg(long, value_name = "STAGES", value_delimiter = ',')]
        only: Vec<String>,
        /// Leave out these sweeps, as if the profile had none of them.
        #[arg(long, value_name = "SWEEPS", value_delimiter = ',')]
        without: Vec<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Run one stage and what it needs upstream.
    Stage {
        /// Name of the stage; `cargo xtask status` lists them.
        name: String,
        #[command(flatten)]
        profile: ProfileArg,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Run one launch from start to stop: start the engine, serve its load points, stop it.
    ///
    /// Prints one JSON event a line. The unit of work here, in a cluster's job, or on a borrowed
    /// GPU machine; the suite makes and runs these plans by itself.
    Launch(LaunchArgs),
    /// Say of each stage whether it is up to date, stale (and why) or missing.
    Status {
        #[command(flatten)]
        profile: ProfileArg,
        #[command(flatten)]
        offline: OfflineArg,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Say why a stage or a trial would run again: the fields of its key that changed.
    Explain {
        /// Name of a stage, or the beginning of a trial's key.
        what: String,
        #[command(flatten)]
        profile: ProfileArg,
        #[command(flatten)]
        offline: OfflineArg,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Print the DAG.
    Graph {
        #[command(flatten)]
        profile: ProfileArg,
        /// Language of the drawing.
        #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
        format: GraphFormat,
    },
    /// Compare two results or baselines, metric by metric, with verdicts.
    ///
    /// Each of A and B is a saved baseline's name, a profile's name or results folder (its tuned
    /// settings), a result file, or a configuration of the profile, such as default; append
    /// #LABEL to pick one configuration, as in sim#default.
    ///
    /// A verdict is better, worse, equivalent (within the margin) or inconclusive, over server
    /// starts, corrected for the number of metrics. With --gate, the profile's objective and limits
    /// alone decide. Exit code 0: passed; 1: a regression; 2: the command line is wrong; 3:
    /// inconclusive; 5: it could not be judged (a damaged file, a goal that was not measured, no
    /// profile).
    Compare(CompareArgs),
    /// Say whether the engine's last version, measured tonight, is slower than those before.
    ///
    /// The history is what the store has of the profile's defaults on this card: a night is a version of
    /// the engine, measured by `stage baseline`. Judged are the objective and the limits. Exit code 0: no
    /// slip; 1: the last night showed one; 2: the command line is wrong; 3: too few nights; 5: the last
    /// night has no figure.
    Watch {
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// Keep results as a baseline under baselines/, for git and for `compare`.
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Carry a profile's trials between machines in one file: records and summaries, no raw samples.
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Remove what nothing needs any more: old measurements, superseded environments, leftovers.
    ///
    /// Says what would go and asks. Kept are what results/, baselines/ and each profile's latest
    /// run lead to, everything younger than --keep-days, and the environments of the locks in
    /// bench/profiles/.
    Gc {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Keep what was written in the last so many days, needed or not.
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        keep_days: u32,
    },
    /// Print a script that completes commands, options and their values in a shell.
    ///
    /// For the installed program: `xtask completions bash > ~/.local/share/bash-completion/completions/xtask`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Read every stored byte again; what does not match its digest is set aside.
    ///
    /// What was set aside counts as not there: the next suite measures or makes it again. Ends with 1
    /// when there was any. Suites may run meanwhile.
    Verify,
    /// Print docs/reference.md: stages, metrics and flags, from their definitions.
    #[command(hide = true)]
    Reference,
    /// Run the load points of a plan on the simulator, as `bench run` does: the child of a launch.
    #[command(hide = true)]
    Run {
        /// The plan.
        #[arg(long)]
        plan: PathBuf,
        /// Folder for raw samples.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write into a file what computes on this machine: a job of the suite over a cluster.
    #[command(hide = true)]
    Device {
        /// The file.
        file: PathBuf,
        /// Devices, as in a profile.
        #[arg(long, value_delimiter = ',')]
        gpus: Vec<u32>,
    },
    /// Write the profiles and models that came with the program into the current folder.
    ///
    /// For a program that was installed without a checkout: the folder is then a project, whose profiles can be
    /// copied and edited. Nothing is replaced.
    Init,
    /// Say what this machine lacks for a profile, and the command that mends it.
    Doctor {
        #[command(flatten)]
        profile: ProfileArg,
    },
}

#[derive(Debug, Subcommand)]
pub enum BaselineCommand {
    /// Save the profile's measured configurations as baselines/NAME.json.
    ///
    /// Asks before it replaces one.
    Save {
        /// Name of the baseline.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// Import a result of `vllm bench serve --save-result` as baselines/NAME.json.
    ///
    /// With --save-detailed, percentiles that it does not state are taken from the details.
    /// baselines/README.md says where its metrics differ from ours.
    Import {
        /// The JSON file that `vllm bench serve` saved.
        file: PathBuf,
        /// Name of the baseline.
        name: String,
        /// The load that it ran, by its name in the profile to compare with.
        #[arg(long, value_name = "LOAD")]
        load: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Write the profile's stored trials and its engine's identity into FILE.
    ///
    /// The same results give the same bytes. As results/PROFILE/bundle.jsonl.gz it is what
    /// `suite --offline` imports by itself.
    Export {
        /// The bundle to write.
        file: PathBuf,
        /// Put the profile into FILE too, and the files that it reads: requests, prompts.
        ///
        /// They may be what users sent, so without this they stay where they are. `bundle import` writes them
        /// below its bench/profiles/, never over another file.
        #[arg(long)]
        with_files: bool,
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// Check every digest in FILE and store what it holds, or nothing when anything is wrong.
    Import {
        /// The bundle to read.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// The plan.
    pub plan: PathBuf,
    /// Folder for raw samples and the engine's log; created if need be.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Folder for the engine's log, if another.
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
    /// The `bench` executable; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub bench: Option<PathBuf>,
    /// As a suite elsewhere wants it, the Nth start of this launch, from 0: write into OUT/attempt-N,
    /// leave out what earlier attempts measured, and wait for OUT/more-N.json in the end.
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Refuse to measure on another device than the one that this file tells of.
    #[arg(long, value_name = "FILE")]
    pub device: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ProfileArg {
    /// A name under bench/profiles/, or a file.
    #[arg(long, short, default_value = "sim", value_name = "NAME|FILE")]
    pub profile: String,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Before.
    pub a: String,
    /// After.
    pub b: String,
    /// Say by the exit code whether the objective got worse or a limit is broken.
    #[arg(long)]
    pub gate: bool,
    /// Print every metric, not the goals and what got worse alone.
    #[arg(long)]
    pub all: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = CompareFormat::Table)]
    pub format: CompareFormat,
    /// Compare although A and B ran on different engines.
    #[arg(long)]
    pub across_engines: bool,
    /// Whose goals and margins count: a name under bench/profiles/, or a file; that of the results
    /// by default.
    #[arg(long, short, value_name = "NAME|FILE")]
    pub profile: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompareFormat {
    /// For a terminal.
    Table,
    /// For a pull request.
    Markdown,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub struct OfflineArg {
    /// As `suite --offline` sees it: with the engine and the trials of the profile's bundle.
    #[arg(long)]
    pub offline: bool,
}

#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// Where trials are shared, in the place of the profile's [remote]: s3://BUCKET/PREFIX,
    /// file:///FOLDER, or none.
    #[arg(long, value_name = "URL", env = "BENCH_REMOTE", hide_env_values = true)]
    pub remote: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Say what would run, with launches, trials and an estimate of time, and stop there.
    #[arg(long)]
    pub dry_run: bool,
    /// Measure again what is stored already; the newest figures count.
    #[arg(long)]
    pub fresh: bool,
    /// Start no engine: take its identity and all trials from the store and the profile's bundle.
    #[arg(long, conflicts_with = "fresh")]
    pub offline: bool,
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Whether what is measured is written to the remote store, where it is not yet; by default
    /// what the profile says, else where CI is set.
    #[arg(long, value_name = "true|false", env = "BENCH_REMOTE_WRITE", hide_env_values = true)]
    pub remote_write: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
}

impl MessageFormat {
    /// That of a command line that is otherwise wrong.
    pub fn asked_for() -> Self {
        let words: Vec<String> = std::env::args_os().map(|w| w.display().to_string()).collect();
        let is_json = words.windows(2).any(|two| two == ["--message-format", "json"])
            || words.iter().any(|word| word == "--message-format=json");
        if is_json { Self::Json } else { Self::Human }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    /// For Markdown.
    Mermaid,
    /// For Graphviz.
    Dot,
}
