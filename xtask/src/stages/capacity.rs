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
    schema::{
        Args, CapacityResult, ChooseResult, Cost, LoadSpec, Outcome, Point, Role, Size, Traffic,
        TrialRef,
    },
};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, StageResult, read_if_upstream, trial::point, written};
use analysis::{
    capacity::{self, Sustained},
    comparison,
    fleet::{self, Need},
    limits,
};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    Limit, NamedLoad, Stage, Trial,
    role::{self, repeated},
    stage::{CAPACITY, PROVISION},
};
use report::{CapacityPage, Configuration, CurvePoint, distinct, format, plots};

/// The page of the capacity.
pub const MARKDOWN: &str = "capacity.md";
/// How often a rate is measured of which nothing is known.
const ATTEMPTS: u32 = 3;

impl StageResult for CapacityResult {
    const STAGE: &'static Stage = &CAPACITY;
}

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

    /// The configurations, as far as they are known, each once: where the baseline sets what another does,
    /// it stands for both.
    fn distinct_settings(&self, inputs: &Inputs<'_>) -> Result<Vec<Setting>> {
        let mut distinct: Vec<Setting> = Vec::new();
        for setting in self.settings(inputs)? {
            if distinct.iter().all(|other| other.args != setting.args) {
                distinct.push(setting);
            }
        }
        Ok(distinct)
    }

    /// Baseline, defaults and the chosen configuration as far as it is known, which is left out where the
    /// defaults were chosen.
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
            setting(role::BASELINE, Role::Baseline, &profile.baseline_args),
            setting(role::DEFAULT, Role::Default, &Args::new()),
        ];
        if let Some(ChooseResult { choice, .. }) = read_if_upstream(inputs)? {
            let is_other = !choice.args.is_empty();
            settings.extend(is_other.then(|| setting(role::TUNED, Role::Tuned, &choice.args)));
        }
        Ok(settings)
    }

    /// Each start of each configuration as far as its trials are stored, and the trials that are
    /// to be measured next.
    fn walk(&self, inputs: &Inputs<'_>) -> Result<(Vec<Start>, Vec<Leaf<Trial>>)> {
        let identity = self.context.identity(inputs)?;
        let (mut starts, mut wanted) = (Vec::new(), Vec::new());
        for setting in self.distinct_settings(inputs)? {
            for replicate in 0..self.capacity().starts {
                let mut start =
                    Start { setting: setting.clone(), rates: Vec::new(), unknown: None };
                loop {
                    let tried: Vec<Tried> = start.rates.iter().filter_map(Rate::tried).collect();
                    let precision = self.capacity().precision_percent;
                    let Some(rate) = next(self.first_rate()?, precision, &tried) else { break };
                    // What says nothing is asked again, with other requests.
                    let unknown =
                        start.rates.iter().filter(|other| other.rate == rate).count() as u32;
                    if unknown == ATTEMPTS {
                        start.unknown = start.rates.last().map(|rate| rate.found.clone());
                        break;
                    }
                    let leaf = self.leaf(&setting, rate, replicate, unknown, &identity)?;
                    if !inputs.has_leaf(&leaf.role) {
                        wanted.push(leaf);
                        break;
                    }
                    let outcome: Outcome =
                        self.context.profile.priced(&setting.args, inputs.leaf(&leaf.role)?);
                    let refused = matches!(outcome, Outcome::Refused(_));
                    let trial = TrialRef::new(leaf.key, replicate);
                    let found = self.found(&outcome);
                    let offered = offered(&leaf.what.load, rate, &outcome);
                    start.rates.push(Rate { rate, offered, trial, outcome, found });
                    // What does not start serves no rate.
                    if refused {
                        break;
                    }
                }
                starts.push(start);
            }
        }
        Ok((starts, wanted))
    }

    fn leaf(
        &self,
        setting: &Setting,
        rate: Decimal,
        replicate: u32,
        attempt: u32,
        identity: &Value,
    ) -> Result<Leaf<Trial>> {
        let profile = self.context.profile;
        let mut load = self.at_rate(rate)?;
        if attempt > 0 {
            load.spec = load.repeat(attempt);
            load.name = repeated(&load.name, attempt);
        }
        let setting = Setting { first_start: replicate, ..setting.clone() };
        let grid = Grid { profile, settings: vec![setting], loads: vec![&load] };
        Ok(grid.leaves(identity)?.remove(0))
    }

    /// What a rate says of the limits.
    fn found(&self, outcome: &Outcome) -> Sustained {
        let measured = match outcome {
            Outcome::Refused(failure) => return Sustained::Violated(failure.title()),
            Outcome::Measured(measured) => measured,
        };
        if let Some(check) = measured.checks.iter().find(|check| !check.passed) {
            return Sustained::Unknown(format!("the trial is invalid: {}", check.detail));
        }
        if measured.saturated {
            return Sustained::Violated("requests come faster than they are served".to_owned());
        }
        let mut found = Sustained::Met;
        for limit in self.limits() {
            let metric = metric::find(&limit.metric);
            let name = format::name(&limit.metric);
            match metric.and_then(|metric| (metric.value)(measured)) {
                Some(value) if limits::keeps(limit, value) => {}
                Some(value) => {
                    return Sustained::Violated(format!(
                        "{name} is {}",
                        format::value(metric, value)
                    ));
                }
                None => found = Sustained::Unknown(format!("{name} was not measured")),
            }
        }
        found
    }

    /// What the profile's traffic takes of each configuration, where it names one.
    fn traffic(&self, inputs: &Inputs<'_>, starts: &[Start]) -> Result<Option<Traffic>> {
        let profile = self.context.profile;
        let Some(traffic) = self.capacity().traffic else { return Ok(None) };
        let fleet = |setting: &Setting| {
            let own = || starts.iter().filter(|start| start.setting.args == setting.args);
            let tokens: u64 = own().map(|start| start.completed().0).sum();
            let requests: u64 = own().map(|start| start.completed().1).sum();
            let cost = profile.price(&setting.args);
            fleet::fleet(
                &traffic,
                &Need {
                    label: &setting.label,
                    role: setting.role,
                    cost: Cost {
                        cards: profile.cards(&setting.args),
                        card_dollars_per_hour: cost.and_then(|cost| cost.card_dollars_per_hour),
                    },
                    sustained: &own().map(Start::sustained).collect::<Vec<_>>(),
                    violated: &own().map(Start::violated).collect::<Vec<_>>(),
                    output_tokens_per_request: (tokens > 0)
                        .then(|| tokens as f64 / requests as f64),
                },
            )
        };
        Ok(Some(Traffic {
            requests_per_s: traffic.requests_per_second.to_f64(),
            reserve_servers: traffic.reserve_servers,
            fleets: self.settings(inputs)?.iter().filter_map(fleet).collect(),
        }))
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

/// The rate that was offered: of arrivals over a fixed time as many as came, else the nominal one.
fn offered(load: &LoadSpec, nominal: Decimal, outcome: &Outcome) -> f64 {
    match (outcome, load.size) {
        (Outcome::Measured(measured), Size::DurationMs(ms)) => {
            measured.summary.counts.planned as f64 / (ms as f64 / 1e3)
        }
        _ => nominal.to_f64(),
    }
}

/// A rate that a start has served.
struct Rate {
    rate: Decimal,
    /// What arrived of it.
    offered: f64,
    trial: TrialRef,
    outcome: Outcome,
    found: Sustained,
}

impl Rate {
    /// `None` where nothing is known of it.
    fn tried(&self) -> Option<Tried> {
        match self.found {
            Sustained::Unknown(_) => None,
            _ => Some(Tried { rate: self.rate, kept: self.found == Sustained::Met }),
        }
    }
}

/// One start of a configuration, with the rates that it has served.
struct Start {
    setting: Setting,
    rates: Vec<Rate>,
    /// Why the search ended at a rate of which nothing is known.
    unknown: Option<Sustained>,
}

impl Start {
    fn bracket(&self) -> Bracket {
        Bracket::of(&self.rates.iter().filter_map(Rate::tried).collect::<Vec<_>>())
    }

    /// The offered rate at the bracket's lower end; 0 where no rate met the limits.
    fn sustained(&self) -> f64 {
        let kept = self.bracket().kept;
        let of = |rate: &&Rate| Some(rate.rate) == kept && rate.found == Sustained::Met;
        self.rates.iter().find(of).map_or(0.0, |rate| rate.offered)
    }

    /// The offered rate at the bracket's upper end, where a rate violated a limit.
    fn violated(&self) -> Option<f64> {
        let lowest = self.bracket().broken?;
        self.rates.iter().find(|rate| rate.rate == lowest).map(|rate| rate.offered)
    }

    /// Output tokens and requests of the rates that met the limits.
    fn completed(&self) -> (u64, u64) {
        let of = |rate: &Rate| match &rate.outcome {
            Outcome::Measured(found) if rate.found == Sustained::Met => {
                Some((found.summary.output_tokens, found.summary.counts.completed))
            }
            _ => None,
        };
        let each = self.rates.iter().filter_map(of);
        each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// What the lowest rate that violates a limit violates, or why nothing is known of the next one.
    fn beyond(&self) -> Option<String> {
        if let Some(Sustained::Unknown(why)) = &self.unknown {
            return Some(format!("nothing is known: {why}"));
        }
        let lowest = self.bracket().broken?;
        self.rates.iter().find_map(|rate| match &rate.found {
            Sustained::Violated(why) if rate.rate == lowest => Some(why.clone()),
            _ => None,
        })
    }
}

impl Task for Capacity<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        CAPACITY.name
    }

    fn epoch(&self) -> u32 {
        CAPACITY.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&CAPACITY)
    }

    /// Baseline and defaults are known without the choice: the baseline shares the starts of `baseline`, the
    /// defaults those of the sweeps.
    fn needs_for_leaves(&self) -> Vec<String> {
        vec![PROVISION.name.to_owned()]
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        let mut config = json!({
            "capacity": profile.capacity,
            "load": self.load().ok(),
            "limits": self.limits().collect::<Vec<_>>(),
            "baseline_args": profile.baseline_args,
        });
        profile.note_cost(&mut config);
        config
    }

    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(self.walk(inputs)?.1)
    }

    /// Each server start searches by itself.
    fn asks_early(&self) -> bool {
        true
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let (starts, _) = self.walk(inputs)?;
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
                    sustained: of_setting.clone().map(Start::sustained).collect(),
                    broken: of_setting.clone().find_map(Start::beyond),
                    curve: curve(of_setting, self.latency()),
                }
            })
            .collect();
        let sustained = |args: &Args| {
            configurations.iter().find(|found| found.args == *args).map(|c| c.sustained.clone())
        };
        let compared = self.settings(inputs)?;
        let rates = compared
            .iter()
            .filter_map(|s| Some((comparison::column(s.role)?, sustained(&s.args)?)));
        let load = format!("{}@capacity", self.capacity().load);
        let precision = self.capacity().precision_percent;
        let comparison = capacity::compare(&load, &rates.collect(), precision);
        let traffic = self.traffic(inputs, &starts)?;
        let page = CapacityPage {
            load: &self.capacity().load,
            limits: &self.limits().collect::<Vec<_>>(),
            latency: self.latency(),
            precision_percent: self.capacity().precision_percent,
            configurations: &configurations,
            traffic: traffic.as_ref(),
        };
        let result = CapacityResult {
            header: self.context.header(CAPACITY.name, inputs)?,
            points: self.points(&starts)?,
            comparisons: vec![comparison],
            findings: page.findings(),
            traffic: traffic.clone(),
        };
        let drawing = plots::capacity(&page, &result.header.engine.shown());
        let mut outputs = written(&result)?;
        outputs.insert(MARKDOWN.to_owned(), page.markdown().into_bytes());
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

/// What each offered rate did to the latency, over starts, in the order of the rates.
fn curve<'a>(starts: impl Iterator<Item = &'a Start>, latency: &str) -> Vec<CurvePoint> {
    let Some(metric) = metric::find(latency) else { return Vec::new() };
    let mut by_rate: BTreeMap<Decimal, Vec<(f64, f64, bool)>> = BTreeMap::new();
    for rate in starts.flat_map(|start| &start.rates) {
        if let Outcome::Measured(measured) = &rate.outcome
            && measured.is_valid()
            && let Some(value) = (metric.value)(measured)
        {
            let of_rate = by_rate.entry(rate.rate).or_default();
            of_rate.push((rate.offered, value, measured.saturated));
        }
    }
    let mean = |values: &[(f64, f64, bool)], of: fn(&(f64, f64, bool)) -> f64| {
        values.iter().map(of).sum::<f64>() / values.len() as f64
    };
    let point = |found: Vec<(f64, f64, bool)>| CurvePoint {
        requests_per_s: mean(&found, |found| found.0),
        latency: mean(&found, |found| found.1),
        saturated: found.iter().any(|found| found.2),
    };
    by_rate.into_values().map(point).collect()
}
