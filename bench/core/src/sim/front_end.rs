//! The API servers: each an event loop on one thread, as `asyncio` is. In a pass every request that
//! is ready gets a piece of its work done, and the tokens of one step are taken up; all go on
//! together when the pass ends: hence requests that come at once reach the engine in clumps, and the
//! tokens of a step their clients. A server that lags lets steps wait.

use std::{collections::VecDeque, mem::take};

use super::{
    engine::Output,
    model::{FrontEnd, scale},
    scheduler::Request,
};

/// What an API server has done with.
#[derive(Default)]
pub(super) struct Done {
    /// Requests go on to the engine.
    pub(super) taken_in: Vec<Request>,
    /// Tokens go on to their clients.
    pub(super) sent_out: Vec<Output>,
}

struct Intake {
    request: Request,
    piece_ns: u64,
    pieces: u32,
}

#[derive(Default)]
struct EventLoop {
    /// Requests that are ready for the next pass.
    intakes: Vec<Intake>,
    /// The tokens of steps that wait.
    steps: VecDeque<Vec<Output>>,
    pass: Option<Pass>,
}

struct Pass {
    end_ns: u64,
    intakes: Vec<Intake>,
    outputs: Vec<Output>,
}

/// The API servers, before one engine or several.
pub(super) struct ApiServers {
    costs: FrontEnd,
    loops: Vec<EventLoop>,
}

impl ApiServers {
    /// Idle servers; `pace` scales all costs, in millionths.
    pub(super) fn new(costs: &FrontEnd, servers: u32, pace: u64) -> Self {
        let mut costs = costs.clone();
        costs.request_ns = scale(costs.request_ns, pace);
        costs.input_token_ns = scale(costs.input_token_ns, pace);
        costs.output_token_ns = scale(costs.output_token_ns, pace);
        Self { costs, loops: (0..servers).map(|_| EventLoop::default()).collect() }
    }

    /// A request comes in.
    pub(super) fn take_in(&mut self, now_ns: u64, request: Request) {
        let tokens = u64::from(request.prompt_tokens);
        let cost_ns = self.costs.request_ns + self.costs.input_token_ns * tokens;
        let pieces = self.costs.request_passes.max(1);
        let server = self.server_of(request.id);
        let intake = Intake { request, piece_ns: cost_ns / u64::from(pieces), pieces };
        self.loops[server].intakes.push(intake);
        self.loops[server].wake(now_ns, &self.costs);
    }

    /// A step's tokens come from the engine.
    pub(super) fn send_out(&mut self, now_ns: u64, outputs: &[Output]) {
        for server in 0..self.loops.len() {
            let is_own = |output: &&Output| self.server_of(output.id) == server;
            let own: Vec<Output> = outputs.iter().filter(is_own).copied().collect();
            if !own.is_empty() {
                self.loops[server].steps.push_back(own);
                self.loops[server].wake(now_ns, &self.costs);
            }
        }
    }

    /// When the next pass ends.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.loops.iter().filter_map(|server| server.pass.as_ref().map(|pass| pass.end_ns)).min()
    }

    /// Ends the passes that end now; gives what is done with them.
    pub(super) fn advance(&mut self, now_ns: u64) -> Done {
        let mut done = Done::default();
        for server in &mut self.loops {
            if let Some(pass) = server.pass.take_if(|pass| pass.end_ns <= now_ns) {
                server.end(pass, &mut done);
                server.wake(now_ns, &self.costs);
            }
        }
        done
    }

    /// Which of them a request comes to.
    pub(super) fn server_of(&self, id: u64) -> usize {
        (id % self.loops.len() as u64) as usize
    }
}

impl EventLoop {
    /// Begins a pass, unless one runs or there is nothing to do.
    fn wake(&mut self, now_ns: u64, costs: &FrontEnd) {
        if self.pass.is_some() || (self.intakes.is_empty() && self.steps.is_empty()) {
            return;
        }
        let intakes = take(&mut self.intakes);
        let outputs = self.steps.pop_front().unwrap_or_default();
        let cost_ns = intakes.iter().map(|intake| intake.piece_ns).sum::<u64>()
            + costs.output_token_ns * outputs.len() as u64;
        self.pass = Some(Pass { end_ns: now_ns + cost_ns.max(1), intakes, outputs });
    }

    fn end(&mut self, pass: Pass, done: &mut Done) {
        for mut intake in pass.intakes {
            intake.pieces -= 1;
            if intake.pieces == 0 {
                done.taken_in.push(intake.request);
            } else {
                self.intakes.push(intake);
            }
        }
        done.sent_out.extend(pass.outputs);
    }
}
