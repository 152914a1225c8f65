//! How far the simulator is from the trials measured on an H100, which the fit by hand never saw:
//! `cargo run --release -p bench-core --example predict`.
//!
//! Prints a line a trial, then medians over those offered below and above 90 % of the capacity
//! that was measured on the same launch.

use std::collections::BTreeMap;

use bench_core::{
    schema::{Args, LoadSpec, Measured, Outcome},
    sim::{self, Model},
    summarize::Summarizer,
    workload::Workload,
};
use serde_json::Value;

/// Change from measured to predicted, in percent.
fn error_percent(predicted: f64, measured: f64) -> f64 {
    100.0 * (predicted / measured - 1.0)
}

fn queue_share(trial: &Measured) -> f64 {
    trial.summary.anatomy.map_or(0.0, |anatomy| 100.0 * anatomy.queue_ms / anatomy.e2e_ms())
}

fn predict(model: &Model, args: &Args, load: &Workload) -> Measured {
    let server = sim::launch(model, args, 0).expect("the settings started on the real card");
    let mut summarizer = Summarizer::new(load);
    let observation = server.run(load, &mut |sample| summarizer.push(&sample), &mut |_| {});
    summarizer.finish(&observation, &server.observed(), "predicted", None)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let model: Model = serde_json::from_str(include_str!("../../models/h100-qwen2.5-7b.json"))
        .expect("the model file is one");
    let lines = include_str!("../../models/measured/h100-qwen2.5-7b.jsonl").lines();
    let trials: Vec<(Args, Workload, Measured)> = lines
        .filter_map(|line| {
            let mut line: Value = serde_json::from_str(line).expect("a JSON object a line");
            let outcome = serde_json::from_value(line["outcome"].take()).expect("a record");
            let Outcome::Measured(measured) = outcome else { return None };
            let args = serde_json::from_value(line["preimage"]["args"].take()).expect("arguments");
            let load: LoadSpec =
                serde_json::from_value(line["preimage"]["load"].take()).expect("a load");
            Some((args, Workload::from(load), measured))
        })
        .collect();
    let mut capacity: BTreeMap<&Args, f64> = BTreeMap::new();
    for (args, _, measured) in &trials {
        let best = capacity.entry(args).or_default();
        *best = best.max(measured.summary.output_tokens_per_s);
    }
    println!("throughput %  E2E mean %  TTFT p50 %  ITL mean %  queue points");
    let mut errors: BTreeMap<bool, Vec<[f64; 5]>> = BTreeMap::new();
    for (args, load, measured) in &trials {
        let predicted = predict(&model, args, load);
        let (p, m) = (&predicted.summary, &measured.summary);
        let row = [
            error_percent(p.output_tokens_per_s, m.output_tokens_per_s),
            error_percent(p.e2e.mean_ms, m.e2e.mean_ms),
            error_percent(p.ttft.p50_ms, m.ttft.p50_ms),
            error_percent(p.itl.mean_ms, m.itl.mean_ms),
            queue_share(&predicted) - queue_share(measured),
        ];
        let saturated = m.output_tokens_per_s > 0.9 * capacity[args];
        errors.entry(saturated).or_default().push(row);
        let figures: Vec<String> = row.iter().map(|error| format!("{error:+10.1}")).collect();
        let args: Vec<String> =
            args.iter().map(|(flag, value)| format!("{flag} {value}")).collect();
        println!(
            "{}  {} | {:?} {:?}",
            figures.join("  "),
            args.join(", "),
            load.arrival,
            load.size
        );
    }
    for (saturated, rows) in errors {
        let medians: Vec<String> = (0..5)
            .map(|i| format!("{:10.1}", median(rows.iter().map(|row| row[i].abs()).collect())))
            .collect();
        let which = if saturated { "above" } else { "below" };
        println!(
            "{}  median of {} trials {which} 90 % of capacity",
            medians.join("  "),
            rows.len()
        );
    }
}
