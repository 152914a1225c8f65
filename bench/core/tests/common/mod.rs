//! What the simulator's tests share.

use bench_core::{
    schema::{
        ArgValue, Args, Arrival, Class, LoadSpec, Prefix, RequestSample, ServerObservation, Size,
        TokenRange,
    },
    sim::{self, HostNoise, Model, Server},
    workload::Workload,
};

/// On a host without noise of its own: what most tests are about is no matter of chance.
pub(crate) fn h100() -> Model {
    let mut model = h100_on_a_host();
    model.noise.host = HostNoise::default();
    model
}

pub(crate) fn h100_on_a_host() -> Model {
    serde_json::from_str(include_str!("../../../models/h100-qwen2.5-7b.json"))
        .expect("the model file is one")
}

pub(crate) fn tiny() -> Model {
    serde_json::from_str(include_str!("../../../models/tiny.json")).expect("the model file is one")
}

/// Arguments from `("flag", "value")`.
pub(crate) fn args(pairs: &[(&str, &str)]) -> Args {
    let value = |text: &str| match text {
        "true" => ArgValue::Bool(true),
        "false" => ArgValue::Bool(false),
        _ => text.parse().map_or_else(|_| ArgValue::Text(text.to_owned()), ArgValue::Int),
    };
    pairs.iter().map(|(flag, text)| ((*flag).to_owned(), value(text))).collect()
}

pub(crate) fn class(input: (u32, u32), output: (u32, u32), prefix: Option<Prefix>) -> Class {
    Class {
        name: format!("{}-{}", input.0, input.1),
        share: "1".parse().expect("decimal"),
        input_tokens: TokenRange { min: input.0, max: input.1 },
        output_tokens: TokenRange { min: output.0, max: output.1 },
        prefix,
    }
}

pub(crate) fn load(arrival: Arrival, size: Size, classes: Vec<Class>) -> Workload {
    LoadSpec::drawn(arrival, size, classes, 7).into()
}

pub(crate) fn burst(requests: u32, input: (u32, u32), output: (u32, u32)) -> Workload {
    load(Arrival::AllAtOnce {}, Size::Requests(requests), vec![class(input, output, None)])
}

pub(crate) fn poisson(rate: &str, duration_s: u64, classes: Vec<Class>) -> Workload {
    let requests_per_second = rate.parse().expect("decimal");
    let arrival = Arrival::Poisson { requests_per_second };
    load(arrival, Size::DurationMs(duration_s * 1_000), classes)
}

pub(crate) fn start(model: &Model, pairs: &[(&str, &str)]) -> Server {
    sim::launch(model, &args(pairs), 0).expect("these settings start")
}

pub(crate) fn run(server: &Server, load: &Workload) -> (Vec<RequestSample>, ServerObservation) {
    let mut samples = Vec::new();
    let observation = server.run(load, &mut |sample| samples.push(sample), &mut |_| {});
    (samples, observation)
}

/// The figures of a run that the tests look at.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) output_tokens_per_s: f64,
    pub(crate) queue_percent: f64,
    pub(crate) front_end_percent: f64,
    pub(crate) tpot_ms: f64,
    pub(crate) ttft_ms: f64,
    pub(crate) e2e_p95_ms: f64,
}

pub(crate) fn figures(samples: &[RequestSample]) -> Figures {
    let mean = |value: &dyn Fn(&RequestSample) -> f64| {
        samples.iter().map(value).sum::<f64>() / samples.len() as f64 / 1e6
    };
    let e2e_ms = mean(&|s| (s.end_ns - s.intended_ns) as f64);
    let phases = |s: &RequestSample| s.phases.expect("a completed request has phases");
    let queue_ms = mean(&|s| phases(s).queue_ns as f64);
    let inference_ms = mean(&|s| (phases(s).prefill_ns + phases(s).decode_ns) as f64);
    let first = |s: &RequestSample| s.first_token_ns().expect("a completed request has tokens");
    let mut e2e: Vec<u64> = samples.iter().map(|s| s.end_ns - s.intended_ns).collect();
    e2e.sort_unstable();
    let tokens: u32 = samples.iter().map(|s| s.output_tokens).sum();
    let end_ns = samples.iter().map(|s| s.end_ns).max().expect("a sample");
    Figures {
        output_tokens_per_s: f64::from(tokens) / (end_ns as f64 / 1e9),
        queue_percent: queue_ms / e2e_ms * 100.0,
        front_end_percent: (e2e_ms - queue_ms - inference_ms) / e2e_ms * 100.0,
        tpot_ms: mean(&|s| (s.end_ns - first(s)) as f64 / f64::from(s.output_tokens.max(2) - 1)),
        ttft_ms: mean(&|s| (first(s) - s.intended_ns) as f64),
        e2e_p95_ms: e2e[e2e.len() * 95 / 100] as f64 / 1e6,
    }
}
