//! The simulator's noise beside that of measured trials: standard deviations between server starts, in
//! percent, by load and metric, and within a start.
//! `cargo run --release --example noise -- --starts 40`.

use std::collections::BTreeMap;

use bench_core::{
    metric, parallel,
    schema::{Args, LoadSpec},
    sim::{
        Model,
        predict::{MeasuredTrial, simulate},
    },
    workload::Workload,
};

const METRICS: [&str; 5] =
    ["output_tokens_per_s", "e2e_mean_ms", "ttft_mean_ms", "tpot_mean_ms", "queue_share"];

/// Values of a setting under a load: by start, then by repeat.
type Starts = Vec<Vec<f64>>;

/// A setting under a load, and its trials by server start.
type Group = (Args, LoadSpec, BTreeMap<String, Vec<MeasuredTrial>>);

/// Pooled variances of logarithms, with their degrees of freedom: of single trials of different starts,
/// and between trials of one start.
#[derive(Clone, Copy, Default)]
struct Spread {
    between: (f64, f64),
    within: (f64, f64),
}

impl Spread {
    fn add(&mut self, starts: &Starts) {
        let pool = |(sum, freedom): &mut (f64, f64), values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            *sum += values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
            *freedom += values.len() as f64 - 1.0;
        };
        let logs: Starts =
            starts.iter().map(|start| start.iter().map(|v| v.max(1e-9).ln()).collect()).collect();
        let first: Vec<f64> = logs.iter().filter_map(|start| start.first().copied()).collect();
        pool(&mut self.between, &first);
        // What differs between the repeats of all starts alike is their requests, and no noise.
        let repeated: Vec<&Vec<f64>> = logs.iter().filter(|start| start.len() == 2).collect();
        if repeated.len() > 1 {
            let halves: Vec<f64> =
                repeated.iter().map(|s| (s[1] - s[0]) / 2.0_f64.sqrt()).collect();
            pool(&mut self.within, &halves);
        }
    }

    fn cells(&self) -> [String; 2] {
        [self.between, self.within].map(|(sum, freedom)| match freedom {
            0.0 => "–".to_owned(),
            _ => format!("{:.1} ({freedom:.0})", 100.0 * (sum / freedom).sqrt()),
        })
    }
}

fn name(load: &LoadSpec) -> String {
    let size = match load.size {
        bench_core::schema::Size::Requests(n) => format!("{n} requests"),
        bench_core::schema::Size::DurationMs(ms) => format!("{} s", ms / 1_000),
    };
    let arrival = serde_json::to_value(&load.arrival).expect("an arrival");
    format!("{} {size}", arrival["process"].as_str().unwrap_or_default())
}

fn main() {
    let mut args = std::env::args().skip(1);
    let starts: u32 = match (args.next().as_deref(), args.next()) {
        (None, _) => 40,
        (Some("--starts"), Some(n)) => n.parse().expect("a number"),
        _ => panic!("expected --starts N"),
    };
    let model: Model = serde_json::from_str(include_str!("../../models/h100-qwen2.5-7b.json"))
        .expect("the model file is one");
    println!("{:?}\n", model.noise);
    // Three starts each of three settings on one host, and eleven of one setting on another.
    let files = [
        ("c", include_str!("../../models/measured/h100-qwen2.5-7b-c.jsonl"), false),
        ("e", include_str!("../../models/measured/h100-qwen2.5-7b-e.jsonl"), true),
        ("e", include_str!("../../models/measured/h100-qwen2.5-7b-e-forked.jsonl"), true),
    ];
    let mut groups: BTreeMap<(&str, String, String), Group> = BTreeMap::new();
    for (host, text, is_repeated) in files {
        for trial in MeasuredTrial::read_all(text, 0).expect("the committed trials") {
            // Cold caches; fewer modules imported.
            if ["w0", "a00F"].contains(&&*trial.measured.launch) {
                continue;
            }
            let args = serde_json::to_string(&trial.args).expect("arguments");
            let key = (host, name(&trial.load), if is_repeated { String::new() } else { args });
            let (_, _, of) = groups
                .entry(key)
                .or_insert_with(|| (trial.args.clone(), trial.load.clone(), BTreeMap::new()));
            of.entry(trial.measured.launch.clone()).or_default().push(trial);
        }
    }
    let mut rows: BTreeMap<(&str, String, &str), [Spread; 2]> = BTreeMap::new();
    for ((host, load, _), (args, spec, measured)) in &groups {
        let repeat = LoadSpec { seed: spec.seed + 100, ..spec.clone() };
        let loads = [Workload::from(spec.clone()), Workload::from(repeat)];
        let numbers: Vec<u32> = (0..starts).collect();
        let simulated = parallel::map(&numbers, |n| {
            simulate(&model, args, *n, &loads).expect("a measured setting starts").1
        });
        for id in METRICS {
            let value = metric::find(id).expect("a metric").value;
            let row = rows.entry((host, load.clone(), id)).or_default();
            let of = |trials: &Vec<MeasuredTrial>| {
                trials.iter().filter_map(|t| value(&t.measured)).collect()
            };
            row[0].add(&measured.values().map(of).collect());
            row[1].add(&simulated.iter().map(|of| of.iter().filter_map(value).collect()).collect());
        }
    }
    println!("| Host | Load | Metric | measured: starts | within | simulated: starts | within |");
    println!("|---|---|---|---:|---:|---:|---:|");
    for ((host, load, id), spreads) in rows {
        let [[a, b], [c, d]] = spreads.map(|spread| spread.cells());
        println!("| {host} | {load} | {id} | {a} | {b} | {c} | {d} |");
    }
}
