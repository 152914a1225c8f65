//! What the plots read from result files.

use bench_core::{
    metric,
    schema::{
        BaselineResult, Column, Comparison, ComprehensiveResult, Estimate, LayoutPoint,
        LimitOutcome, Point, Role, SweepResult, TargetOutcome,
    },
};

use super::number;
use crate::{distinct, format};
use analysis::lenders::Lenders;

/// How the figures are named that the profile shows beside its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// In the head of a column.
    pub name: &'a str,
    /// In a legend.
    pub legend: &'a str,
}

/// What the plots are drawn from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The profile's settings to beat and vLLM's defaults, under every load.
    pub baseline: &'a BaselineResult,
    /// The sweeps, in the order of the profile.
    pub sweeps: &'a [SweepResult],
    /// The chosen settings under every load, where the profile has that stage.
    pub comprehensive: Option<&'a ComprehensiveResult>,
    /// The configurations side by side.
    pub comparisons: &'a [Comparison],
    /// The profile's targets.
    pub targets: &'a [TargetOutcome],
    /// The limits of what is to be deployed.
    pub limits: &'a [LimitOutcome],
    /// The figures of the comparison that are not its own, where the profile names some.
    pub reference: Option<Reference<'a>>,
    /// Metric id that the profile's objective optimizes.
    pub objective_metric: &'a str,
    /// Load on which the objective is measured.
    pub objective_load: &'a str,
    /// Load whose latency stands against the objective.
    pub latency_load: &'a str,
    /// The settings that say how much starts differ.
    pub lenders: &'a Lenders,
    /// Layouts of several cards; none where settings do not differ in them.
    pub layouts: &'a [LayoutPoint],
    /// What the candidate's figures are called, where there is a candidate: it may not be what is deployed.
    pub candidate: Option<&'static str>,
}

/// A finished plot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Name of its files, without their ending.
    pub name: String,
    /// The drawing.
    pub svg: String,
}

/// Part of the comprehensive benchmark that the latency plot shows.
const PRODUCTION: &str = "production";

/// A mean with its interval, where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub mean: f64,
    pub interval: Option<(f64, f64)>,
}

impl Figure {
    /// The estimate in units of `factor`; `None` where it is no number.
    pub fn of(estimate: &Estimate, factor: f64) -> Option<Self> {
        let mean = Some(estimate.mean * factor).filter(|mean| mean.is_finite())?;
        let interval = estimate
            .low
            .zip(estimate.high)
            .map(|(low, high)| (low * factor, high * factor))
            .filter(|(low, high)| low.is_finite() && high.is_finite() && low <= high);
        Some(Self { mean, interval })
    }

    /// The metric of a point.
    pub fn at(point: &Point, metric: &str, factor: f64) -> Option<Self> {
        Self::of(point.metrics.get(metric)?, factor)
    }

    /// The highest value to show.
    pub fn top(&self) -> f64 {
        self.interval.map_or(self.mean, |(_, high)| high.max(self.mean))
    }

    /// The figure in words, with its interval.
    pub fn words(&self, unit: &str) -> String {
        let mean = format!("{} {unit}", number::figure(self.mean));
        match self.interval {
            Some((low, high)) => {
                let (low, high) = (number::figure(low), number::figure(high));
                format!("{} (95 % interval {low} to {high})", mean.trim_end())
            }
            None => mean.trim_end().to_owned(),
        }
    }

    /// The values that an axis has to hold. What is never negative may have an interval that is; the
    /// axis ends at 0.
    pub fn values(&self) -> [f64; 3] {
        let (low, high) = self.interval.unwrap_or((self.mean, self.mean));
        [self.mean, if self.mean >= 0.0 { low.max(0.0) } else { low }, high]
    }
}

/// How a metric is shown: in seconds where milliseconds are many, in percent where a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    pub title: &'static str,
    pub unit: &'static str,
    pub factor: f64,
}

impl Measure {
    /// For a metric whose largest value, in its own unit, is `largest`.
    pub fn of(id: &str, largest: f64) -> Self {
        let Some(metric) = metric::find(id) else {
            return Self { title: "value", unit: "", factor: 1.0 };
        };
        let (unit, factor) = match metric.unit {
            "share" => ("%", 100.0),
            "ms" if largest >= 2_000.0 => ("s", 1e-3),
            unit => (unit, 1.0),
        };
        Self { title: metric.title, unit, factor }
    }

    /// What the vertical axis says.
    pub fn axis(&self) -> String {
        match self.unit {
            "s" | "ms" => format!("latency ({})", self.unit),
            "%" => "share (%)".to_owned(),
            unit => unit.to_owned(),
        }
    }

    /// For a metric of these points.
    pub fn over<'p>(id: &str, points: impl IntoIterator<Item = &'p Point>) -> Self {
        let figures = points.into_iter().filter_map(|point| Figure::at(point, id, 1.0));
        Self::of(id, figures.map(|figure| figure.mean).fold(0.0, f64::max))
    }
}

impl<'a> Inputs<'a> {
    /// Points of the configurations that are compared.
    pub fn configurations(&self) -> impl Iterator<Item = &'a Point> + use<'a> {
        let tuned = self.comprehensive.map_or(&[][..], |file| &file.points);
        let measured = |point: &&Point| point.role != Role::Sweep;
        self.baseline.points.iter().chain(tuned).filter(measured)
    }

    /// What a configuration is called.
    pub fn name(&self, role: Role) -> &'static str {
        match role {
            Role::Baseline => "baseline",
            // Without a candidate no point has this role.
            Role::Tuned => self.candidate.unwrap_or_default(),
            _ => format::DEFAULT,
        }
    }

    /// The point of a configuration under a load.
    pub fn point(&self, role: Role, load: &str) -> Option<&'a Point> {
        self.configurations().find(|point| point.role == role && point.load == load)
    }

    /// Loads of the configurations, in order, on which the metric was measured.
    pub fn loads(&self, metric: &str) -> Vec<&'a str> {
        let measured = |point: &&Point| Figure::at(point, metric, 1.0).is_some();
        distinct(self.configurations().filter(measured).map(|point| point.load.as_str()))
    }

    /// The load of the production workload, else the objective's.
    pub fn production_load(&self) -> &'a str {
        let points = || self.configurations();
        points()
            .find(|point| point.load == PRODUCTION)
            .or_else(|| points().find(|point| point.part.as_deref() == Some(PRODUCTION)))
            .map_or(self.objective_load, |point| &point.load)
    }

    /// The load of the target on E2E P95, else that of the production workload.
    pub fn tail_load(&self) -> &'a str {
        let mut targets = self.targets.iter();
        let target = targets.find(|target| target.metric == "e2e_p95_ms");
        target.map_or_else(|| self.production_load(), |target| &target.load)
    }

    /// The reference's figure for a metric on a load.
    pub fn referred(&self, metric: &str, load: &str, factor: f64) -> Option<f64> {
        let estimate = self.comparison(metric, load)?.columns.get(&Column::Week2)?;
        Figure::of(estimate, factor).map(|figure| figure.mean)
    }

    /// The profile's target for a metric on a load.
    pub fn target(&self, metric: &str, load: &str, factor: f64) -> Option<f64> {
        let mut targets = self.targets.iter().filter(|target| !target.over_baseline);
        let target = targets.find(|target| target.metric == metric && target.load == load)?;
        Some(target.limit * factor).filter(|limit| limit.is_finite())
    }

    fn comparison(&self, metric: &str, load: &str) -> Option<&'a Comparison> {
        let mut comparisons = self.comparisons.iter();
        comparisons.find(|row| row.metric == metric && row.load == load)
    }

    /// The engine in a title, with the word "simulated" where it applies.
    pub fn engine(&self) -> String {
        self.baseline.header.engine.shown()
    }
}

/// What the points' figures are, in words.
pub fn spread<'p>(points: impl IntoIterator<Item = &'p Point>) -> &'static str {
    let mut figures = points.into_iter().flat_map(|point| point.metrics.values());
    if figures.any(|figure| figure.low.is_some() && figure.high.is_some()) {
        "means over server starts, 95 % intervals"
    } else {
        "one server start each, without intervals"
    }
}

/// Loads of a sweep, in order.
pub fn sweep_loads(sweep: &SweepResult) -> Vec<&str> {
    distinct(sweep.points.iter().map(|point| point.load.as_str()))
}

/// The title within a sentence: `Output throughput` becomes `output throughput`, `TTFT P95` stays.
pub fn lower_first(title: &str) -> String {
    let mut chars = title.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => title.to_owned(),
    }
}
