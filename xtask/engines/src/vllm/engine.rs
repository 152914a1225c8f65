//! vLLM as an engine of a profile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bench_core::schema::{self, StartWay, VllmEngine};
use serde_json::{Value, json};

use super::{
    Device, Node, Provisioned, gpu, is_tried, known, provision, provision::DISK_FREE_GIB_MIN,
};
use crate::{
    Engine, History, StartEstimate,
    finding::{Finding, Missing},
    launch_s,
};
use profile::{Trial, VllmConfig};

/// Before any is measured: a start on an H100 takes 70 to 114 s, one on two cores 75 s.
const START_S: f64 = 90.0;

/// The same of forks: 15 to 21 s on an H100.
const FORKED_START_S: f64 = 20.0;

/// Why servers of an engine are not to be started as forks, if they are not.
fn no_forks(config: &VllmConfig, artifacts: &Path, on_cluster: bool) -> Option<String> {
    let VllmConfig { package, version, gpus, .. } = config;
    if on_cluster {
        return Some("each job of a cluster starts one server".to_owned());
    }
    if !is_tried(package, version, gpus.len()) {
        return Some(format!("never tried with {package} {version} on {} GPUs", gpus.len()));
    }
    let note = no_forks_note(config, artifacts);
    let why = fs::read_to_string(&note).ok()?;
    Some(format!("{why}; remove {} to try again", note.display()))
}

/// Says why a release could not be started as a fork here.
fn no_forks_note(config: &VllmConfig, artifacts: &Path) -> PathBuf {
    artifacts.join("env").join(format!("no-forks-{}-{}.txt", config.package, config.version))
}

/// vLLM, started here.
pub struct Vllm<'a> {
    /// The profile's table, with the way in which servers are started.
    pub config: VllmConfig,
    /// Why servers are not started as the profile asks, if they are not.
    pub no_forks: Option<String>,
    /// Locked requirements of the profile.
    pub lock: PathBuf,
    /// Root of the store, which holds the environment too.
    pub artifacts: PathBuf,
    /// A node of the cluster that servers run on, if they do not run here.
    pub node: Option<Node<'a>>,
}

impl<'a> Vllm<'a> {
    /// The engine of a profile.
    pub fn new(
        config: &VllmConfig,
        lock: PathBuf,
        artifacts: PathBuf,
        node: Option<Node<'a>>,
    ) -> Self {
        let mut config = config.clone();
        let no_forks = (config.start == StartWay::Forked)
            .then(|| no_forks(&config, &artifacts, node.is_some()))
            .flatten();
        if no_forks.is_some() {
            config.start = StartWay::Ordinary;
        }
        Self { config, no_forks, lock, artifacts, node }
    }

    fn known(&self) -> Option<Provisioned> {
        known(&self.config, &self.lock, &self.artifacts, self.node.as_ref())
    }
}

impl Engine for Vllm<'_> {
    fn fingerprint(&self) -> Option<Value> {
        self.known().map(|found| json!(found.fingerprint))
    }

    fn provision(&self, say: &mut dyn FnMut(&str)) -> Result<Value> {
        let node = self.node.as_ref();
        let found = provision(&self.config, &self.lock, &self.artifacts, node, say)?;
        serde_json::to_value(&found.identity).context("writing the engine's identity")
    }

    fn title(&self) -> String {
        let model = match Path::new(&self.config.model) {
            // Where a model's folder lies says nothing of it.
            path if path.is_absolute() => path.file_name().unwrap_or_default().to_string_lossy(),
            _ => self.config.model.as_str().into(),
        };
        let name = format!("vLLM {}, {model}", self.config.version);
        match self.known().map(|found| found.identity.device) {
            Some(Device::Gpu { name: gpu, count, .. }) => format!("{name}, {count} × {gpu}"),
            Some(Device::Cpu { threads, .. }) => format!("{name}, CPU with {threads} threads"),
            None => name,
        }
    }

    fn is_simulated(&self) -> bool {
        false
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        let found =
            self.known().context("the engine changed since it was provisioned; run again")?;
        Ok(schema::Engine::Vllm(VllmEngine {
            python: found.python.to_string_lossy().into_owned(),
            model: found.model.folder.to_string_lossy().into_owned(),
            served_model_name: found.model.name.clone(),
            dummy_weights: found.model.dummy_weights,
            vocab_size: found.model.vocab_size,
            gpus: self.config.gpus.clone(),
            start_timeout_s: self.config.start_timeout_s,
            start: self.config.start,
        }))
    }

    fn remark(&self) -> Option<String> {
        let why = self.no_forks.as_ref()?;
        Some(format!("servers are started the ordinary way, not as forks: {why}"))
    }

    fn refuse_forks(&self, why: &str) -> Result<()> {
        let note = no_forks_note(&self.config, &self.artifacts);
        fs::write(&note, why).with_context(|| format!("cannot write {}", note.display()))
    }

    fn installation(&self) -> Option<String> {
        let VllmConfig { package, version, python, gpus, .. } = &self.config;
        if python.is_some() || self.known().is_some() {
            return None;
        }
        let gib = DISK_FREE_GIB_MIN.iter().find(|(name, _)| name == package).map_or(0, |(_, n)| *n);
        let here = self.node.is_none() && gpu::query(gpus).is_err();
        let gpu = if here {
            "; no NVIDIA GPU is found here, and without one nothing is installed"
        } else {
            ""
        };
        Some(format!(
            "{package} {version} is installed from {}, with up to {gib} GiB of disk{gpu}",
            self.lock.file_name().unwrap_or_default().to_string_lossy()
        ))
    }

    /// Servers would share the GPU, the memory and the cores.
    fn runs_side_by_side(&self) -> bool {
        false
    }

    fn estimate_s(&self, trials: &[&Trial], history: &History) -> f64 {
        if history.feasibility.foresee(trials[0]).is_some() {
            return 0.0;
        }
        let start_s = self.start_estimate(history).map_or(START_S, |starts| starts.start_s);
        launch_s(trials, start_s, history)
    }

    fn start_estimate(&self, history: &History) -> Option<StartEstimate> {
        let guess_s = match self.config.start {
            StartWay::Ordinary => START_S,
            StartWay::Forked => FORKED_START_S,
        };
        Some(StartEstimate {
            start_s: history.start_s().unwrap_or(guess_s),
            ordinary_s: history.ordinary_start_s().unwrap_or(START_S),
        })
    }

    fn doctor(&self) -> Vec<Finding> {
        let environment = match self.known() {
            Some(found) => Ok(found.python.display().to_string()),
            None => Err(Missing {
                what: "not installed yet".to_owned(),
                fix: "the suite installs it, or `cargo xtask stage provision` with the same --profile"
                    .to_owned(),
            }),
        };
        let package = format!("{} {}", self.config.package, self.config.version);
        let are_here = self.node.is_none() && !self.config.gpus.is_empty();
        let gpus = are_here.then(|| Finding {
            what: "GPU".to_owned(),
            found: match gpu::query(&self.config.gpus) {
                Ok(found) => {
                    Ok(found.iter().map(gpu::Gpu::to_string).collect::<Vec<_>>().join(", "))
                }
                Err(error) => Err(Missing {
                    what: format!("{error:#}"),
                    fix: "install NVIDIA's driver, or name another card in `gpus`; without one \
                           there are the profiles sim and vllm-cpu"
                        .to_owned(),
                }),
            },
        });
        let environment = Finding { what: package, found: environment };
        gpus.into_iter().chain([environment]).collect()
    }
}
