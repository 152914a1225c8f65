//! The simulated server as a client sees it.

mod common;
mod differential;
mod fit;
mod layouts;
mod planted;
mod scheduler;

use bench_core::{
    INSTRUMENT_EPOCH,
    canonical::Digest,
    dataset,
    schema::{
        Arrival, Conversation, DataFormat, DataSpec, FailureClass, LoadSpec, Prefix, RequestSample,
        RequestStatus, SettingFailure, Size,
    },
    sim::{self, KNOWN_FLAGS, Model, Settings},
    workload::{Plan, Workload},
};
use common::{args, burst, class, figures, h100, h100_on_a_host, load, poisson, run, start, tiny};
use proptest::prelude::*;

fn failure(model: &Model, pairs: &[(&str, &str)]) -> SettingFailure {
    sim::launch(model, &args(pairs), 0).expect_err("these settings do not start")
}

fn bytes(model: &Model, replicate: u32, load: &Workload) -> Digest {
    let server = sim::launch(model, &args(&[]), replicate).expect("the defaults start");
    let text = serde_json::to_vec(&(server.observed(), run(&server, load))).expect("JSON");
    Digest::of(&text)
}

fn mixed(rate: &str, duration_s: u64) -> Workload {
    let classes = vec![class((4, 30), (1, 20), None), class((40, 60), (20, 60), None)];
    poisson(rate, duration_s, classes)
}

/// Every planned request is served once and whole, and its times are in order.
fn check_samples(load: &Workload, samples: &[RequestSample]) -> Result<(), TestCaseError> {
    let mut samples: Vec<&RequestSample> = samples.iter().collect();
    samples.sort_by_key(|sample| sample.id);
    let endless =
        matches!((&load.arrival, load.size), (Arrival::ClosedLoop { .. }, Size::DurationMs(_)));
    if !endless {
        prop_assert_eq!(samples.len(), Plan::new(load).count());
    }
    for (sample, planned) in samples.iter().zip(Plan::new(load)) {
        prop_assert_eq!((sample.id, sample.class), (planned.id, planned.class));
        prop_assert_eq!(sample.sent_ns, sample.intended_ns);
        prop_assert!(planned.at_ns.is_none_or(|at_ns| at_ns == sample.intended_ns));
        prop_assert_eq!(&sample.status, &RequestStatus::Completed);
        prop_assert_eq!(sample.input_tokens, planned.input_tokens);
        prop_assert_eq!(sample.output_tokens, planned.output_tokens);
        prop_assert_eq!(sample.tokens.len(), planned.output_tokens as usize);
        prop_assert!(sample.tokens.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert_eq!(sample.first_byte_ns, sample.first_token_ns());
        prop_assert_eq!(Some(sample.end_ns), sample.last_token_ns());
        let phases = sample.phases.expect("a completed request has phases");
        let inside_ns = phases.queue_ns + phases.prefill_ns + phases.decode_ns;
        prop_assert!(inside_ns < sample.end_ns - sample.intended_ns, "no time for the front end");
    }
    Ok(())
}

fn arrivals() -> impl Strategy<Value = (Arrival, Size)> {
    let requests = (1_u32..60).prop_map(Size::Requests);
    let short = (1_u64..2_000).prop_map(Size::DurationMs);
    prop_oneof![
        requests.clone().prop_map(|size| (Arrival::AllAtOnce {}, size)),
        (1_u32..12, prop_oneof![requests, short.clone()])
            .prop_map(|(concurrency, size)| (Arrival::ClosedLoop { concurrency }, size)),
        (1_i64..80, short).prop_map(|(rate, size)| {
            let requests_per_second = rate.to_string().parse().expect("decimal");
            (Arrival::Poisson { requests_per_second }, size)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_request_is_served_once(
        (arrival, size) in arrivals(),
        seqs in 1_u32..12,
        api_servers in 1_u32..4,
        chunked: bool,
        caching: bool,
        groups in 1_u32..4,
    ) {
        let (seqs, api_servers) = (seqs.to_string(), api_servers.to_string());
        let mut pairs = vec![("max-num-seqs", seqs.as_str()), ("api-server-count", &api_servers)];
        if !chunked {
            pairs.push(("enable-chunked-prefill", "false"));
        }
        if !caching {
            pairs.push(("enable-prefix-caching", "false"));
        }
        // A quarter of the pool, so that requests are preempted.
        pairs.push(("num-gpu-blocks-override", "34"));
        let prefix = Some(Prefix { groups, tokens: 20 });
        let classes = vec![class((1, 40), (1, 60), None), class((1, 40), (1, 60), prefix)];
        let load = load(arrival.clone(), size, classes);
        let server = start(&tiny(), &pairs);
        let (samples, observation) = run(&server, &load);
        check_samples(&load, &samples)?;

        prop_assert_eq!(observation.requests_succeeded, Some(samples.len() as u64));
        let tokens = samples.iter().map(|s| u64::from(s.output_tokens)).sum();
        prop_assert_eq!(observation.generation_tokens, Some(tokens));
        if let Some(running) = observation.running_mean {
            prop_assert!(running <= f64::from(server.settings().max_num_seqs));
        }
        if let Arrival::ClosedLoop { concurrency } = arrival {
            check_closed_loop(&samples, concurrency as usize)?;
        }
    }
}

/// Never more in flight than asked for, and a request is sent the moment another ends.
fn check_closed_loop(samples: &[RequestSample], concurrency: usize) -> Result<(), TestCaseError> {
    let ends: Vec<u64> = samples.iter().map(|sample| sample.end_ns).collect();
    for sample in samples {
        let at_ns = sample.sent_ns;
        prop_assert!(at_ns == 0 || ends.contains(&at_ns));
        let in_flight = samples.iter().filter(|s| s.sent_ns <= at_ns && s.end_ns > at_ns).count();
        prop_assert!(in_flight <= concurrency);
    }
    Ok(())
}

#[test]
fn the_same_launch_and_load_yield_the_same_bytes() {
    let load = mixed("30", 3);
    assert_eq!(bytes(&tiny(), 0, &load), bytes(&tiny(), 0, &load));
    assert_ne!(bytes(&tiny(), 0, &load), bytes(&tiny(), 1, &load));
    // A load point's result does not depend on what ran before it.
    let server = start(&tiny(), &[]);
    let alone = run(&server, &load);
    run(&server, &burst(50, (4, 30), (1, 20)));
    assert_eq!(run(&server, &load), alone);
}

/// Other bytes here mean that simulated trials of this epoch are no longer what they were: raise
/// [`sim::EPOCH`], then record the snapshot anew. (A change of a model file needs no new
/// epoch, since its digest is part of the key; this test uses a model that stays as it is.)
#[test]
fn the_bytes_are_those_of_the_epoch() {
    let closed = load(
        Arrival::ClosedLoop { concurrency: 6 },
        Size::Requests(80),
        vec![class((1, 60), (1, 60), Some(Prefix { groups: 3, tokens: 8 }))],
    );
    let mut noisy = tiny();
    noisy.noise.host = h100_on_a_host().noise.host;
    let digests = [
        ("tiny, Poisson", bytes(&tiny(), 0, &mixed("30", 3))),
        ("tiny, closed loop", bytes(&tiny(), 1, &closed)),
        ("tiny, burst", bytes(&tiny(), 0, &burst(30, (20, 30), (60, 90)))),
        ("tiny, on a host", bytes(&noisy, 0, &burst(30, (20, 30), (60, 90)))),
    ]
    .map(|(name, digest)| {
        let digest = digest.short();
        format!("epochs {INSTRUMENT_EPOCH} and {}, {name}: {digest}", sim::EPOCH)
    });
    insta::assert_debug_snapshot!(digests);
}

/// Standard deviation of the throughput of a burst between starts.
fn deviation(model: &Model) -> f64 {
    let starts: Vec<f64> = (0..40)
        .map(|replicate| {
            let server =
                sim::launch(model, &args(&[("max-num-seqs", "64")]), replicate).expect("it starts");
            figures(&run(&server, &burst(64, (100, 100), (50, 50))).0).output_tokens_per_s
        })
        .collect();
    let mean = starts.iter().sum::<f64>() / starts.len() as f64;
    (starts.iter().map(|v| (v / mean - 1.0).powi(2)).sum::<f64>() / 39.0).sqrt()
}

#[test]
fn noise_is_as_large_as_the_model_says() {
    let expected = h100().noise.start_ppm as f64 / 1e6;
    let found = deviation(&h100());
    assert!((found / expected - 1.0).abs() < 0.5, "{found}");
    let on_a_host = deviation(&h100_on_a_host());
    assert!(on_a_host > 2.0 * found && on_a_host < 0.15, "{on_a_host}");
}

#[test]
fn a_shared_prefix_saves_time_to_first_token() {
    let prefix = Some(Prefix { groups: 1, tokens: 2_000 });
    let classes = vec![class((20, 20), (4, 4), prefix)];
    let load = poisson("10", 10, classes);
    let (cold, none) = run(&start(&h100(), &[("enable-prefix-caching", "false")]), &load);
    let (warm, hits) = run(&start(&h100(), &[]), &load);
    assert_eq!(none.prefix_cache_hits, Some(0));
    assert!(hits.prefix_cache_hits > hits.prefix_cache_queries.map(|queries| queries * 9 / 10));
    assert!(figures(&warm).ttft_ms < figures(&cold).ttft_ms / 2.0);
}

#[test]
fn a_small_pool_preempts_and_still_serves_all() {
    let load = burst(30, (20, 30), (60, 90));
    let (samples, observation) = run(&start(&tiny(), &[]), &load);
    assert!(observation.preemptions > Some(0));
    assert!(observation.kv_cache_percent_max > Some(95.0));
    check_samples(&load, &samples).expect("all are served");
}

#[test]
fn without_streaming_all_tokens_come_with_the_last() {
    let mut load = mixed("20", 3);
    load.spec.request.stream = false;
    let (samples, _) = run(&start(&tiny(), &[]), &load);
    for sample in &samples {
        assert_eq!(sample.tokens, [(sample.end_ns, sample.output_tokens)]);
    }
    assert_eq!(samples.len(), Plan::new(&load).count());
}

#[test]
fn more_api_servers_relieve_the_front_end() {
    let load = burst(1_000, (128, 384), (64, 192));
    let share = |count| {
        let server = start(&h100(), &[("max-num-seqs", "1024"), ("api-server-count", count)]);
        let found = figures(&run(&server, &load).0);
        (found.front_end_percent, found.output_tokens_per_s)
    };
    let (one, four) = (share("1"), share("4"));
    assert!(four.0 < one.0 / 2.0 && four.1 > one.1 * 1.1, "{one:?} {four:?}");
}

#[test]
fn a_request_that_is_too_long_is_refused_alone() {
    let load = load(
        Arrival::ClosedLoop { concurrency: 2 },
        Size::Requests(40),
        vec![class((10, 10), (10, 10), None), class((100, 100), (100, 100), None)],
    );
    let (samples, observation) = run(&start(&tiny(), &[]), &load);
    let failed =
        samples.iter().filter(|s| s.status == RequestStatus::Failed("http_400".into())).count();
    let planned = Plan::new(&load).filter(|p| p.input_tokens == 100).count();
    assert_eq!((samples.len(), failed), (40, planned));
    assert_eq!(observation.requests_succeeded, Some(40 - planned as u64));
}

#[test]
fn a_conversation_waits_for_its_answers_and_finds_its_history_cached() {
    let mut load = load(
        Arrival::ClosedLoop { concurrency: 3 },
        Size::Requests(40),
        vec![class((8, 8), (4, 4), None)],
    );
    load.spec.conversation =
        Some(Conversation { turns_min: 4, turns_max: 4, think_ms_min: 50, think_ms_max: 90 });
    let (mut samples, observation) = run(&start(&tiny(), &[]), &load);
    samples.sort_by_key(|sample| sample.id);
    assert_eq!(samples.len(), 40);
    for (sample, planned) in samples.iter().zip(Plan::new(&load)) {
        assert_eq!(sample.input_tokens, planned.input_tokens);
        if planned.think_ns > 0 {
            let before = &samples[planned.id as usize - 1];
            assert_eq!(sample.intended_ns, before.end_ns + planned.think_ns);
        }
    }
    // Prompts of 8, 20, 32 and 44 tokens in blocks of 4: each turn finds the prompt before it.
    assert_eq!(observation.prefix_cache_hits, Some(10 * (8 + 20 + 32)));
    assert_eq!(observation.prefix_cache_queries, Some(10 * (8 + 20 + 32 + 44)));
}

#[test]
fn a_trace_finds_its_blocks_cached() {
    // Room for 6,000 tokens a request.
    let server = start(&h100(), &[("max-model-len", "8192")]);
    let trace = "{\"timestamp\":0,\"input_length\":1100,\"output_length\":2,\"hash_ids\":[1,2,3]}\n\
                 {\"timestamp\":9000,\"input_length\":1100,\"output_length\":2,\"hash_ids\":[1,2,4]}\n";
    let mut rows = Vec::new();
    let format = DataFormat::Mooncake;
    let digest = dataset::read(format, trace.as_bytes(), &mut |row| rows.push(row)).expect("rows");
    let speed_up = "2".parse().expect("decimal");
    let mut spec = LoadSpec::drawn(
        Arrival::Replay { speed_up },
        Size::Requests(2),
        vec![class((1, 1), (1, 1), None)],
        1,
    );
    spec.data = Some(DataSpec { format, digest, output_tokens: None, think_ms_max: None });
    let (samples, observation) = run(&server, &Workload::new(spec, rows));
    assert_eq!(samples.iter().map(|s| s.intended_ns).collect::<Vec<_>>(), [0, 4_500_000_000]);
    assert_eq!(observation.prefix_cache_hits, Some(1_024));
}

#[test]
fn what_a_limit_in_flight_holds_back_waits_in_the_client() {
    let mut load = burst(20, (8, 8), (5, 9));
    load.spec.max_concurrency = Some(3);
    let (samples, _) = run(&start(&tiny(), &[]), &load);
    assert_eq!(samples.len(), 20);
    for sample in &samples {
        assert_eq!((sample.intended_ns, sample.queued_ns), (0, sample.sent_ns));
    }
    check_closed_loop(&samples, 3).expect("at most three in flight, each sent when another ends");
}

#[test]
fn progress_comes_once_a_simulated_second() {
    let mut seen = Vec::new();
    let server = start(&tiny(), &[]);
    server.run(&mixed("20", 5), &mut |_| {}, &mut |progress| seen.push(progress));
    assert!((4..=8).contains(&seen.len()), "{}", seen.len());
    assert!(
        seen.windows(2).all(|pair| pair[0].now_ns / 1_000_000_000 < pair[1].now_ns / 1_000_000_000)
    );
}

#[test]
fn more_memory_for_the_server_is_more_for_the_cache() {
    let tokens = |pairs: &[(&str, &str)]| start(&tiny(), pairs).observed().kv_cache_tokens;
    assert!(tokens(&[("gpu-memory-utilization", "0.9")]) < tokens(&[]));
    assert!(tokens(&[("max-num-seqs", "32")]) < tokens(&[]));
    assert!(tokens(&[("max-num-batched-tokens", "128")]) < tokens(&[]));
    assert_eq!(tokens(&[("num-gpu-blocks-override", "50")]), Some(200));
}

#[test]
fn memory_fails_in_the_order_of_vllms_checks() {
    let budget = ("max-num-batched-tokens", "256");
    for (pairs, class, words) in [
        (
            &[("gpu-memory-utilization", "0.3")][..],
            FailureClass::KvCacheMemory,
            "No available memory for the cache blocks",
        ),
        (
            &[("gpu-memory-utilization", "0.5")],
            FailureClass::KvCacheMemory,
            "To serve at least one request with the model's max seq len (128)",
        ),
        (
            &[("gpu-memory-utilization", "1")],
            FailureClass::KvCacheMemory,
            "is less than desired GPU memory utilization",
        ),
        (
            &[("num-gpu-blocks-override", "32")],
            FailureClass::KvCacheMemory,
            "To serve at least one request",
        ),
        (
            &[("max-num-seqs", "160"), budget],
            FailureClass::SamplerWarmUp,
            "warming up sampler with 160 dummy requests",
        ),
        (
            &[("max-num-seqs", "60"), budget, ("gpu-memory-utilization", "0.98")],
            FailureClass::SamplerWarmUp,
            "warming up sampler with 60 dummy requests",
        ),
        (&[("max-num-batched-tokens", "700")], FailureClass::OutOfMemory, "torch.OutOfMemoryError"),
    ] {
        let found = failure(&tiny(), pairs);
        let evidence = found.evidence.join("\n");
        assert_eq!(found.class, class, "{pairs:?}: {evidence}");
        assert!(evidence.contains(words), "{pairs:?}: {evidence}");
    }
    let mut huge = tiny();
    huge.memory.weights_bytes = 995_000;
    assert_eq!(failure(&huge, &[]).class, FailureClass::ModelMemory);
}

#[test]
fn what_vllm_refuses_together_is_refused() {
    for (pairs, class, words) in [
        (
            &[("max-num-seqs", "128")][..],
            FailureClass::BadCombination,
            "max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (128)",
        ),
        (
            &[("enable-chunked-prefill", "false"), ("max-num-batched-tokens", "64")],
            FailureClass::BadCombination,
            "max_num_batched_tokens (64) is smaller than max_model_len (128)",
        ),
        (
            &[("max-model-len", "512")],
            FailureClass::MaxModelLen,
            "User-specified max_model_len (512) is greater than the derived max_model_len",
        ),
        (
            &[("long-prefill-token-threshold", "129")],
            FailureClass::BadCombination,
            "long_prefill_token_threshold (129) cannot be greater",
        ),
        (&[("max-num-seqs", "0")], FailureClass::BadCombination, "--max-num-seqs"),
        (&[("gpu-memory-utilization", "1.1")], FailureClass::BadCombination, "at most 1"),
        (&[("enforce-eager", "1")], FailureClass::BadCombination, "true or false"),
        (
            &[("tensor-parallel-size", "2")],
            FailureClass::BadCombination,
            "unrecognized arguments: --tensor-parallel-size",
        ),
    ] {
        let found = failure(&tiny(), pairs);
        assert_eq!(found.class, class, "{pairs:?}");
        assert!(found.evidence[0].contains(words), "{pairs:?}: {:?}", found.evidence);
    }
}

#[test]
fn settings_are_resolved_as_vllm_does() {
    let resolve = |pairs: &[(&str, &str)]| {
        Settings::from_args(&h100(), &args(pairs)).expect("vLLM takes these")
    };
    let defaults = resolve(&[]);
    assert_eq!((defaults.max_num_seqs, defaults.max_num_batched_tokens), (1024, 8192));
    // As in the log of a start with 4,096 sequences: 51 graphs, the largest of 512 tokens.
    assert_eq!((defaults.graph_tokens.len(), defaults.graph_tokens.last()), (51, Some(&512)));
    let few = resolve(&[("max-num-seqs", "16")]);
    assert_eq!(few.graph_tokens, [1, 2, 4, 8, 16, 24, 32]);
    assert!(resolve(&[("enforce-eager", "true")]).graph_tokens.is_empty());
    // Without a budget of its own, a server without chunked prefill takes whole prompts.
    let whole = resolve(&[("enable-chunked-prefill", "false"), ("max-model-len", "16384")]);
    assert_eq!(whole.max_num_batched_tokens, 16_384);
    // Only a max-num-seqs that was not asked for follows the budget down.
    assert_eq!(resolve(&[("max-num-batched-tokens", "512")]).max_num_seqs, 512);
    assert!(KNOWN_FLAGS.is_sorted());
}

#[test]
fn models_have_digests_and_refuse_unknown_keys() {
    for model in [h100(), tiny()] {
        let digest = Digest::of_json(&model).expect("no floats");
        let text = serde_json::to_string(&model).expect("JSON");
        let again: Model = serde_json::from_str(&text).expect("its own text");
        assert_eq!(Digest::of_json(&again).expect("no floats"), digest);
        let unknown = text.replacen("\"title\"", "\"colour\": 1, \"title\"", 1);
        assert!(serde_json::from_str::<Model>(&unknown).is_err());
    }
}
