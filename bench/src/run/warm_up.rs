//! Bursts that are not counted, until a server start no longer gets faster.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::{
    hist::round,
    schema::{Arrival, LoadSpec, PlannedTrial, RequestStatus, Size},
    summarize::{Summarizer, failure_advice},
    warm_up::{Round, WarmUp, is_settled},
    workload::Workload,
};
use bench_trials::emit;

use super::{
    server::{Session, WATCH_PERIOD},
    silence::Silence,
};
use crate::{
    client::{answer::meaning, body::Dialect, connection::Traffic},
    samples,
};

/// Output tokens of each request, at most.
const TOKENS_MAX: u32 = 64;
/// Requests of the first round, which also shows what the server understands.
const REQUESTS_MIN: u32 = 4;
const REQUESTS_MAX: u32 = 256;
/// Rounds grow until they take this long, or have as many requests as the loads have in flight.
const ROUND_S: f64 = 1.0;
/// What warming up may take in all.
const TIME_MAX: Duration = Duration::from_secs(45);
const ROUNDS_MAX: usize = 16;

impl Session {
    /// Sends rounds of requests until they get no faster, and notes them.
    pub(super) async fn warm_up(&mut self, trials: &[PlannedTrial]) -> anyhow::Result<()> {
        let timed = trials.iter().map(|trial| &trial.load).filter(|load| load.answers.is_none());
        let heaviest = timed.max_by_key(|load| in_flight(load));
        let Some(load) = heaviest else { return Ok(()) };
        let most = in_flight(load).clamp(REQUESTS_MIN, REQUESTS_MAX);
        let (start, mut requests) = (Instant::now(), REQUESTS_MIN);
        let mut warm_up = WarmUp::default();
        let mut seed = load.seed;
        while warm_up.rounds.len() < ROUNDS_MAX {
            seed = seed.wrapping_add(1);
            let round = match self.warm_up_round(warm_up_load(load, requests, seed)).await? {
                Ok(round) => round,
                // Fields of vLLM's own are refused by some other servers.
                Err(kind)
                    if self.dialect == Dialect::Vllm
                        && matches!(&*kind.0, "http_400" | "http_422") =>
                {
                    self.dialect = Dialect::Plain;
                    continue;
                }
                Err((kind, text)) => {
                    let said = text.as_deref().or_else(|| meaning(&kind));
                    let said = said.map(|text| format!(": {text}")).unwrap_or_default();
                    let advice = failure_advice([&*kind]);
                    anyhow::bail!("a request of the warm-up failed ({kind}{said}); {advice}");
                }
            };
            warm_up.rounds.push(round);
            if round.duration_s < ROUND_S && requests < most {
                requests = (requests * 4).min(most);
                continue;
            }
            warm_up.settled = is_settled(&warm_up.rounds);
            if warm_up.settled || start.elapsed() > TIME_MAX {
                break;
            }
        }
        if !warm_up.settled {
            eprintln!(
                "warning: the server still gets faster after {} rounds of warming up; its first \
                 load points may be slow",
                warm_up.rounds.len()
            );
        }
        self.observed.warm_up = Some(warm_up);
        Ok(())
    }

    /// Runs one round; gives the kind of its first failure and what the server said.
    async fn warm_up_round(
        &self,
        load: LoadSpec,
    ) -> anyhow::Result<Result<Round, (String, Option<Box<str>>)>> {
        let load = &Workload::from(load);
        let (samples, received) = samples::channel();
        let traffic = Arc::<Traffic>::default();
        let mut ended = self.start(load, None, samples, Arc::clone(&traffic)).await?;
        let (mut silence, mut tick) = (Silence::of(load), tokio::time::interval(WATCH_PERIOD));
        loop {
            tokio::select! {
                outcome = &mut ended => {
                    outcome.context("the driving thread failed")??;
                    break;
                }
                _ = tick.tick() => silence.look(&traffic, false).as_ref().map_or(Ok(()), emit)?,
            }
        }
        let mut summarizer = Summarizer::new(load);
        let mut first_failure = None;
        for sample in received.iter().flatten() {
            summarizer.push(&sample);
            // A server that ends its answers as it likes is warm all the same.
            if let RequestStatus::Failed(kind) = sample.status
                && kind != "short_answer"
            {
                first_failure.get_or_insert((kind, sample.failure_text));
            }
        }
        let none = (Default::default(), Default::default());
        let summary = summarizer.finish(&none.0, &none.1, "warm-up", None).summary;
        // Some failures are for the trials to count.
        if let Some(failure) = first_failure.filter(|_| summary.counts.completed == 0) {
            return Ok(Err(failure));
        }
        Ok(Ok(Round {
            requests: summary.counts.sent as u32,
            duration_s: summary.duration_s,
            output_tokens_per_s: round(summary.output_tokens_per_s),
            itl_p99_ms: summary.itl.p99_ms,
        }))
    }
}

/// Requests that a load has in flight, about.
fn in_flight(load: &LoadSpec) -> u32 {
    let wanted = match (&load.arrival, load.size) {
        (Arrival::ClosedLoop { concurrency }, _) => *concurrency,
        (Arrival::AllAtOnce {}, Size::Requests(count)) => count,
        // What arrives within two seconds.
        (_, size) => {
            let expected = load.requests_expected().unwrap_or(u64::from(REQUESTS_MIN)) as f64;
            let rate = match size {
                Size::DurationMs(ms) => expected / (ms as f64 / 1e3),
                Size::Requests(_) => f64::from(REQUESTS_MIN),
            };
            (2.0 * rate) as u32
        }
    };
    load.max_concurrency.map_or(wanted, |max| wanted.min(max))
}

/// A burst of the load's kinds of requests with fewer tokens; each round has prompts of its own.
fn warm_up_load(load: &LoadSpec, requests: u32, seed: u64) -> LoadSpec {
    let mut load = load.clone();
    load.arrival = Arrival::AllAtOnce {};
    load.size = Size::Requests(requests);
    load.seed = seed;
    // Of a file the lengths are enough.
    load.data = None;
    load.conversation = None;
    load.max_concurrency = None;
    for class in &mut load.classes {
        class.output_tokens.min = class.output_tokens.min.min(TOKENS_MAX);
        class.output_tokens.max = class.output_tokens.max.min(TOKENS_MAX);
    }
    load
}
