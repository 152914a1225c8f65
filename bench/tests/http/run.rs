//! `bench run` against `bench serve`, over HTTP.

use std::{fs, io::Read as _, net::TcpListener, process::Stdio};

use crate::common::{API_KEY, Server, command, events, plan, run};
use bench_core::canonical::Digest;
use serde_json::{Value, json};

#[test]
fn a_plan_is_run_and_proves_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&[]);
    let (stdout, stderr) = run(folder.path(), &plan(&server.1));
    let events = events(&stdout);
    let trial = events.iter().find(|event| event["event"] == "trial");
    let trial = trial.unwrap_or_else(|| panic!("no trial: {stdout} {stderr}"));
    let summary = &trial["outcome"]["summary"];
    assert_eq!(
        summary["counts"],
        json!({"planned": 40, "sent": 40, "completed": 40, "failed": {}})
    );
    assert_eq!((&summary["output_tokens"], &summary["input_tokens"]), (&json!(120), &json!(160)));
    let checks = trial["outcome"]["checks"].as_array().expect("checks");
    for name in ["all-sent", "errors", "tokens-match", "completions-match"] {
        assert!(checks.iter().any(|c| c["name"] == name && c["passed"] == true), "{name}: {trial}");
    }
    assert!(checks.iter().any(|check| check["name"] == "client-cpu"), "{trial}");
    assert_eq!(events.last(), Some(&json!({"event": "done"})));
}

#[test]
fn who_waits_for_a_server_ends_with_its_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("it has one"));
    let mut child = command(folder.path(), &plan(&url))
        .args(["--url", &url, "--starting", "--ready-timeout-s", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (_asked, _) = silent.accept().expect("it asks the server");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("nobody reads"), "{stderr}");
}

#[test]
fn the_api_key_is_in_no_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = String::new();
    let server = Server::start(&[]);
    let (stdout, stderr) = run(folder.path(), &plan(&server.1));
    assert!(stdout.contains("\"completed\":40"), "{stdout} {stderr}");
    seen += &(stdout + &stderr);
    for file in fs::read_dir(folder.path().join("out")).expect("samples") {
        let file = fs::File::open(file.expect("a file").path()).expect("it opens");
        flate2::read::GzDecoder::new(file).read_to_string(&mut seen).expect("gzip");
    }
    // A server that refuses, and none at all: errors do not quote the key either.
    let refusing = Server::start(&["--fault", "http-500:1"]);
    for base_url in [refusing.1.as_str(), "http://127.0.0.1:1", "http://not a host"] {
        let (stdout, stderr) = run(folder.path(), &plan(base_url));
        assert!(stderr.starts_with("error: "), "{stderr}");
        seen += &(stdout + &stderr);
    }
    assert!(seen.contains("intended_ns"));
    assert!(!seen.contains(API_KEY));
}

/// A trace and a conversation on the simulated engine, over HTTP.
#[test]
fn what_was_sent_before_is_found_in_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny.json");
    let server = Server::start(&["--model", model]);
    let trace =
        "{\"timestamp\":0,\"input_length\":100,\"output_length\":3,\"hash_ids\":[7]}\n".repeat(3);
    let path = folder.path().join("trace.jsonl");
    fs::write(&path, &trace).expect("the folder is writable");
    let mut plan = plan(&server.1);
    let mut replay = plan["trials"][0].clone();
    replay["data_file"] = json!(path);
    replay["load"]["arrival"] = json!({"process": "closed-loop", "concurrency": 1});
    replay["load"]["size"] = json!({"requests": 3});
    replay["load"]["data"] =
        json!({"format": "mooncake", "digest": Digest::of(trace.as_bytes()).to_string()});
    let mut conversation = plan["trials"][0].clone();
    conversation["key"] = json!("1".repeat(64));
    conversation["load"]["size"] = json!({"requests": 12});
    conversation["load"]["max_concurrency"] = json!(2);
    conversation["load"]["conversation"] =
        json!({"turns_min": 4, "turns_max": 4, "think_ms_min": 1, "think_ms_max": 2});
    conversation["load"]["request"]["api"] = json!("chat");
    conversation["load"]["request"]["headers"] = json!({"x-tenant": "a"});
    conversation["load"]["request"]["extra_body"] = json!({"top_p": "0.9"});
    plan["trials"] = json!([replay, conversation]);
    let (stdout, stderr) = run(folder.path(), &plan);
    let trials: Vec<Value> =
        events(&stdout).into_iter().filter(|event| event["event"] == "trial").collect();
    assert_eq!(trials.len(), 2, "{stdout} {stderr}");
    let summaries = trials.iter().map(|trial| &trial["outcome"]["summary"]);
    for (summary, count) in summaries.zip([3, 12]) {
        assert_eq!(summary["counts"]["completed"], json!(count), "{summary}");
        let hits = summary["server"]["prefix_cache_hit_percent"].as_f64();
        assert!(hits.is_some_and(|percent| percent > 30.0), "{summary}");
        assert_eq!(summary.get("client_queue").is_some(), count == 12);
    }

    // Another file than was planned with is refused.
    fs::write(&path, trace.replace("100", "101")).expect("the folder is writable");
    let (_, stderr) = run(folder.path(), &plan);
    assert!(stderr.contains("is not the file that was planned with"), "{stderr}");
}

#[test]
fn an_api_key_that_is_named_must_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&[]);
    let mut plan = plan(&server.1);
    plan["engine"]["api_key_env"] = json!("OPENAI_API_KEY");
    assert!(run(folder.path(), &plan).0.contains("\"completed\":40"));
    plan["engine"]["api_key_env"] = json!("NO_SUCH_VARIABLE");
    let (_, stderr) = run(folder.path(), &plan);
    assert!(stderr.contains("the environment has no `NO_SUCH_VARIABLE`"), "{stderr}");
    assert!(!stderr.contains(API_KEY));
}
