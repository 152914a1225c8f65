//! A simulated server: a start, and load points run on it in virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    vec,
};

use super::{
    blocks::{BlockHash, mix},
    engine::{Engine, Output, Step, factor, scale},
    memory::kv_blocks,
    model::{FrontEnd, Model},
    scheduler::Request,
    settings::Settings,
};
use crate::{
    canonical::Digest,
    hist::round,
    rng::Random,
    schema::{
        Args, Arrival, Observed, Phases, RequestSample, RequestStatus, ServerObservation,
        SettingFailure, Size,
    },
    workload::{Plan, PlannedRequest, Source, Workload},
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
    let blocks = kv_blocks(model, &settings)?;
    let identity = digest(&(model, args, replicate));
    let mut random = Random::new(identity.seed(), 0);
    let pace = factor(&mut random, model.noise.start_ppm);
    let start_ms = {
        let start = &model.start;
        let compile_ms = if settings.enforce_eager { 0 } else { start.compile_ms };
        let graphs_ms = start.graph_ms * settings.graph_tokens.len() as u64;
        // Starts vary far more than steps: files, caches, other processes.
        scale(start.base_ms + compile_ms + graphs_ms, factor(&mut random, START_TIME_PPM))
    };
    Ok(Server { model: model.clone(), settings, blocks, identity, pace, start_ms })
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
    start_ms: u64,
}

impl Server {
    /// What the settings were resolved to.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the server says of itself.
    pub fn observed(&self) -> Observed {
        let tokens = u64::from(self.blocks) * u64::from(self.settings.block_size);
        Observed {
            version: Some(self.model.version.clone()),
            start_s: Some(round(self.start_ms as f64 / 1e3)),
            kv_cache_tokens: Some(tokens),
            kv_cache_blocks: Some(self.blocks.into()),
            block_size: Some(self.settings.block_size.into()),
            max_num_batched_tokens: Some(self.settings.max_num_batched_tokens.into()),
            attention_backend: Some(self.model.attention_backend.clone()),
            machine: None,
        }
    }

    /// An idle engine with empty caches, whose noise is that of the seed.
    pub fn engine(&self, seed: u64) -> Engine {
        let jitter = Random::new(seed, 1);
        Engine::new(&self.model, &self.settings, self.blocks, self.pace, jitter)
    }

    /// An idle front end.
    pub fn front_end(&self) -> FrontEndQueue {
        FrontEndQueue::new(&self.model.front_end, self.settings.api_server_count, self.pace)
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
            engine: self.engine(seed),
            front_end: self.front_end(),
            sends: Sends::new(load),
            handed: BinaryHeap::new(),
            flight: Flight::default(),
            reuses: load.conversation.is_some() || load.data.is_some(),
            streams: load.request.stream,
            totals: Totals::default(),
            on_sample,
        };
        run.drive(on_progress);
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

/// The API servers: each one thread that takes requests in and sends tokens out, in the order in
/// which they come.
#[derive(Clone, Debug)]
pub struct FrontEndQueue {
    costs: FrontEnd,
    busy_until_ns: Vec<u64>,
}

impl FrontEndQueue {
    fn new(costs: &FrontEnd, servers: u32, pace: u64) -> Self {
        let costs = FrontEnd {
            request_ns: scale(costs.request_ns, pace),
            input_token_ns: scale(costs.input_token_ns, pace),
            output_token_ns: scale(costs.output_token_ns, pace),
        };
        Self { costs, busy_until_ns: vec![0; servers as usize] }
    }

    /// When the engine gets a request that comes now.
    pub fn take_in(&mut self, now_ns: u64, id: u64, input_tokens: u32) -> u64 {
        let cost = self.costs.request_ns + self.costs.input_token_ns * u64::from(input_tokens);
        self.serve(now_ns, id, cost)
    }

    /// When the client gets a token that the engine yields now.
    pub fn send_out(&mut self, now_ns: u64, id: u64) -> u64 {
        self.serve(now_ns, id, self.costs.output_token_ns)
    }

    fn serve(&mut self, now_ns: u64, id: u64, cost_ns: u64) -> u64 {
        let server = (id % self.busy_until_ns.len() as u64) as usize;
        let busy_until_ns = &mut self.busy_until_ns[server];
        *busy_until_ns = (*busy_until_ns).max(now_ns) + cost_ns;
        *busy_until_ns
    }
}

/// A request to send, and the turns that follow its answer.
struct Send {
    intended_ns: u64,
    sent_ns: u64,
    planned: PlannedRequest,
    later: Turns,
}

type Turns = vec::IntoIter<PlannedRequest>;

/// When requests are sent.
struct Sends<'a> {
    plan: Plan<'a>,
    /// The conversation that begins next.
    next: Option<Turns>,
    /// In a closed loop, when an earlier conversation ends.
    free_at_ns: Option<BinaryHeap<Reverse<u64>>>,
    end_ns: u64,
    /// Later turns whose answers before them have ended: by when they are due, then by number.
    turns: BTreeMap<(u64, u32), Turns>,
    /// Under a limit in flight, when its places come free.
    places: Option<BinaryHeap<Reverse<u64>>>,
}

impl<'a> Sends<'a> {
    fn new(load: &'a Workload) -> Self {
        let at_start = |count| (0..count).map(|_| Reverse(0)).collect();
        let free_at_ns = match load.arrival {
            Arrival::ClosedLoop { concurrency } => Some(at_start(concurrency)),
            _ => None,
        };
        let end_ns = match load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        let mut plan = Plan::new(load);
        let next = plan.conversation().map(Vec::into_iter);
        let places = load.max_concurrency.map(at_start);
        Self { plan, next, free_at_ns, end_ns, turns: BTreeMap::new(), places }
    }

    /// When the next conversation is to begin, as far as that is known.
    fn next_beginning_ns(&self) -> Option<u64> {
        let first = self.next.as_ref()?.as_slice().first()?;
        match &self.free_at_ns {
            None => first.at_ns,
            Some(times) => times.peek().map(|time| time.0).filter(|at_ns| *at_ns < self.end_ns),
        }
    }

    fn next_turn_ns(&self) -> Option<u64> {
        self.turns.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    /// When the next request is sent: once it is due and has a place.
    fn next_ns(&self) -> Option<u64> {
        let due_ns = [self.next_turn_ns(), self.next_beginning_ns()].into_iter().flatten().min()?;
        match &self.places {
            None => Some(due_ns),
            Some(places) => places.peek().map(|place| place.0.max(due_ns)),
        }
    }

    fn pop(&mut self) -> Option<Send> {
        let sent_ns = self.next_ns()?;
        let turn_ns = self.next_turn_ns();
        let beginning_ns = self.next_beginning_ns();
        let is_turn = turn_ns.is_some_and(|at| beginning_ns.is_none_or(|other| at <= other));
        let (intended_ns, mut turns) = if is_turn {
            let ((at_ns, _), turns) = self.turns.pop_first()?;
            (at_ns, turns)
        } else {
            self.free_at_ns.as_mut().and_then(BinaryHeap::pop);
            let following = self.plan.conversation().map(Vec::into_iter);
            (beginning_ns?, std::mem::replace(&mut self.next, following)?)
        };
        self.places.as_mut().and_then(BinaryHeap::pop);
        let planned = turns.next()?;
        Some(Send { intended_ns, sent_ns, planned, later: turns })
    }

    /// A request has ended: its place is free, and what follows it has a time.
    fn ended(&mut self, at_ns: u64, later: Turns) {
        if let Some(places) = &mut self.places {
            places.push(Reverse(at_ns));
        }
        if let Some(next) = later.as_slice().first() {
            self.turns.insert((at_ns + next.think_ns, next.id), later);
        } else if let Some(times) = &mut self.free_at_ns {
            times.push(Reverse(at_ns));
        }
    }
}

/// Requests on their way, by ascending numbers in the order in which they are sent.
#[derive(Default)]
struct Flight {
    first: u64,
    requests: VecDeque<Option<Box<InFlight>>>,
}

struct InFlight {
    planned: PlannedRequest,
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
    engine: Engine,
    front_end: FrontEndQueue,
    sends: Sends<'a>,
    /// Requests on their way from the front end to the engine: when they come, and which.
    handed: BinaryHeap<Reverse<(u64, u64)>>,
    flight: Flight,
    /// Whether prompts hold what earlier ones held, beyond a prefix.
    reuses: bool,
    /// Whether tokens are sent as they come, or all with the last one.
    streams: bool,
    totals: Totals,
    on_sample: &'a mut dyn FnMut(RequestSample),
}

impl Run<'_> {
    fn drive(&mut self, on_progress: &mut dyn FnMut(Progress)) {
        let mut now_ns = 0;
        let mut next_progress_ns = NS_PER_S;
        loop {
            self.take_in(now_ns);
            self.hand_over(now_ns);
            if let Some(step) = self.engine.next_step(now_ns) {
                // What clients send during the step comes before its tokens.
                self.take_in(step.end_ns);
                self.book(now_ns, &step);
                now_ns = step.end_ns;
                if now_ns >= next_progress_ns {
                    next_progress_ns = (now_ns / NS_PER_S + 1) * NS_PER_S;
                    on_progress(self.progress(now_ns, &step));
                }
                continue;
            }
            let handed_ns = self.handed.peek().map(|next| next.0.0);
            match [handed_ns, self.sends.next_ns()].into_iter().flatten().min() {
                Some(next_ns) => now_ns = next_ns.max(now_ns),
                None => break,
            }
        }
    }

    /// Requests that clients send until now go through the front end.
    fn take_in(&mut self, now_ns: u64) {
        while self.sends.next_ns().is_some_and(|at_ns| at_ns <= now_ns) {
            let Some(send) = self.sends.pop() else { break };
            let sample = new_sample(&send);
            let Send { sent_ns, planned, later, .. } = send;
            let (input_tokens, output_tokens) = (planned.input_tokens, planned.output_tokens);
            let id = self.flight.push(InFlight { planned, later, sample });
            let handed_ns = self.front_end.take_in(sent_ns, id, input_tokens);
            if self.server.takes(input_tokens, output_tokens) {
                self.handed.push(Reverse((handed_ns, id)));
            } else {
                self.refuse(id, handed_ns);
            }
        }
    }

    /// Requests that the front end has passed on by now reach the engine.
    fn hand_over(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, id))) = self.handed.peek() {
            if at_ns > now_ns {
                break;
            }
            self.handed.pop();
            let planned = &self.flight.get(id).planned;
            let block_size = self.server.settings.block_size;
            let request = Request {
                id,
                prompt_tokens: planned.input_tokens,
                max_tokens: planned.output_tokens,
                shared_hashes: shared_hashes(planned, self.reuses, block_size),
            };
            self.engine.submit(request);
        }
    }

    fn refuse(&mut self, id: u64, at_ns: u64) {
        let InFlight { mut sample, later, .. } = *self.flight.take(id);
        sample.first_byte_ns = Some(at_ns);
        sample.end_ns = at_ns;
        sample.status = RequestStatus::Failed("http_400".to_owned());
        sample.input_tokens = 0;
        self.end(sample, later);
    }

    fn book(&mut self, start_ns: u64, step: &Step) {
        let span_ns = u128::from(step.end_ns - start_ns);
        let totals = &mut self.totals;
        totals.running_ns += span_ns * step.running as u128;
        totals.waiting_ns += span_ns * step.waiting as u128;
        totals.used_blocks_max = totals.used_blocks_max.max(step.used_blocks.0);
        totals.generation_tokens += step.outputs.len() as u64;
        for output in &step.outputs {
            self.send_out(step.end_ns, *output);
        }
    }

    fn send_out(&mut self, now_ns: u64, output: Output) {
        let sample = &mut self.flight.get(output.id).sample;
        sample.output_tokens += 1;
        if !self.streams && output.finished.is_none() {
            return;
        }
        let tokens = if self.streams { 1 } else { sample.output_tokens };
        let at_ns = self.front_end.send_out(now_ns, output.id);
        sample.first_byte_ns.get_or_insert(at_ns);
        sample.tokens.push((at_ns, tokens));
        if let Some(phases) = output.finished {
            let InFlight { mut sample, later, .. } = *self.flight.take(output.id);
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

    fn progress(&self, now_ns: u64, step: &Step) -> Progress {
        Progress {
            now_ns,
            running: step.running as u32,
            waiting: step.waiting as u32,
            kv_cache_percent: percent(step.used_blocks.0.into(), step.used_blocks.1.into()),
            output_tokens: self.totals.generation_tokens,
            requests_done: self.totals.ended,
        }
    }

    fn observation(&self) -> ServerObservation {
        let totals = &self.totals;
        let counters = self.engine.scheduler().counters();
        let (_, blocks) = self.engine.scheduler().used_blocks();
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
            held_error: None,
            kv_cache_percent_max: Some(percent(totals.used_blocks_max.into(), blocks.into())),
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
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(part as f64 / whole as f64 * 100.0) }
}
