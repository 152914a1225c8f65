//! `[objective]`, `[slo]`, `[guard]`, `[targets]` and `[compare]`: what "best" means, what it must keep,
//! what it must not make worse, what is hoped for, and how much of a change anybody cares for.

use std::collections::BTreeMap;

use bench_core::{
    decimal::Decimal,
    metric::{self, Direction, METRICS, Metric},
    summarize::long_prompt_share,
};

use super::{
    diagnostic::{Diagnostic, suggest},
    load::Loads,
    read::{Item, Problems, Table},
    resolved::{Bound, CostConfig, Gain, Guard, Limit, Objective},
};

/// A change of half the value is worth having, whatever the profile says.
const MARGIN_PERCENT_MAX: i64 = 50;

/// A gain of this many percent is none that anybody hopes for.
const GAIN_PERCENT_MAX: i64 = 100_000;
/// Loads of one target.
const TARGET_LOADS_MAX: usize = 20;

/// What goals are read against.
pub(super) struct Goals<'a> {
    pub(super) problems: &'a Problems,
    pub(super) loads: &'a Loads,
    pub(super) cost: Option<&'a CostConfig>,
}

impl Goals<'_> {
    /// Reads `[objective]`.
    pub(super) fn objective(&self, mut table: Table<'_>) -> Option<Objective> {
        let (maximize, minimize) = (table.get("maximize"), table.get("minimize"));
        let on = table.get("on");
        let span = table.span.clone();
        table.finish(|_| None);
        let (item, maximize) = match (maximize, minimize) {
            (Some(item), None) => (item, true),
            (None, Some(item)) => (item, false),
            (None, None) => {
                self.problems.report(Diagnostic::new(
                    "[objective] lacks its metric",
                    span,
                    "add maximize = METRIC or minimize = METRIC",
                ));
                return None;
            }
            (Some(first), Some(second)) => {
                self.problems.report(
                    Diagnostic::new(
                        "[objective] has two metrics",
                        second.key.span,
                        "take one out; limits go into [slo]",
                    )
                    .related(first.key.span, "the other"),
                );
                return None;
            }
        };
        let text = item.text()?;
        let metric = self.metric(text.value, &item, text.span)?;
        let wrong_way = match metric.direction {
            Direction::Higher => !maximize,
            Direction::Lower => maximize,
            Direction::Neither => false,
        };
        if wrong_way {
            let (better, right) =
                if maximize { ("less", "minimize") } else { ("more", "maximize") };
            self.problems.report(Diagnostic::new(
                format!("{better} of `{}` is better", metric.id),
                item.key.span.clone(),
                format!("did you mean `{right}`?"),
            ));
            return None;
        }
        let load = match on {
            Some(on) => self.loads.name(&on)?,
            None => self.only_load(metric, &item)?,
        };
        self.measurable(metric, &load, &item)?;
        Some(Objective { metric: metric.id.to_owned(), maximize, load, margin_percent: None })
    }

    /// Reads `[slo]`: METRIC = N on the table's load, or a table of its own.
    pub(super) fn limits(&self, mut table: Table<'_>) -> Vec<Limit> {
        let title = table.title.clone();
        let on = table.get("on").map(|on| self.load_names(&on));
        let mut limits = Vec::new();
        for item in table.rest() {
            if let Some(metric) = self.key(&item, &title) {
                limits.extend(self.limit(metric, &item, on.as_ref(), None));
            }
        }
        limits
    }

    /// Reads `[targets]`: as `[slo]`, and in a table of its own also a gain over the baseline.
    pub(super) fn targets(&self, mut table: Table<'_>) -> (Vec<Limit>, Vec<Gain>) {
        let title = table.title.clone();
        let on = table.get("on").map(|on| self.load_names(&on));
        let (mut limits, mut gains) = (Vec::new(), Vec::new());
        for item in table.rest() {
            if let Some(metric) = self.key(&item, &title) {
                limits.extend(self.limit(metric, &item, on.as_ref(), Some(&mut gains)));
            }
        }
        (limits, gains)
    }

    /// Reads `[guard]`: METRIC = margin in percent on the table's load, or a table of its own.
    pub(super) fn guards(&self, mut table: Table<'_>, objective: Option<&Objective>) -> Vec<Guard> {
        let title = table.title.clone();
        let on = table.get("on").map(|on| self.load_names(&on));
        let mut guards = Vec::new();
        for item in table.rest() {
            if let Some(metric) = self.key(&item, &title) {
                guards.extend(self.guard(metric, &item, on.clone()).unwrap_or_default());
            }
        }
        let is_objective = |guard: &Guard| {
            objective.is_some_and(|o| o.metric == guard.metric && o.load == guard.load)
        };
        if let Some(guard) = guards.iter().find(|guard| is_objective(guard)) {
            self.problems.report(Diagnostic::new(
                format!("`{}` on {} is the objective", guard.metric, guard.load),
                table.span.clone(),
                "a change is recommended only where it is better there: take it out of [guard]",
            ));
        }
        guards
    }

    /// The guards of one key: one for each load.
    fn guard(
        &self,
        metric: &Metric,
        item: &Item<'_>,
        on: Option<Option<Vec<String>>>,
    ) -> Option<Vec<Guard>> {
        if metric.direction == Direction::Neither {
            item.report(
                format!("neither more nor less of `{}` is worse", metric.id),
                "a guard is of a metric that has a good direction",
            );
            return None;
        }
        let (margin, loads) = if item.is_table() {
            let mut table = item.table(format!("the guard `{}`", metric.id))?;
            let margin = table.require("margin_percent", "margin_percent = N");
            let own = table.get("on").map(|on| self.load_names(&on));
            table.finish(|_| None);
            (margin?.positive_decimal(MARGIN_PERCENT_MAX)?, own.or(on))
        } else {
            (item.positive_decimal(MARGIN_PERCENT_MAX)?, on)
        };
        let loads = self.loads_of(metric, item, loads)?;
        let guard =
            |load: String| Guard { metric: metric.id.to_owned(), load, margin_percent: margin };
        Some(loads.into_iter().map(guard).collect())
    }

    /// Reads `[compare]`: the margin of every metric, or of those that it names.
    pub(super) fn margins(&self, mut table: Table<'_>) -> BTreeMap<String, Decimal> {
        let margin = table.require("margin_percent", "margin_percent = N, or { METRIC = N }");
        table.finish(|_| None);
        let Some(item) = margin else { return BTreeMap::new() };
        if item.is_table() {
            let title = "`margin_percent`";
            let items = item.table(title).map(|mut table| table.rest()).unwrap_or_default();
            let margin = |item: &Item<'_>| {
                let metric = self.key(item, title)?;
                Some((metric.id.to_owned(), item.positive_decimal(MARGIN_PERCENT_MAX)?))
            };
            return items.iter().filter_map(margin).collect();
        }
        let Some(margin) = item.positive_decimal(MARGIN_PERCENT_MAX) else {
            return BTreeMap::new();
        };
        METRICS.iter().map(|metric| (metric.id.to_owned(), margin)).collect()
    }

    /// The metric that a key names.
    fn key(&self, item: &Item<'_>, title: &str) -> Option<&'static Metric> {
        let found = metric::find(item.key.value);
        if found.is_none() {
            self.problems.report(Diagnostic::new(
                format!("unknown key `{}` in {title}", item.key.value),
                item.key.span.clone(),
                no_metric(item.key.value),
            ));
        }
        found
    }

    /// The limits of one key: one for each load.
    fn limit(
        &self,
        metric: &Metric,
        item: &Item<'_>,
        on: Option<&Option<Vec<String>>>,
        gains: Option<&mut Vec<Gain>>,
    ) -> Vec<Limit> {
        let natural = match metric.direction {
            Direction::Higher => Some(Bound::Min),
            Direction::Lower => Some(Bound::Max),
            Direction::Neither => None,
        };
        if !item.is_table() {
            let Some(bound) = natural else {
                item.report(
                    format!("neither more nor less of `{}` is better", metric.id),
                    "say which: { max = N } or { min = N }",
                );
                return Vec::new();
            };
            let Some(loads) = self.loads_of(metric, item, on.cloned()) else { return Vec::new() };
            let limit = self.amount(metric, item);
            return limit.map(|limit| limits(metric, &loads, bound, limit)).unwrap_or_default();
        }
        let Some(mut table) = item.table(format!("`{}`", metric.id)) else { return Vec::new() };
        let (max, min) = (table.get("max"), table.get("min"));
        let gain = gains.is_some().then(|| table.get("over_baseline_percent")).flatten();
        let own_loads = table.get("on").map(|on| self.load_names(&on));
        table.finish(|_| None);
        let sided = match (max, min) {
            (Some(limit), None) => Some((Bound::Max, limit)),
            (None, Some(limit)) => Some((Bound::Min, limit)),
            (None, None) if gain.is_some() => None,
            _ => {
                item.report(
                    format!("the limit on `{}` has one side", metric.id),
                    "expected either max = N or min = N",
                );
                return Vec::new();
            }
        };
        if let Some((bound, limit)) = &sided
            && natural.is_some_and(|natural| natural != *bound)
        {
            let (better, right) =
                if *bound == Bound::Max { ("more", "min") } else { ("less", "max") };
            self.problems.report(Diagnostic::new(
                format!("{better} of `{}` is better", metric.id),
                limit.key.span.clone(),
                format!("did you mean `{right}`?"),
            ));
            return Vec::new();
        }
        let amount = sided.map(|(bound, limit)| (bound, self.amount(metric, &limit)));
        let loads = self.loads_of(metric, item, own_loads.or_else(|| on.cloned()));
        let Some(loads) = loads else { return Vec::new() };
        if let (Some(gain), Some(gains)) = (gain, gains) {
            gains.extend(self.gain(metric, &gain, &loads));
        }
        match amount {
            Some((bound, Some(limit))) => limits(metric, &loads, bound, limit),
            _ => Vec::new(),
        }
    }

    /// A gain over the baseline on each load.
    fn gain(&self, metric: &Metric, item: &Item<'_>, loads: &[String]) -> Vec<Gain> {
        if metric.direction != Direction::Higher {
            item.report(
                format!("more of `{}` is no gain", metric.id),
                "a gain is of a metric of which more is better",
            );
            return Vec::new();
        }
        let Some(percent) = item.positive_decimal(GAIN_PERCENT_MAX) else { return Vec::new() };
        let gain =
            |load: &String| Gain { metric: metric.id.to_owned(), load: load.clone(), percent };
        loads.iter().map(gain).collect()
    }

    /// The loads that an `on` names: one, or a list.
    fn load_names(&self, on: &Item<'_>) -> Option<Vec<String>> {
        if !on.is_list() {
            return self.loads.name(on).map(|name| vec![name]);
        }
        on.list(TARGET_LOADS_MAX)?.iter().map(|item| self.loads.name(item)).collect()
    }

    /// The given loads, or the profile's only one, where each measures the metric.
    fn loads_of(
        &self,
        metric: &Metric,
        item: &Item<'_>,
        given: Option<Option<Vec<String>>>,
    ) -> Option<Vec<String>> {
        let loads = match given {
            Some(loads) => loads?,
            None => vec![self.only_load(metric, item)?],
        };
        for load in &loads {
            self.measurable(metric, load, item)?;
        }
        Some(loads)
    }

    /// The limit itself, inside what the metric's unit allows.
    fn amount(&self, metric: &Metric, item: &Item<'_>) -> Option<Decimal> {
        let limit = item.decimal()?.value;
        let max = match metric.unit {
            "share" => Decimal::from_int(1),
            "%" => Decimal::from_int(100),
            _ => None,
        };
        if limit < Decimal::default() || max.is_some_and(|max| limit > max) {
            let expected = match max {
                Some(max) => format!("expected 0 to {max}"),
                None => "expected 0 or more".to_owned(),
            };
            item.report(format!("`{}` cannot be {limit}", metric.id), expected);
            return None;
        }
        Some(limit)
    }

    fn metric(
        &self,
        id: &str,
        item: &Item<'_>,
        span: std::ops::Range<usize>,
    ) -> Option<&'static Metric> {
        let found = metric::find(id);
        if found.is_none() {
            self.problems.report(Diagnostic::new(
                format!("no metric `{id}` to {}", item.key.value),
                span,
                no_metric(id),
            ));
        }
        found
    }

    /// The profile's load, where it has just one.
    fn only_load(&self, metric: &Metric, item: &Item<'_>) -> Option<String> {
        if let [name] = self.loads.names.as_slice() {
            return Some(name.clone());
        }
        self.problems.report(Diagnostic::new(
            format!("on which load is `{}` measured?", metric.id),
            item.key.span.clone(),
            format!("add on = one of {}", self.loads.names.join(", ")),
        ));
        None
    }

    /// Whether a trial of that load can tell the metric at all.
    fn measurable(&self, metric: &Metric, name: &str, item: &Item<'_>) -> Option<()> {
        let Some(load) = self.loads.placed.iter().find(|load| load.load.name == name) else {
            // It has a mistake of its own.
            return Some(());
        };
        let spec = &load.load.spec;
        let one_token = spec.classes.iter().all(|class| class.output_tokens.max == 1);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|p| metric.id.starts_with(p));
        let why = if metric.id == "long_e2e_p95_ms" || metric.id == "length_slowdown" {
            (spec.classes.len() < 2).then_some("it compares classes, and the load has one")
        } else if starts(&["ttft_", "tpot_", "itl_", "short_ttft_", "long_ttft_", "stall_"])
            && !spec.request.stream
        {
            Some("without streaming a client sees no single token")
        } else if starts(&["tpot_", "itl_"]) && one_token {
            Some("with one token of output there is no gap between tokens")
        } else if starts(&["short_ttft_", "long_ttft_", "stall_"])
            && long_prompt_share(spec).is_none()
        {
            Some("it lacks prompts below 1,000 tokens, or prompts from there on")
        } else if metric.id.starts_with("dollars_") && !self.cost.is_some_and(CostConfig::has_price)
        {
            Some("nobody says what a card costs: add [cost] with card_dollars_per_hour")
        } else if metric.id.ends_with("_per_card") && self.cost.is_none() {
            Some("nobody says which cards count: add [cost]")
        } else {
            None
        };
        let Some(why) = why else { return Some(()) };
        item.report(format!("load `{name}` does not measure `{}`", metric.id), why);
        None
    }
}

/// What to do about a name that is no metric's.
fn no_metric(name: &str) -> String {
    // Such as ttft_p90_ms: the nearest name would be that of quite another percentile.
    let percentile = name.split('_').find(|part| {
        part.strip_prefix('p')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    if let Some(percentile) = percentile {
        let of_name = |kept: &&str| metric::find(&name.replacen(percentile, kept, 1)).is_some();
        let kept: Vec<_> = ["p50", "p95", "p99"].into_iter().filter(of_name).collect();
        if !kept.is_empty() {
            return format!("{percentile} is not kept: there are {}", kept.join(", "));
        }
    }
    suggest(name, ids())
}

fn ids() -> impl Iterator<Item = &'static str> + Clone {
    METRICS.iter().map(|metric| metric.id)
}

/// The same limit on each load.
fn limits(metric: &Metric, loads: &[String], bound: Bound, limit: Decimal) -> Vec<Limit> {
    let on =
        |load: &String| Limit { metric: metric.id.to_owned(), load: load.clone(), bound, limit };
    loads.iter().map(on).collect()
}
