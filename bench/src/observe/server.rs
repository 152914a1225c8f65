//! Everything asked of a server besides the load itself.

use std::time::Duration;

use anyhow::Context as _;
use bench_core::schema::{Api, Observed, RequestShape, ServerEngine};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{prometheus::Scrape, watch};
use crate::client::connection::header_map;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at a server that is not ready or not idle.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How long counters may lag behind the last answer, and how long requests of an earlier load may
/// take to leave the server.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// The control plane of one server.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    http: reqwest::Client,
    engine: ServerEngine,
    api_key: Option<String>,
    api: Api,
}

impl ControlPlane {
    /// For a server, which need not answer yet. What it is asked has the headers of the load and
    /// goes by its route: a gateway may know no other.
    pub(crate) fn new(
        engine: &ServerEngine,
        api_key: Option<&str>,
        shape: &RequestShape,
    ) -> anyhow::Result<Self> {
        // Fails only when one has been installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            // As the load path: nothing between it and the server that the profile does not name.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(header_map(&shape.headers)?)
            .build()
            .context("cannot set up the HTTP client")?;
        let api_key = api_key.map(str::to_owned);
        Ok(Self { http, engine: engine.clone(), api_key, api: shape.api })
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.engine.base_url));
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn get_json(&self, path: &str) -> Option<Value> {
        let response = self.request(reqwest::Method::GET, path).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    /// Waits until the server is healthy and has generated a token.
    pub(crate) async fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let mut last = "no answer yet".to_owned();
        while Instant::now() < deadline {
            match self.first_token().await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => anyhow::bail!(
                    "{} answers {status}; see `api_key_env` of the engine and `headers` of the load",
                    self.engine.base_url
                ),
                Ok(status) => last = format!("it answers {status}"),
                Err(error) => last = format!("{error:#}"),
            }
            sleep(LOOK_PAUSE).await;
        }
        anyhow::bail!(
            "{} is not ready after {} s: {last}; see its log, or raise --ready-timeout-s",
            self.engine.base_url,
            limit.as_secs()
        )
    }

    async fn first_token(&self) -> anyhow::Result<StatusCode> {
        let health = self.request(reqwest::Method::GET, "/health").send().await?;
        // Servers other than vLLM may have no such route.
        if !health.status().is_success() && health.status() != StatusCode::NOT_FOUND {
            anyhow::bail!("/health answers {}", health.status());
        }
        let mut body = json!({"model": self.engine.model, "max_tokens": 1});
        match self.api {
            Api::Chat => body["messages"] = json!([{"role": "user", "content": "a"}]),
            Api::Completions | Api::CompletionsText => body["prompt"] = "a".into(),
        }
        let answer = self
            .request(reqwest::Method::POST, self.api.path())
            // The first request may compile kernels.
            .timeout(Duration::from_secs(300))
            .json(&body)
            .send()
            .await?;
        Ok(answer.status())
    }

    /// What the server says of its settings.
    pub(crate) async fn observed(&self) -> Observed {
        let version = self.get_json("/version").await;
        let version = version.and_then(|body| Some(body.get("version")?.as_str()?.to_owned()));
        let scrape = self.scrape().await.unwrap_or_default();
        watch::observed(version, &scrape)
    }

    /// The server's metrics; `None` when it has none.
    pub(crate) async fn scrape(&self) -> Option<Scrape> {
        let response = self.request(reqwest::Method::GET, "/metrics").send().await.ok()?;
        let text = response.error_for_status().ok()?.text().await.ok()?;
        Some(Scrape::parse(&text, watch::is_wanted))
    }

    /// Metrics once nothing runs or waits and the counters stand still.
    pub(crate) async fn settled_scrape(&self) -> Option<Scrape> {
        let deadline = Instant::now() + SETTLE_MAX;
        let mut last = self.scrape().await?;
        loop {
            sleep(LOOK_PAUSE).await;
            let next = self.scrape().await?;
            if (watch::is_idle(&next) && next == last) || Instant::now() > deadline {
                return Some(next);
            }
            last = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::TcpListener,
    };

    use super::*;

    /// Answers each request with the next of these statuses; gives their heads, in lower case.
    async fn answer(listener: TcpListener, statuses: &[u16]) -> Vec<String> {
        let mut heads = Vec::new();
        for status in statuses {
            let (stream, _) = listener.accept().await.expect("the client connects");
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.expect("reads");
            }
            let end = "content-length: 0\r\nconnection: close\r\n\r\n";
            let answer = format!("HTTP/1.1 {status} X\r\n{end}");
            stream.write_all(answer.as_bytes()).await.expect("writes");
            heads.push(head.to_lowercase());
        }
        heads
    }

    async fn wait_ready(api: Api, statuses: &[u16]) -> (anyhow::Result<()>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let engine = ServerEngine {
            base_url: format!("http://{}", listener.local_addr().expect("bound")),
            model: "m".into(),
            vocab_size: 100,
            api_key_env: None,
        };
        let headers = [("x-tenant".to_owned(), "bench".to_owned())].into();
        let shape = RequestShape { api, headers, ..RequestShape::default() };
        let control = ControlPlane::new(&engine, Some("sesame"), &shape).expect("sets up");
        tokio::join!(control.wait_ready(Duration::from_secs(60)), answer(listener, statuses))
    }

    #[tokio::test]
    async fn it_is_asked_as_the_load_asks() {
        for (api, path) in
            [(Api::Completions, "/v1/completions"), (Api::Chat, "/v1/chat/completions")]
        {
            let (ready, heads) = wait_ready(api, &[404, 200]).await;
            ready.expect("it answers");
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
    async fn a_wrong_key_is_not_waited_for() {
        let (ready, _) = wait_ready(Api::Completions, &[200, 401]).await;
        let error = ready.expect_err("it refuses").to_string();
        assert!(error.contains("401") && !error.contains("sesame"), "{error}");
    }
}
