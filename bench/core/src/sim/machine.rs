//! A server's machine: its API servers, its engines and the ways between them, driven by events.

use std::collections::{BTreeSet, VecDeque};

use super::{
    engine::{Engine, Output, Turn},
    front_end::ApiServers,
    model::{FrontEnd, scale},
    scheduler::{Counters, Request, Scheduler},
};

/// What a machine yields.
pub enum Event {
    /// A turn of the engine has begun, and lasts until its end.
    Turn {
        /// When it began.
        start_ns: u64,
        /// The turn; its outputs come to their clients later.
        turn: Turn,
    },
    /// A token comes to its client.
    Token {
        /// When.
        at_ns: u64,
        /// Which.
        output: Output,
    },
}

/// A machine. [`Machine::send`] requests, then [`Machine::advance`] to [`Machine::next_ns`], over and
/// over; time never goes back.
pub struct Machine {
    /// One, or several with data parallelism.
    engines: Vec<Running>,
    api_servers: ApiServers,
    /// Requests that each API server has handed to engines.
    handed_over: Vec<usize>,
    request_latency_ns: u64,
    output_latency_ns: u64,
    /// On the way to an API server, in the order in which they come there.
    arriving: VecDeque<(u64, Request)>,
    /// Requests whose clients have gone, while they are on the way to the engine.
    gone: BTreeSet<u64>,
}

/// Requests and blocks during the turns that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Requests in the batches.
    pub running: usize,
    /// Requests in the queues.
    pub waiting: usize,
    /// Blocks in use.
    pub used_blocks: u32,
    /// Blocks that can ever be.
    pub blocks: u32,
}

struct Running {
    engine: Engine,
    /// Of the turn that runs: its end, and its tokens.
    turn: Option<(u64, Vec<Output>)>,
    /// What the engine does during that turn.
    busy: Option<Gauges>,
}

impl Machine {
    pub(super) fn new(
        engines: impl Iterator<Item = Engine>,
        costs: &FrontEnd,
        api_servers: u32,
        pace: u64,
    ) -> Self {
        Self {
            engines: engines.map(|engine| Running { engine, turn: None, busy: None }).collect(),
            api_servers: ApiServers::new(costs, api_servers, pace),
            handed_over: vec![0; api_servers as usize],
            request_latency_ns: scale(costs.request_latency_ns, pace),
            output_latency_ns: scale(costs.output_latency_ns, pace),
            arriving: VecDeque::new(),
            gone: BTreeSet::new(),
        }
    }

    /// A client sends a request; requests are sent in the order of time.
    pub fn send(&mut self, now_ns: u64, request: Request) {
        self.arriving.push_back((now_ns + self.request_latency_ns, request));
    }

    /// A client goes. Tokens on their way to it may still come.
    pub fn abort(&mut self, id: u64) {
        if !self.engines.iter_mut().any(|running| running.engine.abort(id)) {
            self.gone.insert(id);
        }
    }

    /// When something happens next, if nothing is sent before.
    pub fn next_ns(&self) -> Option<u64> {
        let arrival_ns = self.arriving.front().map(|(at_ns, _)| *at_ns);
        let turns = self.engines.iter().filter_map(|running| running.turn.as_ref());
        let turn_ns = turns.map(|(end_ns, _)| *end_ns).min();
        [arrival_ns, turn_ns, self.api_servers.next_ns()].into_iter().flatten().min()
    }

    /// Does what is due by now, in the order of time.
    pub fn advance(&mut self, now_ns: u64, on_event: &mut dyn FnMut(Event)) {
        while let Some(at_ns) = self.next_ns().filter(|at_ns| *at_ns <= now_ns) {
            self.happen(at_ns, on_event);
        }
    }

    /// The engines' schedulers, to look at.
    pub fn schedulers(&self) -> impl Iterator<Item = &Scheduler> {
        self.engines.iter().map(|running| running.engine.scheduler())
    }

    /// What all engines counted.
    pub fn counters(&self) -> Counters {
        self.schedulers().map(Scheduler::counters).fold(Counters::default(), Counters::plus)
    }

    /// What all engines do now.
    pub fn gauges(&self) -> Gauges {
        let mut sum = Gauges::default();
        for Running { engine, busy, .. } in &self.engines {
            let (used, blocks) = engine.scheduler().used_blocks();
            sum.used_blocks += busy.map_or(used, |busy| busy.used_blocks);
            sum.blocks += blocks;
            sum.running += busy.map_or(0, |busy| busy.running);
            sum.waiting += busy.map_or(0, |busy| busy.waiting);
        }
        sum
    }

    /// Gives a request to an engine as vLLM 0.22.1 does.
    ///
    /// `DPLBAsyncMPClient` (`vllm/v1/engine/core_client.py`) takes the engine with the least `4 × waiting +
    /// running`, by counts that a coordinator is to send every 100 ms. But only the engines of mixtures of
    /// experts publish theirs (`DPEngineCoreProc` of `vllm/v1/engine/core.py`). Those of a dense model do not,
    /// so each API server counts the requests that it handed over itself: they go round, from an engine of its
    /// own on, however busy the engines are. (Every 5 s without news the counts begin anew, which shifts a round
    /// by less than one request an engine; that is left out.)
    fn hand_over(&mut self, request: Request) {
        let (engines, servers) = (self.engines.len(), self.handed_over.len());
        let server = self.api_servers.server_of(request.id);
        let engine = (engines * server / servers + self.handed_over[server]) % engines;
        self.handed_over[server] += 1;
        self.engines[engine].engine.submit(request);
    }

    fn happen(&mut self, now_ns: u64, on_event: &mut dyn FnMut(Event)) {
        while let Some((_, request)) = self.arriving.pop_front_if(|(at_ns, _)| *at_ns <= now_ns) {
            self.api_servers.take_in(now_ns, request);
        }
        let done = self.api_servers.advance(now_ns);
        for request in done.taken_in {
            if !self.gone.remove(&request.id) {
                self.hand_over(request);
            }
        }
        for output in done.sent_out {
            if output.finished.is_some() {
                self.gone.remove(&output.id);
            }
            on_event(Event::Token { at_ns: now_ns + self.output_latency_ns, output });
        }
        for Running { engine, turn: under_way, busy } in &mut self.engines {
            if let Some((_, outputs)) = under_way.take_if(|(end_ns, _)| *end_ns <= now_ns) {
                self.api_servers.send_out(now_ns, &outputs);
                *busy = None;
            }
            if under_way.is_none()
                && let Some(mut turn) = engine.turn(now_ns)
            {
                *under_way = Some((turn.end_ns, std::mem::take(&mut turn.outputs)));
                *busy = Some(Gauges {
                    running: turn.running,
                    waiting: turn.waiting,
                    used_blocks: turn.used_blocks.0,
                    blocks: turn.used_blocks.1,
                });
                on_event(Event::Turn { start_ns: now_ns, turn });
            }
        }
    }
}
