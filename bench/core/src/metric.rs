//! Every metric, defined once: objectives, limits, targets, tables, plots and docs read this list.

use std::collections::BTreeMap;

use crate::schema::{ClassSummary, Measured, MixedPrompts, Quantiles, SteadyState, SteadyWindow};

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it explains.
    Neither,
}

/// One metric of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name in profiles, results and tables of figures.
    pub id: &'static str,
    /// Name in the report.
    pub title: &'static str,
    /// Unit; empty for ratios.
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
    /// How it is computed.
    pub formula: &'static str,
    /// Its name, or that of its source, in vLLM; empty where there is none.
    pub vllm: &'static str,
    /// Its value in a trial; `None` where the trial cannot tell.
    pub value: fn(&Measured) -> Option<f64>,
}

impl Metric {
    /// Whether the metric is a share between 0 and 1, shown in percent.
    pub fn is_share(&self) -> bool {
        self.unit == "share"
    }

    /// Whether the metric explains others and is no aim of its own: where time goes, what the client
    /// does, counts.
    pub fn is_diagnostic(&self) -> bool {
        let explains =
            ["queue_share", "front_end_share", "send_lag_p99_ms", "preemptions", "start_s"];
        self.direction == Direction::Neither || explains.contains(&self.id)
    }

    /// The percentile that the metric is or is made of.
    pub fn percentile(&self) -> Option<u32> {
        [99, 95, 50].into_iter().find(|percent| self.id.contains(&format!("p{percent}")))
    }

    /// The fewest requests of which the metric is judged: a percentile has to have
    /// [`REQUESTS_BEYOND`] beyond it. Of stalls, it counts the long prompts.
    pub fn is_judged_from(&self) -> u64 {
        // Many gaps for each long prompt: of a hundred prompts the worst is not one event alone.
        if self.id == "stall_p99_ms" {
            return 100;
        }
        self.percentile().map_or(0, |percent| REQUESTS_BEYOND * 100 / u64::from(100 - percent))
    }

    /// A change within this is no change worth having.
    pub fn margin(&self) -> Margin {
        let percent = match self.id {
            id if id.contains("p99") => 5.0,
            id if id.contains("p95") => 3.0,
            _ => MARGIN_PERCENT,
        };
        let floor = match (self.id, self.unit) {
            ("preemptions", _) => 1.0,
            (_, "ms") => 0.02,
            _ => 0.0,
        };
        Margin { percent, floor }
    }
}

/// The rule of ten: a percentile of fewer requests beyond it is the luck of a few.
pub const REQUESTS_BEYOND: u64 = 10;

/// The margin of throughput, means, medians and shares; the far ends of latencies vary more and
/// have wider ones.
pub const MARGIN_PERCENT: f64 = 2.0;

/// How much a metric may change before anybody cares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// In percent of the value before; in points for shares.
    pub percent: f64,
    /// In the metric's unit: however small the value before, less than this matters to nobody.
    pub floor: f64,
}

/// A counter of energy that differs from integrated power by more tells nothing.
const ENERGY_DIFFERENCE_MAX: f64 = 0.1;

/// The metric of that id.
pub fn find(id: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.id == id)
}

/// Every metric that the trial can tell.
pub fn all(measured: &Measured) -> BTreeMap<String, f64> {
    METRICS
        .iter()
        .filter_map(|metric| Some((metric.id.to_owned(), (metric.value)(measured)?)))
        .collect()
}

/// The metrics of one class, under the same ids.
pub fn of_class(class: &ClassSummary) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for (name, quantiles) in [("ttft", &class.ttft), ("tpot", &class.tpot), ("e2e", &class.e2e)] {
        for (suffix, ms) in [
            ("mean", mean_ms(quantiles)),
            ("p50", quantile(quantiles, |q| q.p50_ms)),
            ("p95", quantile(quantiles, |q| q.p95_ms)),
            ("p99", quantile(quantiles, |q| q.p99_ms)),
        ] {
            metrics.extend(ms.map(|ms| (format!("{name}_{suffix}_ms"), ms)));
        }
    }
    metrics
}

/// Above this share of failed requests means and rates, which are those of completed ones, would
/// flatter: a latency was not reached, a rate not sustained. Percentiles have the failures in them.
pub const FAILED_SHARE_MAX: f64 = 0.01;

fn too_many_failed(failed: u64, all: u64) -> bool {
    failed as f64 > FAILED_SHARE_MAX * all as f64
}

/// A quantile, infinite where it lies among failed requests.
fn quantile(quantiles: &Quantiles, of: fn(&Quantiles) -> f64) -> Option<f64> {
    (quantiles.count + quantiles.failed > 0).then(|| of(quantiles))
}

fn mean_ms(quantiles: &Quantiles) -> Option<f64> {
    let all = quantiles.count + quantiles.failed;
    let mean =
        if too_many_failed(quantiles.failed, all) { f64::INFINITY } else { quantiles.mean_ms };
    (all > 0).then_some(mean)
}

/// A rate of completed work.
fn rate(measured: &Measured, rate: f64) -> f64 {
    let counts = &measured.summary.counts;
    if too_many_failed(counts.failed_total(), counts.sent) { f64::NEG_INFINITY } else { rate }
}

fn share(measured: &Measured, part: fn(&crate::schema::Anatomy) -> f64) -> Option<f64> {
    let anatomy = measured.summary.anatomy.as_ref()?;
    (anatomy.e2e_ms() > 0.0).then(|| part(anatomy) / anatomy.e2e_ms())
}

fn mixed(measured: &Measured, of: fn(&MixedPrompts) -> &Quantiles) -> Option<&Quantiles> {
    Some(of(measured.summary.mixed_prompts.as_ref()?)).filter(|quantiles| quantiles.count > 0)
}

fn steady(measured: &Measured) -> Option<&SteadyWindow> {
    match measured.summary.steady_state.as_ref()? {
        SteadyState::Found(window) => Some(window),
        SteadyState::NotFound => None,
    }
}

fn longest_and_shortest(measured: &Measured) -> Option<(&ClassSummary, &ClassSummary)> {
    let has_any = |class: &&ClassSummary| class.e2e.count + class.e2e.failed > 0;
    let mut classes = measured.summary.classes.iter().filter(has_any);
    let first = classes.next()?;
    let last = classes.next_back()?;
    Some((last, first))
}

macro_rules! quantile_metrics {
    ($($field:ident $title:literal $formula:literal $vllm:literal { $($id:literal $suffix:literal $ms:ident),* })*) => {
        [$($(Metric {
            id: $id,
            title: concat!($title, " ", $suffix),
            unit: "ms",
            direction: Direction::Lower,
            formula: $formula,
            vllm: $vllm,
            value: |m| latency(&m.summary.$field, |q| q.$ms, $suffix),
        },)*)*]
    };
}

fn latency(quantiles: &Quantiles, of: fn(&Quantiles) -> f64, suffix: &str) -> Option<f64> {
    if suffix == "mean" { mean_ms(quantiles) } else { quantile(quantiles, of) }
}

const LATENCIES: [Metric; 16] = quantile_metrics! {
    ttft "TTFT" "first token's arrival − intended time of sending; failed requests rank last" "vllm:time_to_first_token_seconds (from arrival at the server)" {
        "ttft_mean_ms" "mean" mean_ms, "ttft_p50_ms" "P50" p50_ms, "ttft_p95_ms" "P95" p95_ms, "ttft_p99_ms" "P99" p99_ms
    }
    tpot "TPOT" "(last token's arrival − first token's) / (output tokens − 1), one value a request; failed requests rank last" "vllm:request_time_per_output_token_seconds" {
        "tpot_mean_ms" "mean" mean_ms, "tpot_p50_ms" "P50" p50_ms, "tpot_p95_ms" "P95" p95_ms, "tpot_p99_ms" "P99" p99_ms
    }
    itl "ITL" "gap between the arrivals of two successive tokens; tokens of one event arrive together" "vllm:inter_token_latency_seconds" {
        "itl_mean_ms" "mean" mean_ms, "itl_p50_ms" "P50" p50_ms, "itl_p95_ms" "P95" p95_ms, "itl_p99_ms" "P99" p99_ms
    }
    e2e "E2E" "end − intended time of sending; failed requests rank last" "vllm:e2e_request_latency_seconds (from arrival at the server)" {
        "e2e_mean_ms" "mean" mean_ms, "e2e_p50_ms" "P50" p50_ms, "e2e_p95_ms" "P95" p95_ms, "e2e_p99_ms" "P99" p99_ms
    }
};

const OTHERS: [Metric; 39] = [
    Metric {
        id: "output_tokens_per_s",
        title: "Output throughput",
        unit: "tokens/s",
        direction: Direction::Higher,
        formula: "output tokens of completed requests / (last end − start)",
        vllm: "vllm:generation_tokens_total",
        value: |m| Some(rate(m, m.summary.output_tokens_per_s)),
    },
    Metric {
        id: "requests_per_s",
        title: "Request throughput",
        unit: "requests/s",
        direction: Direction::Higher,
        formula: "completed requests / (last end − start)",
        vllm: "vllm:request_success_total",
        value: |m| Some(rate(m, m.summary.requests_per_s)),
    },
    Metric {
        id: "steady_output_tokens_per_s",
        title: "Output throughput, steady state",
        unit: "tokens/s",
        direction: Direction::Higher,
        formula: "output tokens that came in the steady window / its length",
        vllm: "",
        value: |m| steady(m).map(|window| rate(m, window.output_tokens_per_s)),
    },
    Metric {
        id: "steady_requests_per_s",
        title: "Request throughput, steady state",
        unit: "requests/s",
        direction: Direction::Higher,
        formula: "requests completed in the steady window / its length",
        vllm: "",
        value: |m| steady(m).map(|window| rate(m, window.requests_per_s)),
    },
    Metric {
        id: "joules_per_million_output_tokens",
        title: "Energy of a million output tokens",
        unit: "J",
        direction: Direction::Lower,
        formula: "what the cards' energy counters (NVML) rise by in the steady window / output tokens that came in it; none where their power, summed up, differs by more than 10 %",
        vllm: "",
        value: |m| {
            let (window, energy) = (steady(m)?, m.summary.energy?);
            let differs = |watts: f64| (watts / energy.joules - 1.0).abs() > ENERGY_DIFFERENCE_MAX;
            let tokens = window.output_tokens_per_s * (window.to_s - window.from_s);
            let is_told = energy.joules > 0.0 && !energy.integrated_joules.is_some_and(differs);
            (is_told && tokens > 0.0).then(|| 1e6 * energy.joules / tokens)
        },
    },
    Metric {
        id: "dollars_per_million_output_tokens",
        title: "Price of a million output tokens",
        unit: "$",
        direction: Direction::Lower,
        formula: "cards × `card_dollars_per_hour` of `[cost]` / output tokens an hour",
        vllm: "",
        value: |m| {
            let cost = m.observed.cost?;
            let dollars_per_s = f64::from(cost.cards) * cost.card_dollars_per_hour? / 3_600.0;
            let tokens_per_s = rate(m, m.summary.output_tokens_per_s);
            (m.summary.output_tokens_per_s > 0.0).then(|| 1e6 * dollars_per_s / tokens_per_s)
        },
    },
    Metric {
        id: "output_tokens_per_s_per_card",
        title: "Output throughput of a card",
        unit: "tokens/s",
        direction: Direction::Higher,
        formula: "output tokens of completed requests / (last end − start) / cards, in profiles with `[cost]` or with a setting of several cards",
        vllm: "",
        value: |m| {
            let cards = f64::from(m.observed.cost?.cards);
            Some(rate(m, m.summary.output_tokens_per_s) / cards)
        },
    },
    Metric {
        id: "requests_per_s_per_card",
        title: "Request throughput of a card",
        unit: "requests/s",
        direction: Direction::Higher,
        formula: "completed requests / (last end − start) / cards, in profiles with `[cost]` or with a setting of several cards",
        vllm: "",
        value: |m| {
            let cards = f64::from(m.observed.cost?.cards);
            Some(rate(m, m.summary.requests_per_s) / cards)
        },
    },
    Metric {
        id: "goodput_requests_per_s",
        title: "Goodput",
        unit: "requests/s",
        direction: Direction::Higher,
        formula: "completed requests that kept every limit of the load's `goodput` / (last end − start)",
        vllm: "request_goodput of `vllm bench serve`",
        value: |m| {
            let good = m.summary.good? as f64;
            (m.summary.duration_s > 0.0).then(|| good / m.summary.duration_s)
        },
    },
    Metric {
        id: "goodput_share",
        title: "Good requests",
        unit: "share",
        direction: Direction::Higher,
        formula: "completed requests that kept every limit of the load's `goodput` / sent",
        vllm: "",
        value: |m| {
            let good = m.summary.good? as f64;
            (m.summary.counts.sent > 0).then(|| good / m.summary.counts.sent as f64)
        },
    },
    Metric {
        id: "normalized_latency_mean_ms",
        title: "Normalised latency mean",
        unit: "ms",
        direction: Direction::Lower,
        formula: "mean over requests of E2E / output tokens",
        vllm: "",
        value: |m| {
            let mean = m.summary.normalized_latency_mean_ms?;
            mean_ms(&Quantiles { mean_ms: mean, ..m.summary.e2e })
        },
    },
    Metric {
        id: "queue_share",
        title: "Queue share of E2E",
        unit: "share",
        direction: Direction::Lower,
        formula: "mean queue time / mean E2E",
        vllm: "vllm:request_queue_time_seconds",
        value: |m| share(m, |a| a.queue_ms),
    },
    Metric {
        id: "front_end_share",
        title: "Front-end share of E2E",
        unit: "share",
        direction: Direction::Lower,
        formula: "mean (E2E − send lag − queue − prefill − decode) / mean E2E",
        vllm: "e2e − queue − inference",
        value: |m| share(m, |a| a.front_end_ms),
    },
    Metric {
        id: "send_lag_share",
        title: "Send lag's share of E2E",
        unit: "share",
        direction: Direction::Neither,
        formula: "mean (sent − intended) / mean E2E, the client's queue included",
        vllm: "",
        value: |m| share(m, |a| a.send_lag_ms),
    },
    Metric {
        id: "prefill_share",
        title: "Prefill share of E2E",
        unit: "share",
        direction: Direction::Neither,
        formula: "mean prefill time / mean E2E",
        vllm: "vllm:request_prefill_time_seconds",
        value: |m| share(m, |a| a.prefill_ms),
    },
    Metric {
        id: "decode_share",
        title: "Decode share of E2E",
        unit: "share",
        direction: Direction::Neither,
        formula: "mean decode time / mean E2E",
        vllm: "vllm:request_decode_time_seconds",
        value: |m| share(m, |a| a.decode_ms),
    },
    Metric {
        id: "queue_mean_ms",
        title: "Queue time mean",
        unit: "ms",
        direction: Direction::Lower,
        formula: "mean of first scheduled − queued",
        vllm: "vllm:request_queue_time_seconds",
        value: |m| Some(m.summary.anatomy.as_ref()?.queue_ms),
    },
    Metric {
        id: "client_queue_mean_ms",
        title: "Client queue mean",
        unit: "ms",
        direction: Direction::Neither,
        formula: "mean wait in the client for one of `max_concurrency` places; part of every latency",
        vllm: "",
        value: |m| m.summary.client_queue.map(|queue| queue.mean_ms),
    },
    Metric {
        id: "e2e_p95_over_p50",
        title: "Tail ratio P95/P50",
        unit: "",
        direction: Direction::Lower,
        formula: "E2E P95 / E2E P50",
        vllm: "",
        value: |m| {
            let Quantiles { p50_ms, p95_ms, .. } = m.summary.e2e;
            let ratio = if p95_ms.is_finite() { p95_ms / p50_ms } else { p95_ms };
            (p50_ms > 0.0).then_some(ratio)
        },
    },
    Metric {
        id: "long_e2e_p95_ms",
        title: "E2E P95, longest class",
        unit: "ms",
        direction: Direction::Lower,
        formula: "E2E P95 of the load's last class, on loads with two or more",
        vllm: "",
        value: |m| longest_and_shortest(m).map(|(long, _)| long.e2e.p95_ms),
    },
    Metric {
        id: "length_slowdown",
        title: "Slowdown of the longest class",
        unit: "×",
        direction: Direction::Lower,
        formula: "mean E2E of the load's last class / mean E2E of its first",
        vllm: "",
        value: |m| {
            let (long, short) = longest_and_shortest(m)?;
            let (long_ms, short_ms) = (mean_ms(&long.e2e)?, mean_ms(&short.e2e)?);
            Some(if short_ms.is_finite() { long_ms / short_ms } else { short_ms })
        },
    },
    Metric {
        id: "short_ttft_p95_ms",
        title: "TTFT P95, short prompts",
        unit: "ms",
        direction: Direction::Lower,
        formula: "TTFT P95 of prompts below 1,000 tokens, on loads that have longer ones too",
        vllm: "",
        value: |m| mixed(m, |mixed| &mixed.short_ttft).map(|ttft| ttft.p95_ms),
    },
    Metric {
        id: "long_ttft_p95_ms",
        title: "TTFT P95, long prompts",
        unit: "ms",
        direction: Direction::Lower,
        formula: "TTFT P95 of prompts from 1,000 tokens on, on loads that have shorter ones too",
        vllm: "",
        value: |m| mixed(m, |mixed| &mixed.long_ttft).map(|ttft| ttft.p95_ms),
    },
    Metric {
        id: "stall_p99_ms",
        title: "ITL P99 while a long prompt waits",
        unit: "ms",
        direction: Direction::Lower,
        formula: "P99 of the gaps between tokens of requests that decode between the sending of a prompt from 1,000 tokens on and its first token",
        vllm: "",
        value: |m| mixed(m, |mixed| &mixed.stall).map(|gaps| gaps.p99_ms),
    },
    Metric {
        id: "kv_cache_tokens",
        title: "KV cache",
        unit: "tokens",
        direction: Direction::Neither,
        formula: "KV blocks × block size, as the server resolved them; with data parallelism those of all engines together",
        vllm: "vllm:cache_config_info",
        value: |m| m.observed.kv_cache_tokens.map(|tokens| tokens as f64),
    },
    Metric {
        id: "kv_cache_percent_max",
        title: "KV cache use, peak",
        unit: "%",
        direction: Direction::Neither,
        formula: "largest sampled use; with data parallelism of any engine",
        vllm: "vllm:kv_cache_usage_perc",
        value: |m| m.summary.server.kv_cache_percent_max,
    },
    Metric {
        id: "preemptions",
        title: "Preemptions",
        unit: "",
        direction: Direction::Lower,
        formula: "difference of the counter over the trial",
        vllm: "vllm:num_preemptions_total",
        value: |m| m.summary.server.preemptions.map(|n| n as f64),
    },
    Metric {
        id: "prefix_cache_hit_percent",
        title: "Prefix cache hits",
        unit: "%",
        direction: Direction::Neither,
        formula: "hit tokens / queried tokens",
        vllm: "vllm:prefix_cache_hits_total, vllm:prefix_cache_queries_total",
        value: |m| m.summary.server.prefix_cache_hit_percent,
    },
    Metric {
        id: "prefix_cache_hit_percent_planned",
        title: "Prefix cache hits, possible",
        unit: "%",
        direction: Direction::Neither,
        formula: "what a cache without end finds of the plan's prompts / prompt tokens",
        vllm: "",
        value: |m| m.summary.prefix_cache_hit_percent_planned,
    },
    Metric {
        id: "conversation_p50_ms",
        title: "Conversation P50",
        unit: "ms",
        direction: Direction::Lower,
        formula: "last turn's end − first turn's intended time, think times included; failed ones rank last",
        vllm: "",
        value: |m| quantile(&m.summary.conversations.as_ref()?.latency, |q| q.p50_ms),
    },
    Metric {
        id: "conversation_p95_ms",
        title: "Conversation P95",
        unit: "ms",
        direction: Direction::Lower,
        formula: "last turn's end − first turn's intended time, think times included; failed ones rank last",
        vllm: "",
        value: |m| quantile(&m.summary.conversations.as_ref()?.latency, |q| q.p95_ms),
    },
    Metric {
        id: "goodput_conversations_per_s",
        title: "Goodput in conversations",
        unit: "conversations/s",
        direction: Direction::Higher,
        formula: "conversations of which every turn kept every limit of the load's `goodput` / (last end − start)",
        vllm: "",
        value: |m| {
            let good = m.summary.conversations.as_ref()?.good? as f64;
            (m.summary.duration_s > 0.0).then(|| good / m.summary.duration_s)
        },
    },
    Metric {
        id: "accepted_length_mean",
        title: "Accepted length mean",
        unit: "tokens",
        direction: Direction::Neither,
        formula: "1 + accepted draft tokens / drafts of speculative decoding",
        vllm: "vllm:spec_decode_num_accepted_tokens_total, vllm:spec_decode_num_drafts_total",
        value: |m| m.summary.server.accepted_length_mean,
    },
    Metric {
        id: "inter_chunk_mean_ms",
        title: "Inter-chunk latency mean",
        unit: "ms",
        direction: Direction::Neither,
        formula: "gap between successive events with tokens, where some hold several tokens",
        vllm: "ITL of `vllm bench serve`",
        value: |m| mean_ms(m.summary.inter_chunk.as_ref()?),
    },
    Metric {
        id: "inter_chunk_p99_ms",
        title: "Inter-chunk latency P99",
        unit: "ms",
        direction: Direction::Neither,
        formula: "gap between successive events with tokens, where some hold several tokens",
        vllm: "ITL of `vllm bench serve`",
        value: |m| quantile(m.summary.inter_chunk.as_ref()?, |q| q.p99_ms),
    },
    Metric {
        id: "running_mean",
        title: "Requests running, mean",
        unit: "requests",
        direction: Direction::Neither,
        formula: "mean of the gauge over the trial; of fewer than 20 looks, time in prefill and decode of all requests ÷ duration",
        vllm: "vllm:num_requests_running",
        value: |m| m.summary.server.running_mean,
    },
    Metric {
        id: "send_lag_p99_ms",
        title: "Send lag P99",
        unit: "ms",
        direction: Direction::Lower,
        formula: "sent − intended time of sending",
        vllm: "",
        value: |m| quantile(&m.summary.send_lag, |q| q.p99_ms),
    },
    Metric {
        id: "start_s",
        title: "Server start",
        unit: "s",
        direction: Direction::Lower,
        formula: "first token − start of the server's process, of servers that the suite starts",
        vllm: "",
        value: |m| m.observed.start_s.filter(|_| m.observed.start.is_some()),
    },
    Metric {
        id: "failed_share",
        title: "Failed requests",
        unit: "share",
        direction: Direction::Lower,
        formula: "failed / sent",
        vllm: "",
        value: |m| {
            let failed = m.summary.counts.failed_total();
            (m.summary.counts.sent > 0).then(|| failed as f64 / m.summary.counts.sent as f64)
        },
    },
];

/// Every metric there is.
pub static METRICS: [Metric; LATENCIES.len() + OTHERS.len()] = {
    let mut all = [OTHERS[0]; LATENCIES.len() + OTHERS.len()];
    let mut i = 0;
    while i < OTHERS.len() {
        all[i] = OTHERS[i];
        i += 1;
    }
    while i < all.len() {
        all[i] = LATENCIES[i - OTHERS.len()];
        i += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_requests_beyond_it() {
        let needed = |id| find(id).expect("a metric").is_judged_from();
        assert_eq!(needed("e2e_p95_ms"), 200);
        assert_eq!(needed("e2e_p99_ms"), 1000);
        assert_eq!(needed("e2e_p95_over_p50"), 200);
        assert_eq!(needed("ttft_p50_ms"), 20);
        assert_eq!(needed("ttft_mean_ms"), 0);
    }

    #[test]
    fn ids_are_distinct() {
        let mut ids: Vec<_> = METRICS.iter().map(|m| m.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), METRICS.len());
    }
}
