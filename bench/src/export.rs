//! `bench export`: a trial in the field names of `vllm bench serve --save-result --save-detailed`,
//! for notebooks that read them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bench_core::schema::{
    Api, Arrival, Engine, LaunchPlan, LoadSpec, RequestSample, RequestStatus,
};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use crate::clock;

/// Write a trial in the field names of `vllm bench serve --save-result --save-detailed`
///
/// Times are in seconds and means and percentiles in milliseconds, as there. TTFT and E2E count
/// from the intended time of sending, not from the actual one.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The launch plan that was run
    #[arg(long, value_name = "PLAN.json")]
    plan: PathBuf,
    /// Raw samples of one of its trials
    #[arg(long, value_name = "KEY.jsonl.gz")]
    samples: PathBuf,
    /// Where to write; standard output without it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `bench export`.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let plan = bench_trials::read_plan(&args.plan)?;
    let name = args.samples.file_name().unwrap_or_default().to_string_lossy();
    let trial = plan
        .trials
        .iter()
        .find(|trial| name.strip_suffix(".jsonl.gz") == Some(&trial.key.to_string()))
        .with_context(|| format!("{} has no trial of {name}", args.plan.display()))?;
    let samples = read_samples(&args.samples)?;
    let result = result(&plan, &trial.load, &samples, &clock::now_rfc3339());
    let text = serde_json::to_string(&result)? + "\n";
    match &args.out {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
        None => std::io::stdout().write_all(text.as_bytes()).context("cannot write"),
    }
}

/// The samples of a file, in the order of the plan.
fn read_samples(path: &Path) -> anyhow::Result<Vec<RequestSample>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut samples: Vec<RequestSample> = BufReader::new(GzDecoder::new(file))
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<anyhow::Result<_>>()
        .with_context(|| format!("{} holds no samples", path.display()))?;
    samples.sort_by_key(|sample| sample.id);
    Ok(samples)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Latencies of one request, in seconds.
struct Latencies {
    ttft_s: f64,
    e2el_s: f64,
    /// Gaps between events, as there: an event of several tokens is one gap.
    itls_s: Vec<f64>,
}

fn latencies(sample: &RequestSample) -> Latencies {
    if sample.status != RequestStatus::Completed {
        return Latencies { ttft_s: 0.0, e2el_s: 0.0, itls_s: Vec::new() };
    }
    // As there an answer that is streamed ends with its last token, not with `[DONE]`.
    let end_ns = sample.last_token_ns().unwrap_or(sample.end_ns);
    let e2el_s = seconds(end_ns - sample.intended_ns);
    let first_ns = sample.first_token_ns();
    Latencies {
        ttft_s: first_ns.map_or(e2el_s, |ns| seconds(ns - sample.intended_ns)),
        e2el_s,
        itls_s: sample.tokens.windows(2).map(|pair| seconds(pair[1].0 - pair[0].0)).collect(),
    }
}

/// Time per output token after the first, as vLLM's client has it: (latency − TTFT) / (tokens − 1).
fn tpot_s(sample: &RequestSample, latencies: &Latencies) -> f64 {
    (latencies.e2el_s - latencies.ttft_s) / f64::from(sample.output_tokens - 1)
}

fn result(plan: &LaunchPlan, load: &LoadSpec, samples: &[RequestSample], date: &str) -> Value {
    let model = match &plan.engine {
        Engine::Simulator { .. } => "simulator",
        Engine::Vllm(engine) => &engine.served_model_name,
        Engine::Server(engine) => &engine.model,
    };
    let backend = match load.request.api {
        Api::Completions | Api::CompletionsText => "openai",
        Api::Chat => "openai-chat",
    };
    let all: Vec<Latencies> = samples.iter().map(latencies).collect();
    let completed: Vec<(&RequestSample, &Latencies)> =
        samples.iter().zip(&all).filter(|(s, _)| s.status == RequestStatus::Completed).collect();
    let input: u64 = completed.iter().map(|(s, _)| u64::from(s.input_tokens)).sum();
    let output: u64 = completed.iter().map(|(s, _)| u64::from(s.output_tokens)).sum();
    let duration = seconds(samples.iter().map(|s| s.end_ns).max().unwrap_or(0));
    let per_s = |count: f64| if duration > 0.0 { count / duration } else { 0.0 };
    let (rate, burstiness, concurrency) = arrival(&load.arrival);
    let concurrency = load.max_concurrency.map_or(concurrency, |count| json!(count));
    let goodput = load.goodput.map(|limits| {
        let ns = |s: f64| (s * 1e9) as u64;
        let keeps = |(s, l): &&(&RequestSample, &Latencies)| {
            let tpot_s = (s.output_tokens > 1).then(|| tpot_s(s, l));
            limits.keeps(Some(ns(l.ttft_s)), tpot_s.map(ns), ns(l.e2el_s))
        };
        per_s(completed.iter().filter(keeps).count() as f64)
    });
    let mut fields = json!({
        "date": date, "endpoint_type": backend, "backend": backend, "label": null,
        "model_id": model, "tokenizer_id": model, "num_prompts": samples.len(),
        "request_rate": rate, "burstiness": burstiness, "max_concurrency": concurrency,
        "duration": duration, "completed": completed.len(),
        "failed": samples.len() - completed.len(),
        "total_input_tokens": input, "total_output_tokens": output,
        "request_throughput": per_s(completed.len() as f64), "request_goodput": goodput,
        "output_throughput": per_s(output as f64),
        "total_token_throughput": per_s((input + output) as f64),
        "max_output_tokens_per_s": output_tokens_per_s_max(samples),
        "max_concurrent_requests": concurrency_max(samples),
        "input_lens": samples.iter().map(|s| s.input_tokens).collect::<Vec<_>>(),
        "output_lens": samples.iter().map(output_len).collect::<Vec<_>>(),
        "ttfts": all.iter().map(|l| l.ttft_s).collect::<Vec<_>>(),
        "itls": all.iter().map(|l| &l.itls_s).collect::<Vec<_>>(),
        "start_times": samples.iter().map(|s| seconds(s.intended_ns)).collect::<Vec<_>>(),
        "errors": samples.iter().map(|s| match &s.status {
            RequestStatus::Completed => "",
            RequestStatus::Failed(kind) => kind,
        }).collect::<Vec<_>>(),
    });
    let by_name = fields.as_object_mut().expect("it was made as an object");
    let tpot = completed.iter().filter(|(s, _)| s.output_tokens > 1).map(|(s, l)| tpot_s(s, l));
    put(by_name, "ttft", completed.iter().map(|(_, l)| l.ttft_s).collect());
    put(by_name, "tpot", tpot.collect());
    put(by_name, "itl", completed.iter().flat_map(|(_, l)| &l.itls_s).copied().collect());
    put(by_name, "e2el", completed.iter().map(|(_, l)| l.e2el_s).collect());
    fields
}

/// Rate, burstiness and concurrency as `vllm bench serve` names them; what it cannot express is
/// null.
fn arrival(arrival: &Arrival) -> (Value, Value, Value) {
    let number = |decimal: &bench_core::decimal::Decimal| json!(decimal.to_f64());
    match arrival {
        Arrival::AllAtOnce {} => (json!("inf"), json!(1.0), Value::Null),
        Arrival::Poisson { requests_per_second } => {
            (number(requests_per_second), json!(1.0), Value::Null)
        }
        Arrival::Gamma { requests_per_second, burstiness } => {
            (number(requests_per_second), number(burstiness), Value::Null)
        }
        Arrival::Constant { requests_per_second } => {
            (number(requests_per_second), Value::Null, Value::Null)
        }
        Arrival::Ramp { .. } => (Value::Null, json!(1.0), Value::Null),
        Arrival::Replay { .. } => (Value::Null, Value::Null, Value::Null),
        Arrival::ClosedLoop { concurrency } => (json!("inf"), json!(1.0), json!(concurrency)),
    }
}

/// Output tokens of a request, 0 of a failed one, as there.
fn output_len(sample: &RequestSample) -> u32 {
    if sample.status == RequestStatus::Completed { sample.output_tokens } else { 0 }
}

/// Most tokens that came within one second, counted from the start of the trial.
fn output_tokens_per_s_max(samples: &[RequestSample]) -> u64 {
    let mut by_second = BTreeMap::<u64, u64>::new();
    let completed = samples.iter().filter(|s| s.status == RequestStatus::Completed);
    for (at_ns, count) in completed.flat_map(|s| &s.tokens) {
        *by_second.entry(at_ns / 1_000_000_000).or_default() += u64::from(*count);
    }
    by_second.into_values().max().unwrap_or(0)
}

/// Most requests between their sending and their end.
fn concurrency_max(samples: &[RequestSample]) -> i64 {
    let mut changes: Vec<(u64, i64)> =
        samples.iter().flat_map(|s| [(s.sent_ns, 1), (s.end_ns, -1)]).collect();
    // An end before a start at the same time.
    changes.sort_unstable();
    let mut now = 0;
    changes
        .iter()
        .map(|(_, change)| {
            now += change;
            now
        })
        .max()
        .unwrap_or(0)
}

/// Mean, median, standard deviation and P99 of seconds, in milliseconds.
fn put(fields: &mut Map<String, Value>, name: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    for (statistic, value) in [
        ("mean", mean),
        ("median", quantile(&values, 0.5)),
        ("std", variance.sqrt()),
        ("p99", quantile(&values, 0.99)),
    ] {
        fields.insert(format!("{statistic}_{name}_ms"), json!(1e3 * value));
    }
}

/// numpy's default: linear between neighbours. 0 of nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (below, above) = (sorted[at as usize], sorted[(at as usize + 1).min(last)]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: u32, status: RequestStatus) -> RequestSample {
        let at_ns = u64::from(id) * 1_000_000_000;
        RequestSample {
            id,
            class: 0,
            intended_ns: at_ns,
            queued_ns: 0,
            sent_ns: at_ns + 1_000,
            first_byte_ns: Some(at_ns + 90_000_000),
            end_ns: at_ns + 1_140_000_000,
            tokens: vec![(at_ns + 100_000_000, 1), (at_ns + 120_000_000, 3)],
            input_tokens: 7,
            output_tokens: 4,
            status,
            phases: None,
            ..RequestSample::default()
        }
    }

    #[test]
    fn a_result_has_the_fields_that_notebooks_read() {
        let load: LoadSpec = serde_json::from_value(json!({
            "arrival": {"process": "gamma", "requests_per_second": "2.5", "burstiness": "0.5"},
            "size": {"requests": 3}, "classes": [], "seed": 1,
            "request": {"api": "completions", "stream": true, "ignore_eos": true},
        }))
        .expect("a load");
        let plan: LaunchPlan = serde_json::from_value(json!({
            "format": 1, "launch": "x", "args": {}, "env": {}, "replicate": 0, "trials": [],
            "engine": {"kind": "server", "base_url": "", "model": "m", "vocab_size": 9},
        }))
        .expect("a plan");
        let samples = [
            sample(0, RequestStatus::Completed),
            sample(1, RequestStatus::Completed),
            sample(2, RequestStatus::Failed("http_503".to_owned())),
        ];
        insta::assert_json_snapshot!(result(&plan, &load, &samples, "2026-11-24"));
    }

    #[test]
    fn quantiles_are_numpys() {
        // numpy.percentile([1, 2, 4, 8], [0, 50, 99, 100])
        let values = [1.0, 2.0, 4.0, 8.0];
        let found = [0.0, 0.5, 0.99, 1.0].map(|q| quantile(&values, q));
        assert_eq!(found.map(|value| (value * 1e9_f64).round() / 1e9), [1.0, 3.0, 7.88, 8.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
