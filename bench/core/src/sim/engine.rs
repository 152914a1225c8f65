//! The engine core: the scheduler, with the time that each step takes.
//!
//! It has no clock of its own: the caller says what time it is, virtual or real.

use super::{
    model::{Model, StepTime},
    scheduler::{Request, Scheduled, Scheduler, Slot},
    settings::Settings,
};
use crate::{rng::Random, schema::Phases};

/// Scales a time by a factor in millionths.
pub(super) fn scale(ns: u64, millionths: u64) -> u64 {
    (u128::from(ns) * u128::from(millionths) / 1_000_000) as u64
}

/// A factor around one, in millionths, with that standard deviation; never below a half.
pub(super) fn factor(random: &mut Random, deviation_ppm: u64) -> u64 {
    if deviation_ppm == 0 {
        return 1_000_000;
    }
    libm::round(1e6 + random.normal() * deviation_ppm as f64).max(500_000.0) as u64
}

/// One step, decided at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When its tokens are there.
    pub end_ns: u64,
    /// A token for each of these requests.
    pub outputs: Vec<Output>,
    /// Requests in the batch during the step.
    pub running: usize,
    /// Requests in the queue during the step.
    pub waiting: usize,
    /// Blocks in use during the step, and blocks there are.
    pub used_blocks: (u32, u32),
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
    /// Slows this start against others, in millionths.
    pace: u64,
    jitter_ppm: u64,
    jitter: Random,
    /// Requests that the engine has not seen: it looks between steps.
    inbox: Vec<Request>,
    times: Vec<Times>,
}

impl Engine {
    /// An idle engine. `pace` scales every time of this start, in millionths.
    pub fn new(model: &Model, settings: &Settings, blocks: u32, pace: u64, jitter: Random) -> Self {
        Self {
            scheduler: Scheduler::new(settings.limits(blocks)),
            step_time: model.step.clone(),
            eager: settings.enforce_eager,
            graph_tokens: settings.graph_tokens.clone(),
            pace,
            jitter_ppm: model.noise.step_ppm,
            jitter,
            inbox: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Hands a request over; it is queued when the next step is decided.
    pub fn submit(&mut self, request: Request) {
        self.inbox.push(request);
    }

    /// Takes a request out; says whether it was there.
    pub fn abort(&mut self, id: u64) -> bool {
        let before = self.inbox.len();
        self.inbox.retain(|request| request.id != id);
        self.inbox.len() < before || self.scheduler.abort(id)
    }

    /// The step that starts now, or `None` when nothing is to be done. Call it again at
    /// [`Step::end_ns`], no sooner.
    pub fn next_step(&mut self, now_ns: u64) -> Option<Step> {
        for request in std::mem::take(&mut self.inbox) {
            let slot = self.scheduler.add(request);
            *self.times_mut(slot) = Times { queued_ns: now_ns, ..Times::default() };
        }
        let plan = self.scheduler.schedule();
        if plan.scheduled.is_empty() {
            return None;
        }
        for part in plan.scheduled.iter().filter(|part| part.admitted) {
            self.times_mut(part.slot).scheduled_ns.get_or_insert(now_ns);
        }
        let end_ns = now_ns + self.duration_ns(&plan.scheduled);
        let (running, waiting) = (self.scheduler.running(), self.scheduler.waiting());
        let used_blocks = self.scheduler.used_blocks();
        let outputs = self
            .scheduler
            .complete(&plan)
            .into_iter()
            .map(|token| {
                let times = self.times_mut(token.slot);
                if token.first {
                    times.first_token_ns = end_ns;
                }
                let finished = token.finished.then(|| times.phases(end_ns));
                Output { id: token.id, finished }
            })
            .collect();
        Some(Step { end_ns, outputs, running, waiting, used_blocks })
    }

    /// The scheduler, to look at.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    fn times_mut(&mut self, slot: Slot) -> &mut Times {
        let slot = slot as usize;
        if self.times.len() <= slot {
            self.times.resize(slot + 1, Times::default());
        }
        &mut self.times[slot]
    }

    fn duration_ns(&mut self, scheduled: &[Scheduled]) -> u64 {
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
        let device = time.weights_ns.max(time.token_ns * graph.unwrap_or(tokens))
            + time.prefill_pair_fs * pairs / 1_000_000
            + time.kv_token_ps * kv_tokens / 1_000
            + time.sequence_ns * sequences;
        let batch = scheduled.len() as u64;
        let launch = match graph {
            _ if self.eager => time.host_eager_ns,
            Some(_) => time.host_graph_ns,
            None => time.host_compiled_ns,
        };
        let host = launch + time.host_sequence_ns * batch;
        let gap = time.gap_ns + time.gap_sequence_ns * batch;
        let pace = scale(self.pace, factor(&mut self.jitter, self.jitter_ppm));
        scale(device.max(host) + gap, pace).max(1)
    }
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
