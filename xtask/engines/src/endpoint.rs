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
/// How long a server that hangs, or is busy, is given after that: a profile says so of one that starts.
const PATIENCE_MORE_S: u64 = 10;
/// Pause between two attempts at a server that is starting.
const PAUSE: Duration = Duration::from_millis(500);

impl Endpoint<'_> {
    /// Asks the server for one token, once.
    fn probe(&self, patience_s: u64) -> Result<Contact> {
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
        let patience = patience_s.to_string();
        let args = ["probe", "--plan", "/dev/stdin", "--patience-s", &patience];
        let asked = duct::cmd(bench_binary()?, args).stdin_bytes(serde_json::to_vec(&plan)?);
        let output = asked.stdout_capture().stderr_capture().unchecked().run()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", error.trim().trim_start_matches("error: "));
        serde_json::from_slice(&output.stdout).context("`bench probe` printed no answer")
    }

    /// Asks for a token until it comes or nothing is to be expected any more. Waiting goes on only where the
    /// profile says that the server is starting.
    fn reach_by(
        &self,
        probe: &mut dyn FnMut(u64) -> Result<Contact>,
        interrupted: &AtomicBool,
        warn: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let url = &self.config.base_url;
        let begin = Instant::now();
        let limit = self.config.start_timeout_s.map(Duration::from_secs);
        let (mut told, mut patience_s) = (String::new(), PATIENCE_S);
        loop {
            let (text, passes) = match probe(patience_s)? {
                Contact::Ready { doubt, .. } => {
                    let doubt = doubt.map(|Fault { what, fix, .. }| format!("{url} {what}; {fix}"));
                    doubt.iter().for_each(|doubt| warn(doubt));
                    return Ok(());
                }
                Contact::Silent { seconds } => {
                    let text = format!("{url} took a request and has sent nothing for {seconds} s");
                    if limit.is_none() && patience_s == PATIENCE_S {
                        // It may be busy.
                        warn(&format!(
                            "{text}: busy, or hanging. It is asked once more, for {PATIENCE_MORE_S} s"
                        ));
                        patience_s = PATIENCE_MORE_S;
                        continue;
                    }
                    let fix = match limit {
                        Some(_) => "",
                        None => {
                            ", twice: it hangs, or is too busy to be measured; see its log. If it is still \
                             starting: start_timeout_s = N in [engine]"
                        }
                    };
                    let text = text + fix;
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
        self.reach_by(&mut |patience_s| self.probe(patience_s), interrupted, warn)
    }

    fn doctor(&self) -> Vec<Finding> {
        // A server without one is measured, too: nothing is wrong with it.
        let identity = self.config.declared_identity.clone().unwrap_or_else(|| {
            "not declared, so nothing is cached; to change that, set `identity` in [engine]: version, \
             model, hardware"
                .to_owned()
        });
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
        let found = match self.probe(PATIENCE_S) {
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
        let identity = Finding { what: "identity".to_owned(), found: Ok(identity) };
        [server, identity].into_iter().chain(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes a request and says nothing: one more try, and the remedy.
    #[test]
    fn a_silent_server_is_waited_for_only_where_it_is_starting() {
        let load = NamedLoad {
            name: "burst".to_owned(),
            part: None,
            spec: schema::LoadSpec::drawn(
                schema::Arrival::AllAtOnce {},
                schema::Size::Requests(1),
                Vec::new(),
                1,
            ),
            repeats: 1,
            data_file: None,
            replay_per_s: None,
        };
        let config = |start_timeout_s| EndpointConfig {
            base_url: "http://a".to_owned(),
            model: "m".to_owned(),
            vocab_size: 100,
            declared_identity: None,
            start: 1,
            start_timeout_s,
            api_key_env: None,
        };
        let never = AtomicBool::new(false);
        let reach = |start_timeout_s, answers: &[bool]| {
            let config = config(start_timeout_s);
            let (mut asked, mut told) = (Vec::new(), Vec::new());
            let mut probe = |patience_s| {
                let is_ready = answers.get(asked.len()).copied().unwrap_or(false);
                asked.push(patience_s);
                Ok(match is_ready {
                    true => Contact::Ready { version: None, doubt: None },
                    false => Contact::Silent { seconds: patience_s },
                })
            };
            let reached = Endpoint::new(&config, &load).reach_by(&mut probe, &never, &mut |text| {
                told.push(text.to_owned());
            });
            (reached.map_err(|error| error.to_string()), asked, told.len())
        };
        let (reached, asked, told) = reach(None, &[]);
        assert!(reached.expect_err("it hangs").contains("start_timeout_s = N in [engine]"));
        assert_eq!((asked.iter().sum::<u64>(), told), (PATIENCE_S + PATIENCE_MORE_S, 1));
        assert_eq!(reach(None, &[false, true]), (Ok(()), vec![PATIENCE_S, PATIENCE_MORE_S], 1));
        let (reached, asked, _) = reach(Some(0), &[]);
        assert!(reached.expect_err("it never came").contains("raise `start_timeout_s`"));
        assert_eq!(asked, [PATIENCE_S]);
    }
}
