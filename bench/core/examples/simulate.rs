//! What the simulator costs in CPU time: `cargo run --release --example simulate`.
//!
//! Prints, for two load points on the H100 model, simulated time and CPU time (as Linux counts
//! it, so that a busy machine does not matter).

use bench_core::{
    schema::{ArgValue, Args, Arrival, Class, LoadSpec, RequestSample, Size, TokenRange},
    sim::{self, Model},
    workload::Workload,
};

fn load(arrival: Arrival, size: Size) -> Workload {
    let class = Class {
        name: "all".to_owned(),
        share: "1".parse().expect("decimal"),
        input_tokens: TokenRange { min: 128, max: 384 },
        output_tokens: TokenRange { min: 64, max: 192 },
        prefix: None,
    };
    LoadSpec::drawn(arrival, size, vec![class], 7).into()
}

fn cpu_ms() -> f64 {
    let counted = std::fs::read_to_string("/proc/self/schedstat").expect("Linux counts CPU time");
    let ns = counted.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    ns.expect("the first field is a number") / 1e6
}

fn main() {
    let model: Model = serde_json::from_str(include_str!("../../models/h100-qwen2.5-7b.json"))
        .expect("the model file is one");
    let rate = Arrival::Poisson { requests_per_second: "40".parse().expect("decimal") };
    for (name, load) in [
        ("60 s at 40 requests/s", load(rate, Size::DurationMs(60_000))),
        ("1,000 requests at once", load(Arrival::AllAtOnce {}, Size::Requests(1_000))),
    ] {
        for seqs in [16, 256, 1024] {
            let args = Args::from([("max-num-seqs".to_owned(), ArgValue::Int(seqs))]);
            let server = sim::launch(&model, &args, 0).expect("these settings start");
            let started_ms = cpu_ms();
            let (mut requests, mut tokens, mut end_ns) = (0_u64, 0_u64, 0);
            server.run(
                &load,
                &mut |sample: RequestSample| {
                    requests += 1;
                    tokens += u64::from(sample.output_tokens);
                    end_ns = end_ns.max(sample.end_ns);
                },
                &mut |_| {},
            );
            let spent_ms = cpu_ms() - started_ms;
            println!(
                "{name}, max-num-seqs {seqs:>4}: {requests} requests, {tokens} tokens, \
                 {:.1} s simulated in {spent_ms:.0} ms of CPU",
                end_ns as f64 / 1e9,
            );
        }
    }
}
