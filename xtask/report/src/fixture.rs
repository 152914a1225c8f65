//! Results shaped like those measured on an H100, for the tests.

use std::{collections::BTreeMap, path::PathBuf};

use bench_core::{
    canonical::Digest,
    schema::{
        Anatomy, ArgValue, Args, Arrival, BaselineResult, Calibration, Candidate, Choice,
        ChooseResult, Class, ClassPoint, Column, CompareResult, Comparison, ComprehensiveResult,
        ConfirmResult, Decision, Effect, EngineLabel, Estimate, FORMAT, FailureClass, FlagReason,
        Header, LoadSpec, Point, ProvisionResult, Role, SavedResult, SettingFailure, Size,
        SweepResult, TokenRange, TrialRef,
    },
    stats,
};
use serde_json::json;

use super::{Inputs, TrialView, findings};
use analysis::{
    Configuration, comparison,
    decision::{self, Judged},
    floors::{Alone, Server},
    lenders::Lenders,
    targets,
};
use profile::{Bound, EngineConfig, Gain, Limit, NamedLoad, Objective, Part, Profile, VllmConfig};

/// Classes of the load `lengths`.
const CLASSES: [&str; 4] = ["100", "200", "300", "500+"];

/// Everything that a report needs.
pub struct Fixture {
    pub profile: Profile,
    pub profile_digest: Digest,
    pub identity: ProvisionResult,
    pub baseline: BaselineResult,
    pub sweeps: Vec<SweepResult>,
    pub choose: Option<ChooseResult>,
    pub comprehensive: Option<ComprehensiveResult>,
    pub comparison: CompareResult,
    pub confirmation: Option<ConfirmResult>,
    pub reference: Option<SavedResult>,
    pub calibration: Option<Calibration>,
    pub lenders: Lenders,
    pub trials: Vec<TrialView>,
    pub plots: Vec<String>,
}

impl Fixture {
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            profile: &self.profile,
            profile_digest: &self.profile_digest,
            identity: &self.identity,
            baseline: &self.baseline,
            sweeps: &self.sweeps,
            choose: self.choose.as_ref(),
            comprehensive: self.comprehensive.as_ref(),
            comparison: &self.comparison,
            lead: None,
            capacity: None,
            confirmation: self.confirmation.as_ref(),
            reference: self.reference.as_ref(),
            calibration: self.calibration.as_ref(),
            lenders: &self.lenders,
            trials: &self.trials,
            plots: &self.plots,
        }
    }

    /// A whole suite.
    pub fn full() -> Self {
        let profile = profile();
        let points = all_loads(&BASELINE, &DEFAULT);
        let baseline = BaselineResult { header: header("baseline"), points };
        let args = args(&[("max-num-batched-tokens", ArgValue::Int(16_384))]);
        let reason = "`max-num-batched-tokens` 16384 is the best of its sweep within the limits; the \
                      other sweeps' best are vLLM's defaults.";
        let choice = Choice { label: "tuned".to_owned(), args, reason: reason.to_owned() };
        let mut points = loads_of(&TUNED);
        points.iter_mut().for_each(|point| point.args = choice.args.clone());
        let comprehensive = ComprehensiveResult {
            header: header("comprehensive"),
            points,
            choice: choice.clone(),
            candidate: Some(candidate(&choice.args)),
            tested: Vec::new(),
            stopping: None,
        };
        let choose = ChooseResult {
            header: header("choose"),
            candidates: vec![candidate(&choice.args)],
            refused: Vec::new(),
            choice,
            tested: Vec::new(),
            findings: Vec::new(),
        };
        let (points, findings) = (vec![week2()], Vec::new());
        let week2 = SavedResult { header: header("week2"), points, findings, stopping: None };
        let comparison =
            comparison(&profile, &baseline, &comprehensive, &choose.candidates, &week2);
        Self {
            profile_digest: Digest::of(b"profile"),
            identity: ProvisionResult {
                header: header("provision"),
                identity: json!({"engine": "simulator", "model": "h100-qwen2.5-7b"}),
            },
            sweeps: [
                max_num_seqs(&profile.objective),
                chunked_prefill(),
                memory_utilization(&profile.objective),
            ]
            .map(|sweep| judged_by(&baseline, sweep))
            .into(),
            choose: Some(choose),
            calibration: None,
            lenders: Lenders::default(),
            trials: Vec::new(),
            plots: [
                "queue_time_optimization_comparison",
                "throughput_optimization_comparison",
                "latency_percentiles_comparison",
                "optimization_summary_dashboard",
                "sweep_max_num_seqs",
                "sweep_chunked_prefill",
                "sweep_memory_utilization",
            ]
            .map(str::to_owned)
            .into(),
            comprehensive: Some(comprehensive),
            confirmation: Some(ConfirmResult {
                header: header("confirm"),
                choice: Some(Choice {
                    label: "recommended".to_owned(),
                    args: Args::new(),
                    reason: "ready, and a first request was served; 1,064,224 tokens of KV cache, \
                             as measured"
                        .to_owned(),
                }),
                findings: Vec::new(),
            }),
            profile,
            baseline,
            comparison,
            reference: Some(week2),
        }
    }

    /// Decides again, after a figure, a limit or a verdict was changed.
    pub fn decide(&mut self) {
        let measured = self.comprehensive.iter().flat_map(|file| &file.points);
        let points: Vec<Point> = self.baseline.points.iter().chain(measured).cloned().collect();
        let candidates = self.choose.as_ref().map(|file| &*file.candidates);
        let rows = &self.comparison.comparisons;
        self.comparison.decision = decision(&self.profile, &points, candidates, rows);
    }

    /// Leaves a load with fewer requests than a P95 needs.
    pub fn few_requests(&mut self, load: &str) {
        let load = self.profile.loads.iter_mut().find(|named| named.name == load);
        load.expect("a load").spec.size = Size::Requests(40);
    }

    /// The objective's row.
    pub fn objective(&mut self) -> &mut Comparison {
        let mut rows = self.comparison.comparisons.iter_mut();
        let row = rows.find(|row| row.metric == "output_tokens_per_s" && row.load == "burst");
        row.expect("the objective is compared")
    }

    /// The points of some role on a load, wherever they are.
    pub fn point_mut(&mut self, role: Role, load: &str) -> &mut Point {
        let measured = self.comprehensive.iter_mut().flat_map(|file| &mut file.points);
        let mut points = self.baseline.points.iter_mut().chain(measured);
        points.find(|point| point.role == role && point.load == load).expect("it is measured")
    }
}

/// A point of one start.
pub fn point(
    label: &str,
    role: Role,
    load: &str,
    figures: &[(&str, f64)],
    anatomy: Option<Anatomy>,
) -> Point {
    Point {
        label: label.to_owned(),
        role,
        args: Args::new(),
        load: load.to_owned(),
        load_digest: None,
        part: None,
        trials: vec![trial(label, load, 0)],
        failure: None,
        saturated: false,
        metrics: estimates(figures, &[0.0]),
        anatomy,
        classes: Vec::new(),
    }
}

/// An anatomy from its end-to-end time and the shares of send lag, front end, queue, prefill and
/// decode.
pub fn anatomy(e2e_ms: f64, shares: [f64; 5]) -> Anatomy {
    let [send_lag_ms, front_end_ms, queue_ms, prefill_ms, decode_ms] = shares.map(|s| s * e2e_ms);
    Anatomy { send_lag_ms, front_end_ms, queue_ms, prefill_ms, decode_ms }
}

pub fn header(stage: &str) -> Header {
    Header {
        format: FORMAT,
        profile: "sim".to_owned(),
        stage: stage.to_owned(),
        engine: EngineLabel {
            title: "simulated H100 80GB, Qwen2.5-7B".to_owned(),
            simulated: true,
            identity: Digest::of(b"identity"),
        },
    }
}

fn trial(label: &str, load: &str, replicate: u32) -> TrialRef {
    let key = Digest::of(format!("{label}/{load}/{replicate}").as_bytes());
    TrialRef::new(key, replicate)
}

fn estimates(
    figures: &[(&str, f64)],
    spread: &[f64],
) -> BTreeMap<String, bench_core::schema::Estimate> {
    figures
        .iter()
        .map(|(id, mean)| {
            let starts = spread.iter().map(|s| mean * (1.0 + s)).collect();
            ((*id).to_owned(), stats::estimate(starts).expect("a start"))
        })
        .collect()
}

/// The figures of some settings.
struct Settings {
    label: &'static str,
    role: Role,
    tokens_per_s: f64,
    burst_e2e_ms: f64,
    /// Send lag, front end, queue, prefill, decode in the burst.
    burst: [f64; 5],
    /// TTFT P95, TPOT P95, E2E P50 and P95 at the open-loop rate.
    production: [f64; 4],
    /// E2E P50 of each class.
    class_p50_ms: [f64; 4],
}

const BASELINE: Settings = Settings {
    label: "baseline",
    role: Role::Baseline,
    tokens_per_s: 886.0,
    burst_e2e_ms: 71_300.0,
    burst: [0.0, 0.02, 0.89, 0.01, 0.08],
    production: [61.0, 17.4, 1_730.0, 4_310.0],
    class_p50_ms: [1_720.0, 3_430.0, 5_150.0, 9_300.0],
};

const DEFAULT: Settings = Settings {
    label: "default",
    role: Role::Default,
    tokens_per_s: 10_413.0,
    burst_e2e_ms: 8_300.0,
    burst: [0.0, 0.16, 0.53, 0.04, 0.27],
    production: [52.0, 9.4, 905.0, 2_260.0],
    class_p50_ms: [910.0, 1_820.0, 2_730.0, 4_960.0],
};

const TUNED: Settings = Settings {
    label: "tuned",
    role: Role::Tuned,
    tokens_per_s: 11_020.0,
    burst_e2e_ms: 7_840.0,
    burst: [0.0, 0.17, 0.41, 0.05, 0.37],
    production: [49.0, 9.9, 910.0, 2_270.0],
    class_p50_ms: [905.0, 1_812.0, 2_725.0, 4_940.0],
};

/// Spread of three starts.
pub const STARTS: [f64; 3] = [-0.004, 0.0, 0.004];

fn loads_of(settings: &Settings) -> Vec<Point> {
    let on = |load: &str, part: Part, figures: &[(&str, f64)]| Point {
        part: Some(part.name().to_owned()),
        trials: (0..3).map(|replicate| trial(settings.label, load, replicate)).collect(),
        metrics: estimates(figures, &STARTS),
        ..point(settings.label, settings.role, load, &[], None)
    };
    let [ttft, tpot, p50, p95] = settings.production;
    let burst = Point {
        anatomy: Some(anatomy(settings.burst_e2e_ms, settings.burst)),
        ..on(
            "burst",
            Part::Throughput,
            &burst_figures(settings.tokens_per_s, settings.burst_e2e_ms, settings.burst),
        )
    };
    let production = Point {
        anatomy: Some(anatomy(p50 * 1.15, [0.001, 0.02, 0.004, 0.035, 0.94])),
        ..on(
            "production",
            Part::Production,
            &[
                ("ttft_p95_ms", ttft),
                ("tpot_p95_ms", tpot),
                ("e2e_p50_ms", p50),
                ("e2e_p95_ms", p95),
                ("e2e_p95_over_p50", p95 / p50),
                ("requests_per_s", 4.98),
                ("queue_share", 0.004),
                ("failed_share", 0.0),
            ],
        )
    };
    let latency = on(
        "steady",
        Part::Latency,
        &[
            ("ttft_p50_ms", ttft * 0.6),
            ("ttft_p95_ms", ttft * 0.9),
            ("tpot_p50_ms", tpot * 0.8),
            ("tpot_p95_ms", tpot * 0.9),
            ("e2e_p50_ms", p50 * 0.9),
            ("e2e_p95_ms", p95 * 0.7),
        ],
    );
    let [shortest, .., longest] = settings.class_p50_ms;
    let lengths = Point {
        classes: classes(settings.class_p50_ms, &STARTS),
        ..on(
            "lengths",
            Part::SequenceLength,
            &[("long_e2e_p95_ms", longest * 1.4), ("length_slowdown", longest / shortest)],
        )
    };
    vec![burst, production, latency, lengths]
}

fn burst_figures(tokens_per_s: f64, e2e_ms: f64, shares: [f64; 5]) -> [(&'static str, f64); 6] {
    [
        ("output_tokens_per_s", tokens_per_s),
        ("requests_per_s", tokens_per_s / 128.0),
        ("queue_share", shares[2]),
        ("front_end_share", shares[1]),
        ("e2e_p95_ms", e2e_ms * 1.6),
        ("ttft_p95_ms", e2e_ms * (shares[1] + shares[2] + shares[3]) * 1.8),
    ]
}

fn classes(p50_ms: [f64; 4], spread: &[f64]) -> Vec<ClassPoint> {
    let class = |(name, p50): (&str, f64)| ClassPoint {
        name: name.to_owned(),
        metrics: estimates(
            &[("e2e_mean_ms", p50 * 1.05), ("e2e_p50_ms", p50), ("e2e_p95_ms", p50 * 1.4)],
            spread,
        ),
    };
    CLASSES.into_iter().zip(p50_ms).map(class).collect()
}

fn all_loads(first: &Settings, second: &Settings) -> Vec<Point> {
    loads_of(first).into_iter().chain(loads_of(second)).collect()
}

fn max_num_seqs(objective: &Objective) -> SweepResult {
    let row = |label: &str, tokens_per_s, e2e_ms, shares, kv_tokens| {
        let mut figures = burst_figures(tokens_per_s, e2e_ms, shares).to_vec();
        figures.push(("kv_cache_tokens", kv_tokens));
        figures.push(("preemptions", 0.0));
        point(label, Role::Sweep, "burst", &figures, Some(anatomy(e2e_ms, shares)))
    };
    let mut points = vec![
        row("256", 10_413.0, 8_300.0, DEFAULT.burst, 1_064_224.0),
        row("512", 10_120.0, 8_600.0, [0.0, 0.24, 0.33, 0.04, 0.39], 1_057_000.0),
        row("1024", 8_707.0, 9_900.0, [0.0, 0.32, 0.15, 0.04, 0.49], 1_041_168.0),
        row("2048", 8_690.0, 9_930.0, [0.0, 0.32, 0.15, 0.04, 0.49], 1_030_000.0),
    ];
    points[3].trials[0].invalid = Some("send-lag: P99 of 212 ms may distort E2E".to_owned());
    points[3].metrics.clear();
    points[3].anatomy = None;
    points.push(Point {
        failure: Some(SettingFailure {
            class: FailureClass::SamplerWarmUp,
            evidence: vec![
                "RuntimeError: CUDA out of memory occurred when warming up sampler with 4096 dummy \
                 requests."
                    .to_owned(),
            ],
            foreseen: None,
        }),
        ..point("4096", Role::Sweep, "burst", &[], None)
    });
    SweepResult {
        flag: "max-num-seqs".to_owned(),
        choice: Some(Choice {
            label: "256".to_owned(),
            args: args(&[("max-num-seqs", ArgValue::Int(256))]),
            reason: "Most output throughput on `burst`: 10,413 tokens/s, 2.9 % above 512."
                .to_owned(),
        }),
        findings: findings::of_sweep(&points, &Lenders::default(), objective),
        points,
        header: header("max-num-seqs"),
    }
}

fn chunked_prefill() -> SweepResult {
    let rows = [(2_048, 9_900.0, 1.05), (8_192, 10_413.0, 1.0), (16_384, 10_900.0, 0.99)];
    let mut points = Vec::new();
    for (tokens, tokens_per_s, slowdown) in rows {
        let label = tokens.to_string();
        let figures = burst_figures(tokens_per_s, 8_300.0, DEFAULT.burst);
        points.push(point(&label, Role::Sweep, "burst", &figures, None));
        points.push(Point {
            classes: classes(DEFAULT.class_p50_ms.map(|ms| ms * slowdown), &[0.0]),
            ..point(&label, Role::Sweep, "lengths", &[("e2e_p95_ms", 6_900.0 * slowdown)], None)
        });
    }
    SweepResult {
        flag: "max-num-batched-tokens".to_owned(),
        choice: Some(Choice {
            label: "16384".to_owned(),
            args: args(&[("max-num-batched-tokens", ArgValue::Int(16_384))]),
            reason: "Most output throughput on `burst` within the limits.".to_owned(),
        }),
        findings: Vec::new(),
        points: own_trials("chunked-prefill", points),
        header: header("chunked-prefill"),
    }
}

fn memory_utilization(objective: &Objective) -> SweepResult {
    let points: Vec<_> = [("0.7", 780_000.0, 10_395.0), ("0.92", 1_064_224.0, 10_413.0)]
        .into_iter()
        .map(|(label, kv_tokens, tokens_per_s)| {
            let mut figures = burst_figures(tokens_per_s, 8_300.0, DEFAULT.burst).to_vec();
            figures.push(("kv_cache_tokens", kv_tokens));
            Point {
                saturated: label == "0.7",
                trials: (0..3).map(|replicate| trial(label, "burst", replicate)).collect(),
                metrics: estimates(&figures, &STARTS),
                ..point(label, Role::Sweep, "burst", &[], None)
            }
        })
        .collect();
    SweepResult {
        flag: "gpu-memory-utilization".to_owned(),
        choice: Some(Choice {
            label: "default".to_owned(),
            args: Args::new(),
            reason: "the best value, 0.92, changes Output throughput on burst by +0.0 %, which is \
                     not worth a change"
                .to_owned(),
        }),
        findings: findings::of_sweep(&points, &Lenders::default(), objective),
        points: own_trials("memory-utilization", points),
        header: header("memory-utilization"),
    }
}

/// A sweep's file holds the points of baseline and defaults on its loads too.
fn judged_by(baseline: &BaselineResult, mut sweep: SweepResult) -> SweepResult {
    let loads: Vec<_> = sweep.points.iter().map(|point| point.load.clone()).collect();
    let on_its_loads = baseline.points.iter().filter(|point| loads.contains(&point.load));
    sweep.points.extend(on_its_loads.cloned());
    sweep
}

/// Labels repeat between sweeps, trials do not.
fn own_trials(stage: &str, mut points: Vec<Point>) -> Vec<Point> {
    for point in &mut points {
        for trial in &mut point.trials {
            trial.key = Digest::of(format!("{stage}/{}", trial.key).as_bytes());
        }
    }
    points
}

/// What `choose` names.
fn candidate(args: &Args) -> Candidate {
    let [low, high] = [4.0, 8.0].map(Some);
    let reason = FlagReason {
        from: "chunked-prefill".to_owned(),
        label: "16384".to_owned(),
        args: args.clone(),
        others: Args::new(),
        effect: Effect::Objective {
            change: Estimate { mean: 6.0, low, high, ..Estimate::default() },
        },
    };
    Candidate { args: args.clone(), for_objective: true, flags: vec![reason], dropped: Vec::new() }
}

fn week2() -> Point {
    let figures = [
        ("queue_share", 0.85),
        ("queue_mean_ms", 10_470.0),
        ("e2e_mean_ms", 12_250.0),
        ("output_tokens_per_s", 949.0),
        ("requests_per_s", 4.6),
        ("e2e_p50_ms", 850.0),
        ("e2e_p95_ms", 2_540.0),
        ("long_e2e_p95_ms", 4_400.0),
        ("length_slowdown", 15.8),
    ];
    point("week2", Role::Reference, "week2", &figures, None)
}

fn comparison(
    profile: &Profile,
    baseline: &BaselineResult,
    comprehensive: &ComprehensiveResult,
    candidates: &[Candidate],
    week2: &SavedResult,
) -> CompareResult {
    let beside_week2 = [
        ("queue_share", "burst"),
        ("output_tokens_per_s", "burst"),
        ("requests_per_s", "burst"),
        ("e2e_p50_ms", "production"),
        ("e2e_p95_ms", "production"),
        ("long_e2e_p95_ms", "lengths"),
        ("length_slowdown", "lengths"),
    ];
    let mut comparisons = Vec::new();
    for tuned in &comprehensive.points {
        for (id, after) in &tuned.metrics {
            let at = |role| {
                let mut points = baseline.points.iter();
                let point = points.find(|p| p.role == role && p.load == tuned.load);
                point.and_then(|point| point.metrics.get(id)).expect("the same metrics").clone()
            };
            let mut columns = BTreeMap::from([
                (Column::Baseline, at(Role::Baseline)),
                (Column::Default, at(Role::Default)),
                (Column::Tuned, after.clone()),
            ]);
            if beside_week2.contains(&(id.as_str(), tuned.load.as_str())) {
                columns.insert(Column::Week2, week2.points[0].metrics[id].clone());
            }
            comparisons.push(Comparison {
                metric: id.clone(),
                load: tuned.load.clone(),
                columns,
                ..Comparison::default()
            });
        }
    }
    let comparisons = comparison::judged(comparisons, Some(profile));
    let alone = Alone { step_ms: 5.8, ttft_ms: 21.0, input_tokens: 256.0, api_server_ms: 4.0 };
    let server = Server { alone: Some(alone), hardware: None };
    let floors = targets::floors(profile, &comparisons, &server);
    let points: Vec<Point> = baseline.points.iter().chain(&comprehensive.points).cloned().collect();
    let decision = decision(profile, &points, Some(candidates), &comparisons);
    let targets = targets::outcomes(profile, &comparisons, &server, decision.deployed);
    CompareResult {
        header: header("compare"),
        decision,
        comparisons,
        targets,
        floors,
        speculation: Vec::new(),
        findings: Vec::new(),
        stopping: None,
    }
}

/// What `compare` decides; `candidates` are those of `choose`, where that stage ran.
fn decision(
    profile: &Profile,
    points: &[Point],
    candidates: Option<&[Candidate]>,
    rows: &[Comparison],
) -> Decision {
    let of = |role| Configuration::of(points, profile, |point| point.role == role);
    let (default, baseline, tuned) = (of(Role::Default), of(Role::Baseline), of(Role::Tuned));
    let judged = Judged {
        default: default.as_ref(),
        baseline: baseline.as_ref(),
        candidate: candidates.and_then(<[_]>::first).zip(tuned.as_ref()),
        rows,
        baseline_rows: &[],
        judges: candidates.is_some(),
    };
    decision::decide(profile, &judged).expect("the defaults were measured, or fail")
}

fn args(pairs: &[(&str, ArgValue)]) -> Args {
    pairs.iter().map(|(flag, value)| ((*flag).to_owned(), value.clone())).collect()
}

fn limit(metric: &str, load: &str, bound: Bound, limit: &str) -> Limit {
    Limit {
        metric: metric.to_owned(),
        load: load.to_owned(),
        bound,
        limit: limit.parse().expect("a decimal"),
    }
}

fn load(name: &str, part: Part, classes: &[&str]) -> NamedLoad {
    let class = |name: &&str| Class {
        name: (*name).to_owned(),
        share: "1".parse().expect("a decimal"),
        input_tokens: TokenRange { min: 128, max: 384 },
        output_tokens: TokenRange { min: 64, max: 192 },
        prefix: None,
    };
    NamedLoad {
        name: name.to_owned(),
        part: Some(part),
        spec: LoadSpec::drawn(
            Arrival::AllAtOnce {},
            Size::Requests(1_000),
            classes.iter().map(class).collect(),
            7,
        ),
        repeats: 1,
        data_file: None,
        replay_per_s: None,
    }
}

fn profile() -> Profile {
    Profile {
        instrument_epoch: bench_core::INSTRUMENT_EPOCH,
        name: "sim".to_owned(),
        path: PathBuf::from("bench/profiles/sim.toml"),
        // Of the engine, the report reads the name of vLLM's model alone.
        engine: EngineConfig::Vllm(VllmConfig {
            version: "0.22.1".to_owned(),
            package: "vllm".to_owned(),
            python: None,
            model: "dummy:qwen2.5-7b".to_owned(),
            gpus: vec![0],
            start_timeout_s: 600,
            start: bench_core::schema::StartWay::Ordinary,
        }),
        engine_args: args(&[("max-model-len", ArgValue::Int(4_096))]),
        engine_env: BTreeMap::new(),
        baseline_args: args(&[
            ("enforce-eager", ArgValue::Bool(true)),
            ("max-num-seqs", ArgValue::Int(16)),
        ]),
        starts: 3,
        starts_max: 3,
        choose_starts: None,
        reference: Some("week2".to_owned()),
        loads: vec![
            load("burst", Part::Throughput, &["all"]),
            load("steady", Part::Latency, &["all"]),
            load("production", Part::Production, &["short", "medium", "long"]),
            load("lengths", Part::SequenceLength, &CLASSES),
        ],
        sweeps: Vec::new(),
        objective: Objective {
            metric: "output_tokens_per_s".to_owned(),
            maximize: true,
            load: "burst".to_owned(),
            margin_percent: None,
        },
        slo: vec![
            limit("ttft_p95_ms", "production", Bound::Max, "500"),
            limit("tpot_p95_ms", "production", Bound::Max, "50"),
        ],
        targets: vec![
            limit("queue_share", "burst", Bound::Max, "0.5"),
            limit("output_tokens_per_s", "burst", Bound::Min, "1200"),
            limit("requests_per_s", "burst", Bound::Min, "10"),
            limit("long_e2e_p95_ms", "lengths", Bound::Max, "3000"),
            limit("e2e_p95_ms", "production", Bound::Max, "2000"),
        ],
        gains: vec![Gain {
            metric: "output_tokens_per_s".to_owned(),
            load: "burst".to_owned(),
            percent: "25".parse().expect("a decimal"),
        }],
        stages: Vec::new(),
        calibrate: None,
        spreads: Default::default(),
        tune: None,
        capacity: None,
        cost: None,
        answers: None,
        guards: Vec::new(),
        margins_percent: BTreeMap::new(),
        budget_engine_minutes: None,
        remote: None,
        executor: profile::ExecutorConfig::Local,
    }
}
