//! Several cards: what the simulator says of sharing a model's layers and of copying the model.

use std::collections::BTreeSet;

use crate::common::{Figures, args, burst, class, figures, h100, load, run, start};
use bench_core::{
    schema::{Arrival, FailureClass, RequestStatus, Size},
    sim::{self, Model, Server},
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

/// Half of the weights make room for keys and values, of which each card then has half.
#[test]
fn memory_is_shared_too() {
    let tokens = |shards| layout(shards, 1).observed().kv_cache_tokens.expect("it has a cache");
    let [one, two, four] = [1, 2, 4].map(tokens);
    assert!(two > 2 * one && four > 2 * two, "{one} {two} {four} tokens");
}
