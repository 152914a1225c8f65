//! Everything asked of a server besides the load itself.

use std::time::Duration;

use anyhow::Context as _;
use bench_core::schema::{Observed, ServerEngine};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{prometheus::Scrape, watch};

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
}

impl ControlPlane {
    /// For a server, which need not answer yet.
    pub(crate) fn new(engine: &ServerEngine, api_key: Option<&str>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { http, engine: engine.clone(), api_key: api_key.map(str::to_owned) })
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
                Ok(()) => return Ok(()),
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

    async fn first_token(&self) -> anyhow::Result<()> {
        let health = self.request(reqwest::Method::GET, "/health").send().await?;
        // Servers other than vLLM may have no such route.
        if !health.status().is_success() && health.status() != reqwest::StatusCode::NOT_FOUND {
            anyhow::bail!("/health answers {}", health.status());
        }
        let body = json!({"model": self.engine.model, "prompt": "a", "max_tokens": 1});
        let answer = self
            .request(reqwest::Method::POST, "/v1/completions")
            // The first request may compile kernels.
            .timeout(Duration::from_secs(300))
            .json(&body)
            .send()
            .await?;
        anyhow::ensure!(
            answer.status().is_success(),
            "/v1/completions answers {}",
            answer.status()
        );
        Ok(())
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
