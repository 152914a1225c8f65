//! The engine core: the scheduler, with the time that its steps take on the host and on the device.
//!
//! It has no clock of its own: the caller says what time it is, virtual or real.

use std::collections::VecDeque;

use super::{
    model::{Model, StepTime, scale},
    scheduler::{Request, Scheduled, Scheduler, Slot, StepPlan},
    settings::Settings,
};
use crate::{rng::Random, schema::Phases};

/// A factor around one, in millionths, with that standard deviation; never below a half.
pub(super) fn factor(random: &mut Random, deviation_ppm: u64) -> u64 {
    if deviation_ppm == 0 {
        return 1_000_000;
    }
    libm::round(1e6 + random.normal() * deviation_ppm as f64).max(500_000.0) as u64
}

/// One turn of the engine's loop (`EngineCore.step_with_batch_queue` of vLLM's `v1/engine/core.py`):
/// a step is decided and launched; with as many under way as there may be, or when none was
/// launched, the results of the oldest are awaited and booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When the loop begins anew, and the tokens leave the engine.
    pub end_ns: u64,
    /// A token for each of these requests.
    pub outputs: Vec<Output>,
    /// Requests in the batch during the turn.
    pub running: usize,
    /// Requests in the queue during the turn.
    pub waiting: usize,
    /// Blocks in use during the turn, and blocks there are.
    pub used_blocks: (u32, u32),
    /// Of the step that was launched: when the device computes it, and its tokens.
    pub work: Work,
}

/// What a step makes the device do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// When the device begins.
    pub from_ns: u64,
    /// How long it takes.
    pub device_ns: u64,
    /// Tokens of prompts and answers.
    pub tokens: u64,
}

/// A token that a step yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The request's id.
    pub id: u64,
    /// With the last token, where the request's time in the engine went.
    pub finished: Option<Phases>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    queued_ns: u64,
    scheduled_ns: Option<u64>,
    first_token_ns: u64,
}

/// The scheduler on a clock.
#[derive(Clone, Debug)]
pub struct Engine {
    scheduler: Scheduler,
    step_time: StepTime,
    eager: bool,
    graph_tokens: Vec<u32>,
    /// Steps that may be under way at once: two with asynchronous scheduling.
    steps_max: usize,
    /// Slows this start against others, in millionths.
    pace: u64,
    /// Slows the host beside other processes, in millionths.
    host_pace: u64,
    /// Sums over the cards in a step: nanoseconds, and picoseconds for each token.
    all_reduces: (u64, u64),
    jitter_ppm: u64,
    jitter: Random,
    /// Requests that the engine has not seen: it looks between turns.
    inbox: Vec<Request>,
    times: Vec<Times>,
    /// Steps that the device computes or will: what they do, and when they end.
    under_way: VecDeque<(StepPlan, u64)>,
    device_free_ns: u64,
}

impl Engine {
    /// An idle engine. `pace` scales every time of this start, in millionths.
    pub fn new(model: &Model, settings: &Settings, blocks: u32, pace: u64, jitter: Random) -> Self {
        let others = u64::from(settings.api_server_count - 1);
        Self {
            scheduler: Scheduler::new(settings.limits(blocks)),
            step_time: model.step.clone(),
            eager: settings.enforce_eager,
            graph_tokens: settings.graph_tokens.clone(),
            steps_max: if settings.async_scheduling { 2 } else { 1 },
            pace,
            host_pace: 1_000_000 + model.step.host_api_server_ppm * others,
            all_reduces: model
                .cards
                .as_ref()
                .map_or((0, 0), |cards| cards.all_reduces(settings.tensor_parallel_size)),
            jitter_ppm: model.noise.step_ppm,
            jitter,
            inbox: Vec::new(),
            times: Vec::new(),
            under_way: VecDeque::new(),
            device_free_ns: 0,
        }
    }

    /// Hands a request over; it is queued when the next turn begins.
    pub fn submit(&mut self, request: Request) {
        self.inbox.push(request);
    }

    /// Takes a request out, at any time; says whether it was there. The turn that runs may still
    /// yield a token for it, which goes nowhere.
    pub fn abort(&mut self, id: u64) -> bool {
        let before = self.inbox.len();
        self.inbox.retain(|request| request.id != id);
        self.inbox.len() < before || self.scheduler.abort(id)
    }

    /// The turn that begins now, or `None` when nothing is to be done. Call it again at
    /// [`Turn::end_ns`], no sooner.
    pub fn turn(&mut self, now_ns: u64) -> Option<Turn> {
        for request in std::mem::take(&mut self.inbox) {
            let slot = self.scheduler.add(request);
            *self.times_mut(slot) = Times { queued_ns: now_ns, ..Times::default() };
        }
        let launched = self.launch(now_ns);
        let launched_ns = launched.map(|(at_ns, _)| at_ns);
        let awaits = self.under_way.len() >= self.steps_max || launched_ns.is_none();
        let mut turn = Turn {
            end_ns: launched_ns.unwrap_or(now_ns),
            outputs: Vec::new(),
            running: self.scheduler.running(),
            waiting: self.scheduler.waiting(),
            used_blocks: self.scheduler.used_blocks(),
            work: launched.map(|(_, work)| work).unwrap_or_default(),
        };
        if awaits {
            let (plan, computed_ns) = self.under_way.pop_front()?;
            let update_ns = self.step_time.update_ns
                + self.step_time.update_sequence_ns * plan.scheduled.len() as u64;
            turn.end_ns = turn.end_ns.max(computed_ns) + self.host_ns(update_ns);
            turn.outputs = self.book(&plan, turn.end_ns);
        }
        turn.end_ns = turn.end_ns.max(now_ns + 1);
        Some(turn)
    }

    /// The scheduler, to look at.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Decides and launches a step; says when the host has done so, and what the device has to do.
    fn launch(&mut self, now_ns: u64) -> Option<(u64, Work)> {
        let plan = self.scheduler.schedule();
        if plan.scheduled.is_empty() {
            return None;
        }
        for part in plan.scheduled.iter().filter(|part| part.admitted) {
            self.times_mut(part.slot).scheduled_ns.get_or_insert(now_ns);
        }
        let Durations { prepare_ns, launch_ns, device_ns } = self.durations(&plan.scheduled);
        let tokens = plan.scheduled.iter().map(|part| u64::from(part.tokens)).sum();
        let begun_ns = now_ns + prepare_ns;
        let launched_ns = begun_ns + launch_ns;
        // Kernels start while later ones are launched.
        let from_ns = begun_ns.max(self.device_free_ns);
        let computed_ns = (from_ns + device_ns).max(launched_ns);
        self.device_free_ns = computed_ns;
        self.under_way.push_back((plan, computed_ns));
        Some((launched_ns, Work { from_ns, device_ns, tokens }))
    }

    fn book(&mut self, plan: &StepPlan, now_ns: u64) -> Vec<Output> {
        let tokens = self.scheduler.complete(plan);
        let output = |token: super::scheduler::Emitted| {
            let times = self.times_mut(token.slot);
            if token.first {
                times.first_token_ns = now_ns;
            }
            Output { id: token.id, finished: token.finished.then(|| times.phases(now_ns)) }
        };
        tokens.into_iter().map(output).collect()
    }

    fn times_mut(&mut self, slot: Slot) -> &mut Times {
        let slot = slot as usize;
        if self.times.len() <= slot {
            self.times.resize(slot + 1, Times::default());
        }
        &mut self.times[slot]
    }

    fn host_ns(&self, ns: u64) -> u64 {
        scale(scale(ns, self.host_pace), self.pace)
    }

    fn durations(&mut self, scheduled: &[Scheduled]) -> Durations {
        let time = &self.step_time;
        let tokens: u64 = scheduled.iter().map(|part| u64::from(part.tokens)).sum();
        let graph =
            self.graph_tokens.iter().map(|size| u64::from(*size)).find(|size| *size >= tokens);
        let (mut kv_tokens, mut pairs, mut sequences) = (0, 0, 0);
        for part in scheduled {
            let (new, before) = (u64::from(part.tokens), u64::from(part.computed));
            if new == 1 {
                kv_tokens += before + 1;
            } else {
                pairs += new * before + new * (new + 1) / 2;
            }
            sequences += u64::from(part.emits);
        }
        let computed = graph.unwrap_or(tokens);
        let (sums_ns, sums_token_ps) = self.all_reduces;
        let device_ns = time.weights_ns.max(time.token_ns * computed)
            + sums_ns
            + sums_token_ps * computed / 1_000
            + time.prefill_pair_fs * pairs / 1_000_000
            + time.kv_token_ps * kv_tokens / 1_000
            + time.sequence_ns * sequences;
        let batch = scheduled.len() as u64;
        let (launch_ns, is_whole) = match graph {
            _ if self.eager => (time.host_eager_ns, false),
            Some(_) if pairs == 0 => (time.host_graph_ns, true),
            Some(_) => (time.host_piecewise_ns, false),
            None => (time.host_compiled_ns, false),
        };
        let more_ns = if is_whole { 0 } else { time.host_kernels_sequence_ns };
        let prepare_ns = (time.host_sequence_ns + more_ns) * batch;
        let jitter = factor(&mut self.jitter, self.jitter_ppm);
        // A graph is launched by one call, at the end of its preparation.
        let (prepare_ns, launch_ns) =
            if is_whole { (prepare_ns + launch_ns, 0) } else { (prepare_ns, launch_ns) };
        Durations {
            prepare_ns: self.host_ns(scale(prepare_ns, jitter)),
            launch_ns: self.host_ns(scale(launch_ns, jitter)),
            device_ns: scale(scale(device_ns, jitter), self.pace),
        }
    }
}

struct Durations {
    /// Until the first kernel is launched.
    prepare_ns: u64,
    /// From there until the last is.
    launch_ns: u64,
    device_ns: u64,
}

impl Times {
    fn phases(&self, last_token_ns: u64) -> Phases {
        let scheduled_ns = self.scheduled_ns.unwrap_or(self.queued_ns);
        Phases {
            queue_ns: scheduled_ns - self.queued_ns,
            prefill_ns: self.first_token_ns - scheduled_ns,
            decode_ns: last_token_ns - self.first_token_ns,
        }
    }
}
