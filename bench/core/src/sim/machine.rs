//! A server's machine: its API servers, its engine and the ways between them, driven by events.

use std::collections::{BTreeSet, VecDeque};

use super::{
    engine::{Engine, Output, Turn},
    front_end::ApiServers,
    model::{FrontEnd, scale},
    scheduler::{Request, Scheduler},
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
    engine: Engine,
    api_servers: ApiServers,
    request_latency_ns: u64,
    output_latency_ns: u64,
    /// On the way to an API server, in the order in which they come there.
    arriving: VecDeque<(u64, Request)>,
    /// Of the turn that runs: its end, and its tokens.
    turn: Option<(u64, Vec<Output>)>,
    /// Requests whose clients have gone, while they are on the way to the engine.
    gone: BTreeSet<u64>,
}

impl Machine {
    pub(super) fn new(engine: Engine, costs: &FrontEnd, api_servers: u32, pace: u64) -> Self {
        Self {
            engine,
            api_servers: ApiServers::new(costs, api_servers, pace),
            request_latency_ns: scale(costs.request_latency_ns, pace),
            output_latency_ns: scale(costs.output_latency_ns, pace),
            arriving: VecDeque::new(),
            turn: None,
            gone: BTreeSet::new(),
        }
    }

    /// A client sends a request; requests are sent in the order of time.
    pub fn send(&mut self, now_ns: u64, request: Request) {
        self.arriving.push_back((now_ns + self.request_latency_ns, request));
    }

    /// A client goes. Tokens on their way to it may still come.
    pub fn abort(&mut self, id: u64) {
        if !self.engine.abort(id) {
            self.gone.insert(id);
        }
    }

    /// When something happens next, if nothing is sent before.
    pub fn next_ns(&self) -> Option<u64> {
        let arrival_ns = self.arriving.front().map(|(at_ns, _)| *at_ns);
        let turn_ns = self.turn.as_ref().map(|(end_ns, _)| *end_ns);
        [arrival_ns, turn_ns, self.api_servers.next_ns()].into_iter().flatten().min()
    }

    /// Does what is due by now, in the order of time.
    pub fn advance(&mut self, now_ns: u64, on_event: &mut dyn FnMut(Event)) {
        while let Some(at_ns) = self.next_ns().filter(|at_ns| *at_ns <= now_ns) {
            self.happen(at_ns, on_event);
        }
    }

    /// The scheduler, to look at.
    pub fn scheduler(&self) -> &Scheduler {
        self.engine.scheduler()
    }

    fn happen(&mut self, now_ns: u64, on_event: &mut dyn FnMut(Event)) {
        while let Some((_, request)) = self.arriving.pop_front_if(|(at_ns, _)| *at_ns <= now_ns) {
            self.api_servers.take_in(now_ns, request);
        }
        let done = self.api_servers.advance(now_ns);
        for request in done.taken_in {
            if !self.gone.remove(&request.id) {
                self.engine.submit(request);
            }
        }
        for output in done.sent_out {
            if output.finished.is_some() {
                self.gone.remove(&output.id);
            }
            on_event(Event::Token { at_ns: now_ns + self.output_latency_ns, output });
        }
        if let Some((_, outputs)) = self.turn.take_if(|(end_ns, _)| *end_ns <= now_ns) {
            self.api_servers.send_out(now_ns, &outputs);
        }
        if self.turn.is_none()
            && let Some(mut turn) = self.engine.turn(now_ns)
        {
            self.turn = Some((turn.end_ns, std::mem::take(&mut turn.outputs)));
            on_event(Event::Turn { start_ns: now_ns, turn });
        }
    }
}
