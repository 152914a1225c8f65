//! A simulated server: a start, and load points run on it in virtual time.

use std::collections::VecDeque;

use super::{
    blocks::{BlockHash, mix},
    clients::{Send, Sends, Turns},
    engine::{Engine, Output, Turn, factor},
    machine::{Event, Machine},
    memory::kv_blocks,
    meter::Meter,
    model::{Model, scale},
    scheduler::Request,
    settings::Settings,
};
use crate::{
    canonical::Digest,
    hist::round,
    rng::Random,
    schema::{
        Args, Observed, Phases, RequestSample, RequestStatus, ServerObservation, SettingFailure,
    },
    workload::{PlannedRequest, Source, Workload},
};

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: f64 = 1e6;

/// How a simulated load point is going.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Virtual time since the trial's start.
    pub now_ns: u64,
    /// Requests in the batch.
    pub running: u32,
    /// Requests in the queue.
    pub waiting: u32,
    /// Use of the KV cache, in percent.
    pub kv_cache_percent: f64,
    /// Output tokens so far.
    pub output_tokens: u64,
    /// Requests that have ended.
    pub requests_done: u64,
}

/// Starts a server with these arguments; `replicate` tells repeated starts apart.
///
/// # Errors
/// When vLLM would refuse the arguments or fail to start with them.
pub fn launch(model: &Model, args: &Args, replicate: u32) -> Result<Server, SettingFailure> {
    let settings = Settings::from_args(model, args)?;
    let shard = model.shard(settings.tensor_parallel_size);
    let blocks = kv_blocks(&shard, &settings)?;
    let identity = digest(&(model, args, replicate));
    let mut random = Random::new(identity.seed(), 0);
    let pace = factor(&mut random, model.noise.start_ppm);
    let host_pace = model.noise.host.of_start(identity.seed());
    let start_ms = {
        let start = &model.start;
        let compile_ms = if settings.enforce_eager { 0 } else { start.compile_ms };
        let graphs_ms = start.graph_ms * settings.graph_tokens.len() as u64;
        // Starts vary far more than steps: files, caches, other processes.
        scale(start.base_ms + compile_ms + graphs_ms, factor(&mut random, START_TIME_PPM))
    };
    let model = shard.with_effects(args);
    Ok(Server { model, settings, blocks, identity, pace, host_pace, start_ms })
}

/// Standard deviation of the time that a start takes.
const START_TIME_PPM: u64 = 50_000;

/// A digest of values that hold no floats.
fn digest<T: serde::Serialize>(value: &T) -> Digest {
    Digest::of_json(value).expect("models, arguments and loads hold no floats")
}

/// A server that has started.
#[derive(Clone, Debug)]
pub struct Server {
    model: Model,
    settings: Settings,
    blocks: u32,
    identity: Digest,
    pace: u64,
    host_pace: u64,
    start_ms: u64,
}

impl Server {
    /// What the settings were resolved to.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the server says of itself.
    pub fn observed(&self) -> Observed {
        // Every engine has a cache of its own.
        let blocks = u64::from(self.blocks) * u64::from(self.settings.data_parallel_size);
        let tokens = blocks * u64::from(self.settings.block_size);
        Observed {
            version: Some(self.model.version.clone()),
            start_s: Some(round(self.start_ms as f64 / 1e3)),
            kv_cache_tokens: Some(tokens),
            kv_cache_blocks: Some(blocks),
            block_size: Some(self.settings.block_size.into()),
            max_num_batched_tokens: Some(self.settings.max_num_batched_tokens.into()),
            attention_backend: Some(self.model.attention_backend.clone()),
            start: None,
            machine: None,
            warm_up: None,
            cost: None,
        }
    }

    /// An idle machine with empty caches, whose noise is that of the seed.
    pub fn machine(&self, seed: u64) -> Machine {
        let Self { settings, pace, .. } = self;
        let model = &self.model.on_load(self.host_pace, seed);
        // Streams 1 and 2 of the seed are taken: the first engine's, and what a load finds.
        let stream = |engine: u32| if engine == 0 { 1 } else { 2 + u64::from(engine) };
        let engines = (0..settings.data_parallel_size).map(|engine| {
            let jitter = Random::new(seed, stream(engine));
            Engine::new(model, settings, self.blocks, *pace, jitter)
        });
        Machine::new(engines, &model.front_end, settings.api_server_count, *pace)
    }

    /// Whether the API server takes a request of these lengths; if not it answers with status 400.
    pub fn takes(&self, input_tokens: u32, output_tokens: u32) -> bool {
        input_tokens > 0
            && output_tokens > 0
            && u64::from(input_tokens) + u64::from(output_tokens)
                <= u64::from(self.settings.max_model_len)
    }

    /// Runs a load point. Each run starts with empty caches and draws its noise from the launch
    /// and the load alone, so that the order of load points does not matter.
    ///
    /// Samples come in the order in which requests leave the engine, progress once a simulated
    /// second.
    pub fn run(
        &self,
        load: &Workload,
        on_sample: &mut dyn FnMut(RequestSample),
        on_progress: &mut dyn FnMut(Progress),
    ) -> ServerObservation {
        let seed = digest(&(self.identity, &load.spec)).seed();
        let mut run = Run {
            server: self,
            machine: self.machine(seed),
            sends: Sends::new(load),
            flight: Flight::default(),
            reuses: load.conversation.is_some() || load.data.is_some(),
            streams: load.request.stream,
            totals: Totals::default(),
            meter: self.model.power.as_ref().map(|power| Meter::new(power, &self.settings)),
            next_progress_ns: NS_PER_S,
            on_sample,
            on_progress,
        };
        run.drive();
        assert!(run.flight.requests.is_empty(), "every request ends");
        run.observation()
    }
}

/// Hashes of the full blocks that other prompts may begin with too: the whole prompt where
/// prompts reuse what came before, else its group's prefix.
fn shared_hashes(planned: &PlannedRequest, reuses: bool, block_size: u32) -> Vec<BlockHash> {
    let is_shared = |source| reuses || matches!(source, Source::Prefix(_));
    let (mut hashes, mut hash, mut filled) = (Vec::new(), 0, 0);
    for piece in planned.prompt.iter().take_while(|piece| is_shared(piece.source)) {
        let key = mix(u64::from(planned.class), piece.source.stream());
        let mut from = 0;
        while from < piece.tokens {
            let tokens = (block_size - filled).min(piece.tokens - from);
            hash = mix(hash, mix(key, u64::from(from) << 32 | u64::from(tokens)));
            (from, filled) = (from + tokens, filled + tokens);
            if filled == block_size {
                hashes.push(hash);
                filled = 0;
            }
        }
    }
    hashes
}

/// Requests on their way, by ascending numbers in the order in which they are sent.
#[derive(Default)]
struct Flight {
    first: u64,
    requests: VecDeque<Option<Box<InFlight>>>,
}

struct InFlight {
    later: Turns,
    sample: RequestSample,
}

impl Flight {
    /// Takes a request in; gives its number here.
    fn push(&mut self, request: InFlight) -> u64 {
        self.requests.push_back(Some(Box::new(request)));
        self.first + self.requests.len() as u64 - 1
    }

    fn get(&mut self, number: u64) -> &mut InFlight {
        let index = (number - self.first) as usize;
        self.requests[index].as_mut().expect("a request that has ended yields nothing")
    }

    fn take(&mut self, number: u64) -> Box<InFlight> {
        let index = (number - self.first) as usize;
        let request = self.requests[index].take().expect("a request ends once");
        while let Some(None) = self.requests.front() {
            self.requests.pop_front();
            self.first += 1;
        }
        request
    }
}

/// What a server counts.
#[derive(Default)]
struct Totals {
    succeeded: u64,
    ended: u64,
    prompt_tokens: u64,
    generation_tokens: u64,
    queue_ns: u128,
    prefill_ns: u128,
    decode_ns: u128,
    running_ns: u128,
    waiting_ns: u128,
    last_end_ns: u64,
    used_blocks_max: u32,
}

struct Run<'a> {
    server: &'a Server,
    machine: Machine,
    sends: Sends<'a>,
    flight: Flight,
    /// Whether prompts hold what earlier ones held, beyond a prefix.
    reuses: bool,
    /// Whether tokens are sent as they come, or all with the last one.
    streams: bool,
    totals: Totals,
    meter: Option<Meter<'a>>,
    next_progress_ns: u64,
    on_sample: &'a mut dyn FnMut(RequestSample),
    on_progress: &'a mut dyn FnMut(Progress),
}

impl Run<'_> {
    fn drive(&mut self) {
        let mut events = Vec::new();
        loop {
            let machine_ns = self.machine.next_ns();
            match self.sends.next_ns() {
                Some(at_ns) if machine_ns.is_none_or(|other_ns| at_ns <= other_ns) => self.send(),
                _ => match machine_ns {
                    Some(now_ns) => self.machine.advance(now_ns, &mut |event| events.push(event)),
                    None => break,
                },
            }
            for event in events.drain(..) {
                match event {
                    Event::Turn { start_ns, turn } => self.book(start_ns, &turn),
                    Event::Token { at_ns, output } => self.receive(at_ns, output),
                }
            }
        }
        let end_ns = self.totals.last_end_ns;
        if let Some(meter) = &mut self.meter {
            meter.read_until(end_ns);
            meter.read(end_ns);
        }
    }

    fn send(&mut self) {
        let Some(send) = self.sends.pop() else { return };
        let sample = new_sample(&send);
        let Send { sent_ns, planned, later, .. } = send;
        let (input_tokens, output_tokens) = (planned.input_tokens, planned.output_tokens);
        let request = Request {
            id: 0,
            prompt_tokens: input_tokens,
            max_tokens: output_tokens,
            shared_hashes: shared_hashes(&planned, self.reuses, self.server.settings.block_size),
        };
        let id = self.flight.push(InFlight { later, sample });
        if self.server.takes(input_tokens, output_tokens) {
            self.machine.send(sent_ns, Request { id, ..request });
        } else {
            // A refusal is short work; it is taken to cost the others nothing.
            self.refuse(id, sent_ns + self.server.model.front_end.request_ns);
        }
    }

    fn refuse(&mut self, id: u64, at_ns: u64) {
        let InFlight { mut sample, later } = *self.flight.take(id);
        sample.first_byte_ns = Some(at_ns);
        sample.end_ns = at_ns;
        sample.status = RequestStatus::Failed("http_400".to_owned());
        sample.input_tokens = 0;
        self.end(sample, later);
    }

    fn book(&mut self, start_ns: u64, turn: &Turn) {
        let span_ns = u128::from(turn.end_ns - start_ns);
        let totals = &mut self.totals;
        totals.running_ns += span_ns * turn.running as u128;
        totals.waiting_ns += span_ns * turn.waiting as u128;
        totals.used_blocks_max = totals.used_blocks_max.max(turn.used_blocks.0);
        if let Some(meter) = &mut self.meter {
            meter.read_until(start_ns);
            meter.steps.push_back(turn.work);
        }
        if turn.end_ns >= self.next_progress_ns {
            self.next_progress_ns = (turn.end_ns / NS_PER_S + 1) * NS_PER_S;
            let progress = self.progress(turn.end_ns);
            (self.on_progress)(progress);
        }
    }

    fn receive(&mut self, at_ns: u64, Output { id, finished }: Output) {
        self.totals.generation_tokens += 1;
        let sample = &mut self.flight.get(id).sample;
        sample.output_tokens += 1;
        if !self.streams && finished.is_none() {
            return;
        }
        let tokens = if self.streams { 1 } else { sample.output_tokens };
        sample.first_byte_ns.get_or_insert(at_ns);
        sample.tokens.push((at_ns, tokens));
        if let Some(phases) = finished {
            let InFlight { mut sample, later } = *self.flight.take(id);
            sample.end_ns = at_ns;
            sample.phases = Some(phases);
            self.count(&sample, phases);
            self.end(sample, later);
        }
    }

    fn count(&mut self, sample: &RequestSample, phases: Phases) {
        let totals = &mut self.totals;
        totals.succeeded += 1;
        totals.prompt_tokens += u64::from(sample.input_tokens);
        totals.queue_ns += u128::from(phases.queue_ns);
        totals.prefill_ns += u128::from(phases.prefill_ns);
        totals.decode_ns += u128::from(phases.decode_ns);
    }

    fn end(&mut self, sample: RequestSample, later: Turns) {
        self.totals.ended += 1;
        self.totals.last_end_ns = self.totals.last_end_ns.max(sample.end_ns);
        self.sends.ended(sample.end_ns, later);
        (self.on_sample)(sample);
    }

    fn progress(&self, now_ns: u64) -> Progress {
        let now = self.machine.gauges();
        Progress {
            now_ns,
            running: now.running as u32,
            waiting: now.waiting as u32,
            kv_cache_percent: percent(now.used_blocks.into(), now.blocks.into()),
            output_tokens: self.totals.generation_tokens,
            requests_done: self.totals.ended,
        }
    }

    fn observation(&self) -> ServerObservation {
        let totals = &self.totals;
        let counters = self.machine.counters();
        let blocks = self.machine.schedulers().next().map_or(0, |first| first.used_blocks().1);
        let mean_ms = |ns: u128| {
            let requests = totals.succeeded as f64;
            (totals.succeeded > 0).then(|| round(ns as f64 / requests / NS_PER_MS))
        };
        let over_time = |ns: u128| {
            (totals.last_end_ns > 0).then(|| round(ns as f64 / totals.last_end_ns as f64))
        };
        ServerObservation {
            requests_succeeded: Some(totals.succeeded),
            prompt_tokens: Some(totals.prompt_tokens),
            generation_tokens: Some(totals.generation_tokens),
            preemptions: Some(counters.preemptions),
            prefix_cache_queries: Some(counters.prefix_queries),
            prefix_cache_hits: Some(counters.prefix_hits),
            queue_mean_ms: mean_ms(totals.queue_ns),
            prefill_mean_ms: mean_ms(totals.prefill_ns),
            decode_mean_ms: mean_ms(totals.decode_ns),
            running_mean: over_time(totals.running_ns),
            waiting_mean: over_time(totals.waiting_ns),
            kv_cache_percent_max: Some(percent(totals.used_blocks_max.into(), blocks.into())),
            energy: self.meter.as_ref().map_or_else(Vec::new, |meter| meter.readings.clone()),
            ..ServerObservation::default()
        }
    }
}

fn new_sample(send: &Send) -> RequestSample {
    let Send { intended_ns, sent_ns, planned, .. } = send;
    RequestSample {
        id: planned.id,
        class: planned.class,
        intended_ns: *intended_ns,
        queued_ns: sent_ns - intended_ns,
        sent_ns: *sent_ns,
        first_byte_ns: None,
        end_ns: *sent_ns,
        tokens: Vec::with_capacity(planned.output_tokens as usize),
        input_tokens: planned.input_tokens,
        output_tokens: 0,
        status: RequestStatus::Completed,
        phases: None,
        ..RequestSample::default()
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(part as f64 / whole as f64 * 100.0) }
}
