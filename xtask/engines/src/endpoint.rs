//! A server that runs already: its address, and what the user says that it is.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::{
    canonical::Digest,
    schema::{self, Args, Contact, FORMAT, Fault, LaunchPlan, PlannedTrial, ServerEngine},
};
use serde_json::{Value, json};

use super::{Engine, bench_binary, launch_s};
use crate::{
    History,
    finding::{Finding, Missing},
    launch::READY_LIMIT,
};
use profile::{EndpointConfig, NamedLoad, Trial};

pub struct Endpoint<'a> {
    pub config: &'a EndpointConfig,
    /// How it is asked for a token.
    load: &'a NamedLoad,
    /// Stands for an identity that nobody declared: other in every run, so that nothing measured
    /// on an unknown server is ever taken for a figure of this one.
    undeclared: u64,
}

impl<'a> Endpoint<'a> {
    pub fn new(config: &'a EndpointConfig, load: &'a NamedLoad) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { config, load, undeclared: since.map_or(0, |time| time.as_micros() as u64) }
    }

    fn identity(&self) -> Value {
        let mut identity = json!({
            "kind": "endpoint",
            "base_url": self.config.base_url,
            "model": self.config.model,
            "declared": self.config.declared_identity,
        });
        if self.config.declared_identity.is_none() {
            identity["run"] = self.undeclared.into();
        }
        identity
    }
}

/// How long one attempt waits for the first token: within five seconds a person knows.
const PATIENCE_S: u64 = 4;
/// Pause between two attempts at a server that is starting.
const PAUSE: Duration = Duration::from_millis(500);

impl Endpoint<'_> {
    /// Asks the server for one token, once.
    fn probe(&self) -> Result<Contact> {
        let plan = LaunchPlan {
            format: FORMAT,
            launch: "probe".to_owned(),
            engine: self.to_launch()?,
            args: Args::new(),
            env: BTreeMap::new(),
            config_file: None,
            replicate: 0,
            trials: vec![PlannedTrial {
                key: Digest::of(b"probe"),
                load: self.load.spec.clone(),
                data_file: None,
            }],
        };
        let patience = PATIENCE_S.to_string();
        let args = ["probe", "--plan", "/dev/stdin", "--patience-s", &patience];
        let asked = duct::cmd(bench_binary()?, args).stdin_bytes(serde_json::to_vec(&plan)?);
        let output = asked.stdout_capture().stderr_capture().unchecked().run()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", error.trim().trim_start_matches("error: "));
        serde_json::from_slice(&output.stdout).context("`bench probe` printed no answer")
    }
}

impl Engine for Endpoint<'_> {
    fn fingerprint(&self) -> Option<Value> {
        Some(self.identity())
    }

    fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
        Ok(self.identity())
    }

    fn title(&self) -> String {
        let server = self.config.declared_identity.as_ref().unwrap_or(&self.config.base_url);
        format!("{} on {server}", self.config.model)
    }

    fn is_simulated(&self) -> bool {
        false
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        Ok(schema::Engine::Server(ServerEngine {
            base_url: self.config.base_url.clone(),
            model: self.config.model.clone(),
            vocab_size: self.config.vocab_size,
            api_key_env: self.config.api_key_env.clone(),
        }))
    }

    fn runs_side_by_side(&self) -> bool {
        false
    }

    fn estimate_s(&self, trials: &[&Trial], history: &History) -> f64 {
        launch_s(trials, 0.0, history)
    }

    fn reach(&self, interrupted: &AtomicBool, warn: &mut dyn FnMut(&str)) -> Result<()> {
        let url = &self.config.base_url;
        let begin = Instant::now();
        let limit = self.config.start_timeout_s.map(Duration::from_secs);
        let mut told = String::new();
        loop {
            let (text, passes) = match self.probe()? {
                Contact::Ready { doubt, .. } => {
                    let doubt = doubt.map(|Fault { what, fix, .. }| format!("{url} {what}; {fix}"));
                    doubt.iter().for_each(|doubt| warn(doubt));
                    return Ok(());
                }
                Contact::Silent { seconds } => {
                    let text = format!("{url} took a request and has sent nothing for {seconds} s");
                    if limit.is_none() {
                        // It may be busy. A launch waits for a while, and then fails.
                        warn(&format!(
                            "{text}: busy, or hanging. It has {} s more to its first token; if it is \
                             still starting: start_timeout_s = N in [engine]",
                            READY_LIMIT.as_secs()
                        ));
                        return Ok(());
                    }
                    (text, true)
                }
                Contact::Fault(Fault { what, fix, passes }) => {
                    (format!("{url} {what}; {fix}"), passes)
                }
            };
            let Some(limit) = limit.filter(|_| passes) else { bail!(text) };
            ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
            let waited = begin.elapsed();
            if waited >= limit {
                bail!("{text} ({} s after the start: raise `start_timeout_s`)", waited.as_secs());
            }
            if told != text {
                warn(&format!(
                    "{text}. Waiting up to {} s, as start_timeout_s says",
                    limit.as_secs()
                ));
                told = text;
            }
            thread::sleep(PAUSE);
        }
    }

    fn doctor(&self) -> Vec<Finding> {
        let identity = match &self.config.declared_identity {
            Some(declared) => Ok(declared.clone()),
            None => Err(Missing {
                what: "not declared, so nothing is cached".to_owned(),
                fix: "set `identity` in [engine]: version, model, hardware".to_owned(),
            }),
        };
        let key = self.config.api_key_env.as_ref().map(|name| Finding {
            what: "API key".to_owned(),
            found: match std::env::var_os(name) {
                Some(_) => Ok(format!("in `{name}`")),
                None => Err(Missing {
                    what: format!("the environment has no `{name}`"),
                    fix: format!("export {name}=… before the run"),
                }),
            },
        });
        let found = match self.probe() {
            Ok(Contact::Ready { version, doubt: None }) => {
                let version = version.map(|version| format!(", version {version}"));
                let version = version.unwrap_or_default();
                Ok(format!("{} serves {}{version}", self.config.base_url, self.config.model))
            }
            Ok(Contact::Silent { seconds }) => Err(Missing {
                what: format!("took a request and has sent nothing for {seconds} s"),
                fix: "see its log: it is busy, starting or hanging".to_owned(),
            }),
            Ok(
                Contact::Ready { doubt: Some(Fault { what, fix, .. }), .. }
                | Contact::Fault(Fault { what, fix, .. }),
            ) => Err(Missing { what: format!("{} {what}", self.config.base_url), fix }),
            Err(error) => Err(Missing {
                what: format!("{error:#}"),
                fix: "see `url` and `api_key_env` in [engine]".to_owned(),
            }),
        };
        let server = Finding { what: "server".to_owned(), found };
        let identity = Finding { what: "identity".to_owned(), found: identity };
        [server, identity].into_iter().chain(key).collect()
    }
}
