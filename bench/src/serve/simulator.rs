//! The simulator's engine in real time: the same scheduler and step times, on the machine's clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bench_core::{
    schema::Phases,
    sim::{
        self,
        blocks::{BlockHash, mix},
        engine::{Engine, Step},
        scheduler::Request,
        server::FrontEndQueue,
    },
};
use tokio::sync::mpsc;

use super::{Server, ledger::EngineState, timer::now_ns};

/// Seed of the noise of step times.
const NOISE_SEED: u64 = 0;

/// A token on its way to the client.
struct Token {
    due_ns: u64,
    /// With the last one.
    phases: Option<Phases>,
}

enum Command {
    Submit { request: Request, arrival_ns: u64, tokens: mpsc::UnboundedSender<Token> },
    Abort { id: u64 },
}

/// Where requests are handed to the engine.
#[derive(Clone)]
pub(crate) struct Inbox {
    commands: mpsc::UnboundedSender<Command>,
    block_size: u32,
}

/// One request in the engine; it is aborted when this is dropped.
pub(crate) struct Job {
    id: u64,
    commands: mpsc::UnboundedSender<Command>,
    tokens: mpsc::UnboundedReceiver<Token>,
    received: u32,
    last_due_ns: u64,
    pub phases: Option<Phases>,
    /// See [`super::timer::Timer::poll_until`].
    pub asked_ns: u64,
}

impl Inbox {
    /// Hands over request number `id`.
    pub(crate) fn submit(&self, id: u64, prompt: &[u32], max_tokens: u32, arrival_ns: u64) -> Job {
        let (sender, tokens) = mpsc::unbounded_channel();
        let request = Request {
            id,
            prompt_tokens: prompt.len() as u32,
            max_tokens,
            shared_hashes: block_hashes(prompt, self.block_size),
        };
        // The engine ends with the server; until then it takes everything.
        let _ = self.commands.send(Command::Submit { request, arrival_ns, tokens: sender });
        Job {
            id,
            commands: self.commands.clone(),
            tokens,
            received: 0,
            last_due_ns: 0,
            phases: None,
            asked_ns: 0,
        }
    }
}

/// Each full block's hash depends on all tokens up to its end, as in vLLM.
fn block_hashes(prompt: &[u32], block_size: u32) -> Vec<BlockHash> {
    let mut hash = 0;
    prompt
        .chunks_exact(block_size as usize)
        .map(|block| {
            hash = block.iter().fold(hash, |hash, token| mix(hash, u64::from(*token)));
            hash
        })
        .collect()
}

impl Job {
    /// Ready with the time at which token number `count` is due, once the engine has made it.
    pub(super) fn poll_token(
        &mut self,
        count: u32,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        while self.received < count {
            let Some(token) = ready!(self.tokens.poll_recv(context)) else {
                return Poll::Ready(Err(io::Error::other("the engine has stopped")));
            };
            self.received += 1;
            self.last_due_ns = token.due_ns;
            self.phases = token.phases;
        }
        Poll::Ready(Ok(self.last_due_ns))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.phases.is_none() {
            // An engine that has ended has nothing to abort.
            let _ = self.commands.send(Command::Abort { id: self.id });
        }
    }
}

/// The engine with its front end and the requests in it.
pub(crate) struct Simulator {
    engine: Engine,
    front_end: FrontEndQueue,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Requests on their way from the front end to the engine: when they come, and which.
    handed: BinaryHeap<Reverse<(u64, u64)>>,
    requests: BTreeMap<u64, Request>,
    clients: BTreeMap<u64, mpsc::UnboundedSender<Token>>,
    state: EngineState,
}

impl Simulator {
    /// An idle engine of a server that has started, and its inbox.
    pub(crate) fn new(server: &sim::Server) -> (Self, Inbox) {
        let (sender, commands) = mpsc::unbounded_channel();
        let simulator = Self {
            engine: server.engine(NOISE_SEED),
            front_end: server.front_end(),
            commands,
            handed: BinaryHeap::new(),
            requests: BTreeMap::new(),
            clients: BTreeMap::new(),
            state: EngineState { cache_config: cache_config(server), ..EngineState::default() },
        };
        (simulator, Inbox { commands: sender, block_size: server.settings().block_size })
    }

    /// Serves, for ever.
    pub(crate) async fn run(mut self, server: Arc<Server>) {
        let mut clock_ns = now_ns();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.take(command);
            }
            self.hand_over(clock_ns);
            if let Some(step) = self.engine.next_step(clock_ns) {
                self.publish(&server, step.running, step.waiting, step.used_blocks);
                server.timer.sleep_until(step.end_ns).await;
                // The next step starts where this one ended, not where the machine woke up:
                // lateness must not add up.
                clock_ns = step.end_ns;
                self.send_out(step);
                continue;
            }
            self.publish(&server, 0, 0, self.engine.scheduler().used_blocks());
            let handed_ns = self.handed.peek().map_or(u64::MAX, |next| next.0.0);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                () = server.timer.sleep_until(handed_ns) => {}
            }
            clock_ns = now_ns().max(clock_ns);
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Submit { request, arrival_ns, tokens } => {
                let id = request.id;
                let handed_ns = self.front_end.take_in(arrival_ns, id, request.prompt_tokens);
                self.handed.push(Reverse((handed_ns, id)));
                self.requests.insert(id, request);
                self.clients.insert(id, tokens);
            }
            Command::Abort { id } => {
                self.requests.remove(&id);
                self.clients.remove(&id);
                self.engine.abort(id);
            }
        }
    }

    fn hand_over(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, id))) = self.handed.peek()
            && at_ns <= now_ns
        {
            self.handed.pop();
            if let Some(request) = self.requests.remove(&id) {
                self.engine.submit(request);
            }
        }
    }

    fn send_out(&mut self, step: Step) {
        for output in step.outputs {
            let due_ns = self.front_end.send_out(step.end_ns, output.id);
            if let Some(client) = self.clients.get(&output.id) {
                // A client that has gone has sent an abort, which is read before the next step.
                let _ = client.send(Token { due_ns, phases: output.finished });
            }
            if output.finished.is_some() {
                self.clients.remove(&output.id);
            }
        }
    }

    fn publish(&mut self, server: &Server, running: usize, waiting: usize, blocks: (u32, u32)) {
        let counters = self.engine.scheduler().counters();
        self.state.running = running as u64;
        self.state.waiting = waiting as u64;
        self.state.kv_cache_usage = f64::from(blocks.0) / f64::from(blocks.1.max(1));
        self.state.preemptions = counters.preemptions;
        self.state.prefix_cache_queries = counters.prefix_queries;
        self.state.prefix_cache_hits = counters.prefix_hits;
        server.ledger().engine = Some(self.state.clone());
    }
}

fn cache_config(server: &sim::Server) -> Vec<(&'static str, String)> {
    let (settings, observed) = (server.settings(), server.observed());
    let number = |n: Option<u64>| n.unwrap_or_default().to_string();
    vec![
        ("block_size", settings.block_size.to_string()),
        ("num_gpu_blocks", number(observed.kv_cache_blocks)),
        ("kv_cache_size_tokens", number(observed.kv_cache_tokens)),
        ("gpu_memory_utilization", settings.gpu_memory_utilization.to_string()),
        (
            "enable_prefix_caching",
            if settings.prefix_caching { "True" } else { "False" }.to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_shared_up_to_the_first_token_that_differs() {
        let (a, b) =
            (block_hashes(&[1, 2, 3, 4, 5, 6, 7], 2), block_hashes(&[1, 2, 3, 9, 5, 6], 2));
        assert_eq!((a.len(), b.len()), (3, 3));
        assert_eq!(a[0], b[0]);
        assert!(a[1] != b[1] && a[2] != b[2]);
    }
}
