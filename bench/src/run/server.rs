//! Trials on a server over HTTP.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::schema::{
    Arrival, Check, Event, FORMAT, LaunchPlan, LoadSpec, MachineUse, Observed, Outcome,
    PlannedTrial, Progress, RequestStatus, ServerEngine, ServerObservation, Size,
};
use bench_core::workload::Workload;
use bench_trials::{Recorder, emit, planned, workload};
use tokio::{sync::oneshot, time::MissedTickBehavior};

use super::RunArgs;
use crate::{
    client::{body::Bodies, connection::Target},
    clock,
    drive::{Driver, Options},
    observe::{ControlPlane, Machine, Watch},
    samples::{self, RecorderThread, SampleSender},
};

/// How often the server's gauges are read during a load.
const WATCH_PERIOD: Duration = Duration::from_millis(250);
/// Requests of one round of warming up, and output tokens of each.
const WARM_UP_REQUESTS: u32 = 4;
const WARM_UP_TOKENS: u32 = 16;
/// A round that gains less than this on the best so far is steady; two in a row are enough.
const WARM_UP_GAIN: f64 = 0.1;
const WARM_UP_ROUNDS_MAX: u32 = 10;
/// Above this share of a core the client is near its limit.
const CLIENT_CPU_SHARE_MAX: f64 = 0.9;

/// Waits for the server, warms it up and runs every trial of the plan.
pub(super) fn run(plan: &LaunchPlan, engine: ServerEngine, args: &RunArgs) -> anyhow::Result<()> {
    raise_open_files_limit();
    raise_priority();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(async {
        let api_key = api_key(&engine)?;
        let shape = plan.trials.first().map(|trial| trial.load.request.clone());
        let control = ControlPlane::new(&engine, api_key.as_deref(), &shape.unwrap_or_default())?;
        let ready_limit = Duration::from_secs(args.ready_timeout_s);
        control.wait_ready(ready_limit, args.starting).await?;
        let observed = control.observed().await;
        emit(&Event::Ready { format: FORMAT, observed: observed.clone() })?;
        let mut session =
            Session { engine, api_key, control, options: args.options(), exact_counts: true };
        if let Some(first) = plan.trials.first() {
            session.warm_up(&first.load).await?;
        }
        for trial in &plan.trials {
            let PlannedTrial { key, .. } = trial;
            let load = &workload(trial)?;
            let measured_at = Some(clock::now_rfc3339());
            let recorder = Recorder::create(&args.out, key, load)?;
            let (recorder, observation, machine) = session.trial(key, load, recorder).await?;
            let (summarizer, samples) = recorder.finish()?;
            let cpu = client_cpu(machine.client_thread_cores);
            let observed = Observed { machine: Some(machine), ..observed.clone() };
            let mut measured =
                summarizer.finish(&observation, &observed, &plan.launch, measured_at);
            measured.checks.push(cpu);
            let outcome = Box::new(Outcome::Measured(measured));
            emit(&Event::Trial { key: *key, outcome, samples: Some(samples) })?;
        }
        Ok(())
    })
}

/// One server, and how it is loaded.
struct Session {
    engine: ServerEngine,
    api_key: Option<String>,
    control: ControlPlane,
    options: Options,
    /// Whether to ask for the number of tokens with each event.
    exact_counts: bool,
}

impl Session {
    /// Runs one load point; the server is idle before and after.
    async fn trial(
        &self,
        key: &bench_core::canonical::Digest,
        load: &Workload,
        recorder: Recorder,
    ) -> anyhow::Result<(RecorderThread, ServerObservation, MachineUse)> {
        let before = self.control.settled_scrape().await.unwrap_or_default();
        let (recorder, samples) = RecorderThread::start(recorder)?;
        let done = Arc::new(AtomicU64::new(0));
        let mut ended = self.start(load, samples, Arc::clone(&done)).await?;
        let planned = planned(load);
        let (mut watch, start) = (Watch::default(), Instant::now());
        watch.push(0.0, &before);
        let mut machine = Machine::watch(&self.engine.base_url);
        let mut tick = tokio::time::interval(WATCH_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cpu_share = loop {
            tokio::select! {
                outcome = &mut ended => {
                    break outcome.context("the driving thread failed")??;
                }
                _ = tick.tick() => {}
            }
            machine.look();
            let Some(scrape) = self.control.scrape().await else { continue };
            let Some(gauges) = watch.push(start.elapsed().as_secs_f64(), &scrape) else { continue };
            emit(&Event::Progress(Progress {
                key: *key,
                running: gauges.running as u32,
                waiting: gauges.waiting as u32,
                kv_cache_percent: 100.0 * gauges.kv_cache,
                output_tokens_per_s: gauges.output_tokens_per_s,
                requests_done: done.load(Relaxed),
                requests_planned: planned,
            }))?;
        };
        let (elapsed_s, machine) = (start.elapsed().as_secs_f64(), machine.finish(cpu_share));
        let after = self.control.settled_scrape().await.unwrap_or_default();
        watch.push(elapsed_s, &after);
        Ok((recorder, watch.observation(&before, &after), machine))
    }

    /// Starts a load in a thread of its own and gives what tells its end.
    async fn start(
        &self,
        load: &Workload,
        samples: SampleSender,
        done: Arc<AtomicU64>,
    ) -> anyhow::Result<oneshot::Receiver<anyhow::Result<f64>>> {
        let bodies = Bodies::new(&self.engine, load, self.exact_counts);
        let headers = &load.request.headers;
        let api_key = self.api_key.as_deref();
        let target =
            Target::resolve(&self.engine.base_url, bodies.path(), headers, api_key).await?;
        let driver = Driver::new(target, load.clone(), bodies, self.options.clone(), samples, done);
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("driver".to_owned())
            .spawn(move || {
                // Nobody listens only when the run is already failing.
                let _ = end.send(driver.run());
            })
            .context("cannot start the driving thread")?;
        Ok(ended)
    }

    /// Sends small rounds of requests, which are not counted, until they get no faster.
    async fn warm_up(&mut self, load: &LoadSpec) -> anyhow::Result<()> {
        let (mut best_s, mut steady_rounds) = (f64::INFINITY, 0);
        for round in 0..WARM_UP_ROUNDS_MAX {
            let start = Instant::now();
            match self.warm_up_round(&warm_up_load(load, round).into()).await? {
                None => {}
                // `continuous_usage_stats` is vLLM's own.
                Some(kind) if self.exact_counts && matches!(&*kind, "http_400" | "http_422") => {
                    self.exact_counts = false;
                    continue;
                }
                Some(kind) => {
                    anyhow::bail!("a request of the warm-up failed ({kind}); see the server's log");
                }
            }
            let round_s = start.elapsed().as_secs_f64();
            let steady = round_s > best_s * (1.0 - WARM_UP_GAIN);
            steady_rounds = if steady { steady_rounds + 1 } else { 0 };
            if steady_rounds == 2 {
                break;
            }
            best_s = best_s.min(round_s);
        }
        Ok(())
    }

    /// Runs one round; gives the kind of its first failure.
    async fn warm_up_round(&self, load: &Workload) -> anyhow::Result<Option<String>> {
        let (samples, received) = samples::channel();
        let ended = self.start(load, samples, Arc::default()).await?;
        ended.await.context("the driving thread failed")??;
        Ok(received.iter().flatten().find_map(|sample| match sample.status {
            RequestStatus::Failed(kind) => Some(kind),
            RequestStatus::Completed => None,
        }))
    }
}

/// The API key, from the environment alone.
pub(crate) fn api_key(engine: &ServerEngine) -> anyhow::Result<Option<String>> {
    let Some(name) = &engine.api_key_env else {
        let names = ["VLLM_API_KEY", "OPENAI_API_KEY"];
        return Ok(names.iter().find_map(|name| env::var(name).ok()));
    };
    let key = env::var(name).map_err(|_| {
        anyhow::anyhow!("the environment has no `{name}`: export the API key there")
    })?;
    Ok(Some(key))
}

/// Whether the thread that sends and reads had time to spare: one without reads answers late, and
/// what it then measures is itself.
fn client_cpu(share: f64) -> Check {
    let found = format!("the client's thread took {:.0} % of a core", 100.0 * share);
    let passed = share <= CLIENT_CPU_SHARE_MAX;
    let advice = ": spread the load over several clients, or ask for fewer streams or a lower rate";
    let detail = if passed { found } else { found + advice };
    Check { name: "client-cpu".to_owned(), passed, detail }
}

/// A few short requests of the load's kinds; each round has prompts of its own.
fn warm_up_load(load: &LoadSpec, round: u32) -> LoadSpec {
    let mut load = load.clone();
    load.arrival = Arrival::AllAtOnce {};
    load.size = Size::Requests(WARM_UP_REQUESTS);
    load.seed = load.seed.wrapping_add(u64::from(round));
    // Of a file the lengths are enough.
    load.data = None;
    load.conversation = None;
    for class in &mut load.classes {
        class.output_tokens.min = class.output_tokens.min.min(WARM_UP_TOKENS);
        class.output_tokens.max = class.output_tokens.max.min(WARM_UP_TOKENS);
    }
    load
}

/// Every stream is a socket: takes as many open files as the system allows.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the connections beyond it fail and are counted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// On a machine that it shares with the server, a client that waits for a core measures its own
/// wait. It needs little time itself, so it goes first where it may.
fn raise_priority() {
    // Without the right to, the send lag shows what it costs.
    let _ = rustix::process::setpriority_process(None, -10);
}
