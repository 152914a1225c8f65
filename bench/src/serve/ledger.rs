//! What the server did, in its own account: vLLM's `/metrics`, and the truth report.

use std::{collections::BTreeMap, fmt::Write as _};

use bench_core::{
    hist::Latencies,
    schema::{Phases, Quantiles},
};
use serde::{Deserialize, Serialize};

/// The server's own account, against which a client's is checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Truth {
    /// Requests for a completion that were read whole.
    pub arrived: u64,
    /// Of those, requests that were answered in full.
    pub completed: u64,
    /// Requests whose client went away before the end.
    pub aborted: u64,
    /// Requests refused as malformed or too long.
    pub refused: u64,
    /// Requests that were failed on purpose, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Prompt tokens of the requests that got a first token.
    pub prompt_tokens: u64,
    /// Output tokens, whether streamed or not.
    pub output_tokens: u64,
    /// From the first arrival to the last, in seconds.
    pub arrivals_span_s: f64,
    /// Write of a token to the socket − time it was due, one value a token.
    pub write_lateness: Quantiles,
    /// Write of the first token − arrival. Where an answer is not streamed, the time at which its
    /// tokens were generated stands for their write, here and below.
    pub ttft: Quantiles,
    /// Gap between the writes of successive tokens; tokens of one write have gaps of 0.
    pub itl: Quantiles,
    /// Write of the answer's last byte − arrival.
    pub e2e: Quantiles,
}

/// Times of one request, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub arrival_ns: u64,
    /// 0 until there is a token.
    pub first_token_ns: u64,
    pub last_token_ns: u64,
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    /// The simulated engine's account.
    pub phases: Option<Phases>,
}

/// State of a simulated engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineState {
    pub running: u64,
    pub waiting: u64,
    /// Between 0 and 1.
    pub kv_cache_usage: f64,
    pub preemptions: u64,
    pub prefix_cache_queries: u64,
    pub prefix_cache_hits: u64,
    /// Labels of `vllm:cache_config_info`.
    pub cache_config: Vec<(&'static str, String)>,
}

/// Counters and histograms since the start.
pub(crate) struct Ledger {
    pub refused: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub engine: Option<EngineState>,
    arrived: u64,
    started: u64,
    completed: u64,
    aborted: u64,
    first_arrival_ns: u64,
    last_arrival_ns: u64,
    prompt_tokens: u64,
    generation_tokens: u64,
    lateness: Latencies,
    ttft: Latencies,
    itl: Latencies,
    e2e: Latencies,
    histograms: Histograms,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            refused: 0,
            faults: BTreeMap::new(),
            engine: None,
            arrived: 0,
            started: 0,
            completed: 0,
            aborted: 0,
            first_arrival_ns: u64::MAX,
            last_arrival_ns: 0,
            prompt_tokens: 0,
            generation_tokens: 0,
            lateness: Latencies::default(),
            ttft: Latencies::default(),
            itl: Latencies::default(),
            e2e: Latencies::default(),
            histograms: Histograms::default(),
        }
    }
}

impl Ledger {
    /// A request has been read whole.
    pub(crate) fn arrived(&mut self, at_ns: u64) {
        self.arrived += 1;
        self.first_arrival_ns = self.first_arrival_ns.min(at_ns);
        self.last_arrival_ns = self.last_arrival_ns.max(at_ns);
    }

    /// Tokens that were due at `due_ns` came out at `at_ns`.
    pub(crate) fn tokens(&mut self, span: &mut Span, tokens: u32, due_ns: u64, at_ns: u64) {
        let lateness_ns = at_ns.saturating_sub(due_ns);
        self.lateness.record_many_ns(lateness_ns, u64::from(tokens));
        self.generation_tokens += u64::from(tokens);
        let mut gaps_within = tokens;
        if span.first_token_ns == 0 {
            let ttft_ns = at_ns - span.arrival_ns;
            span.first_token_ns = at_ns;
            self.prompt_tokens += u64::from(span.prompt_tokens);
            self.ttft.record_ns(ttft_ns);
            self.histograms.ttft_s.record_ns(ttft_ns);
        } else {
            let gap_ns = at_ns - span.last_token_ns;
            self.itl.record_ns(gap_ns);
            self.histograms.itl_s.record_ns(gap_ns);
        }
        gaps_within -= 1;
        if gaps_within > 0 {
            self.itl.record_many_ns(0, u64::from(gaps_within));
        }
        span.last_token_ns = at_ns;
        span.output_tokens += tokens;
    }

    /// Work on a request begins; it ends with [`Ledger::completed`] or [`Ledger::aborted`].
    pub(crate) fn started(&mut self) {
        self.started += 1;
    }

    /// A request has been answered in full.
    pub(crate) fn completed(&mut self, span: &Span, at_ns: u64) {
        self.completed += 1;
        self.e2e.record_ns(at_ns - span.arrival_ns);
        self.histograms.completed(span, at_ns);
    }

    /// A client went away before the end of its answer.
    pub(crate) fn aborted(&mut self) {
        self.aborted += 1;
    }

    /// The truth report.
    pub(crate) fn truth(&self) -> Truth {
        Truth {
            arrived: self.arrived,
            completed: self.completed,
            aborted: self.aborted,
            refused: self.refused,
            faults: self.faults.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect(),
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.generation_tokens,
            arrivals_span_s: self.last_arrival_ns.saturating_sub(self.first_arrival_ns) as f64
                / 1e9,
            write_lateness: self.lateness.quantiles(),
            ttft: self.ttft.quantiles(),
            itl: self.itl.quantiles(),
            e2e: self.e2e.quantiles(),
        }
    }

    /// The answer to `/metrics`, in vLLM's names.
    pub(crate) fn metrics(&self, model: &str) -> String {
        // A server without an engine has no queue: everything that it holds is running.
        let engine = self.engine.clone().unwrap_or_else(|| EngineState {
            running: self.started - self.completed - self.aborted,
            ..EngineState::default()
        });
        let mut page = Page { text: String::with_capacity(16_384), labels: labels(model) };
        page.one("gauge", "vllm:num_requests_running", engine.running);
        page.one("gauge", "vllm:num_requests_waiting", engine.waiting);
        page.one("gauge", "vllm:kv_cache_usage_perc", engine.kv_cache_usage);
        for (name, value) in [
            ("vllm:num_preemptions_total", engine.preemptions),
            ("vllm:prompt_tokens_total", self.prompt_tokens),
            ("vllm:generation_tokens_total", self.generation_tokens),
            ("vllm:prefix_cache_queries_total", engine.prefix_cache_queries),
            ("vllm:prefix_cache_hits_total", engine.prefix_cache_hits),
        ] {
            page.one("counter", name, value);
        }
        page.head("counter", "vllm:request_success_total");
        for (reason, value) in [
            ("stop", 0),
            ("length", self.completed),
            ("abort", self.aborted),
            ("error", 0),
            ("repetition", 0),
        ] {
            page.sample(
                "vllm:request_success_total",
                &format!(",finished_reason=\"{reason}\""),
                value,
            );
        }
        if !engine.cache_config.is_empty() {
            page.head("gauge", "vllm:cache_config_info");
            let labels: String =
                engine.cache_config.iter().map(|(k, v)| format!(",{k}=\"{v}\"")).collect();
            page.sample("vllm:cache_config_info", &labels, 1);
        }
        for (name, histogram) in self.histograms.all() {
            page.histogram(name, histogram);
        }
        page.text
    }
}

/// Every sample's labels.
fn labels(model: &str) -> String {
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("engine=\"0\",model_name=\"{model}\"")
}

/// Prometheus' text format.
struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn head(&mut self, kind: &str, name: &str) {
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, more_labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{name}{{{}{more_labels}}} {value}", self.labels);
    }

    fn one(&mut self, kind: &str, name: &str, value: impl std::fmt::Display) {
        self.head(kind, name);
        self.sample(name, "", value);
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.head("histogram", name);
        let mut up_to = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            up_to += count;
            self.sample(&format!("{name}_bucket"), &format!(",le=\"{bound:?}\""), up_to);
        }
        self.sample(&format!("{name}_bucket"), ",le=\"+Inf\"", histogram.count);
        self.sample(&format!("{name}_sum"), "", histogram.sum);
        self.sample(&format!("{name}_count"), "", histogram.count);
    }
}

/// A Prometheus histogram.
struct Histogram {
    bounds: &'static [f64],
    /// Values up to each bound and above the one before it.
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], sum: 0.0, count: 0 }
    }

    fn record(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
        self.count += 1;
    }

    fn record_ns(&mut self, ns: u64) {
        self.record(ns as f64 / 1e9);
    }
}

// Buckets of `vllm/v1/metrics/buckets.py`.
const REQUEST_S: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
const TTFT_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const ITL_S: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0,
];

struct Histograms {
    ttft_s: Histogram,
    itl_s: Histogram,
    tpot_s: Histogram,
    e2e_s: Histogram,
    queue_s: Histogram,
    inference_s: Histogram,
    prefill_s: Histogram,
    decode_s: Histogram,
    prompt_tokens: Histogram,
    generation_tokens: Histogram,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            ttft_s: Histogram::new(TTFT_S),
            itl_s: Histogram::new(ITL_S),
            tpot_s: Histogram::new(ITL_S),
            e2e_s: Histogram::new(REQUEST_S),
            queue_s: Histogram::new(REQUEST_S),
            inference_s: Histogram::new(REQUEST_S),
            prefill_s: Histogram::new(REQUEST_S),
            decode_s: Histogram::new(REQUEST_S),
            prompt_tokens: Histogram::new(TOKENS),
            generation_tokens: Histogram::new(TOKENS),
        }
    }
}

impl Histograms {
    fn completed(&mut self, span: &Span, at_ns: u64) {
        let phases = span.phases.unwrap_or_else(|| Phases {
            queue_ns: 0,
            prefill_ns: span.first_token_ns - span.arrival_ns,
            decode_ns: span.last_token_ns - span.first_token_ns,
        });
        self.e2e_s.record_ns(at_ns - span.arrival_ns);
        self.queue_s.record_ns(phases.queue_ns);
        self.inference_s.record_ns(phases.prefill_ns + phases.decode_ns);
        self.prefill_s.record_ns(phases.prefill_ns);
        self.decode_s.record_ns(phases.decode_ns);
        self.prompt_tokens.record(f64::from(span.prompt_tokens));
        self.generation_tokens.record(f64::from(span.output_tokens));
        if span.output_tokens > 1 {
            self.tpot_s.record_ns(phases.decode_ns / u64::from(span.output_tokens - 1));
        }
    }

    fn all(&self) -> [(&'static str, &Histogram); 10] {
        [
            ("vllm:time_to_first_token_seconds", &self.ttft_s),
            ("vllm:inter_token_latency_seconds", &self.itl_s),
            ("vllm:request_time_per_output_token_seconds", &self.tpot_s),
            ("vllm:e2e_request_latency_seconds", &self.e2e_s),
            ("vllm:request_queue_time_seconds", &self.queue_s),
            ("vllm:request_inference_time_seconds", &self.inference_s),
            ("vllm:request_prefill_time_seconds", &self.prefill_s),
            ("vllm:request_decode_time_seconds", &self.decode_s),
            ("vllm:request_prompt_tokens", &self.prompt_tokens),
            ("vllm:request_generation_tokens", &self.generation_tokens),
        ]
    }
}
