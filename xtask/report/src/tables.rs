//! Settings side by side.

use std::collections::BTreeMap;

use bench_core::{
    metric::{self, Metric},
    schema::{Anatomy, ClassPoint, Column, Comparison, Estimate, Point},
    stats,
};
use serde::Serialize;

use super::{
    Inputs, findings,
    format::{self, DEFAULT, NOTHING},
    plots::Reference,
    provenance::distinct,
    words,
    words::note,
};
use analysis::comparison::{self, carries};
use profile::{NamedLoad, Part, Profile};

/// The baseline that holds the seed's figures.
pub const WEEK2_FILE: &str = "week2";

/// The metrics that Week 2 has figures of.
const WEEK2: [&str; 9] = [
    "queue_share",
    "queue_mean_ms",
    "e2e_mean_ms",
    "output_tokens_per_s",
    "requests_per_s",
    "e2e_p50_ms",
    "e2e_p95_ms",
    "long_e2e_p95_ms",
    "length_slowdown",
];

/// Rows that share their columns.
#[derive(Debug, Serialize)]
pub struct Grid {
    /// Those that any row has.
    columns: Vec<String>,
    has_week2: bool,
    /// Whether change, verdict and its reason follow.
    has_change: bool,
    rows: Vec<Vec<String>>,
}

/// The comparison: what matters, then the rest by load.
#[derive(Debug, Serialize)]
pub struct ComparisonView {
    main: Grid,
    rest: Vec<(String, Grid)>,
}

impl ComparisonView {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let (main, rest): (Vec<&Comparison>, Vec<&Comparison>) =
            inputs.comparison.comparisons.iter().partition(|row| is_main(inputs, row));
        let loads = distinct(rest.iter().map(|row| row.load.clone()));
        Self {
            main: grid(inputs, &main, true),
            rest: loads
                .into_iter()
                .map(|load| {
                    let rows: Vec<_> = rest.iter().copied().filter(|r| r.load == load).collect();
                    let grid = grid(inputs, &rows, false);
                    (load, grid)
                })
                .collect(),
        }
    }
}

/// Everything that tuning made worse, the objective aside.
pub fn worse(inputs: &Inputs<'_>) -> Vec<String> {
    let objective = &inputs.profile.objective;
    words::worse(&inputs.comparison.comparisons, |row| {
        row.metric == objective.metric && row.load == objective.load
    })
}

fn is_main(inputs: &Inputs<'_>, row: &Comparison) -> bool {
    let profile = inputs.profile;
    let limits = || profile.slo.iter().chain(&profile.targets);
    let is_named = |metric: &str, load: &str| row.metric == metric && row.load == load;
    is_named(&profile.objective.metric, &profile.objective.load)
        || limits().any(|limit| is_named(&limit.metric, &limit.load))
}

/// A grid of these rows; `by_load` puts the load's name above its rows.
fn grid(inputs: &Inputs<'_>, rows: &[&Comparison], by_load: bool) -> Grid {
    let columns: Vec<Column> = [Column::Week2, Column::Baseline, Column::Default, Column::Tuned]
        .into_iter()
        .filter(|column| rows.iter().any(|row| row.columns.contains_key(column)))
        .collect();
    let has_change = rows.iter().any(|row| row.change.is_some());
    let mut lines = Vec::new();
    let mut load = "";
    for row in rows {
        if by_load && row.load != load {
            load = &row.load;
            let width = columns.len() + if has_change { 3 } else { 0 };
            let blanks = std::iter::repeat_n(String::new(), width);
            lines.push(std::iter::once(format!("**`{load}`**")).chain(blanks).collect());
        }
        lines.push(line(row, &columns, has_change));
    }
    Grid {
        columns: columns.iter().map(|column| name(*column, inputs)).collect(),
        has_week2: columns.contains(&Column::Week2),
        has_change,
        rows: lines,
    }
}

fn line(row: &Comparison, columns: &[Column], has_change: bool) -> Vec<String> {
    let metric = metric::find(&row.metric);
    let mut cells = vec![format::title(metric, &row.metric)];
    cells.extend(columns.iter().map(|column| column_cell(metric, *column, row)));
    if has_change {
        let change = row.change.as_ref().map(|change| format::change(metric, change));
        cells.push(change.unwrap_or_else(|| NOTHING.to_owned()));
        cells.push(row.verdict.map_or(NOTHING, words::verdict_word).to_owned());
        cells.push(row.reason.clone());
    }
    cells
}

fn column_cell(metric: Option<&Metric>, column: Column, row: &Comparison) -> String {
    match row.columns.get(&column) {
        None => NOTHING.to_owned(),
        Some(estimate) if column == Column::Week2 => format::given(metric, estimate.mean),
        Some(estimate) => format::estimate(metric, estimate),
    }
}

/// A column's head.
pub fn name(column: Column, inputs: &Inputs<'_>) -> String {
    match column {
        Column::Week2 => format!("{} ¹", reference_name(inputs.profile)),
        Column::Baseline => "baseline".to_owned(),
        Column::Default => default_name(inputs.profile).to_owned(),
        Column::Tuned => {
            words::candidate_name(&inputs.comparison.decision).unwrap_or_default().to_owned()
        }
    }
}

/// The figures that the profile wants shown beside its own, as they are named.
pub fn reference(profile: &Profile) -> Option<Reference<'_>> {
    profile.reference.as_deref().map(|name| match name {
        WEEK2_FILE => Reference { name: "Week 2", legend: "Week 2 (other hardware and load)" },
        name => Reference { name, legend: name },
    })
}

/// Their name; no column of them is without one.
pub fn reference_name(profile: &Profile) -> &str {
    reference(profile).map_or(NOTHING, |reference| reference.name)
}

/// Name of the settings that the profile does not set: vLLM's own, or those of a server that runs
/// already.
pub fn default_name(profile: &Profile) -> &str {
    if profile.endpoint().is_some() { &profile.name } else { DEFAULT }
}

/// Limits with the figures of what is to be deployed (of the nearest setting, where none meets
/// them): metric, load, limit, found, and whether it is met.
pub fn slo(inputs: &Inputs<'_>) -> Vec<Vec<String>> {
    let limits = &inputs.comparison.decision.limits;
    limits
        .iter()
        .map(|limit| {
            let metric = metric::find(&limit.metric);
            let sign = if limit.bound == "max" { "≤" } else { "≥" };
            vec![
                format::title(metric, &limit.metric),
                format!("`{}`", limit.load),
                format!("{sign} {}", format::given(metric, limit.limit)),
                words::value(limit),
                words::marked(limit, inputs.profile).trim_start_matches("is ").to_owned(),
            ]
        })
        .collect()
}

/// The point of a column under a load.
pub fn point<'a>(inputs: &Inputs<'a>, column: Column, load: &str) -> Option<&'a Point> {
    let points = match column {
        Column::Week2 => &inputs.reference?.points,
        Column::Baseline | Column::Default => &inputs.baseline.points,
        Column::Tuned => &inputs.comprehensive?.points,
    };
    let role = comparison::role(column);
    points.iter().find(|point| point.role == role && point.load == load)
}

/// Baseline, defaults and tuned under a load: those that there are.
fn settings<'a>(inputs: &Inputs<'a>, load: &str) -> Vec<(Column, &'a Point)> {
    [Column::Baseline, Column::Default, Column::Tuned]
        .into_iter()
        .filter_map(|column| Some((column, point(inputs, column, load)?)))
        .collect()
}

/// Where a request's time goes under one load, by settings.
#[derive(Debug, Serialize)]
pub struct AnatomyView {
    load: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    moves: Vec<Move>,
}

/// From one column to the next.
#[derive(Debug, Serialize)]
struct Move {
    from: String,
    to: String,
    /// Shares before and after; empty where none moved by a percent.
    shares: String,
    /// Mean E2E before and after.
    before: String,
    after: String,
}

impl AnatomyView {
    /// Whether a finding is one of these moves in other words.
    pub fn tells(&self, finding: &str) -> bool {
        self.moves.iter().any(|m| !m.shares.is_empty() && finding.contains(&m.shares))
    }

    /// `None` when no server told.
    pub fn new(inputs: &Inputs<'_>, load: &str) -> Option<Self> {
        let told: Vec<_> = settings(inputs, load)
            .into_iter()
            .filter_map(|(column, point)| Some((name(column, inputs), point, point.anatomy?)))
            .collect();
        let (_, _, first) = told.first()?;
        let part = |name: &str, index: usize| {
            let cells = told.iter().map(|(_, point, anatomy)| {
                let share = findings::share(point, name);
                let ms = share
                    .as_ref()
                    .zip(point.metrics.get("e2e_mean_ms"))
                    .and_then(|(share, e2e)| stats::of_both(share, e2e, |share, ms| share * ms));
                let ms = match ms {
                    Some(ms) => format::estimate(metric::find("e2e_mean_ms"), &ms),
                    None => format::ms(anatomy.parts()[index].1),
                };
                let share =
                    share.map_or(format::NOTHING.to_owned(), |share| findings::percent(&share));
                format!("{ms} ({share})")
            });
            std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
        };
        let parts = first.parts();
        let mut rows: Vec<_> = (0..parts.len()).map(|i| part(parts[i].0, i)).collect();
        let e2e = |point: &Point, anatomy: &Anatomy| match point.metrics.get("e2e_mean_ms") {
            Some(mean) => format::estimate(metric::find("e2e_mean_ms"), mean),
            None => format::ms(anatomy.e2e_ms()),
        };
        let total = told.iter().map(|(_, point, anatomy)| format!("**{}**", e2e(point, anatomy)));
        rows.push(std::iter::once("**mean E2E**".to_owned()).chain(total).collect());
        let moves = told.windows(2).map(|pair| {
            let [(from, before, anatomy), (to, after, anatomy_after)] = pair else {
                unreachable!("windows of two")
            };
            let has_moved = findings::has_moved(before, after);
            Move {
                from: from.clone(),
                to: to.clone(),
                shares: if has_moved {
                    findings::where_time_went(before, after)
                } else {
                    String::new()
                },
                before: e2e(before, anatomy),
                after: e2e(after, anatomy_after),
            }
        });
        Some(Self {
            load: load.to_owned(),
            columns: told.iter().map(|(name, ..)| name.clone()).collect(),
            moves: moves.collect(),
            rows,
        })
    }
}

/// A part of the comprehensive benchmark.
#[derive(Debug, Serialize)]
pub struct PartView {
    /// Its name in profiles.
    name: &'static str,
    loads: Vec<PartLoad>,
}

#[derive(Debug, Serialize)]
struct PartLoad {
    name: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Class, settings, mean, P50, P95, P95/P50, slowdown against the first class.
    classes: Vec<Vec<String>>,
    /// Settings and what a reader must know of them.
    notes: Vec<[String; 2]>,
}

impl PartView {
    pub fn new(inputs: &Inputs<'_>, part: Part) -> Self {
        let loads = inputs.profile.loads.iter().filter(|load| load.part == Some(part));
        let loads = loads.filter_map(|load| PartLoad::new(inputs, part, load));
        Self { name: part.name(), loads: loads.collect() }
    }
}

impl PartLoad {
    fn new(inputs: &Inputs<'_>, part: Part, load: &NamedLoad) -> Option<Self> {
        let settings = settings(inputs, &load.name);
        if settings.is_empty() {
            return None;
        }
        let row = |id: &&str| {
            let metric = metric::find(id);
            if !metric.is_some_and(|metric| carries(load, None, metric)) {
                return None;
            }
            let figure = |estimate: &Estimate| format::estimate(metric, estimate);
            let figures: Vec<_> =
                settings.iter().map(|(_, point)| point.metrics.get(*id).map(figure)).collect();
            figures.iter().any(Option::is_some).then(|| {
                let cells = figures.into_iter().map(|f| f.unwrap_or_else(|| NOTHING.to_owned()));
                std::iter::once(format::title(metric, id)).chain(cells).collect()
            })
        };
        let name = |column: &Column| name(*column, inputs);
        let notes = settings.iter().map(|(column, point)| [name(column), note(point)]);
        Some(Self {
            name: load.name.clone(),
            columns: settings.iter().map(|(column, _)| name(column)).collect(),
            rows: part_metrics(part).iter().filter_map(row).collect(),
            classes: classes(inputs, &settings, load),
            notes: notes.filter(|[_, note]| !note.is_empty()).collect(),
        })
    }
}

fn part_metrics(part: Part) -> &'static [&'static str] {
    match part {
        Part::Latency => &[
            "ttft_p50_ms",
            "ttft_p95_ms",
            "ttft_p99_ms",
            "tpot_p50_ms",
            "tpot_p95_ms",
            "e2e_p50_ms",
            "e2e_p95_ms",
            "e2e_p99_ms",
        ],
        Part::Throughput => &[
            "output_tokens_per_s",
            "steady_output_tokens_per_s",
            "requests_per_s",
            "queue_share",
            "front_end_share",
            "kv_cache_percent_max",
            "preemptions",
        ],
        Part::Production => &[
            "requests_per_s",
            "goodput_requests_per_s",
            "output_tokens_per_s",
            "ttft_p95_ms",
            "tpot_p95_ms",
            "e2e_p50_ms",
            "e2e_p95_ms",
            "e2e_p95_over_p50",
            "queue_share",
            "failed_share",
        ],
        Part::SequenceLength => &["long_e2e_p95_ms", "length_slowdown"],
    }
}

/// A row for each class and settings, on loads with two classes or more.
fn classes(
    inputs: &Inputs<'_>,
    settings: &[(Column, &Point)],
    load: &NamedLoad,
) -> Vec<Vec<String>> {
    let names = &load.spec.classes;
    if names.len() < 2 {
        return Vec::new();
    }
    let find =
        |point: &Point, name: &str| point.classes.iter().find(|class| class.name == name).cloned();
    let mut rows = Vec::new();
    for class in names {
        for (column, point) in settings {
            if let Some(found) = find(point, &class.name) {
                let shortest = find(point, &names[0].name);
                let name = name(*column, inputs);
                rows.push(class_row(&found, shortest.as_ref(), &name, load));
            }
        }
    }
    rows
}

fn class_row(
    class: &ClassPoint,
    shortest: Option<&ClassPoint>,
    column: &str,
    load: &NamedLoad,
) -> Vec<String> {
    // What the class is too small for is not shown.
    let of_class = |id: &str| {
        let metric = metric::find(id)?;
        class.metrics.get(id).filter(|_| carries(load, Some(&class.name), metric))
    };
    let figure = |id: &str| {
        let estimate = of_class(id);
        estimate.map_or_else(|| NOTHING.into(), |e| format::estimate(metric::find(id), e))
    };
    let ratio = |above: Option<&Estimate>, below: Option<&Estimate>| {
        let ratio = above
            .zip(below)
            .and_then(|(above, below)| stats::of_both(above, below, |above, below| above / below));
        match ratio {
            Some(ratio) if ratio.mean.is_finite() => {
                format::estimate(metric::find("length_slowdown"), &ratio)
            }
            _ => NOTHING.to_owned(),
        }
    };
    vec![
        class.name.clone(),
        column.to_owned(),
        figure("e2e_mean_ms"),
        figure("e2e_p50_ms"),
        figure("e2e_p95_ms"),
        ratio(of_class("e2e_p95_ms"), of_class("e2e_p50_ms")),
        ratio(
            class.metrics.get("e2e_mean_ms"),
            shortest.and_then(|shortest| shortest.metrics.get("e2e_mean_ms")),
        ),
    ]
}

/// A metric of the Week 2 figures, there and here, for sentences; [`NOTHING`] where a figure is
/// not known.
#[derive(Debug, Serialize)]
pub struct Figures {
    week2: String,
    default: String,
    tuned: String,
    /// Load of the figures here.
    load: String,
}

impl Figures {
    pub fn all(inputs: &Inputs<'_>) -> BTreeMap<&'static str, Self> {
        WEEK2.into_iter().map(|id| (id, Self::new(inputs, id))).collect()
    }

    fn new(inputs: &Inputs<'_>, id: &str) -> Self {
        let metric = metric::find(id);
        let rows = || inputs.comparison.comparisons.iter().filter(|row| row.metric == id);
        // The row that stands beside the Week 2 figure is the one that answers to it.
        let beside = rows().find(|row| row.columns.contains_key(&Column::Week2));
        let row = beside.or_else(|| rows().next());
        let cell = |column| row.map_or_else(|| NOTHING.into(), |r| column_cell(metric, column, r));
        let reference = inputs.reference.and_then(|file| file.points.first());
        let week2 = reference.and_then(|point| point.mean(id));
        Self {
            week2: week2.map_or_else(|| NOTHING.to_owned(), |mean| format::given(metric, mean)),
            default: cell(Column::Default),
            tuned: cell(Column::Tuned),
            load: row.map_or_else(String::new, |row| row.load.clone()),
        }
    }
}
