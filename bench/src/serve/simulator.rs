//! The simulator's engine in real time: the same scheduler and step times, on the machine's clock.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bench_core::{
    schema::Phases,
    sim::{
        self,
        blocks::{BlockHash, mix},
        engine::Output,
        machine::{Event, Machine},
        scheduler::Request,
    },
};
use tokio::sync::mpsc;

use super::ledger::{EngineState, Ledger};
use crate::timer::{Timer, now_ns};

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
    /// See [`crate::timer::Timer::poll_until`].
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

/// The machine and the clients of its requests.
pub(crate) struct Simulator {
    machine: Machine,
    commands: mpsc::UnboundedReceiver<Command>,
    clients: BTreeMap<u64, mpsc::UnboundedSender<Token>>,
    state: EngineState,
}

impl Simulator {
    /// An idle machine of a server that has started, and its inbox.
    pub(crate) fn new(server: &sim::Server) -> (Self, Inbox) {
        let (sender, commands) = mpsc::unbounded_channel();
        let simulator = Self {
            machine: server.machine(NOISE_SEED),
            commands,
            clients: BTreeMap::new(),
            state: EngineState { cache_config: cache_config(server), ..EngineState::default() },
        };
        (simulator, Inbox { commands: sender, block_size: server.settings().block_size })
    }

    /// Serves, for ever.
    pub(crate) async fn run(mut self, timer: Arc<Timer>, ledger: Arc<Mutex<Ledger>>) {
        let mut events = Vec::new();
        loop {
            // Things happen when they are due, not when the machine woke up: lateness must not
            // add up.
            self.machine.advance(now_ns(), &mut |event| events.push(event));
            for event in events.drain(..) {
                match event {
                    Event::Turn { .. } => self.publish(&ledger),
                    Event::Token { at_ns, output } => self.send_out(at_ns, output),
                }
            }
            let next_ns = self.machine.next_ns();
            if next_ns.is_none() {
                self.publish(&ledger);
            }
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                () = timer.sleep_until(next_ns.unwrap_or(u64::MAX)) => {}
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Submit { request, arrival_ns, tokens } => {
                self.clients.insert(request.id, tokens);
                self.machine.send(arrival_ns, request);
            }
            Command::Abort { id } => {
                self.clients.remove(&id);
                self.machine.abort(id);
            }
        }
    }

    fn send_out(&mut self, due_ns: u64, Output { id, finished: phases }: Output) {
        if let Some(client) = self.clients.get(&id) {
            // A client that has gone has sent an abort, which is read soon.
            let _ = client.send(Token { due_ns, phases });
        }
        if phases.is_some() {
            self.clients.remove(&id);
        }
    }

    fn publish(&mut self, ledger: &Mutex<Ledger>) {
        let (now, counters) = (self.machine.gauges(), self.machine.counters());
        self.state.running = now.running as u64;
        self.state.waiting = now.waiting as u64;
        self.state.kv_cache_usage = f64::from(now.used_blocks) / f64::from(now.blocks.max(1));
        self.state.preemptions = counters.preemptions;
        self.state.prefix_cache_queries = counters.prefix_queries;
        self.state.prefix_cache_hits = counters.prefix_hits;
        ledger.lock().unwrap_or_else(PoisonError::into_inner).engine = Some(self.state.clone());
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
