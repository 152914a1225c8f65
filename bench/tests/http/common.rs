//! `bench serve` and `bench run` as child processes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

pub const API_KEY: &str = "sk-this-must-never-be-seen";

/// A server, and its base URL.
pub struct Server(Child, pub String);

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["serve", "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let address = line["listening"].as_str().expect("the first line has the address");
        Self(child, format!("http://{address}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Forty short requests in a fifth of a second.
pub fn plan(base_url: &str) -> Value {
    json!({
        "format": 1, "launch": "test", "args": {}, "env": {}, "replicate": 0,
        "engine": {"kind": "server", "base_url": base_url, "model": "m", "vocab_size": 32_000},
        "trials": [{"key": "0".repeat(64), "load": {
            "arrival": {"process": "constant", "requests_per_second": "200"},
            "size": {"requests": 40},
            "classes": [{
                "name": "only", "share": "1",
                "input_tokens": {"min": 4, "max": 4}, "output_tokens": {"min": 3, "max": 3},
            }],
            "seed": 1,
            "request": {"api": "completions", "stream": true, "ignore_eos": true},
        }}],
    })
}

/// Runs a plan; what it wrote to stdout and stderr.
pub fn run(folder: &Path, plan: &Value) -> (String, String) {
    run_with(folder, plan, &[], &[])
}

/// The same with more arguments and variables of the environment.
pub fn run_with(
    folder: &Path,
    plan: &Value,
    args: &[&str],
    env: &[(&str, &str)],
) -> (String, String) {
    let output = command(folder, plan)
        .args(["--ready-timeout-s", "1"])
        .args(args)
        .envs(env.iter().copied())
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr))
}

/// `bench run` with a plan, not started yet.
pub fn command(folder: &Path, plan: &Value) -> Command {
    let path = folder.join("plan.json");
    fs::write(&path, plan.to_string()).expect("the folder is writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["run", "--plan"]).arg(&path).arg("--out").arg(folder.join("out"));
    command.env("OPENAI_API_KEY", API_KEY);
    command
}

pub fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The record of the first trial.
pub fn record(stdout: &str) -> Value {
    let trial = events(stdout).into_iter().find(|event| event["event"] == "trial");
    trial.unwrap_or_else(|| panic!("no trial: {stdout}"))["outcome"].clone()
}
