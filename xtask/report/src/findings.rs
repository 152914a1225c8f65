//! What the figures say, in words. Pure: stages write these into their results, the report
//! gathers them.

use bench_core::{
    metric::{self, Metric},
    schema::{Estimate, Point, Role},
    stats,
};

use crate::format;
use analysis::{lenders::Lenders, pareto::beaten_by};
use profile::Objective;

/// Parts of a latency in the order in which a sentence names them.
const PARTS: [&str; 5] = ["queue", "front end", "prefill", "decode", "send lag"];

/// A share of latency that grows by less than this is not named.
const GREW_SHARE_MIN: f64 = 0.01;

/// The value with the lowest queue share is not the best: the time moved, it did not go away.
#[derive(Clone, Debug, PartialEq)]
pub struct Trap<'a> {
    /// The best by the objective.
    pub from: &'a Point,
    /// The one with the lowest queue share.
    pub to: &'a Point,
    /// Change of the objective in percent of `from` (points for shares); always for the worse.
    pub change: Estimate,
    /// Parts whose share of latency grew, with the share before and after, the most first.
    pub grew: Vec<Moved>,
}

/// Looks for the trap among the points of a sweep on the objective's load.
///
/// `None` when the lowest queue share is also the best, or less than the margin
/// worse.
pub fn trap<'a>(points: &'a [Point], lenders: &Lenders, objective: &Objective) -> Option<Trap<'a>> {
    let (_, from) = ranked(points, objective)?;
    let share = |point: &Point| point.mean("queue_share");
    let to = measured(points, objective)
        .into_iter()
        .filter(|point| share(point).is_some())
        .min_by(|a, b| f64::total_cmp(&share(a).unwrap_or(1.0), &share(b).unwrap_or(1.0)))?;
    let change = lenders.change(metric::find(&objective.metric)?, from, to)?;
    let worse = if objective.maximize { -change.mean } else { change.mean };
    let is_trap = worse > objective.margin_percent() && share(to)? < share(from)?;
    is_trap.then(|| Trap { from, to, change, grew: grew(from, to) })
}

impl Trap<'_> {
    /// The finding, in sentences.
    pub fn sentence(&self, objective: &Objective) -> String {
        let metric = metric::find(&objective.metric);
        let figure = |point: &Point, id: &str| match point.metrics.get(id) {
            Some(estimate) => format::estimate(metric::find(id), estimate),
            None => format::NOTHING.to_owned(),
        };
        let mut out = format!(
            "The lowest queue share is not the best: from {} to {} it falls from {} to {}, and {} \
             on `{}` goes from {} to {} ({}).",
            self.from.label,
            self.to.label,
            figure(self.from, "queue_share"),
            figure(self.to, "queue_share"),
            format::name(&objective.metric),
            objective.load,
            figure(self.from, &objective.metric),
            figure(self.to, &objective.metric) + &format::unit_of_title(metric),
            format::change(metric, &self.change),
        );
        if !self.grew.is_empty() {
            let parts: Vec<_> = self
                .grew
                .iter()
                .map(|part| format!("{} ({})", part.name, part.percents()))
                .collect();
            out += &format!(" The time moved into {}; it did not go away.", format::list(&parts));
        }
        out
    }
}

/// Where the time went, in shares of the mean latency: `queue 53 → 41 %, front end 16 → 17 %, …`.
///
/// Empty when the server does not say.
pub fn where_time_went(before: &Point, after: &Point) -> String {
    let is_told = |part: &Moved| {
        part.name != "send lag" || part.before.mean.max(part.after.mean) >= GREW_SHARE_MIN
    };
    let parts: Vec<_> = shares(before, after)
        .filter(is_told)
        .map(|part| format!("{} {}", part.name, part.percents()))
        .collect();
    parts.join(", ")
}

/// Whether any part's share changed by a percent of the latency or more.
pub fn has_moved(before: &Point, after: &Point) -> bool {
    shares(before, after).any(|part| part.growth().abs() >= GREW_SHARE_MIN)
}

/// How much a knob moves the objective over the values that were tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect<'a> {
    /// The value with the best objective.
    pub best: &'a Point,
    /// The one with the worst.
    pub worst: &'a Point,
    /// From the worst to the best, in percent of the worst (points for shares).
    pub change: Estimate,
    /// Whether that is more than the margin and, where the spread is known, more than chance.
    pub is_real: bool,
}

/// How much a sweep's values move the objective on its load; `None` with fewer than two
/// measured values.
pub fn knob_effect<'a>(
    points: &'a [Point],
    lenders: &Lenders,
    objective: &Objective,
) -> Option<Effect<'a>> {
    let (worst, best) = ranked(points, objective)?;
    if std::ptr::eq(worst, best) {
        return None;
    }
    let change = lenders.change(metric::find(&objective.metric)?, worst, best)?;
    let by_chance = match (change.low, change.high) {
        (Some(low), Some(high)) => low <= 0.0 && high >= 0.0,
        _ => false,
    };
    let is_real = change.mean.abs() > objective.margin_percent() && !by_chance;
    Some(Effect { best, worst, change, is_real })
}

impl Effect<'_> {
    /// The finding, as a sentence.
    pub fn sentence(&self, objective: &Objective) -> String {
        let change = format::change(metric::find(&objective.metric), &self.change);
        let (name, load) = (format::name(&objective.metric), &objective.load);
        let (worst, best) = (&self.worst.label, &self.best.label);
        if self.is_real {
            return format!(
                "From the worst value tried ({worst}) to the best ({best}), {name} on `{load}` \
                 changes by {change}."
            );
        }
        if self.change.mean.abs() > objective.margin_percent() {
            return format!(
                "Not decided for {name} on `{load}`: {change} from {worst} to {best} may be chance."
            );
        }
        format!(
            "No effect on {name} on `{load}`: {change} from {worst} to {best}, within \
             the margin of {} %.",
            objective.margin_percent(),
        )
    }
}

/// Which values cannot run, and why: one sentence, or `None` when all run.
pub fn failures(points: &[Point]) -> Option<String> {
    let mut failed: Vec<String> = Vec::new();
    for point in points {
        if let Some(failure) = &point.failure {
            let text = format!("{} ({})", point.label, failure.title());
            if !failed.contains(&text) {
                failed.push(text);
            }
        }
    }
    (!failed.is_empty()).then(|| format!("Does not run at {}.", format::list(&failed)))
}

/// Labels of the points that no other point beats in both metrics, in the points' order; each
/// metric is better in its own direction. Points without both are left out.
pub fn pareto<'a>(points: &[&'a Point], metrics: [&Metric; 2]) -> Vec<&'a str> {
    let cost = |point: &Point| {
        metrics.map(|metric| {
            let sign = if metric.direction == metric::Direction::Higher { -1.0 } else { 1.0 };
            point.mean(metric.id).map(|value| sign * value)
        })
    };
    let costs: Vec<_> = points
        .iter()
        .filter_map(|point| match cost(point) {
            [Some(a), Some(b)] => Some((point.label.as_str(), a, b)),
            _ => None,
        })
        .collect();
    let beaten = beaten_by(&costs.iter().map(|(_, a, b)| [*a, *b]).collect::<Vec<_>>());
    let unbeaten = costs.iter().zip(beaten).filter(|(_, by)| by.is_none());
    unbeaten.map(|((label, ..), _)| *label).collect()
}

/// Everything a sweep's points say of its flag, most important first.
pub fn of_sweep(points: &[Point], lenders: &Lenders, objective: &Objective) -> Vec<String> {
    let effect = knob_effect(points, lenders, objective).map(|effect| effect.sentence(objective));
    let trap = trap(points, lenders, objective).map(|trap| trap.sentence(objective));
    effect.into_iter().chain(trap).chain(failures(points)).collect()
}

/// The time in the queue under a load, directly against the baseline's and the defaults'.
///
/// Empty when the load has no anatomy there.
pub fn against_baseline(swept: &[Point], reference: &[Point], load: &str) -> Vec<String> {
    let queue = |point: &Point| {
        let share = share(point, "queue")?;
        let ms = match point.metrics.get("queue_mean_ms") {
            Some(ms) => format::estimate(metric::find("queue_mean_ms"), ms),
            None => format::ms(point.anatomy.as_ref()?.queue_ms),
        };
        Some((share.mean, format!("{ms} ({})", percent(&share))))
    };
    let told = |role| {
        let mut points = reference.iter().filter(|point| point.role == role && point.load == load);
        points.find_map(queue)
    };
    let told_of: Vec<_> = swept
        .iter()
        .filter(|point| point.role == Role::Sweep && point.load == load)
        .filter_map(|point| Some((&point.label, queue(point)?)))
        .collect();
    let values = told_of.len();
    let lowest = told_of.into_iter().min_by(|(_, (a, _)), (_, (b, _))| f64::total_cmp(a, b));
    let (baseline, default) = (told(Role::Baseline), told(Role::Default));
    let Some((label, (_, lowest))) = lowest.filter(|_| baseline.is_some() || default.is_some())
    else {
        return Vec::new();
    };
    let at =
        |queue: Option<(f64, String)>, of| queue.map(|(_, queue)| format!("{queue} at {of}, "));
    vec![format!(
        "Mean time in the queue on `{load}`: {}{}{lowest} at {label}{}.",
        at(baseline, "the baseline").unwrap_or_default(),
        at(default, "vLLM's defaults").unwrap_or_default(),
        if values > 1 { ", the lowest share of the values tried" } else { "" }
    )]
}

/// Values of the sweep that have a figure for the objective on its load.
fn measured<'a>(points: &'a [Point], objective: &Objective) -> Vec<&'a Point> {
    points
        .iter()
        .filter(|point| point.role == Role::Sweep && point.load == objective.load)
        .filter(|point| point.mean(&objective.metric).is_some())
        .collect()
}

/// The worst and the best point by the objective; the first of equals.
fn ranked<'a>(points: &'a [Point], objective: &Objective) -> Option<(&'a Point, &'a Point)> {
    let merit = |point: &Point| {
        let value = point.mean(&objective.metric).unwrap_or(f64::NAN);
        if objective.maximize { value } else { -value }
    };
    let mut measured = measured(points, objective).into_iter();
    let first = measured.next()?;
    Some(measured.fold((first, first), |(worst, best), point| {
        (
            if merit(point) < merit(worst) { point } else { worst },
            if merit(point) > merit(best) { point } else { best },
        )
    }))
}

/// A part of the latency and its share of it, before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    name: &'static str,
    before: Estimate,
    after: Estimate,
}

impl Moved {
    fn growth(&self) -> f64 {
        self.after.mean - self.before.mean
    }

    fn percents(&self) -> String {
        let [before, after] = [&self.before, &self.after].map(percent);
        format!("{} → {after}", before.trim_end_matches(" %"))
    }
}

/// A share to the percent, or with its interval.
pub fn percent(share: &Estimate) -> String {
    match share.low {
        Some(_) => format::estimate(metric::find("queue_share"), share),
        None => format!("{} %", format::number(share.mean * 100.0, 0)),
    }
}

/// A part's share of the mean latency, over the starts.
pub fn share(point: &Point, part: &str) -> Option<Estimate> {
    let id = format!("{}_share", part.replace(' ', "_"));
    point.metrics.get(&id).cloned().or_else(|| {
        let anatomy = point.anatomy.as_ref()?;
        let (_, ms) = anatomy.parts().into_iter().find(|(name, _)| *name == part)?;
        let e2e_ms = anatomy.e2e_ms();
        stats::estimate(vec![if e2e_ms > 0.0 { ms / e2e_ms } else { 0.0 }])
    })
}

/// Shares of each part before and after, in the order of [`PARTS`].
fn shares(before: &Point, after: &Point) -> impl Iterator<Item = Moved> {
    PARTS.into_iter().filter_map(|name| {
        Some(Moved { name, before: share(before, name)?, after: share(after, name)? })
    })
}

fn grew(before: &Point, after: &Point) -> Vec<Moved> {
    let mut grew: Vec<_> =
        shares(before, after).filter(|part| part.growth() >= GREW_SHARE_MIN).collect();
    grew.sort_by(|a, b| f64::total_cmp(&b.growth(), &a.growth()));
    grew
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{anatomy, point};
    use bench_core::schema::{FailureClass, SettingFailure};
    use proptest::prelude::*;

    fn objective() -> Objective {
        Objective {
            metric: "output_tokens_per_s".to_owned(),
            maximize: true,
            load: "burst".to_owned(),
            margin_percent: None,
        }
    }

    /// The two rows that were measured on an H100.
    fn h100() -> Vec<Point> {
        let row = |label: &str, tokens_per_s, queue, front_end, decode| {
            let parts = anatomy(8_000.0, [0.0, front_end, queue, 0.04, decode]);
            let figures = [("output_tokens_per_s", tokens_per_s), ("queue_share", queue)];
            point(label, Role::Sweep, "burst", &figures, Some(parts))
        };
        vec![row("256", 10_413.0, 0.53, 0.16, 0.27), row("1024", 8_707.0, 0.15, 0.32, 0.49)]
    }

    #[test]
    fn the_trap_is_seen_and_says_where_the_time_went() {
        let points = h100();
        let trap = trap(&points, &Lenders::default(), &objective()).expect("a trap");
        assert_eq!((trap.from.label.as_str(), trap.to.label.as_str()), ("256", "1024"));
        assert_eq!(
            trap.sentence(&objective()),
            "The lowest queue share is not the best: from 256 to 1024 it falls from 53.0 % to \
             15.0 %, and output throughput on `burst` goes from 10,413 to 8,707 tokens/s \
             (−16.4 %). The time moved into decode (27 → 49 %) and front end (16 → 32 %); it did \
             not go away."
        );
    }

    #[test]
    fn no_trap_where_the_lowest_queue_share_wins() {
        let mut points = h100();
        let tokens = points[1].metrics.get_mut("output_tokens_per_s").expect("the metric");
        *tokens = stats::estimate(vec![10_300.0]).expect("a start");
        assert_eq!(trap(&points, &Lenders::default(), &objective()), None, "within the margin");
        points[1].load = "production".to_owned();
        assert_eq!(trap(&points, &Lenders::default(), &objective()), None, "another load");
        assert_eq!(trap(&[], &Lenders::default(), &objective()), None);
    }

    #[test]
    fn time_is_told_in_shares() {
        let told =
            |e2e_ms, shares| point("x", Role::Sweep, "burst", &[], Some(anatomy(e2e_ms, shares)));
        let mut before = told(9_000.0, [0.0, 0.16, 0.53, 0.04, 0.27]);
        let after = told(8_000.0, [0.0, 0.17, 0.41, 0.05, 0.37]);
        assert_eq!(
            where_time_went(&before, &after),
            "queue 53 → 41 %, front end 16 → 17 %, prefill 4 → 5 %, decode 27 → 37 %"
        );
        let lagging = told(8_000.0, [0.10, 0.07, 0.41, 0.05, 0.37]);
        assert!(where_time_went(&before, &lagging).ends_with("send lag 0 → 10 %"));
        let queue = stats::estimate(vec![0.52, 0.54]).expect("starts");
        before.metrics.insert("queue_share".to_owned(), queue);
        assert!(where_time_went(&before, &after).starts_with("queue 53.0 ± 12.7 → 41 %, front"));
    }

    #[test]
    fn an_effect_needs_more_than_the_margin_and_more_than_chance() {
        let points = h100();
        let effect = knob_effect(&points, &Lenders::default(), &objective()).expect("two values");
        assert_eq!((effect.best.label.as_str(), effect.is_real), ("256", true));
        let mut noisy = h100();
        for point in &mut noisy {
            let tokens = point.metrics.get_mut("output_tokens_per_s").expect("the metric");
            tokens.starts = vec![tokens.mean * 0.7, tokens.mean * 1.3];
        }
        let effect = knob_effect(&noisy, &Lenders::default(), &objective()).expect("two values");
        assert!(!effect.is_real, "{effect:?}");
        assert_eq!(knob_effect(&points[..1], &Lenders::default(), &objective()), None);
    }

    #[test]
    fn the_queue_is_held_against_the_baseline() {
        let parts = anatomy(71_300.0, [0.0, 0.02, 0.89, 0.01, 0.08]);
        let baseline = point("baseline", Role::Baseline, "burst", &[], Some(parts));
        assert_eq!(
            against_baseline(&h100(), std::slice::from_ref(&baseline), "burst"),
            ["Mean time in the queue on `burst`: 63.5 s (89 %) at the baseline, 1.20 s (15 %) at \
              1024, the lowest share of the values tried."]
        );
        let default = Point { role: Role::Default, ..baseline };
        assert_eq!(
            against_baseline(&h100()[..1], &[default], "burst"),
            [
                "Mean time in the queue on `burst`: 63.5 s (89 %) at vLLM's defaults, 4.24 s (53 %) at 256."
            ],
            "no baseline of its own, and nothing to be the lowest of"
        );
        assert!(against_baseline(&h100(), &[], "burst").is_empty());
    }

    #[test]
    fn failures_are_named_once() {
        let mut points = h100();
        points[1].failure = Some(SettingFailure {
            class: FailureClass::SamplerWarmUp,
            evidence: vec![],
            foreseen: None,
        });
        points.push(Point { load: "production".to_owned(), ..points[1].clone() });
        assert_eq!(failures(&points).as_deref(), Some("Does not run at 1024 (sampler warm-up)."));
        assert_eq!(failures(&h100()), None);
    }

    proptest! {
        #[test]
        fn nobody_beats_the_frontier(values in prop::collection::vec((1.0_f64..9.0, 1.0_f64..9.0), 1..12)) {
            let metrics = [
                metric::find("output_tokens_per_s").expect("a metric"),
                metric::find("e2e_p95_ms").expect("a metric"),
            ];
            let points: Vec<Point> = values.iter().enumerate().map(|(i, (tokens, ms))| {
                let figures = [("output_tokens_per_s", *tokens), ("e2e_p95_ms", *ms)];
                point(&i.to_string(), Role::Sweep, "burst", &figures, None)
            }).collect();
            let refs: Vec<&Point> = points.iter().collect();
            let frontier = pareto(&refs, metrics);
            prop_assert!(!frontier.is_empty());
            for (i, (tokens, ms)) in values.iter().enumerate() {
                let beaten = values.iter().any(|(t, m)| t >= tokens && m <= ms && (t > tokens || m < ms));
                prop_assert_eq!(frontier.contains(&i.to_string().as_str()), !beaten);
            }
        }
    }
}
