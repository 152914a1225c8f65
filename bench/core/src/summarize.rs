//! Raw samples to the figures of a trial. Deterministic: the same samples, the same bytes.

mod checks;
mod jobs;
mod mixed;
mod series;
mod timeline;

use std::collections::BTreeMap;

use crate::{
    energy,
    hist::{Latencies, StoredHistogram, round},
    schema::{
        Anatomy, Api, ClassSummary, Counts, FORMAT, Measured, Observed, Phases, Quantiles,
        RequestSample, RequestStatus, ServerObservation, ServerTotals, SteadyState, Summary,
    },
    workload::{Plan, Workload, plan_digest, prefix_hit_percent},
};
pub use checks::{POLLS_MIN, failure_advice};
use jobs::Jobs;
pub use mixed::{LONG_PROMPT_TOKENS, long_prompt_share};
pub use series::{Series, series};
use timeline::Timeline;

/// Tokens of a KV block where a server does not say.
const BLOCK_SIZE: u64 = 16;

/// Takes samples one by one, in any order, in memory that does not grow with their number (but for
/// loads with short and long prompts, whose gaps are kept: [`mixed`]).
#[derive(Debug)]
pub struct Summarizer {
    load: Workload,
    counts: Counts,
    end_ns: u64,
    input_tokens: u64,
    output_tokens: u64,
    all: ClassLatencies,
    client_queue: Latencies,
    send_lag: Latencies,
    itl: Latencies,
    classes: Vec<ClassLatencies>,
    phases: PhaseSums,
    timeline: Timeline,
    mixed: Option<mixed::Mixed>,
    good: u64,
    normalized_ns: u128,
    with_output: u64,
    jobs: Option<Jobs>,
    inter_chunk: Latencies,
    /// Whether any event held several tokens.
    chunks_differ: bool,
    tokens_spread: u64,
    /// By kind, that of the request with the lowest number: the order of samples is chance.
    failure_texts: BTreeMap<String, (u32, Box<str>)>,
}

/// The histograms that exist for the whole and for each class.
#[derive(Clone, Debug, Default)]
struct ClassLatencies {
    ttft: Latencies,
    tpot: Latencies,
    e2e: Latencies,
}

impl ClassLatencies {
    fn record(&mut self, ttft_ns: Option<u64>, tpot_ns: Option<u64>, e2e_ns: u64) {
        ttft_ns.inspect(|ns| self.ttft.record_ns(*ns));
        tpot_ns.inspect(|ns| self.tpot.record_ns(*ns));
        self.e2e.record_ns(e2e_ns);
    }

    fn record_failed(&mut self) {
        for latencies in [&mut self.ttft, &mut self.tpot, &mut self.e2e] {
            latencies.record_failed();
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct PhaseSums {
    requests: u64,
    queue_ns: u128,
    prefill_ns: u128,
    decode_ns: u128,
}

impl Summarizer {
    /// For the samples of one trial of this load.
    pub fn new(load: &Workload) -> Self {
        Self {
            counts: Counts::default(),
            end_ns: 0,
            input_tokens: 0,
            output_tokens: 0,
            all: ClassLatencies::default(),
            client_queue: Latencies::default(),
            send_lag: Latencies::default(),
            itl: Latencies::default(),
            classes: vec![ClassLatencies::default(); load.classes.len()],
            phases: PhaseSums::default(),
            timeline: Timeline::default(),
            mixed: mixed::Mixed::of(load),
            good: 0,
            normalized_ns: 0,
            with_output: 0,
            jobs: Jobs::new(load),
            inter_chunk: Latencies::default(),
            chunks_differ: false,
            tokens_spread: 0,
            failure_texts: BTreeMap::new(),
            load: load.clone(),
        }
    }

    /// Counts one request. A failed one ranks behind all others.
    pub fn push(&mut self, sample: &RequestSample) {
        self.counts.sent += 1;
        self.end_ns = self.end_ns.max(sample.end_ns);
        self.client_queue.record_ns(sample.queued_ns);
        self.send_lag
            .record_ns(sample.sent_ns.saturating_sub(sample.intended_ns + sample.queued_ns));
        self.counts.resent += u64::from(sample.resent);
        let is_completed = !matches!(sample.status, RequestStatus::Failed(_));
        self.timeline.record(sample.intended_ns, sample.end_ns, is_completed);
        if let RequestStatus::Failed(kind) = &sample.status {
            *self.counts.failed.entry(kind.clone()).or_default() += 1;
            self.note_failure(kind, sample);
            if let Some(jobs) = &mut self.jobs {
                jobs.push(sample, false);
            }
            return;
        }
        self.counts.completed += 1;
        self.tokens_spread += u64::from(sample.tokens_spread);
        self.input_tokens += u64::from(sample.input_tokens);
        self.output_tokens += u64::from(sample.output_tokens);
        let since = |at: u64| at.saturating_sub(sample.intended_ns);
        let ttft_ns = sample.first_token_ns().map(since);
        let tpot_ns = match (sample.first_token_ns(), sample.last_token_ns()) {
            (Some(first), Some(last)) if sample.output_tokens > 1 => {
                Some((last - first) / u64::from(sample.output_tokens - 1))
            }
            _ => None,
        };
        let e2e_ns = since(sample.end_ns);
        self.all.record(ttft_ns, tpot_ns, e2e_ns);
        let is_good =
            self.load.goodput.is_some_and(|limits| limits.keeps(ttft_ns, tpot_ns, e2e_ns));
        self.good += u64::from(is_good);
        if let Some(jobs) = &mut self.jobs {
            jobs.push(sample, is_good);
        }
        if sample.output_tokens > 0 {
            self.with_output += 1;
            self.normalized_ns += u128::from(e2e_ns / u64::from(sample.output_tokens));
        }
        if let Some(class) = self.classes.get_mut(usize::from(sample.class)) {
            class.record(ttft_ns, tpot_ns, e2e_ns);
        }
        self.record_gaps(&sample.tokens);
        if let Some(mixed) = &mut self.mixed {
            mixed.push(sample, ttft_ns);
        }
        if let Some(Phases { queue_ns, prefill_ns, decode_ns }) = sample.phases {
            self.phases.requests += 1;
            self.phases.queue_ns += u128::from(queue_ns);
            self.phases.prefill_ns += u128::from(prefill_ns);
            self.phases.decode_ns += u128::from(decode_ns);
        }
    }

    fn note_failure(&mut self, kind: &str, sample: &RequestSample) {
        self.all.record_failed();
        if let Some(class) = self.classes.get_mut(usize::from(sample.class)) {
            class.record_failed();
        }
        if let Some(mixed) = &mut self.mixed {
            mixed.push_failed(sample);
        }
        let Some(text) = &sample.failure_text else { return };
        let first = self.failure_texts.entry(kind.to_owned());
        let first = first.or_insert_with(|| (sample.id, text.clone()));
        if sample.id < first.0 {
            *first = (sample.id, text.clone());
        }
    }

    /// An event of several tokens is one gap and then gaps of zero: they came together.
    fn record_gaps(&mut self, tokens: &[(u64, u32)]) {
        let mut previous_ns = None;
        for &(at_ns, count) in tokens {
            self.timeline.record_tokens(at_ns, count);
            self.chunks_differ |= count > 1;
            self.itl.record_many_ns(0, u64::from(count.saturating_sub(1)));
            if let Some(previous_ns) = previous_ns {
                self.itl.record_ns(at_ns - previous_ns);
                self.inter_chunk.record_ns(at_ns - previous_ns);
            }
            previous_ns = Some(at_ns);
        }
    }

    /// Histograms by name, for merging trials later.
    pub fn histograms(&self) -> BTreeMap<&'static str, StoredHistogram> {
        [
            ("ttft", &self.all.ttft),
            ("tpot", &self.all.tpot),
            ("itl", &self.itl),
            ("e2e", &self.all.e2e),
            ("client_queue", &self.client_queue),
            ("send_lag", &self.send_lag),
        ]
        .into_iter()
        .map(|(name, latencies)| (name, latencies.to_stored()))
        .collect()
    }

    /// The record of the trial.
    ///
    /// `launch` names the server start; `measured_at` is RFC 3339, or `None` when simulated.
    pub fn finish(
        mut self,
        server: &ServerObservation,
        observed: &Observed,
        launch: &str,
        measured_at: Option<String>,
    ) -> Measured {
        self.counts.planned = self.planned();
        let mut summary = self.summary(server);
        // As the server's own blocks; vLLM's default where it does not say.
        summary.prefix_cache_hit_percent_planned =
            self.planned_prefix_hits(observed.block_size.unwrap_or(BLOCK_SIZE));
        let checks = checks::run(&summary, server, self.planned_input_tokens());
        Measured {
            format: FORMAT,
            launch: launch.to_owned(),
            measured_at,
            plan: plan_digest(&self.load),
            observed: observed.clone(),
            saturated: self.load.arrival.is_open_loop() && self.timeline.grows(),
            summary,
            checks,
            answers: None,
        }
    }

    /// Requests of the plan; of a closed loop with a duration, those that were sent.
    fn planned(&self) -> u64 {
        match (&self.load.arrival, self.load.size) {
            (_, crate::schema::Size::Requests(count)) => u64::from(count),
            (crate::schema::Arrival::ClosedLoop { .. }, _) => self.counts.sent,
            _ => Plan::new(&self.load).count() as u64,
        }
    }

    /// Of loads that repeat something; in others a cache finds nothing.
    fn planned_prefix_hits(&self, block_size: u64) -> Option<f64> {
        let load = &self.load;
        let repeats = load.data.is_some()
            || load.conversation.is_some()
            || load.classes.iter().any(|class| class.prefix.is_some());
        let sent = usize::try_from(self.counts.sent).unwrap_or(usize::MAX);
        repeats.then(|| prefix_hit_percent(load, block_size, sent))?
    }

    /// Prompt tokens of the plan, where the server must count as many: prompts are token ids, and every
    /// request was completed.
    fn planned_input_tokens(&self) -> Option<u64> {
        let is_exact = self.load.request.api == Api::Completions
            && self.counts.completed == self.counts.planned
            && self.counts.completed == self.counts.sent;
        let planned = Plan::new(&self.load).take(self.counts.planned as usize);
        is_exact.then(|| planned.map(|request| u64::from(request.input_tokens)).sum())
    }

    fn summary(&self, server: &ServerObservation) -> Summary {
        let load_has_limits = self.load.goodput.is_some();
        let duration_s = self.end_ns as f64 / 1e9;
        let per_s = |n: u64| if duration_s > 0.0 { round(n as f64 / duration_s) } else { 0.0 };
        let send_lag = self.send_lag.quantiles();
        let client_queue = self.load.max_concurrency.map(|_| self.client_queue.quantiles());
        let client_ms = client_queue.map_or(0.0, |queue| queue.mean_ms) + send_lag.mean_ms;
        let e2e = self.all.e2e.quantiles();
        let steady_state = self.timeline.steady_state(self.end_ns);
        Summary {
            counts: self.counts.clone(),
            failure_texts: self
                .failure_texts
                .iter()
                .map(|(kind, (_, text))| (kind.clone(), text.to_string()))
                .collect(),
            tokens_spread: self.tokens_spread,
            duration_s: round(duration_s),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            requests_per_s: per_s(self.counts.completed),
            output_tokens_per_s: per_s(self.output_tokens),
            anatomy: self.anatomy(server, client_ms, &e2e),
            steady_state: Some(steady_state),
            energy: match &steady_state {
                SteadyState::Found(window) => {
                    energy::between(&server.energy, window.from_s, window.to_s)
                }
                SteadyState::NotFound => None,
            },
            good: self.load.goodput.map(|_| self.good),
            normalized_latency_mean_ms: (self.with_output > 0)
                .then(|| round(self.normalized_ns as f64 / self.with_output as f64 / 1e6)),
            client_queue,
            send_lag,
            ttft: self.all.ttft.quantiles(),
            tpot: self.all.tpot.quantiles(),
            itl: self.itl.quantiles(),
            inter_chunk: self.chunks_differ.then(|| self.inter_chunk.quantiles()),
            e2e,
            classes: self.class_summaries(),
            conversations: self.jobs.as_ref().map(|jobs| jobs.totals(load_has_limits)),
            prefix_cache_hit_percent_planned: None,
            mixed_prompts: self.mixed.as_ref().map(mixed::Mixed::finish),
            server: totals(server),
        }
    }

    /// From the server's account of each request where there is one, else from its totals. What
    /// no phase explains is the front end's.
    fn anatomy(
        &self,
        server: &ServerObservation,
        client_ms: f64,
        e2e: &Quantiles,
    ) -> Option<Anatomy> {
        if e2e.count == 0 {
            return None;
        }
        let [queue_ms, prefill_ms, decode_ms] = if self.phases.requests == e2e.count {
            let mean = |sum_ns: u128| sum_ns as f64 / self.phases.requests as f64 / 1e6;
            [self.phases.queue_ns, self.phases.prefill_ns, self.phases.decode_ns].map(mean)
        } else {
            [server.queue_mean_ms?, server.prefill_mean_ms?, server.decode_mean_ms?]
        };
        let front_end_ms = e2e.mean_ms - client_ms - queue_ms - prefill_ms - decode_ms;
        Some(Anatomy {
            send_lag_ms: round(client_ms),
            front_end_ms: round(front_end_ms),
            queue_ms: round(queue_ms),
            prefill_ms: round(prefill_ms),
            decode_ms: round(decode_ms),
        })
    }

    fn class_summaries(&self) -> Vec<ClassSummary> {
        self.load
            .classes
            .iter()
            .zip(&self.classes)
            .map(|(class, latencies)| ClassSummary {
                name: class.name.clone(),
                completed: latencies.e2e.count(),
                ttft: latencies.ttft.quantiles(),
                tpot: latencies.tpot.quantiles(),
                e2e: latencies.e2e.quantiles(),
            })
            .collect()
    }
}

fn totals(server: &ServerObservation) -> ServerTotals {
    let hit_percent = match (server.prefix_cache_hits, server.prefix_cache_queries) {
        (Some(hits), Some(queries)) if queries > 0 => {
            Some(round(100.0 * hits as f64 / queries as f64))
        }
        _ => None,
    };
    ServerTotals {
        preemptions: server.preemptions,
        kv_cache_percent_max: server.kv_cache_percent_max.map(round),
        prefix_cache_hit_percent: hit_percent,
        running_mean: server.running_mean.map(round),
        waiting_mean: server.waiting_mean.map(round),
        accepted_length_mean: match (server.accepted_draft_tokens, server.drafts) {
            (Some(accepted), Some(drafts)) if drafts > 0 => {
                Some(round(1.0 + accepted as f64 / drafts as f64))
            }
            _ => None,
        },
        polls: server.polls,
    }
}

#[cfg(test)]
mod tests;
