//! Results as a suite on one H100 with a 7-billion-parameter model would write them.

use std::collections::BTreeMap;

use bench_core::{
    canonical::Digest,
    schema::{
        Anatomy, ArgValue, Args, BaselineResult, Choice, ClassPoint, Column, Comparison,
        ComprehensiveResult, EngineLabel, Estimate, FORMAT, FailureClass, Header, LayoutPoint,
        Point, Role, SettingFailure, SweepResult, TargetOutcome, TargetState, Verdict,
    },
};

use super::{Inputs, Reference};
use analysis::lenders::Lenders;

/// Owned [`Inputs`].
#[derive(Clone)]
pub(super) struct Results {
    pub(super) baseline: BaselineResult,
    pub(super) sweeps: Vec<SweepResult>,
    pub(super) comprehensive: Option<ComprehensiveResult>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) targets: Vec<TargetOutcome>,
    pub(super) reference: Option<Reference<'static>>,
    pub(super) lenders: Lenders,
    pub(super) layouts: Vec<LayoutPoint>,
}

impl Results {
    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            baseline: &self.baseline,
            sweeps: &self.sweeps,
            comprehensive: self.comprehensive.as_ref(),
            comparisons: &self.comparisons,
            targets: &self.targets,
            limits: &[],
            reference: self.reference,
            objective_metric: "output_tokens_per_s",
            objective_load: "burst",
            latency_load: "burst",
            lenders: &self.lenders,
            layouts: &self.layouts,
            candidate: self.comprehensive.as_ref().map(|_| "tuned"),
        }
    }
}

pub(super) fn estimate(mean: f64, spread: f64) -> Estimate {
    Estimate {
        mean,
        low: Some(mean * (1.0 - spread)),
        high: Some(mean * (1.0 + spread)),
        starts: vec![mean * (1.0 - spread / 2.0), mean, mean * (1.0 + spread / 2.0)],
        repeats: Vec::new(),
    }
}

fn header(stage: &str) -> Header {
    Header {
        format: FORMAT,
        profile: "sim".to_owned(),
        stage: stage.to_owned(),
        engine: EngineLabel {
            title: "simulated H100 80GB, Qwen2.5-7B".to_owned(),
            simulated: true,
            identity: Digest::of(b"engine"),
        },
    }
}

/// A point with throughput, mean E2E and its shares (send lag, front end, queue, prefill) in
/// percent.
pub(super) fn point(
    (role, label): (Role, &str),
    (load, part): (&str, Option<&str>),
    (tokens_per_s, e2e_s): (f64, f64),
    shares: [f64; 4],
) -> Point {
    let e2e_ms = e2e_s * 1e3;
    let [send_lag_ms, front_end_ms, queue_ms, prefill_ms] = shares.map(|s| s / 100.0 * e2e_ms);
    let decode_ms = e2e_ms - send_lag_ms - front_end_ms - queue_ms - prefill_ms;
    let anatomy = Anatomy { send_lag_ms, front_end_ms, queue_ms, prefill_ms, decode_ms };
    let ttft = send_lag_ms + front_end_ms + queue_ms + prefill_ms;
    let mut metrics: BTreeMap<String, Estimate> = [
        ("output_tokens_per_s", tokens_per_s),
        ("requests_per_s", tokens_per_s / 128.0),
        ("queue_share", shares[2] / 100.0),
        ("front_end_share", shares[1] / 100.0),
    ]
    .into_iter()
    .map(|(id, value)| (id.to_owned(), estimate(value, 0.012)))
    .collect();
    for (name, mean) in [("ttft", ttft), ("tpot", decode_ms / 127.0), ("e2e", e2e_ms)] {
        for (suffix, ratio) in [("mean", 1.0), ("p50", 0.8), ("p95", 2.2), ("p99", 3.1)] {
            metrics.insert(format!("{name}_{suffix}_ms"), estimate(mean * ratio, 0.04));
        }
    }
    Point {
        label: label.to_owned(),
        role,
        args: Args::new(),
        load: load.to_owned(),
        load_digest: None,
        part: part.map(str::to_owned),
        trials: Vec::new(),
        failure: None,
        saturated: false,
        metrics,
        anatomy: Some(anatomy),
        classes: Vec::new(),
    }
}

/// A value of a sweep with its argument.
fn value(flag: &str, value: ArgValue, load: &str, figures: (f64, f64), shares: [f64; 4]) -> Point {
    let mut point = point((Role::Sweep, &value.to_string()), (load, None), figures, shares);
    point.args.insert(flag.to_owned(), value);
    point
}

/// The same point as one that cannot run.
fn refused(mut point: Point) -> Point {
    point.failure = Some(SettingFailure {
        class: FailureClass::KvCacheMemory,
        evidence: Vec::new(),
        foreseen: None,
    });
    point.metrics.clear();
    point.anatomy = None;
    point
}

/// Every load of the comprehensive benchmark with one configuration.
fn configuration(role: Role, label: &str) -> Vec<Point> {
    let (burst, slow): ((f64, f64, [f64; 4]), f64) = match role {
        Role::Baseline => ((886.0, 22.9, [0.0, 2.0, 88.7, 0.6]), 2.4),
        Role::Default => ((10_413.0, 6.61, [0.2, 16.0, 53.2, 4.0]), 1.0),
        _ => ((11_020.0, 5.9, [0.2, 17.0, 41.0, 5.0]), 0.94),
    };
    let load = |name, part, tokens_per_s, e2e_s: f64, shares| {
        point((role, label), (name, part), (tokens_per_s, e2e_s * slow), shares)
    };
    let mut production =
        load("production", Some("production"), 661.0, 2.31, [0.1, 3.0, 1.0 + 9.0 * slow, 4.0]);
    production.saturated = role == Role::Baseline;
    vec![
        point((role, label), ("burst", Some("throughput")), (burst.0, burst.1), burst.2),
        production,
        load("latency-short", Some("latency"), 119.0, 0.63, [0.1, 2.0, 0.1, 3.0]),
        load("latency-long", Some("latency"), 121.0, 2.42, [0.1, 1.0, 0.1, 6.0]),
        load("batch-32", Some("throughput"), 2_870.0, 1.42, [0.1, 4.0, 2.0, 5.0]),
        load("lengths", Some("sequence-length"), 905.0, 1.94, [0.1, 2.0, 4.0, 6.0]),
    ]
}

fn max_num_seqs() -> SweepResult {
    let rows = [
        (256, 10_413.0, 6.61, [0.2, 16.0, 53.2, 4.0]),
        (512, 10_020.0, 7.02, [0.2, 23.0, 36.0, 4.0]),
        (1024, 8_707.0, 8.10, [0.2, 32.0, 15.0, 5.0]),
        (2048, 8_655.0, 8.15, [0.2, 33.0, 14.6, 5.0]),
        (4096, 8_640.0, 8.17, [0.2, 33.0, 14.5, 5.0]),
        (8192, 0.0, 1.0, [0.0; 4]),
    ];
    let mut points = Vec::new();
    for (seqs, tokens_per_s, e2e_s, shares) in rows {
        for (load, scale) in [("burst", 1.0), ("production", 0.3)] {
            let figures = (tokens_per_s * scale, e2e_s * scale);
            let point = value("max-num-seqs", ArgValue::Int(seqs), load, figures, shares);
            points.push(if seqs == 8192 { refused(point) } else { point });
        }
    }
    sweep("max-num-seqs", "max-num-seqs", points, "256")
}

fn chunked_prefill() -> SweepResult {
    let rows = [("off", 1.32), ("2048", 1.05), ("4096", 1.0), ("8192", 1.02), ("16384", 1.08)];
    let points = rows
        .into_iter()
        .flat_map(|(label, slow)| {
            let shares = [0.2, 16.0, 48.0 + 5.0 * slow, 4.0];
            let burst =
                point((Role::Sweep, label), ("burst", None), (10_600.0 / slow, 6.4 * slow), shares);
            let mut lengths =
                point((Role::Sweep, label), ("lengths", None), (905.0, 1.9 * slow), shares);
            lengths.classes = [("100", 0.7), ("200", 1.2), ("300", 1.9), ("500+", 3.1)]
                .map(|(name, e2e_s)| ClassPoint {
                    name: name.to_owned(),
                    metrics: BTreeMap::from([(
                        "e2e_p95_ms".to_owned(),
                        estimate(e2e_s * slow * 1e3, 0.03),
                    )]),
                })
                .to_vec();
            [burst, lengths]
        })
        .collect();
    sweep("chunked-prefill", "chunked-prefill", points, "4096")
}

fn memory_utilization() -> SweepResult {
    let points = [("0.7", 0.66), ("0.8", 0.78), ("0.9", 0.9), ("0.95", 0.96), ("0.98", 1.0)]
        .into_iter()
        .map(|(utilization, share)| {
            let argument = ArgValue::Text(utilization.to_owned());
            let figures = (10_000.0 + 450.0 * share, 7.2 - 0.6 * share);
            let shares = [0.2, 16.0, 60.0 - 7.0 * share, 4.0];
            let mut point = value("gpu-memory-utilization", argument, "burst", figures, shares);
            point.metrics.insert("kv_cache_tokens".to_owned(), estimate(1_120_000.0 * share, 0.0));
            point
        })
        .collect();
    sweep("memory-utilization", "gpu-memory-utilization", points, "0.95")
}

fn queue_time() -> SweepResult {
    let points = [
        ("256 seqs", 10_413.0, 6.61, [0.2, 16.0, 53.2, 4.0]),
        ("256 seqs, 4 API servers", 11_020.0, 5.9, [0.2, 9.0, 51.0, 5.0]),
        ("512 seqs, 16384 tokens", 10_100.0, 6.9, [0.2, 22.0, 35.0, 4.0]),
        ("1024 seqs", 8_707.0, 8.1, [0.2, 32.0, 15.0, 5.0]),
        ("1024 seqs, 16384 tokens", 8_790.0, 8.0, [0.2, 32.0, 14.0, 5.0]),
        ("4096 seqs, 262144 tokens", 0.0, 1.0, [0.0; 4]),
    ]
    .into_iter()
    .map(|(label, tokens_per_s, e2e_s, shares)| {
        let point = point((Role::Sweep, label), ("burst", None), (tokens_per_s, e2e_s), shares);
        if tokens_per_s == 0.0 { refused(point) } else { point }
    })
    .collect();
    sweep("queue-time", "queue-time", points, "256 seqs, 4 API servers")
}

fn sweep(stage: &str, flag: &str, points: Vec<Point>, chosen: &str) -> SweepResult {
    let choice = Some(Choice {
        label: chosen.to_owned(),
        args: Args::new(),
        reason: "the highest throughput within the limits".to_owned(),
    });
    let flag = flag.to_owned();
    SweepResult { header: header(stage), flag, points, choice, findings: Vec::new() }
}

/// Every metric of the configurations side by side, and the seed's own figures.
fn comparisons(baseline: &[Point], tuned: &[Point]) -> Vec<Comparison> {
    let week2 = [
        ("queue_share", "burst", 0.85),
        ("output_tokens_per_s", "burst", 949.0),
        ("requests_per_s", "burst", 4.6),
        ("e2e_p50_ms", "production", 850.0),
        ("e2e_p95_ms", "production", 2_540.0),
    ];
    let mut comparisons = Vec::new();
    for after in tuned {
        for (metric, figure) in &after.metrics {
            let of = |role| {
                let mut points = baseline.iter().filter(|point| point.role == role);
                points.find(|point| point.load == after.load).map(|p| p.metrics[metric].clone())
            };
            let columns = [
                (Column::Baseline, of(Role::Baseline)),
                (Column::Default, of(Role::Default)),
                (Column::Tuned, Some(figure.clone())),
            ];
            let mut columns: BTreeMap<Column, Estimate> =
                columns.into_iter().filter_map(|(column, e)| Some((column, e?))).collect();
            let seed = week2.iter().find(|(id, load, _)| id == metric && *load == after.load);
            if let Some((.., mean)) = seed {
                let single = Estimate { mean: *mean, ..Estimate::default() };
                columns.insert(Column::Week2, single);
            }
            let change = figure.mean / columns[&Column::Default].mean * 100.0 - 100.0;
            comparisons.push(Comparison {
                metric: metric.clone(),
                load: after.load.clone(),
                columns,
                change: Some(Estimate {
                    mean: change,
                    low: Some(change - 1.4),
                    high: Some(change + 1.4),
                    ..Estimate::default()
                }),
                verdict: Some(verdict(metric, change)),
                reason: "the interval".to_owned(),
                ..Comparison::default()
            });
        }
    }
    comparisons
}

fn targets(comparisons: &[Comparison]) -> Vec<TargetOutcome> {
    let target = |metric: &str, load: &str, bound: &str, limit, found: Option<f64>, met| {
        let state = match (found, met) {
            (None, _) => TargetState::NotMeasured,
            (_, true) => TargetState::Met,
            (_, false) => TargetState::Missed,
        };
        let row = comparisons.iter().find(|row| row.metric == metric && row.load == load);
        TargetOutcome {
            metric: metric.to_owned(),
            load: load.to_owned(),
            bound: bound.to_owned(),
            limit,
            over_baseline: false,
            columns: row.map(|row| row.columns.clone()).unwrap_or_default(),
            found,
            state,
            floor: None,
        }
    };
    vec![
        target("queue_share", "burst", "max", 0.5, Some(0.41), true),
        target("output_tokens_per_s", "burst", "min", 1_200.0, Some(11_020.0), true),
        target("requests_per_s", "burst", "min", 10.0, Some(86.1), true),
        target("long_e2e_p95_ms", "lengths", "max", 3_000.0, Some(4_180.0), false),
        target("e2e_p95_ms", "production", "max", 2_000.0, Some(4_777.0), false),
        target("length_slowdown", "lengths", "max", 8.0, None, false),
    ]
}

fn verdict(metric: &str, change: f64) -> Verdict {
    let good = if metric.ends_with("per_s") { change } else { -change };
    match change.abs() {
        size if size < 1.0 => Verdict::Equivalent,
        size if size < 1.4 => Verdict::Inconclusive,
        _ if good > 0.0 => Verdict::Better,
        _ => Verdict::Worse,
    }
}

/// Four layouts under five loads; the more requests at once, the less a user gets and the more a card gives.
fn layouts() -> Vec<LayoutPoint> {
    let mut points = Vec::new();
    for (layout, cards, user, card) in [
        ("one card", 1, 160.0, 10_500.0),
        ("TP 2", 2, 280.0, 6_400.0),
        ("DP 2", 2, 158.0, 9_500.0),
        ("TP 4", 4, 390.0, 3_300.0),
        ("TP 2, DP 2", 4, 275.0, 5_600.0),
    ] {
        for (load, requests) in [("one", 1.0), ("eight", 8.0), ("many", 64.0), ("burst", 1_000.0)] {
            let busy = requests / (requests + 60.0);
            points.push(LayoutPoint {
                layout: layout.to_owned(),
                cards,
                label: layout.to_owned(),
                role: if cards == 1 { Role::Default } else { Role::Sweep },
                load: load.to_owned(),
                tokens_per_s_per_user: estimate(user * (1.0 - 0.8 * busy), 0.02),
                tokens_per_s_per_card: estimate(card * busy, 0.03),
                is_unbeaten: false,
            });
        }
    }
    let costs: Vec<_> = points
        .iter()
        .map(|p| [-p.tokens_per_s_per_user.mean, -p.tokens_per_s_per_card.mean])
        .collect();
    for (point, by) in points.iter_mut().zip(analysis::pareto::beaten_by(&costs)) {
        point.is_unbeaten = by.is_none();
    }
    points
}

/// What a profile on a CPU yields: one start each, no tuned settings, no server-side times.
pub(super) fn sparse() -> Results {
    let mut all = results();
    all.comprehensive = None;
    all.comparisons.clear();
    all.targets.clear();
    all.sweeps.truncate(1);
    all.sweeps[0].points.truncate(4);
    let sweeps = all.sweeps.iter_mut().flat_map(|sweep| &mut sweep.points);
    for point in all.baseline.points.iter_mut().chain(sweeps) {
        point.anatomy = None;
        point.metrics.retain(|id, _| !id.ends_with("share"));
        for figure in point.metrics.values_mut() {
            (figure.low, figure.high) = (None, None);
        }
    }
    all
}

/// Twice as many loads, with long names, and twice as many values.
pub(super) fn crowded() -> Results {
    let mut all = results();
    let judged = all.comprehensive.as_mut().map(|file| &mut file.points);
    for points in [&mut all.baseline.points].into_iter().chain(judged) {
        let more: Vec<Point> = points.clone();
        points.extend(more.into_iter().map(|mut point| {
            point.load = format!("{}-with-a-long-name", point.load);
            point
        }));
    }
    for sweep in &mut all.sweeps {
        let more: Vec<Point> = sweep.points.clone();
        sweep.points.extend(more.into_iter().map(|mut point| {
            point.label = format!("{} and one more flag", point.label);
            if let Some(ArgValue::Int(n)) = point.args.values_mut().next() {
                *n += 100;
                point.label = n.to_string();
            }
            point
        }));
    }
    all
}

/// A whole suite.
pub(super) fn results() -> Results {
    let mut before = configuration(Role::Baseline, "baseline");
    before.extend(configuration(Role::Default, "default"));
    for point in before.iter_mut().filter(|point| point.role == Role::Baseline) {
        point.args.insert("max-num-seqs".to_owned(), ArgValue::Int(16));
    }
    let tuned = configuration(Role::Tuned, "tuned");
    let comparisons = comparisons(&before, &tuned);
    let choice = Choice { label: "tuned".to_owned(), args: Args::new(), reason: String::new() };
    Results {
        targets: targets(&comparisons),
        comparisons,
        reference: Some(Reference { name: "Week 2", legend: "Week 2 (other hardware and load)" }),
        lenders: Lenders::default(),
        layouts: layouts(),
        baseline: BaselineResult { header: header("baseline"), points: before },
        sweeps: vec![max_num_seqs(), queue_time(), chunked_prefill(), memory_utilization()],
        comprehensive: Some(ComprehensiveResult {
            header: header("comprehensive"),
            points: tuned,
            choice,
            candidate: None,
            tested: Vec::new(),
            stopping: None,
        }),
    }
}
