//! `bench serve` over a socket, byte for byte.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// A server of its own for each test.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["serve", "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut server = Self { child, stdout, address: String::new() };
        let address = server.line()["listening"].as_str().map(str::to_owned);
        server.address = address.expect("the first line has the address");
        server
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).expect("the server accepts");
        let length = body.len();
        write!(socket, "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("the request is sent");
        socket
    }

    /// Head and body of the answer, and how the connection ended.
    fn exchange(&self, head: &str, body: &str) -> (String, Vec<u8>, Option<ErrorKind>) {
        let mut answer = Vec::new();
        let ended = self.send(head, body).read_to_end(&mut answer).err().map(|e| e.kind());
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let body = answer.split_off(split + 4);
        (String::from_utf8(answer).expect("an ASCII head"), body, ended)
    }

    fn get(&self, path: &str) -> String {
        let (head, body, _) = self.exchange(&format!("GET {path}"), "");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        String::from_utf8(body).expect("UTF-8")
    }

    fn truth(&self) -> Value {
        serde_json::from_str(&self.get("/truth")).expect("JSON")
    }

    /// Posts a completion; the body without its chunks' frames.
    fn complete(&self, body: &Value) -> (String, Vec<u8>, Option<ErrorKind>) {
        let (head, body, ended) = self.exchange("POST /v1/completions", &body.to_string());
        let body = if head.contains("chunked") { unchunk(&body) } else { body };
        (head, body, ended)
    }

    fn stop(mut self) -> Value {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let last = self.line();
        assert!(self.child.wait().expect("it ends").success());
        last
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        bytes = &bytes[end + 2..];
        let held = size.min(bytes.len());
        body.extend_from_slice(&bytes[..held]);
        if size == 0 || held < size {
            break;
        }
        bytes = &bytes[size + 2..];
    }
    body
}

fn streamed(tokens: u32) -> Value {
    json!({ "prompt": [1, 2, 3], "max_tokens": tokens, "stream": true,
            "stream_options": { "include_usage": true } })
}

/// The JSON of each event; the last must be `[DONE]`.
fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    let text = text.strip_suffix("data: [DONE]\n\n").expect("a last event");
    text.split_terminator("\n\n")
        .map(|event| serde_json::from_str(&event["data: ".len()..]).expect("JSON"))
        .collect()
}

#[test]
fn a_stream_has_each_token_then_usage_then_done() {
    let server = Server::start(&[]);
    let (head, body, _) = server.complete(&streamed(5));
    assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
    let events = events(&body);
    let reasons: Vec<_> = events[..5].iter().map(|e| &e["choices"][0]["finish_reason"]).collect();
    assert_eq!(json!(reasons), json!([null, null, null, null, "length"]));
    assert_eq!(
        events[5]["usage"],
        json!({ "prompt_tokens": 3, "total_tokens": 8, "completion_tokens": 5 })
    );
    assert_eq!(events.len(), 6);
}

#[test]
fn events_may_carry_several_tokens_and_writes_several_events() {
    let server = Server::start(&["--stream-interval", "4", "--events-per-write", "8"]);
    let (_, body, _) = server.complete(&streamed(11));
    let texts: Vec<_> = events(&body)
        .iter()
        .filter_map(|e| e["choices"][0]["text"].as_str().map(str::len))
        .collect();
    assert_eq!(texts, [2, 8, 8, 4]);
    assert_eq!(server.truth()["output_tokens"], 11);
}

#[test]
fn the_schedule_is_kept_and_reported() {
    let server = Server::start(&["--ttft-ms", "3", "--itl-ms", "0.5"]);
    server.complete(&streamed(9));
    let whole = json!({ "prompt": "two words", "max_tokens": 9 });
    let (_, body, _) = server.complete(&whole);
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["usage"]["total_tokens"], 11);
    let truth = server.stop()["truth"].clone();
    let figure = |name: &str, part: &str| truth[name][part].as_f64().expect("a number");
    assert_eq!((&truth["arrived"], &truth["completed"]), (&json!(2), &json!(2)));
    assert_eq!((&truth["prompt_tokens"], &truth["output_tokens"]), (&json!(5), &json!(18)));
    assert_eq!(figure("write_lateness", "count"), 18.0);
    assert!(figure("ttft", "mean_ms") >= 3.0);
    assert!(figure("e2e", "mean_ms") >= 3.0 + 8.0 * 0.5);
    // No token is written before it is due, so gaps can only shrink by the first one's lateness.
    let first_lateness = figure("ttft", "max_ms") - 3.0;
    assert!(figure("itl", "mean_ms") >= 0.5 - first_lateness / 8.0);
}

#[test]
fn metrics_have_vllms_names_and_right_counts() {
    let server = Server::start(&[]);
    server.complete(&streamed(4));
    server.complete(&json!({ "prompt": "two words", "max_tokens": 6 }));
    let page = server.get("/metrics");
    let value = |series: &str| {
        let line = page.lines().find(|line| line.starts_with(series)).expect(series);
        line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a number")
    };
    let labels = r#"{engine="0",model_name="null""#;
    for (series, expected) in [
        ("vllm:num_requests_running", 0.0),
        ("vllm:num_requests_waiting", 0.0),
        ("vllm:prompt_tokens_total", 5.0),
        ("vllm:generation_tokens_total", 10.0),
        ("vllm:request_prompt_tokens_sum", 5.0),
        ("vllm:request_generation_tokens_sum", 10.0),
        ("vllm:e2e_request_latency_seconds_count", 2.0),
        ("vllm:inter_token_latency_seconds_count", 8.0),
        ("vllm:request_queue_time_seconds_sum", 0.0),
    ] {
        assert_eq!(value(&format!("{series}{labels}}}")), expected, "{series}");
    }
    let success = format!(r#"vllm:request_success_total{labels},finished_reason="length"}}"#);
    assert_eq!(value(&success), 2.0);
}

#[test]
fn a_client_that_leaves_is_an_abort() {
    let server = Server::start(&["--ttft-ms", "3600000"]);
    let streamed = server.send("POST /v1/completions", &streamed(5).to_string());
    let whole = server.send("POST /v1/completions", r#"{"prompt":"a"}"#);
    // A client that leaves before its request is read never was one.
    while server.truth()["arrived"] != 2 {}
    drop((streamed, whole));
    while server.truth()["aborted"] != 2 {}
    let page = server.get("/metrics");
    assert!(page.contains("vllm:num_requests_running{engine=\"0\",model_name=\"null\"} 0\n"));
}

#[test]
fn a_stall_stops_the_whole_server() {
    let server = Server::start(&[
        "--ttft-ms",
        "1",
        "--itl-ms",
        "1",
        "--stall-at-s",
        "0.005",
        "--stall-for-s",
        "0.05",
    ]);
    server.complete(&streamed(20));
    let lateness = &server.truth()["write_lateness"]["max_ms"];
    assert!(lateness.as_f64().is_some_and(|ms| ms >= 45.0), "{lateness}");
}

#[test]
fn errors_have_vllms_shape() {
    let server = Server::start(&["--served-model-name", "m", "--max-model-len", "10"]);
    for (body, status) in [
        (json!({ "model": "m", "prompt": "a", "max_tokens": 10 }), 400),
        (json!({ "model": "other", "prompt": "a" , "max_tokens": 1}), 404),
        (json!({ "prompt": "a", "n": 2 }), 400),
    ] {
        let (head, body, _) = server.complete(&body);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["code"], status);
    }
    let truth = server.truth();
    assert_eq!((&truth["arrived"], &truth["refused"]), (&json!(0), &json!(3)));
    let models: Value = serde_json::from_str(&server.get("/v1/models")).expect("JSON");
    assert_eq!(models["data"][0]["max_model_len"], 10);
}

/// What a client sees of a fault.
fn fault(kind: &str) -> (String, Vec<u8>, Option<ErrorKind>) {
    let server = Server::start(&["--fault", &format!("{kind}:1")]);
    let seen = server.complete(&streamed(6));
    assert_eq!(server.truth()["faults"][kind], 1);
    seen
}

#[test]
fn statuses_fail() {
    for status in ["429", "500", "503"] {
        let (head, _, ended) = fault(&format!("http-{status}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(ended, None);
    }
}

#[test]
fn a_reset_comes_in_the_middle_of_the_answer() {
    let (_, body, ended) = fault("reset");
    assert_eq!(ended, Some(ErrorKind::ConnectionReset));
    // What the client had not read yet is gone with the connection.
    assert!(body.len() < events_bytes(4));
    let (_, body, ended) = fault("truncated");
    assert_eq!(ended, None);
    assert_eq!(body.len(), events_bytes(3));
}

fn events_bytes(count: u32) -> usize {
    let server = Server::start(&[]);
    let (_, body, _) = server.complete(&streamed(6));
    let end = b"\n\n";
    let ends = body.windows(2).enumerate().filter(|(_, two)| two == end).map(|(at, _)| at + 2);
    ends.take(count as usize).last().expect("events")
}

#[test]
fn events_go_wrong_and_the_stream_goes_on() {
    let (_, body, _) = fault("malformed-event");
    let text = String::from_utf8(body).expect("UTF-8");
    let bad = text.split("\n\n").filter(|event| {
        event.strip_prefix("data: ").is_some_and(|e| serde_json::from_str::<Value>(e).is_err())
    });
    // [DONE] is no JSON either.
    assert_eq!(bad.count(), 2);
    assert_eq!(text.matches("data: ").count(), 6 + 1 + 2);

    let (_, body, _) = fault("half-utf8");
    assert!(std::str::from_utf8(&body).is_err() && body.ends_with(b"data: [DONE]\n\n"));

    let (_, body, _) = fault("error-event");
    let events = events(&body);
    assert_eq!((events.len(), &events[3]["error"]["code"]), (4, &json!(500)));

    let (head, body, _) = fault("wrong-content-type");
    assert!(head.contains("text/html") && body.ends_with(b"data: [DONE]\n\n"));
}

#[test]
fn a_line_has_no_end_and_a_stream_stalls() {
    let server = Server::start(&["--fault", "endless-line:1"]);
    let mut socket = server.send("POST /v1/completions", &streamed(6).to_string());
    let mut read = vec![0; 4_000_000];
    socket.read_exact(&mut read).expect("as much as is asked for");
    drop(socket);
    while server.truth()["aborted"] != 1 {}

    let server = Server::start(&["--fault", "stalled-stream:1"]);
    let mut socket = server.send("POST /v1/completions", &streamed(6).to_string());
    let mut seen = Vec::new();
    while seen.windows(6).filter(|six| six == b"data: ").count() < 3 {
        let mut part = [0; 1_000];
        let length = socket.read(&mut part).expect("the first half of the stream");
        seen.extend_from_slice(&part[..length]);
    }
    assert_eq!(server.truth()["output_tokens"], 3);
    drop(socket);
    while server.truth()["aborted"] != 1 {}
}
