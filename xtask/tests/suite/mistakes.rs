//! Mistakes and accidents that once were waited for, flooded the terminal or ended without a word.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Project, calibrate, common, copy, counting, install, measured};

/// A server of `/v1/completions`: each answer has the tokens that were asked for, in a stream.
pub fn completions(models: &'static str) -> String {
    serving(models, Manner::Fine)
}

/// How a server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Fine,
    /// Every other completion with status 500.
    FailsHalf,
    /// One of twenty so.
    FailsFew,
    /// All with status 429.
    Limits,
    /// Whatever model it is asked for, and says which one it is.
    AnyModel(&'static str),
}

/// The same with manners of its own.
pub fn serving(models: &'static str, manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let asked = asked.clone();
            let every = match manner {
                Manner::FailsHalf => 2,
                Manner::FailsFew => 20,
                _ => usize::MAX,
            };
            let is_failed = move || asked.fetch_add(1, Ordering::Relaxed) % every == every - 1;
            thread::spawn(move || answer(stream, models, manner, is_failed));
        }
    });
    url
}

/// Answers one request; `None` where the client has gone.
fn answer(
    stream: TcpStream,
    models: &str,
    manner: Manner,
    is_failed: impl Fn() -> bool,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, kind, text) = if head.starts_with("GET /v1/models ") {
        (200, "application/json", models.to_owned())
    } else if head.starts_with("GET /metrics ") {
        (404, "text/plain", String::new())
    } else if head.starts_with("GET ") {
        (200, "text/plain", String::new())
    } else {
        let asked: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let tokens = asked["max_tokens"].as_u64()?;
        let name = match manner {
            Manner::AnyModel(own) => own,
            _ => asked["model"].as_str()?,
        };
        if !models.contains(&format!("\"{name}\"")) {
            (404, "application/json", "{}".to_owned())
        } else if manner == Manner::Limits {
            (429, "application/json", "{}".to_owned())
        } else if tokens > 1 && is_failed() {
            (500, "application/json", "{}".to_owned())
        } else {
            let token = format!(
                "data: {{\"model\":\"{name}\",\"choices\":[{{\"index\":0,\"text\":\"x\",\"finish_reason\":null}}]}}\n\n"
            );
            let usage = format!(
                "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":32,\"completion_tokens\":{tokens}}}}}\n\n"
            );
            let stream = token.repeat(tokens as usize) + &usage + "data: [DONE]\n\n";
            (200, "text/event-stream", stream)
        }
    };
    let length = text.len();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{text}"
    )
    .ok()
}

/// A closed loop has no moments of sending that a busy machine could miss.
pub fn endpoint(url: &str, more: &str) -> String {
    format!(
        "[engine]\nkind = \"endpoint\"\nurl = \"{url}\"\nmodel = \"served\"\nvocab_size = 32000\n{more}\
         [[load]]\nname = \"burst\"\nrequests = 8\n\
         arrival = {{ process = \"closed-loop\", concurrency = 1 }}\ninput_tokens = 32\n\
         output_tokens = 16\nseed = 7\n\
         [objective]\nmaximize = \"output_tokens_per_s\"\non = \"burst\"\n"
    )
}

pub fn write(project: &Project, name: &str, text: &str) {
    fs::write(project.path(&format!("bench/profiles/{name}.toml")), text).expect("writes");
}

fn folded(text: &[u8]) -> String {
    String::from_utf8_lossy(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

pub const MODELS: &str = r#"{"data":[{"id":"served"}]}"#;

/// No figure is said to be vLLM's defaults', and no flag is advised.
#[test]
fn an_endpoint_is_one_configuration_and_two_are_compared() {
    let project = Project::new();
    calibrate(&project.path(""));
    let (a, b) = (completions(MODELS), completions(MODELS));
    write(&project, "rack-a", &endpoint(&a, "identity = \"a\"\n"));
    write(&project, "rack-b", &endpoint(&b, "identity = \"b\"\n"));
    for name in ["rack-a", "rack-b"] {
        let text = project.measured_suite(name);
        assert!(text.contains(&format!("{name} was measured as it runs.")), "{text}");
        assert!(!text.contains("vllm serve") && !text.contains("default"), "{text}");
        let folder = project.path(&format!("results/{name}"));
        assert!(!folder.join("recommended.yaml").exists());
        let report = fs::read_to_string(folder.join("OPTIMIZATION_RESULTS.md")).expect("a report");
        for word in ["vLLM default", "vLLM's defaults", "vllm serve", "Tuned"] {
            let body = report.split("## Metrics").next().unwrap_or_default();
            assert!(!body.contains(word), "{word}: {report}");
        }
        assert!(report.contains(&format!("| Metric | {name} |")), "{report}");
    }
    let compared = project.ok(&["compare", "rack-a", "rack-b"]);
    assert!(compared.contains("inconclusive"), "one start a side proves nothing: {compared}");
    let compared = super::common::unfolded(&compared);
    for part in [
        " rack-a and rack-b have one server start, which cannot give a verdict",
        "Two a side are the least",
        "restart the server, set start = 2 in [engine] beside its identity",
    ] {
        assert!(compared.contains(part), "{part}: {compared}");
    }
    assert!(!compared.contains("Not measured on both sides"), "{compared}");
}

/// Half of its requests fail: a change for the worse where the other side has figures, and nothing to
/// compare with where it is the side before.
#[test]
fn a_side_without_figures_is_told_with_its_cause() {
    let project = Project::new();
    calibrate(&project.path(""));
    let (good, half) = (completions(MODELS), serving(MODELS, Manner::FailsHalf));
    write(&project, "good", &endpoint(&good, "identity = \"a\"\n"));
    write(&project, "half", &endpoint(&half, "identity = \"b\"\n"));
    project.measured_suite("good");
    assert_eq!(project.run(&["suite", "--profile", "half"]).status.code(), Some(1));
    for (sides, code, expected) in [
        (["good", "half"], 1, "Does not run any more on burst: no trial counts: "),
        (["half", "good"], 5, "half has no figure on burst: no trial counts: "),
        (["half", "half"], 5, "half has no figure on burst: no trial counts: "),
    ] {
        let output = project.run(&["compare", sides[0], sides[1], "--gate"]);
        assert_eq!(output.status.code(), Some(code), "{sides:?}: {output:?}");
        assert!(folded(&output.stdout).contains(expected), "{sides:?}: {output:?}");
        assert!(folded(&output.stdout).contains("http_500"), "{sides:?}: {output:?}");
    }
}

/// The owner restarts the server and counts on; what ran before cannot be measured any more.
#[test]
fn starts_of_an_endpoint_are_counted_by_its_owner() {
    let project = Project::new();
    calibrate(&project.path(""));
    let url = completions(MODELS);
    let profile = |start: &str| endpoint(&url, &format!("identity = \"a\"\n{start}"));
    write(&project, "rack", &profile("start = 2\n"));
    let output = project.run(&["suite", "--profile", "rack"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(folded(&output.stderr).contains("start 1 is not in the store"), "{output:?}");
    for start in ["", "start = 2\n", "start = 3\n"] {
        write(&project, "rack", &profile(start));
        let text = project.ok(&["suite", "--profile", "rack", "--only", "baseline"]);
        assert!(text.contains("1 trial on 1 launch to"), "one is measured each time: {text}");
    }
    let result = fs::read_to_string(project.path("results/rack/baseline.json")).expect("reads");
    let result: serde_json::Value = serde_json::from_str(&result).expect("JSON");
    let moved = completions(MODELS);
    write(&project, "rack", &endpoint(&moved, "identity = \"a\"\nstart = 4\n"));
    let output = project.run(&["suite", "--profile", "rack"]);
    let expected = format!("the profile's trials are of {url}, and `url` is {moved} now");
    assert!(folded(&output.stderr).contains(&expected), "{output:?}");
    // A busy machine may make one of them invalid; it is a start all the same.
    assert_eq!(project.stored_trials(), 3);
    assert_eq!(result["points"].as_array().map(Vec::len), Some(1));
}

/// What is wrong is told before anything is measured, and by `doctor` too.
#[test]
fn mistakes_about_an_endpoint_are_told_at_once() {
    let project = Project::new();
    calibrate(&project.path(""));
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let refusing = format!("http://{}", closed.local_addr().expect("bound"));
    drop(closed);
    let other = completions(r#"{"data":[{"id":"llama"}]}"#);
    let tls = completions(MODELS).replace("http://", "https://");
    let any = serving(r#"{"data":[{"id":"llama"}]}"#, Manner::AnyModel("llama"));
    for (url, expected) in [
        (&refusing, "refuses the connection: nothing listens there"),
        (&other, "serves no model `served`: it serves `llama`"),
        (&any, "serves no model `served`: it serves `llama`, and answers all the same"),
        (&tls, "speaks no TLS"),
        (&"http://no-such-host.invalid".to_owned(), "is not found: no address for this name"),
    ] {
        write(&project, "rack", &endpoint(url, ""));
        let output = project.run(&["suite", "--profile", "rack"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(folded(&output.stderr).contains(expected), "{output:?}");
        assert!(!folded(&output.stdout).contains("baseline"), "nothing was begun: {output:?}");
        let doctor = project.run(&["doctor", "--profile", "rack"]);
        assert!(folded(&doctor.stdout).contains(expected), "{doctor:?}");
    }
    let url = completions(MODELS);
    for identity in ["identity = \"a\"\n", ""] {
        write(&project, "rack", &endpoint(&url, identity));
        let doctor = project.ok(&["doctor", "--profile", "rack"]);
        assert!(doctor.contains("serves served"), "{doctor}");
    }
    write(&project, "rack", &endpoint(&serving(MODELS, Manner::Limits), ""));
    let output = project.run(&["suite", "--profile", "rack"]);
    let expected = "the server limits the rate: send less (`requests_per_second`";
    assert!(folded(&output.stderr).contains(expected), "{output:?}");
}

/// They count, and so does nothing else say that they were.
#[test]
fn requests_that_may_fail_are_told_with_their_kind() {
    let project = Project::new();
    calibrate(&project.path(""));
    let profile = endpoint(&serving(MODELS, Manner::FailsFew), "identity = \"a\"\n");
    write(&project, "rack", &profile.replace("requests = 8", "requests = 40"));
    let text = folded(project.measured_suite("rack").as_bytes());
    let expected = "Every setting ran. Some requests failed. Failed requests: 2 of 40 of rack on burst (5.0 %: \
         http_500 2), few enough for the trials to count.";
    assert!(text.contains(expected) && !text.contains("every trial counts"), "{text}");
    let report = fs::read_to_string(project.path("results/rack/OPTIMIZATION_RESULTS.md"));
    let expected = "Of the requests of trials that count some failed: rack on `burst` 5.0 %.";
    assert!(report.expect("a report").contains(expected));
}

/// The signal that a limit on the size of files sends ended it without a word.
#[test]
fn a_limit_on_the_size_of_files_is_told() {
    let project = Project::new();
    let xtask = project.command(&[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -f 1; exec \"$0\" suite --profile test").arg(xtask);
    let output = command.current_dir(project.path(".")).output().expect("sh runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = folded(&output.stderr);
    assert!(error.contains("File too large"), "{output:?}");
    assert!(!error.contains("the results are in the store"), "{error}");
}

/// On a disk of its own, which a user namespace may mount, and which is full when some trials are stored.
#[test]
fn a_full_disk_ends_the_suite_and_nothing_stored_is_measured_again() {
    let project = Project::new();
    let xtask = project.command(&[]).get_program().to_owned();
    let script = "mkdir artifacts && mount -t tmpfs -o size=200k tmpfs artifacts || exit 99
        \"$0\" suite --profile test > first 2>&1; code=$?
        mount -o remount,size=100m artifacts && \"$0\" suite --profile test > second || exit 98
        umount artifacts; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(xtask);
    command.env_remove("CARGO");
    let output = command.current_dir(project.path(".")).output();
    let code = output.as_ref().ok().and_then(|output| output.status.code());
    if !project.path("first").exists() {
        println!("skipped: no disk can be mounted here: {output:?}");
        return;
    }
    let text = |name| fs::read_to_string(project.path(name)).expect("it was written");
    let (first, second) = (text("first"), text("second"));
    assert_eq!(code, Some(1), "{first}{second}");
    let first = folded(first.as_bytes());
    // The second where the load generator met it first, which could not write its log.
    let is_told = ["No space left on device", "no space left on the disk"];
    assert!(is_told.iter().any(|words| first.contains(words)), "{first}");
    // What could not be written was a trial, or the result of a stage.
    let number = |text: &str, before: &str, after: &str| -> Option<usize> {
        let (_, rest) = text.split_once(before)?;
        let (number, _) = rest.split_once(after)?;
        number.rsplit(' ').next()?.parse().ok()
    };
    let of_trial = || {
        assert!(first.contains("Next: remove the cause, then run the same command"), "{first}");
        number(&first, " took ", " trials measured")
    };
    let stored = number(&first, "with trials in the store: ", ", missing").or_else(of_trial);
    let stored = stored.expect("it says how many are stored");
    assert!(stored > 0, "some are: {first}");
    assert_eq!(number(&second, "measured, ", " reused"), Some(stored), "{first}{second}");
}

/// Two names of one server: the one that it knows, and another under which it answers too.
#[test]
fn a_server_that_names_another_model_is_measured_with_a_warning() {
    let project = Project::new();
    calibrate(&project.path(""));
    let url = serving(r#"{"data":[{"id":"served"},{"id":"llama"}]}"#, Manner::AnyModel("llama"));
    write(&project, "rack", &endpoint(&url, "identity = \"a\"\n"));
    let expected = "answers a request for `served` as `llama`: that model is measured";
    let text = project.run(&["suite", "--profile", "rack"]);
    assert!(folded(&text.stdout).contains(&format!("warning: {url} {expected}")), "{text:?}");
    let doctor = project.run(&["doctor", "--profile", "rack"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(folded(&doctor.stdout).contains(expected), "{doctor:?}");
}

/// A profile that says so waits for a server that is still starting.
#[test]
fn a_server_that_is_starting_is_waited_for() {
    let project = Project::new();
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let url = format!("http://{address}");
    write(&project, "rack", &endpoint(&url, "identity = \"a\"\nstart_timeout_s = 1\n"));
    let output = project.run(&["suite", "--profile", "rack"]);
    let (out, error) = (folded(&output.stdout), folded(&output.stderr));
    assert!(out.contains("Waiting up to 1 s, as start_timeout_s says"), "{out}");
    assert!(error.contains("raise `start_timeout_s`"), "{error}");
}

/// `xtask status | true`
#[test]
fn nobody_who_reads_is_no_error() {
    let project = Project::without_pictures();
    project.suite();
    for args in [
        &["status", "--profile", "test"][..],
        &["explain", "baseline", "--profile", "test"],
        &["graph", "--profile", "test"],
        &["compare", "test#default", "test", "--profile", "test"],
        &["completions", "bash"],
        &["doctor", "--profile", "test"],
        &["verify"],
        &["gc"],
        &["suite", "--profile", "test"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = project.command(args).stdout(writer).stderr(Stdio::piped()).spawn();
        let output = child.expect("it runs").wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {error}");
        assert_eq!(error, "", "{args:?}");
    }
}

/// Opening it would wait for somebody who writes.
#[test]
fn a_pipe_is_no_file_of_requests() {
    let project = Project::new();
    let folder = project.path("bench/profiles");
    let made =
        Command::new("mkfifo").arg(folder.join("trace.jsonl")).status().expect("mkfifo runs");
    assert!(made.success());
    let data = "data = { file = \"trace.jsonl\", format = \"mooncake\" }\narrival = { process = \"replay\" }";
    let profile = super::PROFILE.replacen(
        "requests = 24\narrival = \"all-at-once\"\ninput_tokens = [8, 40]\noutput_tokens = [4, 24]\n\
         seed = 1",
        data,
        1,
    );
    assert!(profile.contains(data));
    project.write_profile(&profile);
    let output = project.run(&["suite", "--profile", "test", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(folded(&output.stderr).contains("trace.jsonl is no regular file"), "{output:?}");
}

/// More than any machine has: refused before a server starts, with what it would take.
#[test]
fn a_load_that_no_memory_holds_is_refused() {
    let project = Project::new();
    let profile = super::PROFILE.replacen(
        "requests = 24\narrival = \"all-at-once\"",
        "requests = 10000000\narrival = \"all-at-once\"",
        1,
    );
    project.write_profile(&profile);
    let xtask = env!("CARGO_BIN_EXE_xtask");
    // The plan says so too.
    for args in ["", " --dry-run"] {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v 3000000; exec {xtask} suite --profile test{args}")]);
        let output = command.current_dir(project.path(".")).output().expect("sh runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = folded(&output.stderr);
        assert!(
            error.contains("10000000 requests take about") && error.contains("GiB are free"),
            "{error}"
        );
    }
}

/// A server of the project's own, which ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How exact the load generator is on this host is found before anything is measured with it.
#[test]
fn the_load_generator_is_checked_before_the_first_trial_over_http() {
    let project = Project::new();
    let program = counting(&project);
    calibrate(&project.path("known"));
    // A check that takes no time, and notes how many launches were before it.
    let [plans, known, checks] =
        ["plans", "known/artifacts/calibration.json", "checks"].map(|name| project.path(name));
    let [plans, known, shown] = [&plans, &known, &checks].map(|path| path.display());
    let check = format!(
        "if [ \"$1\" = calibrate ]; then ls {plans} | wc -l >> {shown}; exec cp {known} \"$7\"; fi\nexec "
    );
    let bench = fs::read_to_string(project.path("counting")).expect("reads");
    fs::write(project.path("counting"), bench.replacen("exec ", &check, 1)).expect("writes");
    install(&project.path("counting"), &project.path("bin/bench"));
    write(&project, "rack", &endpoint(&completions(MODELS), "identity = \"a\"\n"));
    let mut command = std::process::Command::new(program);
    command.args(["suite", "--profile", "rack"]).current_dir(project.path("."));
    // Whether its figures are valid hangs on how busy this machine is.
    command.env_remove("CARGO").output().expect("it runs");
    assert_eq!(fs::read_to_string(&checks).expect("it was checked").trim(), "0");
    assert!(project.path("artifacts/calibration.json").is_file());
    assert!(!measured(&project).is_empty());
}

/// From the profile to the report, `/metrics` included.
#[test]
fn a_server_at_an_ipv6_address_is_measured() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let project = Project::new();
    calibrate(&project.path(""));
    let program = project.command(&[]).get_program().to_owned();
    let mut command = Command::new(std::path::PathBuf::from(program).with_file_name("bench"));
    command.args(["serve", "--host", "::1", "--port", "0", "--served-model-name", "served"]);
    command.stdout(Stdio::piped());
    let mut server = Serving(command.spawn().expect("it starts"));
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let address = line["listening"].as_str().expect("the first line has the address");
    assert!(address.starts_with("[::1]:"), "{address}");
    let url = format!("http://{address}");
    write(&project, "rack", &endpoint(&url, "identity = \"a\"\n"));
    let doctor = project.ok(&["doctor", "--profile", "rack"]);
    assert!(doctor.contains(&format!("{url} serves served")), "{doctor}");
    let text = project.measured_suite("rack");
    assert!(text.contains("rack was measured as it runs."), "{text}");
    let result = fs::read_to_string(project.path("results/rack/baseline.json")).expect("reads");
    let result: serde_json::Value = serde_json::from_str(&result).expect("JSON");
    let metrics = &result["points"][0]["metrics"];
    assert_eq!(metrics["failed_share"]["mean"], 0.0, "{metrics}");
    assert!(metrics["queue_mean_ms"]["mean"].is_number(), "/metrics was read: {metrics}");
}

/// A TLS server whose certificate nobody has signed but itself; its port.
fn self_signed() -> u16 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a key");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
        .map(Arc::new)
        .expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut tls = rustls::ServerConnection::new(config).expect("a configuration");
                // A client that does not trust it goes away.
                while tls.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
            });
        }
    });
    port
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_at_once() {
    let project = Project::new();
    write(&project, "rack", &endpoint(&format!("https://localhost:{}", self_signed()), ""));
    let expected = "has a certificate that is not trusted";
    let output = project.run(&["suite", "--profile", "rack"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = folded(&output.stderr);
    assert!(error.contains(expected) && error.contains("SSL_CERT_FILE"), "{error}");
    assert!(!folded(&output.stdout).contains("baseline"), "nothing was begun: {output:?}");
    let doctor = project.run(&["doctor", "--profile", "rack"]);
    assert!(folded(&doctor.stdout).contains(expected), "{doctor:?}");
}

/// Nothing that could install anything is even started, and a dry run says what would be.
#[test]
fn without_a_gpu_nothing_is_installed() {
    let project = Project::new();
    copy(&["bench/profiles/vllm-cuda.toml", "bench/profiles/vllm-cuda.lock"], &project.path("."));
    let tools = project.path("tools");
    fs::create_dir(&tools).expect("creates");
    for name in ["uv", "pip", "pip3", "python3", "python"] {
        let calls = project.path("calls");
        let script = format!("#!/bin/sh\necho {name} \"$@\" >> {}\nexit 1\n", calls.display());
        fs::write(tools.join(name), script).expect("writes");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(tools.join(name), mode).expect("it is ours");
    }
    // No `nvidia-smi` is among them.
    let run = |args: &[&str]| {
        let mut command = project.command(&[&["suite", "--profile", "vllm-cuda"], args].concat());
        let output = command.env("PATH", &tools).output().expect("the program runs");
        assert!(!project.path("calls").exists(), "{:?}", fs::read_to_string(project.path("calls")));
        (output.status.code(), folded(&output.stdout), folded(&output.stderr))
    };
    let (code, text, error) = run(&["--dry-run"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("is installed from vllm-cuda.lock, with up to 15 GiB of disk"), "{text}");
    assert!(text.contains("no NVIDIA GPU is found here"), "{text}");
    let (code, text, error) = run(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(error.contains("nvidia-smi"), "{error}");
    assert!(!text.contains("installing"), "{text}");
}

/// Lines that say more than fits are folded, and what one copies from them is not.
#[test]
fn errors_are_folded_for_a_terminal() {
    let project = Project::new();
    let long = "a-name-of-a-baseline-that-nobody-has-saved";
    let referring = format!("reference = \"{long}\"\n{}", super::PROFILE);
    write(&project, "referring", &referring);
    let mistaken =
        super::PROFILE.replace("arrival = \"all-at-once\"", "arrival = \"all-at-ones\"").replace(
            "on = \"steady\"",
            "on = \"a load that the profile does not have at all, and no other either\"",
        );
    write(&project, "mistaken", &mistaken);
    write(&project, "rack", &endpoint("http://no-such-host-as-this-one.invalid:8000", ""));
    let mut all = String::new();
    for (args, code) in [
        (&["suite", "--profile", "referring"][..], 2),
        (&["status", "--profile", "referring"], 2),
        (&["suite", "--profile", "mistaken"], 2),
        (&["suite", "--profile", "test", "--only", "queue-time,max-num-seqs"], 2),
        (&["suite", "--profile", "test", "--message-format", "xml-or-something-else"], 2),
        (&["suite", "--profile", "rack"], 1),
        (&["compare", "a/folder/that/is/not/there.json", "test", "--profile", "test"], 2),
        (&["baseline", "save", "x", "--profile", "test"], 2),
        (&["explain", "compair", "--profile", "test"], 2),
    ] {
        let output = project.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        let too_wide = |line: &&str| line.chars().count() > 80 && line.trim().contains(' ');
        // A line of the profile is shown as it is.
        let wide: Vec<&str> =
            error.lines().filter(too_wide).filter(|line| !line.contains('│')).collect();
        let copied =
            |line: &&str| line.trim().matches('`').count() == 2 && line.trim().starts_with('`');
        assert!(wide.iter().all(copied), "{args:?}: {wide:?}");
        all += &error;
    }
    assert!(all.contains(&format!("`xtask baseline save {long}`")), "{all}");
    assert!(all.contains("http://no-such-host-as-this-one.invalid:8000"), "{all}");
}

/// The code that a command line ends with, which is said to people too, and goes with the exit code.
fn code_of(mut command: Command) -> String {
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let last = text.lines().last().unwrap_or_else(|| panic!("{command:?} says nothing"));
    let said: serde_json::Value = serde_json::from_str(last).expect(last);
    assert_eq!(said["event"], "error", "{command:?}: {text}");
    assert_eq!(said["exit_code"].as_i64(), output.status.code().map(i64::from), "{last}");
    let (message, told) = (said["message"].as_str().expect("a message"), folded(&output.stderr));
    assert!(told.starts_with("error: ") && !message.starts_with("error: "), "{told}\n{last}");
    said["code"].as_str().expect("a code").to_owned()
}

/// Every code of the table is provoked, and none is raised that is not there.
#[test]
fn every_code_of_an_error_is_raised_and_documented() {
    let project = Project::without_pictures();
    calibrate(&project.path(""));
    let empty = common::tempdir();
    let json = |args: &[&str]| project.command(&[args, &["--message-format", "json"]].concat());
    let in_shell = |script: &str, args: &[&str]| {
        let of = json(args);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{script}\nexec \"$0\" \"$@\"")]).arg(of.get_program());
        command.args(of.get_args()).current_dir(project.path(".")).env_remove("CARGO");
        command
    };
    let mut raised = Vec::new();
    let mut raise = |code: &str, command: Command| {
        assert_eq!(code_of(command), code);
        raised.push(code.to_owned());
    };
    raise("command-line", json(&["suite", "--nonsense"]));
    raise("profile-unreadable", json(&["suite", "--profile", "tset"]));
    write(&project, "wrong", &super::PROFILE.replace("kind = \"simulator\"", "kind = \"sim\""));
    raise("profile-invalid", json(&["status", "--profile", "wrong"]));
    raise("unknown-name", json(&["stage", "nothing", "--profile", "test"]));
    raise("no-results", json(&["baseline", "save", "x", "--profile", "test"]));
    raise("disk-full", in_shell("ulimit -f 1", &["suite", "--profile", "test"]));
    let more = super::PROFILE.replacen("requests = 24", "requests = 10000000", 1);
    write(&project, "large", &more);
    raise("out-of-memory", in_shell("ulimit -v 3000000", &["suite", "--profile", "large"]));
    fs::write(project.path("results"), "in the way").expect("writes");
    raise("results-unwritten", json(&["suite", "--profile", "test"]));
    fs::remove_file(project.path("results")).expect("removes");
    project.suite();
    project.ok(&["baseline", "save", "x", "--profile", "test"]);
    raise("exists", json(&["baseline", "save", "x", "--profile", "test"]));
    raise("file-refused", json(&["bundle", "import", "baselines/x.json"]));
    let saved = fs::read_to_string(project.path("baselines/x.json")).expect("reads");
    fs::write(project.path("baselines/half.json"), &saved[..saved.len() / 2]).expect("writes");
    raise("file-damaged", json(&["compare", "half", "test"]));
    let newer = saved.replacen("\"format\": ", "\"format\": 9", 1);
    fs::write(project.path("baselines/newer.json"), newer).expect("writes");
    raise("format-unknown", json(&["compare", "newer", "test"]));
    let mut other: serde_json::Value = serde_json::from_str(&saved).expect("JSON");
    other["engine"]["identity"] = "0".repeat(64).into();
    fs::write(project.path("baselines/other.json"), other.to_string()).expect("writes");
    raise("not-comparable", json(&["compare", "other", "test"]));
    let mut command = json(&["status"]);
    command.current_dir(empty.path());
    raise("no-project", command);
    raise("failed", json(&["launch", "no-plan.json"]));

    let url = completions(MODELS);
    write(&project, "rack", &endpoint(&url, "identity = \"a\"\nstart = 2\n"));
    raise("start-gone", json(&["suite", "--profile", "rack"]));
    let rack = endpoint(&url, "identity = \"a\"\n");
    let (_, load) = rack.split_once("[[load]]").expect("a load");
    let (load, _) = load.split_once("[objective]").expect("an objective");
    let other =
        |seed: &str| load.replace("burst", seed).replace("seed = 7", &format!("seed = {seed}"));
    let more = ["8", "9"].map(|seed| format!("[[load]]{}", other(seed))).concat();
    write(&project, "rack", &format!("{rack}{more}[budget]\nengine_minutes = 1\n"));
    raise("over-budget", json(&["suite", "--profile", "rack"]));
    write(&project, "rack", &endpoint("http://127.0.0.1:1", ""));
    raise("engine-unavailable", json(&["suite", "--profile", "rack"]));

    let logs = fs::read_dir(project.path("artifacts/logs")).expect("the suite has logs");
    let mut logs = logs.map(|log| log.expect("an entry").path());
    let plan = logs.find(|path| path.to_string_lossy().ends_with(".plan.json"));
    let plan = plan.expect("a launch had a plan").display().to_string();
    raise("launch-failed", json(&["launch", &plan, "--bench", "/nothing", "--out", "launched"]));
    raise("interrupted", in_shell(&interrupting(&plan), &["launch", "pipe", "--out", "launched"]));

    let documented =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md"));
    let documented = documented.expect("reads");
    let (_, table) = documented.split_once("**Errors.**").expect("a table of errors");
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let mut listed: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    listed.sort_unstable();
    raised.sort_unstable();
    assert_eq!(raised, listed);
}

/// Gives the next command its plan through a pipe, and an interrupt first: it waits for the plan when it can be
/// interrupted.
fn interrupting(plan: &str) -> String {
    format!("mkfifo pipe; {{ exec 3>pipe; kill -INT $$; cat {plan} >&3; }} &")
}

/// What can be left out is named, also where there is nothing.
#[test]
fn an_unknown_name_to_leave_out_is_answered_with_what_there_is() {
    let project = Project::new();
    write(&project, "rack", &endpoint("http://127.0.0.1:1", ""));
    for (profile, name, expected) in [
        (
            "test",
            "max-num-seq",
            "error: no sweep `max-num-seq`: did you mean `max-num-seqs`? Sweeps can be left out: \
             max-num-seqs, memory-utilization",
        ),
        (
            "test",
            "nothing",
            "error: no sweep `nothing`: there are max-num-seqs, memory-utilization",
        ),
        (
            "rack",
            "nothing",
            "error: no sweep `nothing`: there is none in profile `rack`; --only STAGE runs a part of its \
             stages",
        ),
    ] {
        let output = project.run(&["suite", "--profile", profile, "--without", name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(folded(&output.stderr).starts_with(expected), "{output:?}");
    }
}

#[test]
fn an_ipv6_address_without_brackets_is_told_to_have_some() {
    let project = Project::new();
    write(&project, "rack", &endpoint("http://::1:8103", ""));
    let output = project.run(&["doctor", "--profile", "rack"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(folded(&output.stderr).contains("put the IPv6 address in brackets"), "{output:?}");
}

/// What took hours to measure is shown, also where its files cannot be written.
#[test]
fn a_results_folder_that_cannot_be_written_hides_no_answer() {
    let project = Project::without_pictures();
    fs::write(project.path("results"), "in the way").expect("writes");
    let output = project.run(&["suite", "--profile", "test"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (text, error) = (folded(&output.stdout), folded(&output.stderr));
    assert!(text.contains("Keep vLLM's defaults.") && text.contains("Limit: E2E P95"), "{text}");
    assert!(
        error.contains(
            "the results are in the store and not in results/test: when files can be written"
        ) && error.contains("writing "),
        "{error}"
    );
    fs::remove_file(project.path("results")).expect("removes");
    assert!(project.suite().contains("all cached"));
    assert!(project.path("results/test/OPTIMIZATION_RESULTS.md").is_file());
}

#[test]
fn a_profile_without_results_is_told_apart_from_a_wrong_name() {
    let project = Project::new();
    let error = |name| folded(&project.run(&["compare", name, "week2"]).stderr);
    assert!(
        error("test").starts_with(
            "error: profile `test` has no results yet: `xtask suite --profile test` measures it"
        ),
        "{}",
        error("test")
    );
    let wrong = error("nothing-like-it");
    assert!(
        wrong.starts_with("error: no result or baseline `nothing-like-it`: there is `week2`"),
        "{wrong}"
    );
}

/// Nothing but code that is copied is wider than a terminal.
#[test]
fn stages_are_listed_within_a_terminal() {
    let project = Project::new();
    let status = project.ok(&["status", "--profile", "test"]);
    assert!(status.lines().all(|line| line.chars().count() <= 80), "{status}");
    assert!(status.contains("visualize"), "{status}");
}
