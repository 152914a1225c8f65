//! Trials on a server over HTTP.

use std::{
    collections::BTreeSet,
    env,
    future::pending,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::{
    answers::Prompt,
    canonical::Digest,
    schema::{
        Check, Event, FORMAT, LaunchPlan, LoadSpec, MachineUse, Observed, Outcome, PlannedTrial,
        Progress, Quantiles, ServerEngine, ServerObservation,
    },
    workload::Workload,
};
use bench_trials::{Recorder, emit, planned, prompts, workload};
use tokio::{sync::oneshot, time::MissedTickBehavior};

use super::{answers, args::RunArgs, silence::Silence};
use crate::{
    client::{
        body::{Bodies, Dialect},
        connection::{Target, Traffic},
    },
    clock,
    drive::{Driven, Driver, Options},
    host,
    observe::{ControlPlane, Gauges, Machine, Scrape, Watch},
    samples::{RecorderThread, SampleSender},
};

/// How often progress is told and this machine looked at; the server is asked less often.
pub(super) const WATCH_PERIOD: Duration = Duration::from_millis(250);
/// The client's event loop may be late by so much, or by this share of the median TTFT, in 95 of 100
/// looks: of what is above, latencies are the client's own.
const EVENT_LOOP_LAG_MS_MAX: f64 = 2.0;
const EVENT_LOOP_LAG_SHARE_MAX: f64 = 0.10;
/// Of fewer looks one late one would decide.
const EVENT_LOOP_LOOKS_MIN: u64 = 20;
/// Above this share of a core the client is near its limit.
const CLIENT_CPU_SHARE_MAX: f64 = 0.9;

/// Waits for the server, warms it up and runs every trial of the plan.
pub(super) fn run(plan: &LaunchPlan, engine: ServerEngine, args: &RunArgs) -> anyhow::Result<()> {
    // Where it cannot be raised, the connections beyond it fail and are counted.
    let _ = host::raise_open_files_limit();
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
        emit(&Event::Ready { format: FORMAT, observed: Box::new(observed.clone()) })?;
        let mut session = Session {
            engine,
            api_key,
            control,
            observed,
            options: args.options(),
            dialect: Dialect::Vllm,
            texts_sent: BTreeSet::new(),
        };
        session.warm_up(&plan.trials).await?;
        for trial in &plan.trials {
            let PlannedTrial { key, .. } = trial;
            let load = &workload(trial)?;
            let measured_at = Some(clock::now_rfc3339());
            let recorder = Recorder::create(&args.out, key, load)?;
            if let Some(prompts) = prompts(trial)? {
                let (outcome, samples) =
                    session.answers(key, load, prompts, recorder, &plan.launch).await?;
                emit(&Event::Trial { key: *key, outcome, samples: Some(samples) })?;
                continue;
            }
            let (recorder, observation, machine) = session.trial(key, load, recorder).await?;
            let (summarizer, samples) = recorder.finish()?;
            let cpu = client_cpu(machine.client_thread_cores);
            let lag = machine.event_loop_lag;
            let observed = Observed { machine: Some(machine), ..session.observed.clone() };
            let mut measured =
                summarizer.finish(&observation, &observed, &plan.launch, measured_at);
            measured.checks.push(cpu);
            let lag = lag.filter(|lag| lag.count >= EVENT_LOOP_LOOKS_MIN);
            measured.checks.extend(lag.map(|lag| event_loop_lag(&lag, &measured.summary.ttft)));
            measured.checks.extend(session.cache_isolated(load));
            let outcome = Box::new(Outcome::Measured(measured));
            emit(&Event::Trial { key: *key, outcome, samples: Some(samples) })?;
        }
        Ok(())
    })
}

/// One server, and how it is loaded.
pub(super) struct Session {
    engine: ServerEngine,
    api_key: Option<String>,
    control: ControlPlane,
    /// What it resolved its settings to, and how it was warmed up.
    pub(super) observed: Observed,
    options: Options,
    /// What the server understands.
    pub(super) dialect: Dialect,
    /// Files of texts that were sent to it.
    texts_sent: BTreeSet<Digest>,
}

impl Session {
    /// Asks for answers in place of a load, on the server as it is.
    async fn answers(
        &self,
        key: &Digest,
        load: &Workload,
        prompts: Vec<Prompt>,
        mut recorder: Recorder,
        launch: &str,
    ) -> anyhow::Result<(Box<Outcome>, String)> {
        let (measured_at, planned) = (Some(clock::now_rfc3339()), prompts.len() as u64);
        let done =
            |requests_done| emit(&Event::Progress(Progress::of(*key, requests_done, planned)));
        done(0)?;
        let answered = answers::ask(&self.control, load, prompts, done).await?;
        for sample in &answered.samples {
            recorder.push(sample).context("cannot write samples")?;
        }
        let (summarizer, samples) = recorder.finish()?;
        let none = ServerObservation::default();
        let mut measured = summarizer.finish(&none, &self.observed, launch, measured_at);
        // Checks of a load's timing say nothing of answers.
        measured.checks = vec![answered.check];
        measured.answers = Some(answered.answers);
        Ok((Box::new(Outcome::Measured(measured)), samples))
    }

    /// Runs one load point; the server is idle before and after.
    async fn trial(
        &self,
        key: &Digest,
        load: &Workload,
        recorder: Recorder,
    ) -> anyhow::Result<(RecorderThread, ServerObservation, MachineUse)> {
        let before = self.control.settled_scrape().await.unwrap_or_default();
        let (recorder, samples) = RecorderThread::start(recorder)?;
        let traffic = Arc::<Traffic>::default();
        let salt = has_texts(load).then(|| key.short());
        let planned = planned(load);
        // Names the load before anything is sent: a server that dies at once dies of this one.
        emit(&Event::Progress(Progress::of(*key, 0, planned)))?;
        let mut ended = self.start(load, salt.as_deref(), samples, Arc::clone(&traffic)).await?;
        let (mut watch, start) = (Watch::default(), Instant::now());
        watch.push(0.0, &before);
        let mut machine = Machine::watch(&self.engine.base_url);
        let mut tick = tokio::time::interval(WATCH_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let poll_period =
            Duration::from_millis(load.poll_ms.unwrap_or(LoadSpec::POLL_MS).max(1).into());
        let (mut next_poll, mut gauges) = (Instant::now() + poll_period, Gauges::default());
        let mut silence = Silence::of(load);
        // A server that hangs leaves this without an answer too, and must not hold up what is told.
        let mut polling: Option<Pin<Box<dyn Future<Output = Option<Scrape>> + '_>>> = None;
        let driven = loop {
            tokio::select! {
                outcome = &mut ended => {
                    break outcome.context("the driving thread failed")??;
                }
                scrape = async { match &mut polling { Some(polling) => polling.await, None => pending().await } } => {
                    polling = None;
                    let found = scrape.and_then(|s| watch.push(start.elapsed().as_secs_f64(), &s));
                    // Without an answer nobody knows of tokens.
                    if found.is_none() {
                        gauges.output_tokens_per_s = 0.0;
                    }
                    gauges = found.unwrap_or(gauges);
                    continue;
                }
                _ = tick.tick() => {}
            }
            machine.look();
            if polling.is_none() && Instant::now() >= next_poll {
                next_poll = Instant::now() + poll_period;
                polling = Some(Box::pin(self.control.scrape()));
            }
            let generates = gauges.output_tokens_per_s > 0.0;
            silence.look(&traffic, generates).as_ref().map_or(Ok(()), emit)?;
            emit(&Event::Progress(Progress {
                key: *key,
                running: gauges.running as u32,
                waiting: gauges.waiting as u32,
                kv_cache_percent: 100.0 * gauges.kv_cache,
                output_tokens_per_s: gauges.output_tokens_per_s,
                requests_done: traffic.done.load(Relaxed),
                requests_planned: planned,
            }))?;
        };
        let Driven { cpu_share, event_loop_lag, .. } = driven;
        let (machine, energy) = machine.finish(cpu_share, event_loop_lag);
        let elapsed_s = start.elapsed().as_secs_f64();
        let after = self.control.settled_scrape().await.unwrap_or_default();
        watch.push(elapsed_s, &after);
        let observation = ServerObservation { energy, ..watch.observation(&before, &after) };
        Ok((recorder, observation, machine))
    }

    /// Starts a load in a thread of its own and gives what tells its end.
    pub(super) async fn start(
        &self,
        load: &Workload,
        salt: Option<&str>,
        samples: SampleSender,
        traffic: Arc<Traffic>,
    ) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Driven>>> {
        let bodies = Bodies::new(&self.engine, load, self.dialect, salt);
        let headers = &load.request.headers;
        let api_key = self.api_key.as_deref();
        let target =
            Target::resolve(&self.engine.base_url, bodies.path(), headers, api_key).await?;
        let driver =
            Driver::new(target, load.clone(), bodies, self.options.clone(), samples, traffic);
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

    /// Whether texts that an earlier load point sent may be in the server's cache.
    fn cache_isolated(&mut self, load: &Workload) -> Option<Check> {
        let data = load.data.as_ref().filter(|_| has_texts(load))?;
        let is_first = self.texts_sent.insert(data.digest);
        let (passed, found) = match (self.dialect, is_first) {
            (Dialect::Vllm, _) => (true, "texts have a cache salt of this load point"),
            (Dialect::Plain, true) => (true, "no earlier load point sent these texts"),
            (Dialect::Plain, false) => (
                false,
                "an earlier load point sent the same texts, and the server takes no cache salt",
            ),
        };
        let advice = ": turn its prefix cache off, or give each load a server start of its own";
        let detail = format!("{found}{}", if passed { "" } else { advice });
        Some(Check { name: "cache-isolated".to_owned(), passed, detail })
    }
}

/// Whether a load sends the texts of a file: other loads that send them find them in the cache. Drawn
/// prompts are of their load alone.
fn has_texts(load: &LoadSpec) -> bool {
    load.data.as_ref().is_some_and(|data| data.format.is_text())
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

/// Whether the busiest reader thread had time to spare: one without reads answers late, and what it then
/// measures is itself.
fn client_cpu(share: f64) -> Check {
    let found = format!("the client's busiest thread took {:.0} % of a core", 100.0 * share);
    let passed = share <= CLIENT_CPU_SHARE_MAX;
    let advice =
        ": give it more threads (`reader_threads`), or ask for fewer streams or a lower rate";
    let detail = if passed { found } else { found + advice };
    Check { name: "client-cpu".to_owned(), passed, detail }
}

/// Whether that thread came back in time to look at what had come, at every moment of the load.
fn event_loop_lag(lag: &Quantiles, ttft: &Quantiles) -> Check {
    let share_ms = EVENT_LOOP_LAG_SHARE_MAX * ttft.p50_ms;
    let limit_ms = EVENT_LOOP_LAG_MS_MAX.max(if share_ms.is_finite() { share_ms } else { 0.0 });
    let found = format!(
        "event-loop lag P95 {:.3} ms of {} looks, at most {limit_ms:.3} ms allowed",
        lag.p95_ms, lag.count
    );
    let passed = lag.p95_ms <= limit_ms;
    let advice = ": the client is too slow at times; give it a core of its own or lower the load";
    let detail = if passed { found } else { found + advice };
    Check { name: "event-loop-lag".to_owned(), passed, detail }
}

/// On a machine that it shares with the server, a client that waits for a core measures its own
/// wait. It needs little time itself, so it goes first where it may.
fn raise_priority() {
    // Without the right to, the send lag shows what it costs.
    let _ = rustix::process::setpriority_process(None, -10);
}
