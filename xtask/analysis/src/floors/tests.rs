use std::{fs, path::Path};

use bench_core::schema::{Class, Measured, Outcome, Size, TokenRange};
use proptest::prelude::*;

use super::*;

const QWEN: Dimensions =
    Dimensions { hidden: 3_584, intermediate: 18_944, layers: 28, kv: 512, vocab: 152_064 };

fn h100() -> Server {
    let card = Card::named("NVIDIA H100 80GB HBM3").expect("it is known");
    Server { hardware: Some((card, QWEN.costs())), alone: None }
}

fn load(arrival: Arrival, requests: u32, input: (u32, u32), output: (u32, u32)) -> LoadSpec {
    let class = |name: &str| Class {
        name: name.to_owned(),
        share: "1".parse().expect("a decimal"),
        input_tokens: TokenRange { min: input.0, max: input.1 },
        output_tokens: TokenRange { min: output.0, max: output.1 },
        prefix: None,
    };
    LoadSpec::drawn(arrival, Size::Requests(requests), vec![class("a"), class("b")], 3)
}

#[test]
fn a_7b_model_reads_14_gb_a_step() {
    let costs = QWEN.costs();
    assert!((costs.weights_bytes / 14.14e9 - 1.0).abs() < 0.001, "{costs:?}");
    assert_eq!(costs.kv_token_bytes, 57_344.0);
}

#[test]
fn cards_are_told_apart_by_their_names() {
    let speed = |name| Card::named(name).map(|card| card.bytes_per_s / 1e12);
    assert_eq!(speed("NVIDIA H100 80GB HBM3"), Some(3.35));
    assert_eq!(speed("NVIDIA H100 NVL"), Some(3.9));
    assert_eq!(speed("NVIDIA A100-SXM4-80GB"), Some(2.039));
    assert_eq!(speed("NVIDIA L4"), Some(0.3));
    assert_eq!(speed("NVIDIA L40S"), Some(0.864));
    assert_eq!(speed("AMD EPYC"), None);
}

/// Trials of one request at a time that were measured on H100s, on the settings' own graphs.
fn measured_alone() -> Vec<(String, LoadSpec, Measured)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/models/measured");
    let mut found = Vec::new();
    for file in ["a", "b", "c", "d"].map(|host| format!("h100-qwen2.5-7b-{host}.jsonl")) {
        let text = fs::read_to_string(folder.join(&file)).expect("a file of measured trials");
        for line in text.lines() {
            let trial: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let key_inputs = &trial["preimage"];
            let load: LoadSpec =
                serde_json::from_value(key_inputs["load"].clone()).expect("a load point");
            let is_eager = key_inputs["args"]["enforce-eager"] == true;
            if load.arrival != (Arrival::ClosedLoop { concurrency: 1 }) || is_eager {
                continue;
            }
            let outcome = serde_json::from_value(trial["outcome"].clone()).expect("an outcome");
            if let Outcome::Measured(measured) = outcome {
                found.push((format!("{file} {}", key_inputs["args"]), load, measured));
            }
        }
    }
    found
}

#[test]
fn floors_hold_against_the_measured_steps_of_one_request() {
    let measured = measured_alone();
    assert!(measured.len() >= 10, "{}", measured.len());
    for (name, load, measured) in &measured {
        for (metric, found) in [
            ("tpot_mean_ms", measured.summary.tpot.mean_ms),
            ("e2e_mean_ms", measured.summary.e2e.mean_ms),
            ("e2e_p50_ms", measured.summary.e2e.p50_ms),
        ] {
            let floor = h100().floor(metric, load).expect("a floor").value;
            let off = 100.0 * (found / floor - 1.0);
            assert!(off.abs() < 10.0, "{name} {metric}: {found} for {floor}, {off:.1} % off");
        }
    }
}

/// Half the bytes of linear layers: measured with `quantization = "fp8"`, 4.07 ms a token.
#[test]
fn fewer_bytes_shorten_the_step_as_measured() {
    let mut costs = QWEN.costs();
    costs.weights_bytes = costs.token_flops / 2.0 + 2.0 * 3_584.0 * 152_064.0;
    let server = Server { hardware: h100().hardware.map(|(card, _)| (card, costs)), alone: None };
    let load = load(Arrival::ClosedLoop { concurrency: 1 }, 8, (256, 256), (128, 128));
    let step = server.floor("tpot_mean_ms", &load).expect("a floor").value;
    assert!((4.07 / step - 1.0).abs() < 0.1, "{step}");
}

#[test]
fn five_hundred_tokens_alone_take_three_seconds() {
    let load = load(Arrival::ClosedLoop { concurrency: 8 }, 400, (128, 128), (500, 500));
    let floor = h100().floor("long_e2e_p95_ms", &load).expect("a floor");
    assert!((3_050.0..3_100.0).contains(&floor.value), "{floor:?}");
    assert_eq!(floor.set_by, FloorPart::Weights);
    assert!(!floor.is_measured);
    // As measured: the API server's time and a slower step.
    let alone = Alone { step_ms: 8.0, ttft_ms: 20.0, input_tokens: 128.0, api_server_ms: 5.0 };
    let measured = Server { alone: Some(alone), ..h100() };
    let floor = measured.floor("long_e2e_p95_ms", &load).expect("a floor");
    assert!((floor.value - (20.0 + 499.0 * 8.0)).abs() < 1.0, "{floor:?}");
    assert!(floor.is_measured && floor.parts[&FloorPart::ApiServer] < 0.2);
    // Of an unknown card the measured step is all there is, and it is enough.
    let unknown = Server { alone: Some(alone), hardware: None };
    let floor = unknown.floor("long_e2e_p95_ms", &load).expect("a floor");
    assert_eq!((floor.value, floor.set_by), (20.0 + 499.0 * 8.0, FloorPart::Step));
    assert_eq!(Server::default().floor("long_e2e_p95_ms", &load), None);
}

#[test]
fn rates_are_bounded_by_arithmetic_memory_or_the_load() {
    let ceiling = |load: &LoadSpec| h100().floor("output_tokens_per_s", load).expect("a floor");
    let prompts = ceiling(&load(Arrival::AllAtOnce {}, 1_000, (2_000, 2_000), (10, 10)));
    assert_eq!(prompts.set_by, FloorPart::Compute);
    let one = ceiling(&load(Arrival::ClosedLoop { concurrency: 1 }, 20, (10, 10), (200, 200)));
    assert_eq!(one.set_by, FloorPart::Weights);
    assert!((160.0..165.0).contains(&one.value), "{one:?}");
    let mut open = load(
        Arrival::Constant { requests_per_second: "4".parse().expect("a decimal") },
        0,
        (10, 10),
        (50, 50),
    );
    open.size = Size::DurationMs(10_000);
    assert_eq!(ceiling(&open).set_by, FloorPart::Load);
    assert_eq!(h100().floor("requests_per_s", &open).expect("a floor").value, 4.0);
    assert_eq!(h100().floor("queue_share", &open), None);
}

proptest! {
    /// Parts make up the whole, a percentile is no less for a higher one, and more clients are no
    /// slower.
    #[test]
    fn floors_are_of_one_piece(
        requests in 1_u32..80, output in 2_u32..600, clients in 1_u32..64, step in 2.0..50.0_f64,
    ) {
        let alone =
            Alone { step_ms: step, ttft_ms: 2.0 * step, input_tokens: 200.0, api_server_ms: 1.0 };
        let server = Server { alone: Some(alone), ..h100() };
        let of = |clients| {
            load(Arrival::ClosedLoop { concurrency: clients }, requests, (10, 500), (1, output))
        };
        let value = |metric, clients| server.floor(metric, &of(clients)).expect("a floor");
        let [low, high] = ["e2e_p50_ms", "e2e_p95_ms"].map(|metric| value(metric, clients));
        prop_assert!(low.value <= high.value);
        prop_assert!((high.parts.values().sum::<f64>() - 100.0).abs() < 1e-6);
        let slower = value("output_tokens_per_s", clients);
        let faster = value("output_tokens_per_s", clients + 1);
        prop_assert!(slower.value <= faster.value * (1.0 + 1e-9));
    }
}
