//! Holds `bench/models/h100-qwen2.5-7b.json` to what was measured on the H100.
//! `cargo test --workspace --test simulator fit:: -- --nocapture` prints the tables.

use super::common::{Figures, args, burst, class, figures, h100, poisson, run, start};
use bench_core::{
    schema::FailureClass,
    sim::{self, Model},
};

/// A measured row: 1,000 (300 with 16 sequences) requests at once, uniform 128–384 tokens in and
/// 64–192 out.
struct Row {
    args: &'static [(&'static str, &'static str)],
    requests: u32,
    output_tokens_per_s: f64,
    queue_percent: f64,
    front_end_percent: f64,
    tpot_ms: f64,
}

const ROWS: [Row; 3] = [
    Row {
        args: &[("max-num-seqs", "16"), ("enforce-eager", "true")],
        requests: 300,
        output_tokens_per_s: 886.0,
        queue_percent: 89.0,
        front_end_percent: 2.0,
        tpot_ms: 17.0,
    },
    Row {
        args: &[("max-num-seqs", "256")],
        requests: 1000,
        output_tokens_per_s: 10_413.0,
        queue_percent: 53.0,
        front_end_percent: 16.0,
        tpot_ms: 19.0,
    },
    Row {
        args: &[("max-num-seqs", "1024")],
        requests: 1000,
        output_tokens_per_s: 8_707.0,
        queue_percent: 15.0,
        front_end_percent: 32.0,
        tpot_ms: 81.3,
    },
];

fn simulate(model: &Model, row: &Row) -> Figures {
    let load = burst(row.requests, (128, 384), (64, 192));
    let (samples, _) = run(&start(model, row.args), &load);
    assert_eq!(samples.len(), row.requests as usize);
    figures(&samples)
}

/// The rows were measured on a host that no trial of the fit comes from, with a processor of its own:
/// the first row says how fast it is, and the others must follow.
#[test]
fn speed_is_that_of_the_measured_rows() {
    let off = |found: f64, measured: f64| (found / measured - 1.0).abs();
    let of_first =
        |pace: &u64| off(simulate(&h100().on_host(*pace), &ROWS[0]).tpot_ms, ROWS[0].tpot_ms);
    let paces = (600_000..1_200_000).step_by(25_000);
    let pace = paces.min_by(|a, b| of_first(a).total_cmp(&of_first(b))).expect("some");
    let model = h100().on_host(pace);
    println!(
        "host with {} % of the model's times\n{:<56} {:>15} {:>13} {:>13} {:>13}",
        pace / 10_000,
        "simulated (measured)",
        "tokens/s",
        "queue %",
        "front end %",
        "TPOT ms"
    );
    for row in &ROWS {
        let found = simulate(&model, row);
        println!(
            "{:<56} {:>6.0} ({:>6}) {:>6.1} ({:>4}) {:>6.1} ({:>4}) {:>6.1} ({:>4})",
            format!("{:?}", row.args),
            found.output_tokens_per_s,
            row.output_tokens_per_s,
            found.queue_percent,
            row.queue_percent,
            found.front_end_percent,
            row.front_end_percent,
            found.tpot_ms,
            row.tpot_ms,
        );
        assert!(off(found.output_tokens_per_s, row.output_tokens_per_s) < 0.1, "{found:?}");
        assert!((found.queue_percent - row.queue_percent).abs() < 8.0, "{found:?}");
        assert!(off(found.tpot_ms, row.tpot_ms) < 0.2, "{found:?}");
    }
}

#[test]
fn raising_max_num_seqs_lowers_queue_share_and_throughput() {
    let model = h100();
    let (few, many) = (simulate(&model, &ROWS[1]), simulate(&model, &ROWS[2]));
    assert!(many.queue_percent < few.queue_percent - 25.0);
    assert!(many.output_tokens_per_s < few.output_tokens_per_s * 0.9);
    assert!(many.front_end_percent > few.front_end_percent + 10.0);
}

#[test]
fn the_kv_cache_is_as_large_as_measured() {
    let model = h100();
    let mut seen = Vec::new();
    for (pairs, tokens) in [
        (&[("max-num-seqs", "16"), ("enforce-eager", "true")][..], 1_071_264),
        (&[("max-num-seqs", "256")], 1_064_224),
        (&[("max-num-seqs", "1024")], 1_041_168),
        (&[("max-num-seqs", "4096"), ("gpu-memory-utilization", "0.98")], 1_015_312),
        (
            &[
                ("max-num-seqs", "4096"),
                ("max-num-batched-tokens", "262144"),
                ("enforce-eager", "true"),
                ("gpu-memory-utilization", "0.99"),
            ],
            544_624,
        ),
    ] {
        let found = start(&model, pairs).observed().kv_cache_tokens.expect("it says");
        println!("{pairs:?}: {found} KV tokens simulated, {tokens} measured");
        seen.push((found as f64 / f64::from(tokens) - 1.0).abs());
    }
    assert!(seen.iter().all(|off| *off < 0.001), "{seen:?}");
}

#[test]
fn too_little_memory_fails_as_measured() {
    for (pairs, measured_gib) in [
        (&[("gpu-memory-utilization", "0.17"), ("enforce-eager", "true")][..], -3.26),
        (
            &[
                ("gpu-memory-utilization", "0.2"),
                ("enforce-eager", "true"),
                ("max-model-len", "32768"),
            ],
            -0.88,
        ),
    ] {
        let failure = sim::launch(&h100(), &args(pairs), 0).expect_err("too little memory");
        assert_eq!(failure.class, FailureClass::KvCacheMemory);
        let available: f64 = failure.evidence[0]
            .trim_start_matches("Available KV cache memory: ")
            .trim_end_matches(" GiB")
            .parse()
            .expect("a number");
        assert!((available - measured_gib).abs() < 0.05, "{failure:?}");
        assert!(failure.evidence[1].contains("No available memory for the cache blocks"));
    }
}

#[test]
fn starts_take_as_long_as_measured() {
    for (pairs, from_s, to_s) in
        [(&[("enforce-eager", "true")][..], 37.0, 60.0), (&[], 65.0, 114.0)]
    {
        let start_s = start(&h100(), pairs).observed().start_s.expect("it says");
        assert!((from_s..to_s).contains(&start_s), "{pairs:?}: {start_s} s");
    }
}

#[test]
fn a_light_open_loop_is_as_fast_as_the_hardware_allows() {
    let classes = vec![class((64, 256), (32, 128), None), class((512, 2048), (300, 600), None)];
    let (samples, _) = run(&start(&h100(), &[]), &poisson("5", 60, classes));
    let found = figures(&samples);
    println!("5 requests/s: {found:?}");
    // A step reads 14.1 GB of weights at no more than 3.35 TB/s.
    assert!((5.0..12.0).contains(&found.tpot_ms), "{found:?}");
    assert!((8.0..60.0).contains(&found.ttft_ms), "{found:?}");
    assert!((1_500.0..8_000.0).contains(&found.e2e_p95_ms), "{found:?}");
    assert!(found.queue_percent < 1.0);
}
