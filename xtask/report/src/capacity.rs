//! `capacity.md`: how many requests a second each configuration sustains within the limits.

use bench_core::{
    capacity::{Bracket, knee},
    metric,
    schema::{Args, Estimate, Role, Traffic},
    stats,
};

use super::view::bound;
use crate::{
    fleet,
    format::{self, NOTHING},
};
use profile::Limit;

/// What was found of each configuration.
pub struct CapacityPage<'a> {
    /// Name of the load whose rate was raised.
    pub load: &'a str,
    /// Limits of that load.
    pub limits: &'a [&'a Limit],
    /// Metric id of the latency that the curve shows.
    pub latency: &'a str,
    /// How close the ends of a bracket are.
    pub precision_percent: u32,
    /// Baseline, defaults and the chosen settings, as far as they were measured.
    pub configurations: &'a [Configuration],
    /// What the profile's traffic takes, where it names one.
    pub traffic: Option<&'a Traffic>,
}

/// One configuration.
pub struct Configuration {
    /// Short name.
    pub label: String,
    /// Role of its points.
    pub role: Role,
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// Between what the capacity of each start lies, in nominal rates.
    pub brackets: Vec<Bracket>,
    /// The highest rate within the limits that was offered to each start; 0 where none was.
    pub sustained: Vec<f64>,
    /// What the next higher rate breaks.
    pub broken: Option<String>,
    /// In the order of the rates.
    pub curve: Vec<CurvePoint>,
}

/// A rate and what it did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Offered.
    pub requests_per_s: f64,
    /// In the unit of its metric.
    pub latency: f64,
    /// More was offered than served in a start.
    pub saturated: bool,
}

impl Configuration {
    /// The highest rate within the limits, over starts; 0 where none was.
    pub fn capacity(&self) -> Option<Estimate> {
        stats::estimate(self.sustained.clone())
    }

    /// Rate and latency at the knee of the curve.
    pub fn knee(&self) -> Option<CurvePoint> {
        let curve: Vec<_> = self.curve.iter().map(|p| (p.requests_per_s, p.latency)).collect();
        knee(&curve).map(|index| self.curve[index])
    }

    /// The capacity in words: over starts with its interval, of one start with its bracket.
    fn shown(&self) -> String {
        let rate = |rate: f64| format::number(rate, if rate < 10.0 { 2 } else { 1 });
        let Some(found) = self.capacity() else { return NOTHING.to_owned() };
        if let (Some(low), Some(high)) = (found.low, found.high) {
            return format!("{} ± {}", rate(found.mean), rate((high - low) / 2.0));
        }
        let Bracket { kept, broken } = self.brackets[0];
        match (kept.map(|r| r.to_string()), broken.map(|r| r.to_string())) {
            (Some(_), Some(broken)) => format!("{} (below {broken})", rate(found.mean)),
            (Some(_), None) => format!("{} or more", rate(found.mean)),
            (None, Some(broken)) => format!("less than {broken}"),
            (None, None) => NOTHING.to_owned(),
        }
    }
}

impl CapacityPage<'_> {
    /// What each configuration sustains, in sentences without an end.
    pub fn findings(&self) -> Vec<String> {
        let sustained = |found: &Configuration| {
            let why = found.broken.as_ref().map(|why| format!("; beyond, {why}"));
            format!(
                "{} sustains {} requests/s of `{}` within the limits{}",
                found.label,
                found.shown(),
                self.load,
                why.unwrap_or_default()
            )
        };
        self.configurations.iter().map(sustained).collect()
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let limits: Vec<String> = self.limits.iter().map(|limit| bound(limit)).collect();
        let within = match limits.as_slice() {
            [] => "without saturation".to_owned(),
            limits => format!("with {} and without saturation", format::list(limits)),
        };
        let mut out = format!(
            "# Capacity\n\nThe highest rate of `{}` that a server sustains {within}: doubled from the \
             load's own rate, then bisected to {} %.\n\n![Latency over the rate](capacity.svg)\n\n",
            self.load, self.precision_percent
        );
        let header =
            ["Configuration", "Sets", "> Requests/s within the limits", "Beyond", "> Knee"];
        let rows: Vec<Vec<String>> = self
            .configurations
            .iter()
            .map(|found| {
                let knee = found.knee().map(|knee| {
                    let latency = format::value(metric::find(self.latency), knee.latency);
                    format!("{} ({latency})", format::number(knee.requests_per_s, 1))
                });
                vec![
                    found.label.clone(),
                    if found.args.is_empty() {
                        "nothing".to_owned()
                    } else {
                        format::args(&found.args)
                    },
                    found.shown(),
                    found.broken.clone().unwrap_or_else(|| NOTHING.to_owned()),
                    knee.unwrap_or_else(|| NOTHING.to_owned()),
                ]
            })
            .collect();
        out += &format::table(&header.map(str::to_owned), &rows);
        out += &format!(
            "\n± is half the 95 % interval over server starts; of a single start the next rate tried is \
             given, which breaks a limit. The knee\nis where {} takes off: the point farthest below the \
             chord of its curve (Kneedle, Satopää et al. 2011).\n",
            format::name(self.latency)
        );
        let labels: Vec<&str> =
            self.configurations.iter().map(|found| found.label.as_str()).collect();
        let section = |traffic| fleet::section(traffic, &labels);
        out += &self.traffic.map(section).unwrap_or_default();
        out
    }
}
