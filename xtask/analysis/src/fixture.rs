//! Points for tests.

use std::{collections::BTreeMap, path::PathBuf};

use bench_core::{
    decimal::Decimal,
    schema::{ArgValue, Args, Arrival, Class, LoadSpec, Point, Role, Size, TokenRange, TrialRef},
    stats,
};

use profile::{
    Bound, EndpointConfig, EngineConfig, ExecutorConfig, Limit, NamedLoad, Objective, Profile,
    VllmConfig,
};

/// A point of a sweep: flags with numbers, and figures with one value a start.
pub fn point(label: &str, args: &[(&str, i64)], load: &str, figures: &[(&str, &[f64])]) -> Point {
    let starts = figures.iter().map(|(_, starts)| starts.len()).max().unwrap_or(0);
    let trial = |replicate: usize| {
        let name = format!("{label}/{load}/{replicate}");
        TrialRef::new(bench_core::canonical::Digest::of(name.as_bytes()), replicate as u32)
    };
    Point {
        label: label.to_owned(),
        role: Role::Sweep,
        args: args.iter().map(|(f, n)| ((*f).to_owned(), ArgValue::Int(*n))).collect(),
        load: load.to_owned(),
        load_digest: None,
        part: None,
        trials: (0..starts).map(trial).collect(),
        failure: None,
        saturated: false,
        metrics: figures
            .iter()
            .filter_map(|(id, starts)| Some(((*id).to_owned(), stats::estimate(starts.to_vec())?)))
            .collect::<BTreeMap<_, _>>(),
        anatomy: None,
        classes: Vec::new(),
    }
}

/// A profile that maximizes output throughput on `burst`, with a limit in ms on its TPOT P95.
pub fn profile(limit_ms: Option<i64>) -> Profile {
    let limit = limit_ms.map(|ms| Limit {
        metric: "tpot_p95_ms".to_owned(),
        load: "burst".to_owned(),
        bound: Bound::Max,
        limit: Decimal::from_int(ms).expect("a decimal"),
    });
    Profile {
        instrument_epoch: bench_core::INSTRUMENT_EPOCH,
        name: "test".to_owned(),
        path: PathBuf::new(),
        engine: EngineConfig::Vllm(VllmConfig {
            version: "0.22.1".to_owned(),
            package: "vllm".to_owned(),
            python: None,
            model: "dummy:qwen2.5-7b".to_owned(),
            gpus: vec![0],
            start_timeout_s: 600,
            start: bench_core::schema::StartWay::Ordinary,
        }),
        engine_args: Args::new(),
        engine_env: BTreeMap::new(),
        baseline_args: Args::new(),
        starts: 3,
        starts_max: 3,
        choose_starts: None,
        reference: None,
        loads: vec![burst()],
        sweeps: Vec::new(),
        objective: Objective {
            metric: "output_tokens_per_s".to_owned(),
            maximize: true,
            load: "burst".to_owned(),
            margin_percent: None,
        },
        slo: limit.into_iter().collect(),
        guards: Vec::new(),
        targets: Vec::new(),
        gains: Vec::new(),
        margins_percent: BTreeMap::new(),
        stages: Vec::new(),
        calibrate: None,
        spreads: Default::default(),
        tune: None,
        capacity: None,
        cost: None,
        answers: None,
        budget_engine_minutes: None,
        remote: None,
        executor: ExecutorConfig::Local,
    }
}

/// A server that runs already.
pub fn endpoint() -> EngineConfig {
    EngineConfig::Endpoint(EndpointConfig {
        base_url: "http://127.0.0.1:1".to_owned(),
        model: "model".to_owned(),
        vocab_size: 100,
        declared_identity: Some("a".to_owned()),
        start: 1,
        start_timeout_s: None,
        api_key_env: None,
    })
}

/// A burst of 1,000 requests.
fn burst() -> NamedLoad {
    let one = TokenRange { min: 1, max: 1 };
    let class = Class {
        name: "all".to_owned(),
        share: Decimal::from_int(1).expect("a decimal"),
        input_tokens: one,
        output_tokens: one,
        prefix: None,
    };
    let spec = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1_000), vec![class], 1);
    NamedLoad {
        name: "burst".to_owned(),
        part: None,
        spec,
        repeats: 1,
        data_file: None,
        replay_per_s: None,
    }
}
