//! Everything asked of a server besides the load itself.

use std::time::Duration;

use anyhow::Context as _;
use bench_core::schema::{Api, Observed, RequestShape, ServerEngine};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{prometheus::Scrape, said::said, watch};
use crate::client::connection::header_map;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two looks at a server that is not idle.
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
            .connect_timeout(CONNECT_TIMEOUT)
            .default_headers(header_map(&shape.headers)?)
            .build()
            .context("cannot set up the HTTP client")?;
        let api_key = api_key.map(str::to_owned);
        Ok(Self { http, engine: engine.clone(), api_key, api: shape.api })
    }

    pub(super) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.engine.base_url));
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(super) async fn get_json(&self, path: &str) -> Option<Value> {
        let response = self.request(reqwest::Method::GET, path).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    /// Posts JSON and reads the JSON that comes back.
    ///
    /// # Errors
    /// What went wrong, in the server's words where it has some.
    pub(crate) async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<T, String> {
        let told = |error: reqwest::Error| self.masked(&format!("POST {path}: {error}"));
        let request = self.request(reqwest::Method::POST, path).timeout(limit).json(body);
        let response = request.send().await.map_err(told)?;
        let status = response.status();
        if !status.is_success() {
            let said = said(&response.text().await.unwrap_or_default());
            return Err(self.masked(&format!("{status} to POST {path}{said}")));
        }
        response.json().await.map_err(told)
    }

    pub(super) fn url(&self) -> &str {
        &self.engine.base_url
    }

    pub(crate) fn model(&self) -> &str {
        &self.engine.model
    }

    /// What a server said, without the key that it was given.
    pub(crate) fn masked(&self, text: &str) -> String {
        match self.api_key.as_deref() {
            Some(key) if !key.is_empty() => text.replace(key, "…"),
            _ => text.to_owned(),
        }
    }

    pub(super) fn api(&self) -> Api {
        self.api
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
