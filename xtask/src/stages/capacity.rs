//! `capacity`: the highest rate of a load that baseline, defaults and the chosen settings sustain
//! within the limits.
//!
//! Each rate is a trial, asked for by what the rates before it gave ([`bench_core::capacity`]). The
//! first is part of a configuration's plan, the others find its server still up.

use std::collections::BTreeMap;

use anyhow::Result;
use bench_core::{
    capacity::{Bracket, Tried, next},
    decimal::Decimal,
    metric,
    schema::{Args, Outcome, Point, ResultFile, Role, TrialRef},
};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, choose, one_file, provision, trial::point};
use analysis::limits;
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{Limit, NamedLoad, Trial};
use report::{CapacityPage, Configuration, distinct, format, plots};

pub const NAME: &str = "capacity";
pub const FILE: &str = "capacity.json";
pub const FILES: &str = "capacity.json, capacity.md, capacity.svg, capacity.png";

pub struct Capacity<'a> {
    pub context: &'a Context<'a>,
}

impl Capacity<'_> {
    fn capacity(&self) -> &profile::Capacity {
        let table = self.context.profile.capacity.as_ref();
        table.expect("a profile without the table has no such stage")
    }

    fn load(&self) -> Result<&NamedLoad> {
        self.context.load(&self.capacity().load)
    }

    /// The limits on that load.
    fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.context.profile.slo.iter().filter(|limit| limit.load == self.capacity().load)
    }

    /// The load's own rate, from which the search starts.
    fn first_rate(&self) -> Result<Decimal> {
        Ok(self.load()?.rate().expect("the profile was checked: the load has a rate"))
    }

    fn at_rate(&self, requests_per_s: Decimal) -> Result<NamedLoad> {
        let mut load = self.load()?.clone().at_rate(requests_per_s);
        load.name = format!("{}@{requests_per_s}", load.name);
        (load.part, load.repeats) = (None, 1);
        Ok(load)
    }

    /// The configurations, as far as they are known: the chosen one comes last, and not at all
    /// where the defaults were chosen.
    fn settings(&self, inputs: &Inputs<'_>) -> Result<Vec<Setting>> {
        let profile = self.context.profile;
        let setting = |label: &str, role, args: &Args| Setting {
            label: label.to_owned(),
            role,
            args: args.clone(),
            starts: 1,
            first_start: 0,
            in_blocks: false,
        };
        if profile.endpoint().is_some() {
            return Ok(vec![setting(&profile.name, Role::Default, &Args::new())]);
        }
        let mut settings = vec![
            setting("baseline", Role::Baseline, &profile.baseline_args),
            setting("default", Role::Default, &Args::new()),
        ];
        if inputs.has(choose::NAME) {
            let chosen: ResultFile = inputs.json(choose::NAME, choose::FILE)?;
            let args = chosen.choice.map(|choice| choice.args).unwrap_or_default();
            settings.push(setting("tuned", Role::Tuned, &args));
        }
        let mut distinct: Vec<Setting> = Vec::new();
        for setting in settings {
            if distinct.iter().all(|other| other.args != setting.args) {
                distinct.push(setting);
            }
        }
        Ok(distinct)
    }

    /// Each start of each configuration as far as its trials are stored, and the trials that are
    /// to be measured next.
    fn walk(&self, inputs: &Inputs<'_>) -> Result<(Vec<Start>, Vec<Leaf<Trial>>)> {
        let identity = self.context.identity(inputs)?;
        let (mut starts, mut wanted) = (Vec::new(), Vec::new());
        for setting in self.settings(inputs)? {
            for replicate in 0..self.capacity().starts {
                let mut rates: Vec<Rate> = Vec::new();
                loop {
                    let tried: Vec<Tried> = rates.iter().map(Rate::tried).collect();
                    let precision = self.capacity().precision_percent;
                    let Some(rate) = next(self.first_rate()?, precision, &tried) else { break };
                    let leaf = self.leaf(&setting, rate, replicate, &identity)?;
                    if !inputs.has_leaf(&leaf.role) {
                        wanted.push(leaf);
                        break;
                    }
                    let outcome: Outcome = inputs.leaf(&leaf.role)?;
                    let broken = self.broken(&outcome);
                    let refused = matches!(outcome, Outcome::Refused(_));
                    let trial = TrialRef::new(leaf.key, replicate);
                    rates.push(Rate { rate, trial, outcome, broken });
                    // What does not start serves no rate.
                    if refused {
                        break;
                    }
                }
                starts.push(Start { setting: setting.clone(), rates });
            }
        }
        Ok((starts, wanted))
    }

    fn leaf(
        &self,
        setting: &Setting,
        rate: Decimal,
        replicate: u32,
        identity: &Value,
    ) -> Result<Leaf<Trial>> {
        let (profile, load) = (self.context.profile, self.at_rate(rate)?);
        let setting = Setting { first_start: replicate, ..setting.clone() };
        let grid = Grid { profile, settings: vec![setting], loads: vec![&load] };
        Ok(grid.leaves(identity)?.remove(0))
    }

    /// What a rate breaks, in words; `None` where all is well.
    fn broken(&self, outcome: &Outcome) -> Option<String> {
        let measured = match outcome {
            Outcome::Refused(failure) => return Some(failure.title()),
            Outcome::Measured(measured) => measured,
        };
        if let Some(check) = measured.checks.iter().find(|check| !check.passed) {
            return Some(format!("nothing is known, since the trial is invalid: {}", check.detail));
        }
        if measured.saturated {
            return Some("requests come faster than they are served".to_owned());
        }
        self.limits().find_map(|limit| {
            let metric = metric::find(&limit.metric);
            let value = (metric?.value)(measured)?;
            (!limits::keeps(limit, value)).then(|| {
                format!("{} is {}", format::name(&limit.metric), format::value(metric, value))
            })
        })
    }

    /// One point for each configuration and rate, over the starts that served it.
    fn points(&self, starts: &[Start]) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        let mut served: BTreeMap<(usize, Decimal), Vec<(TrialRef, Outcome)>> = BTreeMap::new();
        let settings: Vec<&Setting> = distinct(starts.iter().map(|start| &start.setting));
        for start in starts {
            let index = settings.iter().position(|setting| **setting == start.setting);
            for Rate { rate, trial, outcome, .. } in &start.rates {
                let of_rate = served.entry((index.unwrap_or(0), *rate)).or_default();
                of_rate.push((trial.clone(), outcome.clone()));
            }
        }
        for ((index, rate), outcomes) in served {
            points.push(point(settings[index], &self.at_rate(rate)?, outcomes));
        }
        Ok(points)
    }
}

/// A rate that a start has served.
struct Rate {
    rate: Decimal,
    trial: TrialRef,
    outcome: Outcome,
    /// What it breaks.
    broken: Option<String>,
}

impl Rate {
    fn tried(&self) -> Tried {
        Tried { rate: self.rate, kept: self.broken.is_none() }
    }
}

/// One start of a configuration, with the rates that it has served.
struct Start {
    setting: Setting,
    rates: Vec<Rate>,
}

impl Start {
    fn bracket(&self) -> Bracket {
        Bracket::of(&self.rates.iter().map(Rate::tried).collect::<Vec<_>>())
    }

    /// What the lowest rate that breaks a limit breaks.
    fn broken(&self) -> Option<&str> {
        let lowest = self.bracket().broken?;
        self.rates.iter().find(|rate| rate.rate == lowest)?.broken.as_deref()
    }
}

impl Task for Capacity<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        2
    }

    fn needs(&self) -> Vec<String> {
        self.context.present(&[provision::NAME, choose::NAME])
    }

    /// Baseline and defaults are known without the choice, and share their starts with `baseline`.
    fn needs_for_leaves(&self) -> Vec<String> {
        vec![provision::NAME.to_owned()]
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        json!({
            "capacity": profile.capacity,
            "load": self.load().ok(),
            "limits": self.limits().collect::<Vec<_>>(),
            "baseline_args": profile.baseline_args,
        })
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(self.walk(inputs)?.1)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let (starts, _) = self.walk(inputs)?;
        let mut result = self.context.result(NAME, inputs)?;
        result.points = self.points(&starts)?;
        let settings: Vec<&Setting> = distinct(starts.iter().map(|start| &start.setting));
        let configurations: Vec<Configuration> = settings
            .into_iter()
            .map(|setting| {
                let of_setting = starts.iter().filter(|start| start.setting == *setting);
                Configuration {
                    label: setting.label.clone(),
                    role: setting.role,
                    args: setting.args.clone(),
                    brackets: of_setting.clone().map(Start::bracket).collect(),
                    broken: of_setting.filter_map(Start::broken).next().map(str::to_owned),
                    curve: curve(&result.points, &setting.label, self.latency()),
                }
            })
            .collect();
        let page = CapacityPage {
            load: &self.capacity().load,
            limits: &self.limits().collect::<Vec<_>>(),
            latency: self.latency(),
            precision_percent: self.capacity().precision_percent,
            configurations: &configurations,
        };
        result.findings = page.findings();
        let drawing = plots::capacity(&page, &result.engine.shown());
        let mut outputs = one_file(FILE, &result)?;
        outputs.insert("capacity.md".to_owned(), page.markdown().into_bytes());
        outputs.insert(format!("{}.png", drawing.name), plots::png(&drawing.svg)?);
        outputs.insert(format!("{}.svg", drawing.name), drawing.svg.into_bytes());
        Ok(outputs)
    }
}

impl Capacity<'_> {
    /// The latency that the curve shows: the first that is limited, else the tail of the whole.
    fn latency(&self) -> &str {
        let limited = self.limits().map(|limit| limit.metric.as_str());
        limited.into_iter().find(|metric| metric.ends_with("_ms")).unwrap_or("e2e_p95_ms")
    }
}

/// Rate and latency of a configuration, in the order of the rates.
fn curve(points: &[Point], label: &str, latency: &str) -> Vec<(f64, f64)> {
    let mut curve: Vec<(f64, f64)> = points
        .iter()
        .filter(|point| point.label == label)
        .filter_map(|point| {
            let (_, rate) = point.load.rsplit_once('@')?;
            Some((rate.parse::<Decimal>().ok()?.to_f64(), point.mean(latency)?))
        })
        .collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    curve
}
