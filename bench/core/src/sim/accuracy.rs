//! How far off predictions are, as one who decides by them needs it: by kind of load, of levels, of
//! differences between settings, and of their order; beside what repeating a measurement is off by.

use std::collections::BTreeMap;

use super::{
    Model,
    predict::{MeasuredTrial, Predictions, error, near_capacity, predict},
};
use crate::{
    canonical::Digest,
    metric::{self, Metric},
    schema::{Args, Arrival, Measured, Size},
    stats,
};

/// Kinds of load that are predicted unequally well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadKind {
    /// All at once: the queue decides.
    Burst,
    /// Requests at their own rate, below 90 % of the measured capacity.
    BelowCapacity,
    /// The same beyond that: a queue grows from a small excess.
    NearCapacity,
    /// A few requests at a time.
    LowConcurrency,
}

impl LoadKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::Burst, Self::BelowCapacity, Self::NearCapacity, Self::LowConcurrency];

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::BelowCapacity => "open loop, below 90 % of capacity",
            Self::NearCapacity => "open loop, near capacity",
            Self::LowConcurrency => "low concurrency",
        }
    }

    /// Metrics by which predictions of it are judged: throughput only where it is not the rate that
    /// is offered.
    pub fn metrics(self) -> &'static [&'static str] {
        match self {
            Self::Burst => &[
                "output_tokens_per_s",
                "e2e_mean_ms",
                "ttft_p95_ms",
                "itl_mean_ms",
                "itl_p99_ms",
                "queue_share",
            ],
            Self::BelowCapacity | Self::NearCapacity => {
                &["e2e_mean_ms", "ttft_p50_ms", "ttft_p95_ms", "itl_mean_ms", "itl_p99_ms"]
            }
            Self::LowConcurrency => {
                &["output_tokens_per_s", "e2e_mean_ms", "ttft_p95_ms", "itl_mean_ms"]
            }
        }
    }
}

/// At most so many requests at a time are few.
const LOW_CONCURRENCY: u32 = 8;

/// The kind of each trial's load.
pub fn kinds(trials: &[MeasuredTrial]) -> Vec<LoadKind> {
    let near = near_capacity(trials);
    let kind = |(trial, near): (&MeasuredTrial, bool)| match (&trial.load.arrival, trial.load.size)
    {
        (Arrival::AllAtOnce {}, Size::Requests(n)) if n <= LOW_CONCURRENCY => {
            LoadKind::LowConcurrency
        }
        (Arrival::AllAtOnce {}, _) => LoadKind::Burst,
        (Arrival::ClosedLoop { concurrency }, _) if *concurrency <= LOW_CONCURRENCY => {
            LoadKind::LowConcurrency
        }
        (Arrival::ClosedLoop { .. }, _) => LoadKind::Burst,
        _ if near => LoadKind::NearCapacity,
        _ => LoadKind::BelowCapacity,
    };
    trials.iter().zip(near).map(kind).collect()
}

/// Sizes of errors: in percent, of shares in points.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// How many.
    pub count: usize,
    /// Their median.
    pub median: f64,
    /// The largest.
    pub worst: f64,
}

impl Errors {
    /// `None` without any.
    pub fn of(signed: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sizes: Vec<f64> = signed.into_iter().map(f64::abs).collect();
        let worst = sizes.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { count: sizes.len(), worst, median: stats::median(sizes)? })
    }
}

/// How well one metric is predicted under one kind of load.
#[derive(Clone, Debug)]
pub struct Row {
    /// The kind of load.
    pub kind: LoadKind,
    /// The metric.
    pub metric: &'static Metric,
    /// Errors of the figures.
    pub levels: Errors,
    /// By how much one measurement is off the mean of the others of the same setting, load and host.
    pub noise: Option<Errors>,
    /// Errors of the ratio of two settings under the same load on the same host, means over starts; of
    /// shares, of the change.
    pub differences: Option<Errors>,
    /// Spearman's rank correlation of predicted and measured settings, the least over loads and
    /// hosts, and of how many settings. Settings that differ by less than twice the noise count as
    /// equal.
    pub rank: Option<(f64, usize)>,
}

/// Of each setting under one load on one host the measured and predicted value of its starts.
type Settings<'a> = BTreeMap<&'a Args, Vec<(f64, f64)>>;

/// Fewer settings have no order worth naming.
const RANKED_MIN: usize = 3;

/// Compares predictions with what was measured; a row for each kind and metric that was measured.
pub fn rows(trials: &[MeasuredTrial], predictions: &Predictions) -> Vec<Row> {
    let kinds = kinds(trials);
    let mut rows = Vec::new();
    for kind in LoadKind::ALL {
        for id in kind.metrics() {
            let metric = metric::find(id).expect("a judged metric is one");
            let pairs = trials.iter().zip(predictions).zip(&kinds).filter(|(_, of)| **of == kind);
            let pairs: Vec<_> = pairs
                .filter_map(|((trial, prediction), _)| Some((trial, prediction.as_ref().ok()?)))
                .collect();
            rows.extend(row(kind, metric, &pairs));
        }
    }
    rows
}

fn row(
    kind: LoadKind,
    metric: &'static Metric,
    pairs: &[(&MeasuredTrial, &Measured)],
) -> Option<Row> {
    let off = |(trial, predicted): &(&MeasuredTrial, &Measured)| {
        error(metric, predicted, &trial.measured)
    };
    let levels = Errors::of(pairs.iter().filter_map(off))?;
    let mut groups: BTreeMap<(Digest, usize), Settings<'_>> = BTreeMap::new();
    for (trial, predicted) in pairs {
        let values = (metric.value)(&trial.measured).zip((metric.value)(predicted));
        let load = Digest::of_json(&trial.load).expect("a load holds no floats");
        let group = groups.entry((load, trial.host)).or_default();
        group.entry(&trial.args).or_default().extend(values);
    }
    let noise = Errors::of(
        groups
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|starts| off_the_others(metric, starts)),
    );
    let (mut differences, mut rank) = (Vec::new(), None::<(f64, usize)>);
    for settings in groups.values() {
        let means: Vec<(f64, f64)> =
            settings.values().filter(|starts| !starts.is_empty()).map(|s| mean(s)).collect();
        for (index, a) in means.iter().enumerate() {
            let others = means[index + 1..].iter();
            differences.extend(others.filter_map(|b| difference_error(metric, *a, *b)));
        }
        if means.len() >= RANKED_MIN {
            let width = 2.0 * noise.as_ref().map_or(0.0, |noise| noise.median);
            let found = spearman(metric, &means, width);
            if rank.is_none_or(|(least, _)| found < least) {
                rank = Some((found, means.len()));
            }
        }
    }
    Some(Row { kind, metric, levels, noise, differences: Errors::of(differences), rank })
}

fn mean(pairs: &[(f64, f64)]) -> (f64, f64) {
    let n = pairs.len() as f64;
    (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n)
}

/// From one value to another: in percent of the first, of shares in points.
fn change(metric: &Metric, from: f64, to: f64) -> Option<f64> {
    if metric.is_share() {
        return Some(100.0 * (to - from));
    }
    (from != 0.0).then(|| 100.0 * (to / from - 1.0))
}

/// Each measurement against the mean of the others.
fn off_the_others(metric: &Metric, starts: &[(f64, f64)]) -> Vec<f64> {
    let sum: f64 = starts.iter().map(|(measured, _)| measured).sum();
    let others = starts.len() as f64 - 1.0;
    let off = |(measured, _): &(f64, f64)| change(metric, (sum - measured) / others, *measured);
    if starts.len() < 2 { Vec::new() } else { starts.iter().filter_map(off).collect() }
}

/// How far the predicted ratio of two settings is off the measured one, in percent; of shares the
/// change, in points.
fn difference_error(metric: &Metric, a: (f64, f64), b: (f64, f64)) -> Option<f64> {
    if metric.is_share() {
        return Some(100.0 * ((b.1 - a.1) - (b.0 - a.0)));
    }
    let ratio = (b.1 / a.1) / (b.0 / a.0);
    (ratio > 0.0 && ratio.is_finite()).then(|| 100.0 * (ratio.max(1.0 / ratio) - 1.0))
}

/// Spearman's rank correlation; neighbours within `width` percent (points of shares) share a rank.
fn spearman(metric: &Metric, pairs: &[(f64, f64)], width: f64) -> f64 {
    let measured = ranks(metric, &pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(), width);
    let predicted = ranks(metric, &pairs.iter().map(|pair| pair.1).collect::<Vec<_>>(), width);
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum()
    };
    let size = product(&measured, &measured) * product(&predicted, &predicted);
    // Where all are equal there is no order to get wrong.
    if size == 0.0 { 1.0 } else { product(&measured, &predicted) / libm::sqrt(size) }
}

fn ranks(metric: &Metric, values: &[f64], width: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let first = values[order[from]];
        let is_equal = |index: &&usize| {
            change(metric, first, values[**index]).is_some_and(|change| change <= width)
        };
        let to = from + order[from..].iter().take_while(is_equal).count().max(1);
        let shared = (from + to - 1) as f64 / 2.0;
        order[from..to].iter().for_each(|index| ranks[*index] = shared);
        from = to;
    }
    ranks
}

/// Halvings of the interval in which a pace is looked for.
const HALVINGS: u32 = 10;
/// Where a pace is looked for, in millionths.
const PACES: (f64, f64) = (400_000.0, 2_500_000.0);

/// The trial of each host that sets its pace: the first burst of the setting with the fewest arguments.
/// `None` for a host without one.
pub fn pace_setters(trials: &[MeasuredTrial]) -> Vec<Option<usize>> {
    let kinds = kinds(trials);
    let hosts = trials.iter().map(|trial| trial.host + 1).max().unwrap_or(0);
    let of_host = |host: usize| {
        let is_own = |index: &usize| {
            trials[*index].host == host
                && kinds[*index] == LoadKind::Burst
                && trials[*index].load.arrival == (Arrival::AllAtOnce {})
        };
        let args = |index: usize| &trials[index].args;
        (0..trials.len())
            .filter(is_own)
            .min_by_key(|index| (args(*index).len(), args(*index), *index))
    };
    (0..hosts).map(of_host).collect()
}

/// The pace at which the model serves a burst as fast as was measured, in millionths.
pub fn pace(model: &Model, burst: &MeasuredTrial) -> u64 {
    let measured = burst.measured.summary.output_tokens_per_s;
    let at = |pace: u64| {
        predict(&model.on_host(pace), burst).map_or(0.0, |p| p.summary.output_tokens_per_s)
    };
    if at(1_000_000) == measured {
        return 1_000_000;
    }
    let is_faster = |pace: f64| at(pace as u64) > measured;
    let (mut low, mut high) = (libm::log(PACES.0), libm::log(PACES.1));
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if is_faster(libm::exp(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    libm::round(libm::exp(f64::midpoint(low, high))) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn throughput() -> &'static Metric {
        metric::find("output_tokens_per_s").expect("a metric")
    }

    fn trials() -> Vec<MeasuredTrial> {
        let text = include_str!("../../../models/measured/h100-qwen2.5-7b-c.jsonl");
        MeasuredTrial::read_all(text, 0).expect("a trial a line")
    }

    #[test]
    fn settings_within_the_noise_share_a_rank() {
        let rho = |pairs: &[(f64, f64)], width| spearman(throughput(), pairs, width);
        assert_eq!(rho(&[(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)], 0.0), 1.0);
        assert_eq!(rho(&[(1.0, 30.0), (2.0, 20.0), (3.0, 10.0)], 0.0), -1.0);
        assert!(rho(&[(1.0, 10.0), (2.0, 31.0), (3.0, 30.0)], 0.0) < 0.9);
        assert!(rho(&[(1.0, 10.0), (3.0, 30.5), (3.01, 30.0)], 4.0) > 0.999);
    }

    #[test]
    fn loads_are_of_their_kind() {
        let trials = trials();
        let kinds = kinds(&trials);
        let of = |kind| kinds.iter().filter(|other| **other == kind).count();
        // Bursts of 1,000 and 200 requests, closed loops of 8 and 1, and one rate: 9 starts of each.
        assert_eq!(LoadKind::ALL.map(of), [18, 9, 0, 18]);
    }

    #[test]
    fn a_model_that_is_right_is_off_by_nothing_and_noise_is_of_the_measurements() {
        let trials = trials();
        let exact: Predictions = trials.iter().map(|trial| Ok(trial.measured.clone())).collect();
        for row in rows(&trials, &exact) {
            assert_eq!(row.levels.worst, 0.0);
            assert!(row.differences.is_none_or(|differences| differences.worst < 1e-9));
            assert!(row.noise.expect("three starts").median >= 0.0);
            assert_eq!(row.rank.map(|rank| rank.1), Some(3));
        }
    }

    #[test]
    fn the_pace_is_that_of_the_burst() {
        let model: Model = serde_json::from_str(include_str!("../../../models/tiny.json"))
            .expect("the model file is one");
        let mut burst = trials()[0].clone();
        burst.args = Args::new();
        burst.load.size = Size::Requests(50);
        burst.load.classes[0].input_tokens.min = 4;
        burst.load.classes[0].input_tokens.max = 40;
        burst.load.classes[0].output_tokens.min = 4;
        burst.load.classes[0].output_tokens.max = 40;
        burst.measured = predict(&model.on_host(1_400_000), &burst).expect("it starts");
        let found = pace(&model, &burst);
        assert!((1_350_000..1_450_000).contains(&found), "{found}");
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_any_scale(values in prop::collection::vec(1.0..100.0_f64, 2..12)) {
            let scaled: Vec<f64> = values.iter().map(|value| 3.0 * value).collect();
            let of = |values: &[f64]| ranks(throughput(), values, 0.0);
            prop_assert_eq!(of(&values), of(&scaled));
            let sum: f64 = of(&values).iter().sum();
            let n = values.len() as f64;
            prop_assert!((sum - n * (n - 1.0) / 2.0).abs() < 1e-9);
        }
    }
}
