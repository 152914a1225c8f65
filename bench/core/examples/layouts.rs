//! What sharing a model's layers and copying the model would do, as the simulator foresees it: `cargo run
//! --release --example layouts`, or with the file of another model that has `cards`.
//!
//! Layouts are not measured: each figure stands beside what it becomes when every guess about the layout is
//! at its worst and at its best.

use bench_core::{
    schema::{ArgValue, Args, Arrival, Class, LoadSpec, RequestSample, Size, TokenRange},
    sim::{self, ASSUMPTIONS, Model},
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

/// A figure, and between what it is.
fn within(model: &Model, args: &Args, load: &Workload) -> (f64, String) {
    let centre = tokens_per_s(model, args, load);
    let text = match model.ends(args) {
        Some(ends) => {
            let [best, worst] = ends.map(|model| tokens_per_s(&model, args, load));
            format!("{centre:.0} ({worst:.0} to {best:.0})")
        }
        None => format!("{centre:.0}"),
    };
    (centre, text)
}

fn main() {
    let file = std::env::args().nth(1);
    let text = match &file {
        Some(path) => std::fs::read_to_string(path).expect("the model's file"),
        None => include_str!("../../models/h100x8-qwen2.5-7b.json").to_owned(),
    };
    let model: Model = serde_json::from_str(&text).expect("the model file is one");
    let cards = model.cards.as_ref().expect("the model says how cards share its layers");
    let burst = load(Arrival::AllAtOnce {}, 4_000);
    let one = load(Arrival::ClosedLoop { concurrency: 1 }, 8);

    println!("{}", model.title);
    println!(
        "{:>3} {:>3} {:>6} {:>26} {:>15} {:>25}",
        "TP", "DP", "cards", "burst, tokens/s", "a card", "alone, tokens/s"
    );
    let every = (1..=cards.count).filter(|shards| cards.refusal(*shards).is_none());
    let every = every.flat_map(|shards| {
        let copies = (1..=cards.count / shards).filter(|n| n.is_power_of_two());
        copies.map(move |copies| (shards * copies, shards, copies))
    });
    let mut every: Vec<_> = every.collect();
    every.sort_unstable();
    for (used, shards, copies) in every {
        let size = |n: u32| ArgValue::Int(n.into());
        let args = Args::from([
            ("tensor-parallel-size".to_owned(), size(shards)),
            ("data-parallel-size".to_owned(), size(copies)),
            // Else each copy would bring one.
            ("api-server-count".to_owned(), size(cards.count)),
        ]);
        let (centre, burst) = within(&model, &args, &burst);
        let (_, alone) = within(&model, &args, &one);
        let a_card = centre / f64::from(used);
        println!("{shards:>3} {copies:>3} {used:>6} {burst:>26} {a_card:>15.0} {alone:>25}");
    }
    println!(
        "\nIn brackets: with everything that is guessed of a layout at its worst, and at its best."
    );
    for a in &ASSUMPTIONS {
        println!("- {}: {}; at best {}; at worst {}", a.about, a.guess, a.best, a.worst);
    }
}
