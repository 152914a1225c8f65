//! Slurm's commands: what they are given and what they print.

use std::{collections::BTreeMap, ffi::OsStr, os::unix::process::CommandExt as _, path::Path};

use anyhow::{Context as _, Result, bail};

use profile::SlurmConfig;

/// Name of every job, by which the next run finds those of a run that was killed.
pub(super) const JOB_NAME: &str = "vllm-tuning-bench";

/// What `squeue` is to print: number, state, reason, comment.
const QUEUE_FORMAT: &str = "%i|%T|%r|%k";

/// A job's number.
pub(super) type JobId = u64;

/// What is asked of a cluster.
pub(super) trait Cluster: Sync {
    /// Gives it a job; with `--wait` among the arguments, waits for its end too.
    fn submit(&self, args: &[String], script: &str) -> Result<JobId>;
    /// Our jobs that wait or run.
    fn queue(&self) -> Result<BTreeMap<JobId, Queued>>;
    /// All that it knows of a job; `None` once it has forgotten it.
    fn show(&self, job: JobId) -> Result<Option<Shown>>;
    /// Ends a job; at once where it waits, with SIGTERM first where it runs.
    fn cancel(&self, job: JobId) -> Result<()>;
}

/// A job that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    /// Whether it waits for a node.
    pub(super) pending: bool,
    /// Why it waits.
    pub(super) reason: String,
    /// The launch's folder.
    pub(super) comment: String,
}

/// A job, in the words of `scontrol show job`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Such as `RUNNING` or `TIMEOUT`.
    pub(super) state: String,
    /// More about the state, such as `NonZeroExitCode`.
    pub(super) reason: String,
    /// Exit code and signal of the script.
    pub(super) exit_code: (i32, i32),
    /// Where it ran; empty before it did.
    pub(super) nodes: String,
    /// Such as `01:00:00`.
    pub(super) time_limit: String,
}

impl Shown {
    /// What stands for a job that the cluster has forgotten.
    pub(super) fn forgotten() -> Self {
        Self {
            state: "COMPLETED".to_owned(),
            reason: String::new(),
            exit_code: (0, 0),
            nodes: String::new(),
            time_limit: String::new(),
        }
    }

    /// Whether it waits or runs after all, as a job does that was requeued meanwhile.
    pub(super) fn is_active(&self) -> bool {
        const ACTIVE: [&str; 8] = [
            "COMPLETING",
            "CONFIGURING",
            "PENDING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "RUNNING",
            "STOPPED",
            "SUSPENDED",
        ];
        ACTIVE.contains(&self.state.as_str())
    }
}

/// This program's command line, as a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    /// This program, on a file system that the nodes share, and its arguments.
    pub(super) command: &'a [&'a OsStr],
    /// Whether it takes `--attempt`.
    pub(super) counts_attempts: bool,
    /// The current folder, from which paths in a plan may count.
    pub(super) here: &'a Path,
    /// What the job is about: the launch's folder.
    pub(super) comment: &'a Path,
    /// What the job prints.
    pub(super) log: &'a Path,
}

/// Arguments of `sbatch` for a job.
pub(super) fn arguments(config: &SlurmConfig, batch: &Batch<'_>) -> Vec<String> {
    let mut args = vec![
        "--parsable".to_owned(),
        "--requeue".to_owned(),
        "--nodes=1".to_owned(),
        format!("--job-name={JOB_NAME}"),
        format!("--comment={}", batch.comment.display()),
        format!("--chdir={}", batch.here.display()),
        format!("--output={}", file_pattern(batch.log)),
        "--open-mode=append".to_owned(),
    ];
    args.extend(config.partition.as_ref().map(|partition| format!("--partition={partition}")));
    args.extend(config.gres.as_ref().map(|gres| format!("--gres={gres}")));
    args.extend(config.time_limit_minutes.map(|minutes| format!("--time={minutes}")));
    args.extend(config.exclusive.then(|| "--exclusive".to_owned()));
    args.extend(config.options.iter().cloned());
    args
}

/// A path as `sbatch` takes it, where `%` begins a pattern.
fn file_pattern(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

/// The job's script.
pub(super) fn script(config: &SlurmConfig, batch: &Batch<'_>) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    for (name, value) in &config.env {
        text += &format!("export {name}={}\n", quoted(value));
    }
    // The suite's own is a folder of the machine where it runs.
    text += "unset XDG_RUNTIME_DIR\nexec";
    for word in batch.command {
        text += &format!(" {}", quoted(&word.to_string_lossy()));
    }
    if batch.counts_attempts {
        text += " --attempt \"${SLURM_RESTART_COUNT:-0}\"";
    }
    text + "\n"
}

/// Text that a shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The job's number from what `sbatch --parsable` prints: `12`, or `12;cluster`.
fn parse_submitted(text: &str) -> Result<JobId> {
    let number = text.trim().split(';').next().unwrap_or_default();
    number.parse().with_context(|| format!("sbatch printed no job number: {}", text.trim()))
}

/// Jobs from what `squeue` prints.
fn parse_queue(text: &str) -> Result<BTreeMap<JobId, Queued>> {
    let parse = |line: &str| {
        let mut fields = line.splitn(4, '|');
        let id = fields.next()?.trim().parse().ok()?;
        let pending = fields.next()? == "PENDING";
        let [reason, comment] = [fields.next()?.to_owned(), fields.next()?.to_owned()];
        Some((id, Queued { pending, reason, comment }))
    };
    text.lines()
        .map(|line| parse(line).with_context(|| format!("squeue printed an unknown line: {line}")))
        .collect()
}

/// A job from what `scontrol --oneliner show job` prints.
fn parse_shown(text: &str) -> Option<Shown> {
    let field = |name: &str| {
        // The first: a comment, which comes later, may hold anything.
        let value = text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
        value.and_then(|value| value.strip_prefix('='))
    };
    let plain = |name| match field(name) {
        None | Some("(null)" | "None") => String::new(),
        Some(value) => value.to_owned(),
    };
    let (code, signal) = field("ExitCode").and_then(|text| text.split_once(':'))?;
    Some(Shown {
        state: field("JobState")?.to_owned(),
        reason: plain("Reason"),
        exit_code: (code.parse().ok()?, signal.parse().ok()?),
        nodes: plain("NodeList"),
        time_limit: plain("TimeLimit"),
    })
}

/// The commands of a Slurm installation.
pub(super) struct CommandLine;

impl Cluster for CommandLine {
    fn submit(&self, args: &[String], script: &str) -> Result<JobId> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        parse_submitted(&run("sbatch", &args, script)?)
    }

    fn queue(&self) -> Result<BTreeMap<JobId, Queued>> {
        let name = format!("--name={JOB_NAME}");
        let format = format!("--format={QUEUE_FORMAT}");
        parse_queue(&run("squeue", &["--me", "--noheader", &name, &format], "")?)
    }

    fn show(&self, job: JobId) -> Result<Option<Shown>> {
        match run("scontrol", &["--oneliner", "show", "job", &job.to_string()], "") {
            Ok(text) => {
                let shown = parse_shown(&text);
                shown.map(Some).with_context(|| format!("scontrol printed no job: {}", text.trim()))
            }
            Err(error) if error.to_string().contains("Invalid job id") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn cancel(&self, job: JobId) -> Result<()> {
        run("scancel", &["--quiet", &job.to_string()], "").map(drop)
    }
}

/// Runs a command with that input; its output, or what it said last.
fn run(program: &str, args: &[&str], input: &str) -> Result<String> {
    let output = duct::cmd(program, args)
        // A command that does not read its input says itself what is wrong.
        .stdin_bytes(input)
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        // Ctrl-C is for us: a command that it ended would leave open what became of the job.
        .before_spawn(|command| {
            command.process_group(0);
            Ok(())
        })
        .run()
        .with_context(|| {
            format!("cannot start {program}: run the suite where Slurm's commands are")
        })?;
    if !output.status.success() {
        bail!("{program} failed: {}", last_error(&String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} did not print UTF-8"))
}

/// The last line of a command's errors, without what Slurm writes before each.
fn last_error(text: &str) -> &str {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    line.rsplit_once("error: ").map_or(line, |(_, rest)| rest).trim()
}

#[cfg(test)]
mod tests;
