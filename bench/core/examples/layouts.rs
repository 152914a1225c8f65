//! What sharing a model's layers and copying the model would do, as the simulator foresees it: `cargo run
//! --release --example layouts`, or with the file of another model that has `cards`.
//!
//! Layouts are not measured: each figure stands beside what it becomes when the sums over the cards take as
//! much less, and as much more, as the model says that they may.

use bench_core::{
    schema::{ArgValue, Args, Arrival, Class, LoadSpec, RequestSample, Size, TokenRange},
    sim::{self, Model},
    workload::Workload,
};

fn load(arrival: Arrival, requests: u32) -> Workload {
    let class = Class {
        name: "all".to_owned(),
        share: "1".parse().expect("decimal"),
        input_tokens: TokenRange { min: 128, max: 384 },
        output_tokens: TokenRange { min: 64, max: 192 },
        prefix: None,
    };
    LoadSpec::drawn(arrival, Size::Requests(requests), vec![class], 7).into()
}

/// Output tokens a second, of all requests together.
fn tokens_per_s(model: &Model, args: &Args, load: &Workload) -> f64 {
    let server = sim::launch(&model.without_noise(), args, 0).expect("a layout that fits starts");
    let (mut tokens, mut end_ns) = (0_u64, 0);
    let mut on_sample = |sample: RequestSample| {
        tokens += u64::from(sample.output_tokens);
        end_ns = end_ns.max(sample.end_ns);
    };
    server.run(load, &mut on_sample, &mut |_| {});
    tokens as f64 / (end_ns as f64 / 1e9)
}

fn main() {
    let file = std::env::args().nth(1);
    let text = match &file {
        Some(path) => std::fs::read_to_string(path).expect("the model's file"),
        None => include_str!("../../models/h100x8-qwen2.5-7b.json").to_owned(),
    };
    let model: Model = serde_json::from_str(&text).expect("the model file is one");
    let cards = model.cards.as_ref().expect("the model says how cards share its layers");
    let within = cards.all_reduce_within_ppm;
    let paces = [1_000_000, 1_000_000_000_000 / within, within];
    let models = paces.map(|pace| model.with_all_reduces(pace));
    let burst = load(Arrival::AllAtOnce {}, 4_000);
    let one = load(Arrival::ClosedLoop { concurrency: 1 }, 8);

    println!("{}", model.title);
    println!(
        "{:>3} {:>3} {:>6} {:>26} {:>15} {:>25}",
        "TP", "DP", "cards", "burst, tokens/s", "a card", "alone, tokens/s"
    );
    let mut found = Vec::new();
    for shards in (1..=cards.count).filter(|n| cards.refusal(*n).is_none()) {
        for copies in (1..=cards.count / shards).filter(|n| n.is_power_of_two()) {
            let size = |n: u32| ArgValue::Int(n.into());
            let args = Args::from([
                ("tensor-parallel-size".to_owned(), size(shards)),
                ("data-parallel-size".to_owned(), size(copies)),
                // Else each copy would bring one.
                ("api-server-count".to_owned(), size(cards.count)),
            ]);
            let [burst, one] = [&burst, &one]
                .map(|load| models.each_ref().map(|model| tokens_per_s(model, &args, load)));
            found.push((shards, copies, burst, one));
        }
    }
    found.sort_by_key(|(shards, copies, ..)| (shards * copies, *shards));
    for (shards, copies, burst, one) in found {
        let used = shards * copies;
        let shown = |[mean, fast, slow]: [f64; 3]| format!("{mean:.0} ({slow:.0} to {fast:.0})");
        let a_card = burst[0] / f64::from(used);
        println!(
            "{shards:>3} {copies:>3} {used:>6} {:>26} {a_card:>15.0} {:>25}",
            shown(burst),
            shown(one)
        );
    }
}
