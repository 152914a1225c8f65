//! `choose`: the best value of each sweep, put together.

use std::cmp::Ordering;

use anyhow::Result;
use bench_core::{
    metric,
    schema::{Args, Choice, Point, ResultFile, Role},
};
use serde_json::Value;

use super::{Context, Trial, baseline, goals, one_file, provision, tune};
use crate::{
    config::{Bound, Limit, Profile},
    dag::{Inputs, Leaf, Outputs, Task},
    flags, format,
};

pub const NAME: &str = "choose";
pub const FILE: &str = "recommendation.json";

pub struct Choose<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Choose<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        2
    }

    fn needs(&self) -> Vec<String> {
        let mut needs = self.context.present(&[provision::NAME, baseline::NAME, tune::NAME]);
        needs.extend(self.context.sweep_names());
        needs
    }

    fn config(&self) -> Value {
        goals(self.context.profile)
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let mut gains = Vec::new();
        for sweep in &profile.sweeps {
            let swept: ResultFile = inputs.json(&sweep.name, &sweep.file)?;
            if let Some(choice) = swept.choice {
                gains.push((
                    gain_percent(&swept.points, &choice.label, profile),
                    sweep.name.clone(),
                    choice,
                ));
            }
        }
        // The largest gain first: what it sets, later ones must fit.
        gains.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal));
        // What was confirmed together goes before what was best alone.
        let searched: Option<ResultFile> = inputs.json_if_upstream(tune::NAME, tune::FILE)?;
        if let Some(ResultFile { points, choice: Some(choice), .. }) = searched {
            gains.insert(
                0,
                (gain_percent(&points, &choice.label, profile), tune::NAME.to_owned(), choice),
            );
        }
        let mut result = self.context.result(NAME, inputs)?;
        let mut args = Args::new();
        let mut labels = Vec::new();
        for (gain, sweep, choice) in gains {
            let found = format!("{sweep}: {}", choice.reason);
            match combine(&args, &choice.args, profile) {
                _ if choice.args.is_empty() => result.findings.push(found),
                Ok(combined) => {
                    args = combined;
                    labels.push(format!(
                        "{sweep} = {} ({} % alone)",
                        choice.label,
                        format::signed(gain, 1)
                    ));
                    result.findings.push(found);
                }
                Err(why) => result.findings.push(format!("{found}; not taken, since {why}")),
            }
        }
        let reason = match labels.as_slice() {
            [] => "no sweep found a value worth a change from the defaults".to_owned(),
            labels => format!("the best value of each sweep together: {}", labels.join(", ")),
        };
        result.choice = Some(Choice { label: "tuned".to_owned(), args, reason });
        one_file(FILE, &result)
    }
}

/// Both sets of arguments, or why they do not go together.
fn combine(chosen: &Args, more: &Args, profile: &Profile) -> Result<Args, String> {
    let mut combined = chosen.clone();
    for (name, value) in more {
        if let Some(other) = combined.insert(name.clone(), value.clone())
            && other != *value
        {
            return Err(format!("{name} is {other} already"));
        }
    }
    let mut all = profile.engine_args.clone();
    all.extend(combined.clone());
    match flags::check_combination(&all, &Args::new()) {
        None => Ok(combined),
        Some(why) => Err(why.message),
    }
}

/// The best value of a sweep by the profile's objective and limits, or the defaults when no value
/// is worth a change.
pub fn best(swept: &[Point], reference: &[Point], profile: &Profile) -> Choice {
    let objective = &profile.objective;
    let title = format::name(&objective.metric);
    let metric = metric::find(&objective.metric);
    let shown = |point: &Point| {
        let figure = point.metrics.get(&objective.metric);
        let figure = figure.map_or_else(String::new, |e| format::estimate(metric, e));
        figure + &format::unit_of_title(metric)
    };
    let default = reference
        .iter()
        .find(|point| point.role == Role::Default && point.load == objective.load)
        .and_then(|point| Some((point, point.mean(&objective.metric)?)));
    let keep = |why: String| Choice { label: "default".to_owned(), args: Args::new(), reason: why };

    let candidates: Vec<(&Point, f64)> = swept
        .iter()
        .filter(|point| point.role == Role::Sweep && point.load == objective.load)
        .filter_map(|point| Some((point, point.mean(&objective.metric)?)))
        .collect();
    if candidates.is_empty() {
        return keep(format!("no value gave a valid {title} on `{}`", objective.load));
    }
    let within: Vec<_> = candidates
        .iter()
        .filter(|(point, _)| broken_limit(swept, &point.label, &profile.slo).is_none())
        .collect();
    let best = within.into_iter().reduce(|best, next| {
        let better = if objective.maximize { next.1 > best.1 } else { next.1 < best.1 };
        if better { next } else { best }
    });
    let Some((point, value)) = best else {
        let (point, _) = candidates[0];
        let why = broken_limit(swept, &point.label, &profile.slo).unwrap_or_default();
        return keep(format!("no value keeps the limits (at {}: {why})", point.label));
    };
    let Some((defaults, default)) = default else {
        let reason = format!("best {title} on `{}`: {}", objective.load, shown(point));
        return Choice { label: point.label.clone(), args: point.args.clone(), reason };
    };
    let gain = gain(*value, default, objective.maximize);
    if gain < objective.margin_percent() {
        return keep(format!(
            "the best value, {}, changes {title} on `{}` by {} %, which is not worth a change",
            point.label,
            objective.load,
            format::signed(gain, 1)
        ));
    }
    let reason = format!(
        "{} gives {title} {} on `{}`, {} % against the defaults' {}, within the limits",
        point.label,
        shown(point),
        objective.load,
        format::signed(gain, 1),
        shown(defaults)
    );
    Choice { label: point.label.clone(), args: point.args.clone(), reason }
}

/// Improvement in percent; positive is better whichever way the objective points.
fn gain(value: f64, default: f64, maximize: bool) -> f64 {
    let change = 100.0 * (value / default - 1.0);
    if maximize { change } else { -change }
}

fn gain_percent(points: &[Point], label: &str, profile: &Profile) -> f64 {
    let objective = &profile.objective;
    let value = |label: &str| {
        let found = points.iter().find(|p| p.label == label && p.load == objective.load)?;
        found.mean(&objective.metric)
    };
    match (value(label), value("default")) {
        (Some(value), Some(default)) => gain(value, default, objective.maximize),
        _ => 0.0,
    }
}

/// The first limit that a setting breaks, in words; a limit that was not measured is not broken.
fn broken_limit(points: &[Point], label: &str, limits: &[Limit]) -> Option<String> {
    limits.iter().find_map(|limit| {
        let point = points.iter().find(|p| p.label == label && p.load == limit.load)?;
        if point.saturated {
            return Some(format!("{} is above capacity", limit.load));
        }
        let value = point.mean(&limit.metric)?;
        let kept = keeps(limit, value);
        (!kept).then(|| {
            format!("{} on {} is {value:.1}, limit {}", limit.metric, limit.load, limit.limit)
        })
    })
}

/// Whether a value keeps a limit.
pub fn keeps(limit: &Limit, value: f64) -> bool {
    match limit.bound {
        Bound::Max => value <= limit.limit.to_f64(),
        Bound::Min => value >= limit.limit.to_f64(),
    }
}
