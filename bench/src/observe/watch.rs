//! From scrapes to a [`ServerObservation`].

use bench_core::{
    schema::{Observed, ServerObservation},
    summarize::POLLS_MIN,
};

use super::prometheus::Scrape;

/// A metric by the names it has had, newest first.
type Names = &'static [&'static str];

const RUNNING: Names = &["vllm:num_requests_running"];
const WAITING: Names = &["vllm:num_requests_waiting"];
const KV_CACHE_USE: Names = &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"];
const SUCCEEDED: Names = &["vllm:request_success_total"];
const PROMPT_TOKENS: Names = &["vllm:prompt_tokens_total"];
const GENERATION_TOKENS: Names = &["vllm:generation_tokens_total"];
const PREEMPTIONS: Names = &["vllm:num_preemptions_total"];
const PREFIX_QUERIES: Names =
    &["vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"];
const PREFIX_HITS: Names = &["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"];
const DRAFTS: Names = &["vllm:spec_decode_num_drafts_total"];
const ACCEPTED: Names = &["vllm:spec_decode_num_accepted_tokens_total"];
const E2E: [&str; 2] =
    ["vllm:e2e_request_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count"];
const QUEUE: [&str; 2] =
    ["vllm:request_queue_time_seconds_sum", "vllm:request_queue_time_seconds_count"];
const PREFILL: [&str; 2] =
    ["vllm:request_prefill_time_seconds_sum", "vllm:request_prefill_time_seconds_count"];
const DECODE: [&str; 2] =
    ["vllm:request_decode_time_seconds_sum", "vllm:request_decode_time_seconds_count"];
const CACHE_CONFIG: &str = "vllm:cache_config_info";

/// Whether a sample of a scrape is of use; the buckets of vLLM's histograms are most of it.
pub(super) fn is_wanted(name: &str) -> bool {
    let lists = [
        RUNNING,
        WAITING,
        KV_CACHE_USE,
        SUCCEEDED,
        PROMPT_TOKENS,
        GENERATION_TOKENS,
        PREEMPTIONS,
        PREFIX_QUERIES,
        PREFIX_HITS,
        DRAFTS,
        ACCEPTED,
        &E2E,
        &QUEUE,
        &PREFILL,
        &DECODE,
        &[CACHE_CONFIG],
    ];
    lists.iter().any(|names| names.contains(&name))
}

/// A metric under the newest name that the server knows, summed over its labels.
fn sum(scrape: &Scrape, names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| scrape.sum(name))
}

/// Whether no request runs or waits.
pub(super) fn is_idle(scrape: &Scrape) -> bool {
    [RUNNING, WAITING].iter().all(|names| sum(scrape, names).unwrap_or(0.0) == 0.0)
}

/// What the cache settings tell.
pub(super) fn observed(version: Option<String>, scrape: &Scrape) -> Observed {
    let numbers =
        |label| scrape.labels(CACHE_CONFIG, label).filter_map(|value| value.parse::<u64>().ok());
    // With data parallelism every engine has a cache and a line of its own here. Each line has the blocks of
    // all (`MPClient._apply_ready_response` of vLLM's `v1/engine/core_client.py` adds them up), but the tokens
    // of one, in versions that say these.
    let kv_cache_blocks = numbers("num_gpu_blocks").max();
    let block_size = numbers("block_size").next();
    let kv_cache_tokens = numbers("kv_cache_size_tokens")
        .reduce(|a, b| a + b)
        .or_else(|| Some(kv_cache_blocks? * block_size?));
    Observed { version, kv_cache_tokens, kv_cache_blocks, block_size, ..Observed::default() }
}

/// Gauges over the time of one load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    last: Option<Gauges>,
    /// Integrals over time, by trapezoids.
    running_s: f64,
    waiting_s: f64,
    /// How far the two together may be off, were the gauges to change at any time between two
    /// looks, but only from the one value to the other.
    held_error_s: f64,
    elapsed_s: f64,
    kv_cache_max: Option<f64>,
    polls: u64,
}

/// One look at the gauges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    at_s: f64,
    /// Requests in the batch.
    pub(crate) running: f64,
    /// Requests in the queue.
    pub(crate) waiting: f64,
    /// Use of the KV cache, 0 to 1.
    pub(crate) kv_cache: f64,
    /// Output tokens a second since the look before.
    pub(crate) output_tokens_per_s: f64,
    output_tokens: f64,
}

impl Watch {
    /// Takes a scrape made at a time in seconds; `None` when it has no such gauges.
    pub(crate) fn push(&mut self, at_s: f64, scrape: &Scrape) -> Option<Gauges> {
        let kv_cache = KV_CACHE_USE.iter().find_map(|name| scrape.max(name));
        let mut gauges = Gauges {
            at_s,
            running: sum(scrape, RUNNING)?,
            waiting: sum(scrape, WAITING)?,
            kv_cache: kv_cache.unwrap_or(0.0),
            output_tokens_per_s: 0.0,
            output_tokens: sum(scrape, GENERATION_TOKENS).unwrap_or(0.0),
        };
        if let Some(kv_cache) = kv_cache {
            self.kv_cache_max = Some(self.kv_cache_max.map_or(kv_cache, |max| max.max(kv_cache)));
        }
        if let Some(last) = self.last {
            let passed_s = at_s - last.at_s;
            self.running_s += 0.5 * (last.running + gauges.running) * passed_s;
            self.waiting_s += 0.5 * (last.waiting + gauges.waiting) * passed_s;
            let change = gauges.running + gauges.waiting - last.running - last.waiting;
            self.held_error_s += 0.5 * change.abs() * passed_s;
            self.elapsed_s += passed_s;
            if passed_s > 0.0 {
                gauges.output_tokens_per_s = (gauges.output_tokens - last.output_tokens) / passed_s;
            }
        }
        self.last = Some(gauges);
        self.polls += 1;
        Some(gauges)
    }

    /// The whole account of a load, from settled scrapes before and after it.
    pub(crate) fn observation(&self, before: &Scrape, after: &Scrape) -> ServerObservation {
        // Some counters appear with their first event.
        let grown =
            |names: &[&str]| sum(after, names).map(|n| n - sum(before, names).unwrap_or(0.0));
        let count = |names: Names| grown(names).map(|n| n.max(0.0) as u64);
        let mean_ms = |[total, number]: [&'static str; 2]| {
            let number = grown(&[number]).filter(|n| *n > 0.0)?;
            Some(grown(&[total])? / number * 1e3)
        };
        let mean = |integral: f64| (self.elapsed_s > 0.0).then(|| integral / self.elapsed_s);
        // Without those before and after the load.
        let polls = (self.polls > 0).then(|| self.polls.saturating_sub(2));
        // The time that all requests spent somewhere is the number there over time (Little 1961): what few
        // looks at the gauges tell less well.
        let spent_s = |names: &[[&'static str; 2]]| {
            names.iter().map(|[total, _]| grown(&[*total])).sum::<Option<f64>>()
        };
        let held = |gauge_s: f64, names: &[[&'static str; 2]]| match polls {
            Some(polls) if polls < POLLS_MIN => mean(spent_s(names).unwrap_or(gauge_s)),
            _ => mean(gauge_s),
        };
        ServerObservation {
            requests_succeeded: count(SUCCEEDED),
            prompt_tokens: count(PROMPT_TOKENS),
            generation_tokens: count(GENERATION_TOKENS),
            preemptions: count(PREEMPTIONS),
            prefix_cache_queries: count(PREFIX_QUERIES),
            prefix_cache_hits: count(PREFIX_HITS),
            drafts: count(DRAFTS),
            accepted_draft_tokens: count(ACCEPTED),
            e2e_mean_ms: mean_ms(E2E),
            queue_mean_ms: mean_ms(QUEUE),
            prefill_mean_ms: mean_ms(PREFILL),
            decode_mean_ms: mean_ms(DECODE),
            running_mean: held(self.running_s, &[PREFILL, DECODE]),
            waiting_mean: held(self.waiting_s, &[QUEUE]),
            held_error: mean(self.held_error_s),
            kv_cache_percent_max: self.kv_cache_max.map(|use_| 100.0 * use_),
            polls,
            energy: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(text: &str) -> Scrape {
        Scrape::parse(text, is_wanted)
    }

    fn gauges(running: u32) -> Scrape {
        scrape(&format!("vllm:num_requests_running {running}\nvllm:num_requests_waiting 0\n"))
    }

    /// As two engines of vLLM 0.22.1 show themselves, with 100 blocks each, and those of a later version.
    #[test]
    fn the_caches_of_all_engines_are_counted_once() {
        for tokens in ["", ",kv_cache_size_tokens=\"1600\""] {
            let line = |engine: u32| {
                format!(
                    "vllm:cache_config_info{{block_size=\"16\",engine=\"{engine}\",\
                     num_gpu_blocks=\"200\"{tokens}}} 1.0\n"
                )
            };
            let found = observed(None, &scrape(&(line(0) + &line(1))));
            assert_eq!((found.kv_cache_blocks, found.kv_cache_tokens), (Some(200), Some(3_200)));
        }
    }

    #[test]
    fn few_looks_tell_less_than_many() {
        let held = |looks: &[(f64, u32)]| {
            let mut watch = Watch::default();
            for (at_s, running) in looks {
                watch.push(*at_s, &gauges(*running));
            }
            let found = watch.observation(&Scrape::default(), &Scrape::default());
            (found.running_mean.expect("gauges"), found.held_error.expect("gauges"))
        };
        // 512 streams for eight seconds, and a server too busy to answer for two at either end.
        assert_eq!(held(&[(0.0, 0), (2.0, 512), (6.0, 512), (8.0, 0)]), (384.0, 128.0));
        let (mean, error) = held(&[(0.0, 0), (0.01, 512), (7.99, 512), (8.0, 0)]);
        assert!((mean - 511.36).abs() < 1e-9 && (error - 0.64).abs() < 1e-9, "{mean} {error}");
    }

    #[test]
    fn where_gauges_are_seldom_read_the_times_of_requests_say_what_was_held() {
        let times = |prefill, decode, queue| {
            scrape(&format!(
                "vllm:request_prefill_time_seconds_sum {prefill}\n\
                 vllm:request_decode_time_seconds_sum {decode}\n\
                 vllm:request_queue_time_seconds_sum {queue}\n"
            ))
        };
        let held = |looks: u32| {
            let mut watch = Watch::default();
            for look in 0..looks {
                watch.push(f64::from(look), &gauges(8));
            }
            let found = watch.observation(&times(1, 2, 0), &times(5, 46, 10));
            (found.running_mean, found.waiting_mean, found.polls)
        };
        // Over ten seconds, requests were prefilled for 4 s, decoded for 44 s and queued for 10 s.
        assert_eq!(held(11), (Some(4.8), Some(1.0), Some(9)));
        assert_eq!(held(22), (Some(8.0), Some(0.0), Some(20)), "often enough");
        let mut without = Watch::default();
        without.push(0.0, &gauges(8));
        without.push(1.0, &gauges(8));
        let found = without.observation(&Scrape::default(), &Scrape::default());
        assert_eq!(found.running_mean, Some(8.0), "a server without these times");
    }

    #[test]
    fn every_name_that_a_metric_has_had_is_read() {
        // vLLM 0.8 on the left, 0.32 on the right; between them both stood in one scrape.
        for (old, new) in [
            ("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
            ("vllm:gpu_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"),
            ("vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"),
        ] {
            let read = |text: String| {
                let idle = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n";
                let after = scrape(&(text + idle));
                let mut watch = Watch::default();
                watch.push(0.0, &after);
                watch.observation(&Scrape::default(), &after)
            };
            let (by_old, by_new) = (read(format!("{old} 0.5\n")), read(format!("{new} 0.5\n")));
            assert_eq!(by_old, by_new, "{old}");
            assert_eq!(read(format!("{old} 0.5\n{new} 0.5\n")), by_new, "{old} and {new}");
            assert_ne!(by_new, read(String::new()), "{new}");
        }
    }
}
