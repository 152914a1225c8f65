//! Starts of one setting, measured on an H100, split at random into two sides of six and judged, over and
//! over: every better or worse is wrong.
//! `cargo run --release --example equals -- --seed 1 --splits 200`.

use std::collections::BTreeMap;

use bench_core::{
    metric,
    rng::Random,
    schema::Verdict,
    sim::predict::MeasuredTrial,
    stats::{self, LEVEL, Question, QuestionRole, Start},
};

/// The primary question, then guardrails.
const METRICS: [&str; 4] = ["output_tokens_per_s", "ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms"];

const SIDE: usize = 6;

/// Bursts by server start, in the order of the files. The launch `a00F` had fewer modules imported than
/// the other forked ones and is left out.
fn starts() -> BTreeMap<String, Vec<MeasuredTrial>> {
    let mut starts: BTreeMap<String, Vec<MeasuredTrial>> = BTreeMap::new();
    for text in [
        include_str!("../../models/measured/h100-qwen2.5-7b-e.jsonl"),
        include_str!("../../models/measured/h100-qwen2.5-7b-e-forked.jsonl"),
    ] {
        for trial in MeasuredTrial::read_all(text, 0).expect("the committed trials") {
            if trial.measured.launch != "a00F" {
                starts.entry(trial.measured.launch.clone()).or_default().push(trial);
            }
        }
    }
    starts
}

fn main() {
    let (mut seed, mut splits) = (1, 200);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|value| value.parse().ok());
        let value: u64 = value.unwrap_or_else(|| panic!("{name} takes a number"));
        match name.as_str() {
            "--seed" => seed = value,
            "--splits" => splits = value,
            _ => panic!("unknown argument {name}: --seed N --splits N"),
        }
    }
    let starts: Vec<Vec<MeasuredTrial>> = starts().into_values().collect();
    let mut random = Random::new(seed, 0);
    let (mut primary, mut guardrail) = (0, 0);
    for _ in 0..splits {
        let mut order: Vec<usize> = (0..starts.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i as u64 + 1) as usize);
        }
        let side = |id: &str, starts_of: &[usize]| -> Vec<Start> {
            let value = metric::find(id).expect("a metric").value;
            let repeats =
                |i: &usize| starts[*i].iter().filter_map(|t| value(&t.measured)).collect();
            starts_of.iter().map(|i| Start { block: None, repeats: repeats(i) }).collect()
        };
        let sides = METRICS.map(|id| (side(id, &order[..SIDE]), side(id, &order[SIDE..2 * SIDE])));
        let questions: Vec<Question<'_>> = METRICS
            .iter()
            .zip(&sides)
            .enumerate()
            .map(|(i, (id, (before, after)))| {
                let metric = metric::find(id).expect("a metric");
                let role = if i == 0 { QuestionRole::Primary } else { QuestionRole::Guardrail };
                let (margin_percent, load) = (metric.margin().percent, "burst");
                let (lent, requests) = (&[][..], None);
                Question { metric, load, before, after, lent, requests, margin_percent, role }
            })
            .collect();
        let judged = stats::judge(&questions, LEVEL);
        let is_change = |verdict| matches!(verdict, Some(Verdict::Better | Verdict::Worse));
        primary += u64::from(is_change(judged[0].verdict));
        guardrail += u64::from(judged[1..].iter().any(|j| is_change(j.verdict)));
    }
    let percent = |count: u64| 100.0 * count as f64 / splits as f64;
    println!(
        "{} starts of one setting, {SIDE} against {SIDE}, {splits} splits, seed {seed}: the primary question \
         better or worse in {:.1} %, any of {} guardrails in {:.1} %",
        starts.len(),
        percent(primary),
        METRICS.len() - 1,
        percent(guardrail)
    );
}
