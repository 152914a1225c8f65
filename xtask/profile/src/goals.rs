//! `[objective]`, `[slo]`, `[targets]` and `[compare]`: what "best" means, what it must keep, what is
//! hoped for, and how much of a change anybody cares for.

use std::collections::BTreeMap;

use bench_core::{
    decimal::Decimal,
    metric::{self, Direction, METRICS, Metric},
};

use super::{
    diagnostic::{Diagnostic, suggest},
    load::Loads,
    read::{Item, Problems, Table},
    resolved::{Bound, Limit, Objective},
};

/// A change of half the value is worth having, whatever the profile says.
const MARGIN_PERCENT_MAX: i64 = 50;

/// What goals are read against.
pub(super) struct Goals<'a> {
    pub(super) problems: &'a Problems,
    pub(super) loads: &'a Loads,
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

    /// Reads `[slo]` or `[targets]`: METRIC = N on the table's load, or a table of its own.
    pub(super) fn limits(&self, mut table: Table<'_>) -> Vec<Limit> {
        let title = table.title.clone();
        let on = table.get("on").map(|on| self.loads.name(&on));
        let mut limits = Vec::new();
        for item in table.rest() {
            if let Some(metric) = self.key(&item, &title) {
                limits.extend(self.limit(metric, &item, on.as_ref()));
            }
        }
        limits
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

    fn limit(
        &self,
        metric: &Metric,
        item: &Item<'_>,
        on: Option<&Option<String>>,
    ) -> Option<Limit> {
        let natural = match metric.direction {
            Direction::Higher => Some(Bound::Min),
            Direction::Lower => Some(Bound::Max),
            Direction::Neither => None,
        };
        let (bound, limit, own_load) = if item.is_table() {
            let mut table = item.table(format!("`{}`", metric.id))?;
            let (max, min) = (table.get("max"), table.get("min"));
            let own_load = table.get("on").map(|on| self.loads.name(&on));
            table.finish(|_| None);
            let (bound, limit) = match (max, min) {
                (Some(limit), None) => (Bound::Max, limit),
                (None, Some(limit)) => (Bound::Min, limit),
                _ => {
                    item.report(
                        format!("the limit on `{}` has one side", metric.id),
                        "expected either max = N or min = N",
                    );
                    return None;
                }
            };
            if natural.is_some_and(|natural| natural != bound) {
                let (better, right) =
                    if bound == Bound::Max { ("more", "min") } else { ("less", "max") };
                self.problems.report(Diagnostic::new(
                    format!("{better} of `{}` is better", metric.id),
                    limit.key.span,
                    format!("did you mean `{right}`?"),
                ));
                return None;
            }
            (bound, limit, own_load)
        } else if let Some(bound) = natural {
            (bound, item.clone(), None)
        } else {
            item.report(
                format!("neither more nor less of `{}` is better", metric.id),
                "say which: { max = N } or { min = N }",
            );
            return None;
        };
        let limit = self.amount(metric, &limit)?;
        let load = match own_load.or_else(|| on.cloned()) {
            Some(load) => load?,
            None => self.only_load(metric, item)?,
        };
        self.measurable(metric, &load, item)?;
        Some(Limit { metric: metric.id.to_owned(), load, bound, limit })
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
        } else if starts(&["ttft_", "tpot_", "itl_"]) && !spec.request.stream {
            Some("without streaming a client sees no single token")
        } else if starts(&["tpot_", "itl_"]) && one_token {
            Some("with one token of output there is no gap between tokens")
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
