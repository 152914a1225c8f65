//! Loads from files, conversations, and the shape of requests.

use std::fs;

use bench_core::{
    canonical::Digest,
    schema::{Arrival, Size},
};

use super::*;

const TRACE: &str = r#"{"timestamp":0,"input_length":600,"output_length":5,"hash_ids":[7,8]}
{"timestamp":1500,"input_length":70,"output_length":90,"hash_ids":[7]}
"#;

const PROFILE: &str = r#"
[engine]
kind = "simulator"
model = "tiny"
[engine.args]
max-model-len = 256
[[load]]
name = "one"
LOAD
seed = 1
[objective]
maximize = "requests_per_s"
on = "one"
"#;

const DRAWN: &str = "requests = 9\narrival = \"all-at-once\"\ninput_tokens = 4\noutput_tokens = 4";

/// A folder with a few files of requests.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in [
        ("trace.jsonl", TRACE),
        (
            "backwards.jsonl",
            "{\"timestamp\":9,\"input_length\":1,\"output_length\":1}\n{\"timestamp\":8,\"input_length\":1,\"output_length\":1}\n",
        ),
        ("broken.jsonl", "{\"prompt\":\"a\"}\n\n{\"prompt\":\n"),
        (
            "prompts.jsonl",
            "{\"prompt\":\"say something\",\"output_tokens\":9}\n{\"prompt\":\"x\"}\n",
        ),
        ("empty.jsonl", "\n\n"),
    ] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

fn read_in(folder: &Path, load: &str) -> Result<Profile, String> {
    let source = PROFILE.replace("LOAD", load);
    parse("mine", &folder.join("mine.toml"), &source, &models()).map_err(|problems| {
        ConfigError::Invalid { file: "mine.toml".into(), source, problems }.to_string()
    })
}

fn all_messages(loads: &[&str]) -> String {
    let folder = folder();
    let message = |load: &&str| {
        let error = read_in(folder.path(), load).expect_err(load);
        error.strip_suffix("nothing was changed.\n").expect("the end of every message").to_owned()
    };
    loads.iter().map(message).collect()
}

fn file(name: &str, format: &str, more: &str) -> String {
    format!("data = {{ file = \"{name}\", format = \"{format}\" }}\n{more}")
}

#[test]
fn mistakes_of_files() {
    let replay = "arrival = \"replay\"";
    let burst = "arrival = \"all-at-once\"";
    let loads = [
        file("none.jsonl", "mooncake", replay),
        file("trace.jsonl", "monkey", replay),
        file("backwards.jsonl", "mooncake", replay),
        file("broken.jsonl", "custom", burst),
        file("trace.jsonl", "custom", burst),
        file("empty.jsonl", "mooncake", replay),
        file("prompts.jsonl", "custom", burst),
        file("prompts.jsonl", "custom", "arrival = \"replay\"\noutput_tokens = 5"),
        file("prompts.jsonl", "custom", &format!("{burst}\nrequests = 1\napi = \"completions\"")),
        file("trace.jsonl", "mooncake", &format!("{burst}\nrequests = 3")),
        file("trace.jsonl", "mooncake", &format!("{replay}\ninput_tokens = 4\nturns = 2")),
        file("trace.jsonl", "mooncake", "arrival = { process = \"replay\", speed_up = 0 }"),
        file(
            "trace.jsonl",
            "mooncake",
            "arrival = { process = \"poisson\", requests_per_second = 1 }\nduration_s = 4",
        ),
        file("trace.jsonl", "mooncake", replay),
        DRAWN.replace("\"all-at-once\"", "\"replay\""),
        file("trace.jsonl", "mooncake", replay).replace("file = \"trace.jsonl\", ", ""),
    ];
    assert_text!(all_messages(&loads.each_ref().map(String::as_str)));
}

#[test]
fn mistakes_of_conversations_and_limits() {
    let closed = DRAWN.replace(
        "\"all-at-once\"",
        "{ process = \"closed-loop\", concurrency = 2 }\nmax_concurrency = 2",
    );
    let with = |more: &str| format!("{DRAWN}\n{more}");
    let loads = [
        with("think_time_s = 2"),
        with("turns = 0"),
        with("turns = [3, 2]"),
        with("turns = 2\nthink_time_s = [2, 1.5]"),
        with("turns = 2\nthink_time_s = -1"),
        with("turns = 40"),
        with("max_concurrency = 0"),
        with("goodput = {}"),
        with("goodput = { ttft_ms = 0, e2el_ms = 3 }"),
        with("goodput = 100"),
        closed,
    ];
    assert_text!(all_messages(&loads.each_ref().map(String::as_str)));
}

#[test]
fn mistakes_of_requests() {
    let loads = [
        "extra_body = { stream = true, max_tokens = 4 }",
        "extra_body = { top_p = nan, day = 2026-11-24, deep = [{ a = inf }] }",
        "extra_body = 3",
        "headers = { Host = \"a\", x-api-key = \"sk-2\" }",
        "headers = { Authorization = \"Bearer sk-1\" }",
        "headers = { Host = \"a\" }",
        "headers = { \"x y\" = \"a\", x-n = 1, x-e = \"é\" }",
        "api = \"completion\"",
    ]
    .map(|more| format!("{DRAWN}\n{more}"));
    let text = all_messages(&loads.each_ref().map(String::as_str));
    assert!(!text.contains("sk-"), "a message shows a secret: {text}");
    assert_text!(text);
}

#[test]
fn a_file_is_its_content() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let short = TRACE.replace("600", "60");
    fs::write(path("trace.jsonl"), &short).expect("a file");
    fs::write(path("other name.jsonl"), &short).expect("a file");
    let named = |name: &str| {
        let load = file(name, "mooncake", "arrival = { process = \"replay\", speed_up = 2.5 }");
        read_in(folder.path(), &load).expect("a profile")
    };
    let profile = named("trace.jsonl");
    let one = &profile.loads[0];
    assert_eq!(one.data_file, Some(path("trace.jsonl")));
    let class = &one.spec.classes[0];
    let ends = [class.input_tokens, class.output_tokens].map(|range| (range.min, range.max));
    assert_eq!((one.spec.size, ends), (Size::Requests(2), [(60, 70), (5, 90)]));
    assert_eq!(named("other name.jsonl").hashed(), profile.hashed());
    fs::write(path("trace.jsonl"), format!("{short}\n")).expect("a file");
    assert_ne!(named("trace.jsonl").hashed(), profile.hashed());
}

/// A log of one's own gateway: four requests in 1.5 s, which are 2 a second.
#[test]
fn a_log_of_chat_requests_is_replayed_and_its_rate_is_raised() {
    let folder = folder();
    let line = |ms: u64| {
        format!(
            "{{\"timestamp\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"max_tokens\":3}}\n",
            1_795_881_600_000 + ms
        )
    };
    let log: String = [0, 100, 900, 1_500].map(line).concat();
    fs::write(folder.path().join("gateway.jsonl"), &log).expect("a file");
    let load = file("gateway.jsonl", "chatlog", "arrival = { process = \"replay\", speed_up = 2 }")
        + "\n[capacity]\nload = \"one\"\n[[load]]\nname = \"other\"\n"
        + DRAWN;
    let profile = read_in(folder.path(), &load).expect("a profile");
    let load = profile.loads[0].clone();
    assert_eq!(load.rate(), "4".parse().ok(), "at twice its speed");
    let raised = load.at_rate("6".parse().expect("a decimal"));
    assert_eq!(raised.spec.arrival, Arrival::Replay { speed_up: "3".parse().expect("a decimal") });
    assert_eq!(raised.rate(), "6".parse().ok());
    // What comes within a duration are other requests at another rate.
    let cut = file("gateway.jsonl", "chatlog", "arrival = \"replay\"\nduration_s = 1")
        + "\n[capacity]\nload = \"one\"\n[[load]]\nname = \"other\"\n"
        + DRAWN;
    let error = read_in(folder.path(), &cut).expect_err("its requests are not the same ones");
    assert!(error.contains("load `one` replays what comes within duration_s"), "{error}");
    // A line that is no request is named, not passed over.
    fs::write(folder.path().join("gateway.jsonl"), log + "server started\n").expect("a file");
    let load = file("gateway.jsonl", "chatlog", "arrival = \"replay\"");
    let error = read_in(folder.path(), &load).expect_err("a line of another kind");
    assert!(error.contains("gateway.jsonl: line 5: not JSON"), "{error}");
}

#[test]
fn values_of_the_body_are_kept_as_json() {
    let folder = folder();
    let body = "extra_body = { top_p = 0.90, n_best = 0x10, stop = [\"\\n\"], deep = { b = true, a = 1e-3 } }";
    let load = format!("{DRAWN}\n{body}\nheaders = {{ X-Tenant = \"a b\" }}");
    let request = &read_in(folder.path(), &load).expect("a profile").loads[0].spec.request;
    let found: Vec<_> = request.extra_body.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    let expected =
        ["deep: {\"a\":0.001,\"b\":true}", "n_best: 16", "stop: [\"\\n\"]", "top_p: 0.9"];
    assert_eq!(found, expected);
    assert_eq!(request.headers["x-tenant"], "a b");
    Digest::of_json(request).expect("no floats in keys");
}

#[test]
fn a_key_is_named_and_never_told() {
    let source = std::fs::read_to_string(root().join("bench/profiles/endpoint.toml"));
    let source = source.expect("the profile is readable");
    let with = |value: &str| {
        let engine = format!("[engine]\napi_key_env = \"{value}\"");
        read(&source.replacen("[engine]", &engine, 1))
    };
    let profile = with("GATEWAY_KEY").expect("a profile");
    let EngineConfig::Endpoint(endpoint) = &profile.engine else { panic!("an endpoint") };
    assert_eq!(endpoint.api_key_env.as_deref(), Some("GATEWAY_KEY"));
    assert_eq!(profile.hashed(), read(&source).expect("a profile").hashed());
    for key in ["sk-123 4", "sk_123"] {
        let told = with(key).expect_err("no name").to_string();
        assert!(told.contains("api_key_env") && !told.contains("123"), "{told}");
    }
}

proptest! {
    #[test]
    fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), format in 0..4_usize) {
        let folder = folder();
        let mut found = TRACE.as_bytes().to_vec();
        found.extend(bytes);
        fs::write(folder.path().join("any"), found).expect("a file");
        let format = ["mooncake", "custom", "sharegpt", "chatlog"][format];
        let _ = read_in(folder.path(), &file("any", format, "arrival = \"all-at-once\""));
    }
}
