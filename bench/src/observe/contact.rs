//! Whether a server yields a token, and what is wrong where it does not.

use std::{error::Error, io, time::Duration};

use bench_core::{
    schema::{Api, Contact, Fault},
    summarize::failure_advice,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{ControlPlane, said::said};

/// Pause between two looks at a server that is not ready.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How long a server that is starting may take to its first token, which may compile kernels.
const FIRST_TOKEN_MAX: Duration = Duration::from_secs(300);
/// How long a server is asked for the models that it serves.
const EXPLAIN_MAX: Duration = Duration::from_secs(1);
/// Names that are listed.
const NAMES_MAX: usize = 5;

impl ControlPlane {
    /// Waits until the server has generated a token. What is wrong ends the waiting, unless the server
    /// is `starting` and may look like this meanwhile.
    pub(crate) async fn wait_ready(&self, limit: Duration, starting: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if starting { left.min(FIRST_TOKEN_MAX) } else { left };
            let last = match self.contact(patience).await {
                Contact::Ready { .. } => return Ok(()),
                Contact::Fault(fault) if !(starting && fault.passes) => {
                    anyhow::bail!("{} {}; {}", self.url(), fault.what, fault.fix)
                }
                Contact::Fault(fault) => fault.what,
                Contact::Silent { seconds } => format!("has sent nothing for {seconds} s"),
            };
            if Instant::now() >= deadline {
                let waited = limit.as_secs();
                anyhow::bail!(
                    "{} is not ready after {waited} s: it {last}; see its log",
                    self.url()
                );
            }
            sleep(LOOK_PAUSE.min(left)).await;
        }
    }

    /// Asks the server for one token, by the load's own route, and waits so long for it.
    pub(crate) async fn contact(&self, patience: Duration) -> Contact {
        match self.answered(patience).await {
            Ok(_) => Contact::Ready { version: None, doubt: None },
            Err(contact) => contact,
        }
    }

    /// The same of a server that somebody else started: it may serve another model.
    pub(crate) async fn recognise(&self, patience: Duration) -> Contact {
        let answered_by = match self.answered(patience).await {
            Ok(answered_by) => answered_by,
            Err(contact) => return contact,
        };
        let served = self.models().await.as_ref().and_then(served);
        match doubt(self.model(), answered_by.as_deref(), served.as_deref()) {
            Some(Doubt { fault, is_certain: true }) => Contact::Fault(fault),
            doubt => Contact::Ready { version: None, doubt: doubt.map(|doubt| doubt.fault) },
        }
    }

    /// The model that answered, where the server says so.
    async fn answered(&self, patience: Duration) -> Result<Option<String>, Contact> {
        match timeout(patience, self.first_token()).await {
            Ok(answered) => answered.map_err(Contact::Fault),
            Err(_) => Err(Contact::Silent { seconds: patience.as_secs() }),
        }
    }

    /// What is served, where the server says so soon.
    async fn models(&self) -> Option<Value> {
        timeout(EXPLAIN_MAX, self.get_json("/v1/models")).await.ok().flatten()
    }

    /// The model that answered, where the server says so.
    async fn first_token(&self) -> Result<Option<String>, Fault> {
        // The time is the caller's to limit.
        let health = self.request(Method::GET, "/health").timeout(FIRST_TOKEN_MAX);
        let health = health.send().await.map_err(|error| unreachable(&error))?.status();
        // Servers other than vLLM may have no such route, or answer whatever they like.
        if health.is_server_error() && health != StatusCode::NOT_IMPLEMENTED {
            return Err(answered(health, "GET /health"));
        }
        let mut body = json!({"model": self.model(), "max_tokens": 1, "stream": false});
        match self.api() {
            Api::Chat => body["messages"] = json!([{"role": "user", "content": "a"}]),
            Api::Completions | Api::CompletionsText => body["prompt"] = "a".into(),
        }
        let request = self.request(Method::POST, self.api().path()).timeout(FIRST_TOKEN_MAX);
        let response = request.json(&body).send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return self.yields_a_token(response).await;
        }
        let said = self.masked(&said(&response.text().await.unwrap_or_default()));
        Err(self.refused(status, &said).await)
    }

    /// Whether the answer is one of the OpenAI API, whole or as a stream; the model that it is of.
    async fn yields_a_token(&self, response: Response) -> Result<Option<String>, Fault> {
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("no type").to_owned();
        let text = response.text().await.map_err(|error| unreachable(&error))?;
        let answer = |json: &str| {
            let value: Option<Value> = serde_json::from_str(json).ok();
            value.filter(|value| value.get("choices").is_some_and(Value::is_array))
        };
        let mut events = text.lines().filter_map(|line| line.strip_prefix("data:"));
        if let Some(answer) = answer(&text).or_else(|| events.next().and_then(answer)) {
            return Ok(answer.get("model").and_then(Value::as_str).map(str::to_owned));
        }
        let route = self.api().path();
        Err(other_server(&format!("answers {kind} without `choices` to POST {route}")))
    }

    /// What a status other than success means, with the models that are served where that explains it.
    async fn refused(&self, status: StatusCode, said: &str) -> Fault {
        let route = self.api().path();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Fault {
                what: format!("answers {status} to POST {route}{said}"),
                fix: "see `api_key_env` in [engine] and `headers` of the load".to_owned(),
                passes: false,
            };
        }
        let is_busy = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        if is_busy || status == StatusCode::TOO_MANY_REQUESTS {
            return answered(status, &format!("POST {route}{said}"));
        }
        let served = self.models().await.as_ref().and_then(served);
        match served {
            Some(served) if !served.iter().any(|name| name == self.model()) => {
                serves_no(self.model(), &listed(&served))
            }
            Some(_) if is_no_route(status) => Fault {
                what: format!("answers {status} to POST {route}, and lists its models"),
                fix: format!(
                    "it has no such route: set `api` of the load to {}",
                    other_api(self.api())
                ),
                passes: false,
            },
            Some(_) => Fault {
                what: format!("answers {status} to POST {route}{said}"),
                fix: "change the load's request as it says: `api`, `extra_body`, `headers`"
                    .to_owned(),
                passes: false,
            },
            None => other_server(&format!("answers {status} to POST {route} and lists no models")),
        }
    }
}

/// Why a server that answered may have done so with another model than the one it was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Doubt {
    fault: Fault,
    /// The server says itself that it did.
    is_certain: bool,
}

/// By the model that the answer names, and those that the server lists. Some servers ignore the name in
/// a request, some echo it, and a gateway may serve names that it does not list.
fn doubt(asked: &str, answered_by: Option<&str>, served: Option<&[String]>) -> Option<Doubt> {
    let is_listed = served.is_none_or(|served| served.iter().any(|name| name == asked));
    let fault = if is_listed {
        // An alias is answered by what it stands for: `gpt-4o` by `gpt-4o-2024-08-06`.
        let name = answered_by.filter(|name| !name.starts_with(asked))?;
        Fault {
            what: format!("answers a request for `{asked}` as `{name}`: that model is measured"),
            fix: "see `model` in [engine]".to_owned(),
            passes: false,
        }
    } else {
        let fault = serves_no(asked, &listed(served.unwrap_or_default()));
        let what = format!("{}, and answers all the same", fault.what);
        Fault { what, ..fault }
    };
    let is_certain = !is_listed && answered_by.is_some_and(|name| name != asked);
    Some(Doubt { fault, is_certain })
}

fn serves_no(model: &str, listed: &str) -> Fault {
    Fault {
        what: format!("serves no model `{model}`: it serves {listed}"),
        fix: "name one of these as `model` in [engine]".to_owned(),
        passes: false,
    }
}

fn is_no_route(status: StatusCode) -> bool {
    status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED
}

fn other_api(api: Api) -> &'static str {
    match api {
        Api::Chat => "\"completions\"",
        Api::Completions | Api::CompletionsText => "\"chat\"",
    }
}

/// The names in the answer to `GET /v1/models`.
fn served(models: &Value) -> Option<Vec<String>> {
    let names = models.get("data")?.as_array()?.iter();
    Some(names.filter_map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect())
}

fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(NAMES_MAX) {
        _ if names.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn answered(status: StatusCode, to: &str) -> Fault {
    let fix = match status {
        StatusCode::TOO_MANY_REQUESTS => failure_advice(["http_429"]),
        _ => "see its log; if it is still starting: start_timeout_s = N in [engine]",
    };
    Fault { what: format!("answers {status} to {to}"), fix: fix.to_owned(), passes: true }
}

fn other_server(what: &str) -> Fault {
    Fault {
        what: format!("has no OpenAI API: it {what}"),
        fix: "see `url` in [engine], without /v1".to_owned(),
        passes: false,
    }
}

/// Why nothing came back, from what the HTTP client says.
fn unreachable(error: &reqwest::Error) -> Fault {
    let mut chain = Vec::new();
    let mut kind = None;
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = source {
        kind = kind.or(cause.downcast_ref::<io::Error>().map(io::Error::kind));
        chain.push(cause.to_string());
        source = cause.source();
    }
    explained(kind, &chain, error.is_connect(), error.is_timeout())
}

/// The same of plain data.
fn explained(
    kind: Option<io::ErrorKind>,
    chain: &[String],
    while_connecting: bool,
    timed_out: bool,
) -> Fault {
    let says = |word: &str| chain.iter().any(|cause| cause.contains(word));
    let last = chain.last().map_or("for an unknown reason", String::as_str);
    let url = "see `url` in [engine]";
    let starting =
        "start it, or see `url` in [engine]; if it is still starting: start_timeout_s = N there";
    let (what, fix, passes) = if kind == Some(io::ErrorKind::ConnectionRefused) {
        ("refuses the connection: nothing listens there".to_owned(), starting, true)
    } else if says("dns error") || says("failed to lookup address") {
        (format!("is not found: no address for this name ({last})"), url, true)
    } else if says("InvalidContentType") || says("handshake eof") {
        ("speaks no TLS".to_owned(), "try http:// in `url` of [engine]", false)
    } else if says("certificate") {
        let fix = "add its issuer to this system's certificates, or name it in SSL_CERT_FILE";
        (format!("has a certificate that is not trusted ({last})"), fix, false)
    } else if says("invalid HTTP") || says("unexpected message") {
        ("speaks no HTTP".to_owned(), "see `url` in [engine]: host, port, https://", false)
    } else if while_connecting && timed_out {
        let fix = "see `url` in [engine], and what lies between: a firewall, a proxy, a VPN";
        ("does not answer an attempt to connect".to_owned(), fix, true)
    } else if while_connecting {
        (format!("cannot be reached ({last})"), url, true)
    } else {
        let fix = "see its log, and `url` in [engine]: does it want https://?";
        (format!("closes the connection without an answer ({last})"), fix, true)
    };
    Fault { what, fix: fix.to_owned(), passes }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::{RequestShape, ServerEngine};
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
        net::TcpListener,
    };

    use super::*;

    const JSON: &str = "application/json";
    const TOKEN: &str = r#"{"choices":[{"text":"a"}]}"#;
    const REFUSED: &str = r#"{"error":{"message":"no key sesame"}}"#;

    /// Status, type and body of an answer.
    type Answer = (u16, &'static str, &'static str);

    /// Answers each request with the next of these; gives the heads, in lower case.
    async fn serve(listener: TcpListener, answers: &[Answer]) -> Vec<String> {
        let mut heads = Vec::new();
        for (status, kind, body) in answers {
            let (stream, _) = listener.accept().await.expect("the client connects");
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.expect("reads");
            }
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|n| n.split("\r\n").next());
            let length = length.map_or(0, |n| n.parse().expect("a length"));
            stream.read_exact(&mut vec![0; length]).await.expect("reads");
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.expect("writes");
            heads.push(head);
        }
        heads
    }

    fn control(url: String, api: Api) -> ControlPlane {
        let engine =
            ServerEngine { base_url: url, model: "m".into(), vocab_size: 100, api_key_env: None };
        let headers = [("x-tenant".to_owned(), "bench".to_owned())].into();
        let shape = RequestShape { api, headers, ..RequestShape::default() };
        ControlPlane::new(&engine, Some("sesame"), &shape).expect("sets up")
    }

    async fn contact(api: Api, answers: &[Answer]) -> (Contact, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let control = control(url, api);
        tokio::join!(control.contact(Duration::from_secs(60)), serve(listener, answers))
    }

    #[tokio::test]
    async fn it_is_asked_as_the_load_asks() {
        for (api, path) in
            [(Api::Completions, "/v1/completions"), (Api::Chat, "/v1/chat/completions")]
        {
            let (contact, heads) = contact(api, &[(404, JSON, ""), (200, JSON, TOKEN)]).await;
            assert_eq!(contact, Contact::Ready { version: None, doubt: None });
            assert!(
                heads[0].starts_with("get /health ")
                    && heads[1].starts_with(&format!("post {path} "))
            );
            for head in heads {
                assert!(head.contains("x-tenant: bench\r\n"), "{head}");
                assert!(head.contains("authorization: bearer sesame\r\n"), "{head}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told() {
        let fine = (200, JSON, "");
        let models = r#"{"data":[{"id":"llama"},{"id":"qwen"}]}"#;
        let own = r#"{"data":[{"id":"m"}]}"#;
        let cases: [(&[Answer], &str, bool); 10] = [
            (&[(503, JSON, "")], "answers 503 Service Unavailable to GET /health", true),
            (
                &[fine, (500, JSON, "")],
                "answers 500 Internal Server Error to POST /v1/completions",
                true,
            ),
            (
                &[fine, (401, JSON, REFUSED)],
                "answers 401 Unauthorized to POST /v1/completions: \"no key …\"",
                false,
            ),
            (
                &[fine, (404, JSON, ""), (200, JSON, models)],
                "serves no model `m`: it serves `llama`, `qwen`",
                false,
            ),
            (
                &[fine, (404, JSON, ""), (200, JSON, own)],
                "answers 404 Not Found to POST /v1/completions, and lists its models",
                false,
            ),
            (
                &[fine, (400, JSON, r#"{"message":"no prompt"}"#), (200, JSON, own)],
                "answers 400 Bad Request to POST /v1/completions: \"no prompt\"",
                false,
            ),
            (
                &[fine, (404, JSON, ""), (404, JSON, "")],
                "has no OpenAI API: it answers 404 Not Found to POST /v1/completions and lists no models",
                false,
            ),
            (
                &[fine, (501, JSON, ""), (404, JSON, "")],
                "has no OpenAI API: it answers 501 Not Implemented to POST /v1/completions and lists no \
                 models",
                false,
            ),
            (
                &[fine, (200, "text/html", "<html>")],
                "has no OpenAI API: it answers text/html without `choices` to POST /v1/completions",
                false,
            ),
            (
                &[fine, (200, JSON, r#"{"ok":1}"#)],
                "has no OpenAI API: it answers application/json without `choices` to POST \
                 /v1/completions",
                false,
            ),
        ];
        for (answers, expected, may_pass) in cases {
            let (contact, _) = contact(Api::Completions, answers).await;
            let Contact::Fault(Fault { what, fix, passes }) = contact else { panic!("{expected}") };
            assert_eq!((&*what, passes), (expected, may_pass));
            assert!(!fix.is_empty() && !fix.contains("sesame"), "{fix}");
        }
    }

    /// A server that ignores the name would be measured under the wrong one.
    #[test]
    fn another_model_that_answers_is_told() {
        let lists =
            |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let of = |answered, served: Option<Vec<String>>| {
            let doubt = doubt("m", answered, served.as_deref());
            doubt.map(|Doubt { fault, is_certain }| (fault.what, is_certain))
        };
        assert_eq!(of(Some("m"), lists(&["m"])), None);
        assert_eq!(of(None, lists(&["m", "n"])), None);
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some("m-2024-08-06"), lists(&["m"])), None, "what an alias stands for");
        let ignores = "serves no model `m`: it serves `llama`, and answers all the same";
        let answers = "answers a request for `m` as `llama`: that model is measured";
        for (answered, served, what, is_certain) in [
            (Some("llama"), lists(&["llama"]), ignores, true),
            // It echoes the name, or says nothing: a gateway need not list all its names.
            (Some("m"), lists(&["llama"]), ignores, false),
            (None, lists(&["llama"]), ignores, false),
            (Some("llama"), lists(&["m"]), answers, false),
            (Some("llama"), None, answers, false),
        ] {
            assert_eq!(of(answered, served), Some((what.to_owned(), is_certain)));
        }
    }

    #[tokio::test]
    async fn the_model_of_an_answer_is_compared() {
        let token = r#"{"model":"llama","choices":[{"text":"a"}]}"#;
        let models = r#"{"data":[{"id":"llama"}]}"#;
        let answers = [(200, JSON, ""), (200, JSON, token), (200, JSON, models)];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let control = control(url, Api::Completions);
        let asked = control.recognise(Duration::from_secs(60));
        let (contact, _) = tokio::join!(asked, serve(listener, &answers));
        let Contact::Fault(fault) = contact else { panic!("{contact:?}") };
        assert!(fault.what.starts_with("serves no model `m`: it serves `llama`"), "{}", fault.what);
    }

    #[tokio::test]
    async fn a_stream_is_an_answer_too() {
        let events = "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n";
        let answers = [(200, JSON, ""), (200, "text/event-stream", events)];
        let (contact, _) = contact(Api::Completions, &answers).await;
        assert_eq!(contact, Contact::Ready { version: None, doubt: None });
    }

    #[tokio::test]
    async fn nobody_there_is_told_and_nothing_sent_is_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        // Connections are accepted by the kernel, and nobody reads.
        let silent = control(url.clone(), Api::Completions).contact(Duration::ZERO).await;
        assert_eq!(silent, Contact::Silent { seconds: 0 });
        drop(listener);
        let control = control(url, Api::Completions);
        let Contact::Fault(fault) = control.contact(Duration::from_secs(60)).await else {
            panic!("nobody listens")
        };
        assert_eq!(fault.what, "refuses the connection: nothing listens there");
        let error = control.wait_ready(Duration::from_secs(60), false).await.expect_err("at once");
        assert!(error.to_string().contains("refuses the connection"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_starting_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let control =
            control(format!("http://{}", listener.local_addr().expect("bound")), Api::Completions);
        let answers = [(503, JSON, ""), (200, JSON, ""), (200, JSON, TOKEN)];
        let limit = Duration::from_secs(60);
        let (ready, _) = tokio::join!(control.wait_ready(limit, true), serve(listener, &answers));
        ready.expect("the second attempt");
    }

    #[test]
    fn what_the_client_says_is_explained() {
        let of = |cause: &str, connecting, timed_out| {
            explained(None, &[cause.to_owned()], connecting, timed_out).what
        };
        let certificate = "invalid peer certificate: UnknownIssuer";
        assert!(of(certificate, true, false).contains("not trusted"));
        assert!(
            of("received corrupt message of type InvalidContentType", true, false).contains("TLS")
        );
        assert!(of("dns error", true, false).contains("no address"));
        assert!(of("invalid HTTP version parsed", false, false).contains("no HTTP"));
        assert!(of("deadline has elapsed", true, true).contains("does not answer"));
        assert!(of("reset", false, false).contains("closes the connection"));
    }
}
