//! Several cards: what the simulator says of sharing a model's layers and of copying the model.

use std::collections::BTreeSet;

use crate::common::{Figures, args, burst, class, figures, h100, load, run, start};
use bench_core::{
    schema::{Arrival, EnergyReading, FailureClass, RequestStatus, Size},
    sim::{self, Model, Server, machine::Machine, scheduler::Request},
    workload::Workload,
};

fn eight() -> Model {
    let text = include_str!("../../models/h100x8-qwen2.5-7b.json");
    let model: Model = serde_json::from_str(text).expect("the model file is one");
    model.without_noise()
}

fn layout(shards: u32, copies: u32) -> Server {
    let [shards, copies] = [shards, copies].map(|n| n.to_string());
    // As many API servers for all, else each copy would bring one.
    let layout = [("tensor-parallel-size", &*shards), ("data-parallel-size", &copies)];
    start(&eight(), &[layout[0], layout[1], ("api-server-count", "8")])
}

fn at_once(server: &Server) -> Figures {
    figures(&run(server, &burst(2_000, (128, 384), (64, 192))).0)
}

fn alone(server: &Server) -> Figures {
    let requests = Size::Requests(8);
    let one = Arrival::ClosedLoop { concurrency: 1 };
    figures(&run(server, &load(one, requests, vec![class((256, 256), (128, 128), None)])).0)
}

#[test]
fn shared_layers_lower_the_latency_and_copies_raise_the_throughput() {
    let [one, two, four] = [1, 2, 4].map(|shards| alone(&layout(shards, 1)).tpot_ms);
    assert!(one > 1.3 * two && two > 1.2 * four, "{one} {two} {four} ms");
    assert!(four > one / 4.0, "sums over the cards cost something: {one} {four} ms");
    let copied = alone(&layout(1, 4)).tpot_ms;
    assert!((copied / one - 1.0).abs() < 0.02, "a copy is no faster: {one} {copied} ms");

    let [one, two, four] = [1, 2, 4].map(|copies| at_once(&layout(1, copies)).output_tokens_per_s);
    assert!(two > 1.5 * one && four > 1.5 * two, "{one} {two} {four} tokens/s");
    let shared = at_once(&layout(4, 1)).output_tokens_per_s;
    assert!(four > shared, "four copies {four}, one model on four cards {shared} tokens/s");
}

#[test]
fn every_request_is_served_once_whatever_the_layout() {
    for (shards, copies) in [(1, 1), (1, 3), (2, 2), (4, 2)] {
        let (samples, observed) = run(&layout(shards, copies), &burst(500, (8, 64), (4, 32)));
        let ids: BTreeSet<_> = samples.iter().map(|sample| sample.id).collect();
        assert_eq!((samples.len(), ids.len()), (500, 500));
        assert!(samples.iter().all(|sample| sample.status == RequestStatus::Completed));
        let tokens: u64 = samples.iter().map(|sample| u64::from(sample.output_tokens)).sum();
        assert_eq!(observed.generation_tokens, Some(tokens), "{shards} × {copies}");
        assert_eq!(observed.requests_succeeded, Some(500));
    }
}

#[test]
fn one_engine_of_a_machine_with_eight_cards_is_that_of_one() {
    let load = burst(300, (128, 384), (64, 192));
    let [alone, among] = [h100().without_noise(), eight()].map(|model| {
        let samples = run(&start(&model, &[]), &load).0;
        samples.iter().map(|sample| (sample.id, sample.end_ns)).collect::<Vec<_>>()
    });
    assert_eq!(alone, among);
}

#[test]
fn a_layout_that_does_not_fit_is_refused_with_vllms_words() {
    for (shards, copies, words) in [
        ("4", "4", "World size (16) is larger than the number of available GPUs (8)"),
        ("8", "1", "attention heads (28) must be divisible by tensor parallel size (8)"),
        ("7", "1", "4 key-value heads"),
        ("0", "1", "--tensor-parallel-size"),
    ] {
        let pairs = [("tensor-parallel-size", shards), ("data-parallel-size", copies)];
        let failure = sim::launch(&eight(), &args(&pairs), 0).expect_err(words);
        assert_eq!(failure.class, FailureClass::BadCombination);
        assert!(failure.evidence[0].contains(words), "{:?}", failure.evidence);
    }
}

/// Half of the weights make room for keys and values, of which each card then has half. A copy brings a cache of
/// its own.
#[test]
fn memory_is_shared_too() {
    let tokens = |shards, copies| {
        let observed = layout(shards, copies).observed();
        let tokens = observed.kv_cache_tokens.expect("it has a cache");
        assert_eq!(Some(tokens), observed.kv_cache_blocks.map(|blocks| 16 * blocks));
        tokens
    };
    let [one, two, four] = [1, 2, 4].map(|shards| tokens(shards, 1));
    assert!(two > 2 * one && four > 2 * two, "{one} {two} {four} tokens");
    assert_eq!(tokens(1, 3), 3 * one);
    assert_eq!(tokens(2, 2), 2 * two);
}

/// As vLLM 0.22.1 does with a dense model: an API server that knew how busy engines are would spare the one with
/// the long answers.
#[test]
fn an_api_server_gives_its_requests_to_the_engines_in_turn() {
    let pairs = [("data-parallel-size", "2"), ("api-server-count", "1")];
    let mut machine = start(&eight(), &pairs).machine(0);
    let running = |machine: &Machine| -> Vec<usize> {
        machine.schedulers().map(|scheduler| scheduler.running() + scheduler.waiting()).collect()
    };
    let send = |machine: &mut Machine, now_ns: u64, id: u64, max_tokens: u32| {
        machine.send(now_ns, Request { id, prompt_tokens: 64, max_tokens, shared_hashes: vec![] });
    };
    for id in 0..8 {
        send(&mut machine, 0, id, if id % 2 == 0 { 1_000 } else { 2 });
    }
    machine.advance(1_000_000_000, &mut |_| {});
    assert_eq!(running(&machine), [4, 0], "the short ones are done");
    for id in 8..10 {
        send(&mut machine, 1_000_000_000, id, 1_000);
    }
    machine.advance(2_000_000_000, &mut |_| {});
    assert_eq!(running(&machine), [5, 1]);
}

/// The readings of a run of cards that draw this: `(idle_mw, step_mw, token_uj)`.
fn energy(
    (shards, copies): (u32, u32),
    (idle_mw, step_mw, token_uj): (u64, u64, u64),
    load: &Workload,
) -> Vec<EnergyReading> {
    let mut model = eight();
    model.power = Some(
        serde_json::from_value(serde_json::json!({
            "idle_mw": idle_mw, "step_mw": step_mw, "token_uj": token_uj,
        }))
        .expect("power"),
    );
    let [shards, copies] = [shards, copies].map(|n| n.to_string());
    let pairs = [("tensor-parallel-size", &*shards), ("data-parallel-size", &*copies)];
    let energy = run(&start(&model, &pairs), load).1.energy;
    assert!(energy.len() > 5, "{} readings", energy.len());
    energy
}

const LAYOUTS: [(u32, u32); 5] = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4)];

/// Every card of a layout draws its floor, whether its engine has work or not.
#[test]
fn every_card_draws_its_floor() {
    let load = load(
        Arrival::ClosedLoop { concurrency: 1 },
        Size::Requests(4),
        vec![class((64, 64), (100, 100), None)],
    );
    for (shards, copies) in LAYOUTS {
        for reading in energy((shards, copies), (100_000, 0, 0), &load) {
            let expected = 100.0 * reading.at_s * f64::from(shards * copies);
            assert!((reading.counter_j - expected).abs() < 1e-6, "{shards} × {copies} {reading:?}");
        }
    }
}

/// A token costs its work on whatever card it is computed, and each is counted once.
#[test]
fn tokens_cost_as_much_in_every_layout() {
    let load = burst(400, (64, 256), (32, 128));
    let of = |layout| energy(layout, (0, 0, 1_000), &load).last().expect("readings").counter_j;
    let samples = run(&layout(1, 1), &load).0;
    // The last token of an answer is never an input.
    let tokens: u64 =
        samples.iter().map(|s| u64::from(s.input_tokens) + u64::from(s.output_tokens) - 1).sum();
    for layout in LAYOUTS {
        assert!((of(layout) - tokens as f64 / 1e3).abs() < 1e-6, "{layout:?}: {tokens} tokens");
    }
}

/// A step is counted while it is computed, not when it is launched: no counter rises faster than its cards can
/// draw, and where all are busy they draw nearly that.
#[test]
fn no_card_draws_more_than_it_can() {
    let load = burst(2_000, (128, 384), (64, 192));
    for (shards, copies) in LAYOUTS {
        let readings = energy((shards, copies), (0, 100_000, 0), &load);
        let most = 100.0 * f64::from(shards * copies);
        for pair in readings.windows(2) {
            let (joules, seconds) =
                (pair[1].counter_j - pair[0].counter_j, pair[1].at_s - pair[0].at_s);
            assert!(
                (-1e-9..=most * seconds + 1e-6).contains(&joules),
                "{shards} × {copies} {pair:?}"
            );
        }
        let last = readings.last().expect("readings");
        let share = last.counter_j / (most * last.at_s);
        assert!((0.3..1.0).contains(&share), "{shards} × {copies}: busy {share} of the time");
    }
}

/// Nothing is guessed of one card; of others the prediction lies between its ends.
#[test]
fn a_prediction_lies_between_its_ends() {
    assert!(eight().ends(&args(&[])).is_none());
    for (shards, copies) in [("2", "1"), ("1", "4"), ("2", "2")] {
        let args = args(&[("tensor-parallel-size", shards), ("data-parallel-size", copies)]);
        let rate = |model: &Model| {
            let server = sim::launch(model, &args, 0).expect("it starts");
            figures(&run(&server, &burst(1_000, (128, 384), (64, 192))).0).output_tokens_per_s
        };
        let [best, worst] = eight().ends(&args).expect("several cards").map(|model| rate(&model));
        let centre = rate(&eight());
        assert!(worst < 0.97 * centre && centre <= 1.001 * best, "{worst} {centre} {best}");
    }
}
