//! One sweep: the objective over its values, and what explains it.

use bench_core::schema::{Estimate, Point, Role, SettingFailure, SweepResult};
use plotters::style::{Color, RGBColor};

use super::{
    Inputs,
    canvas::{Anchor, Canvas, Rect, Shape},
    configurations::REFERENCE_KEY,
    data::{Figure, Measure, lower_first, spread, sweep_loads},
    number,
    panel::{Frame, Key, Panel, SATURATED, TARGET, X_LINES, legend, page, x_lines},
    scale::Scale,
    style::{BAND, BLUE, CONFIGURATIONS, FRONT_END, INK, PAPER, QUEUE, SERIES, label, small},
};
use crate::distinct;

/// From this ratio of largest to smallest on, values are drawn on a logarithmic axis.
const LOG_RATIO: f64 = 6.0;
/// The KV cache is shown where it differs this much between values.
const KV_RATIO: f64 = 1.1;

/// A configuration's figure further from the sweep's than this ratio is not drawn beside them.
const NEAR: f64 = 2.0;

/// One value of the sweep.
struct Value<'a> {
    label: &'a str,
    /// Where it lies on the horizontal axis, from 0 to 1.
    at: f64,
    points: Vec<&'a Point>,
}

impl<'a> Value<'a> {
    fn point(&self, load: &str) -> Option<&'a Point> {
        self.points.iter().copied().find(|point| point.load == load)
    }

    fn failure(&self) -> Option<String> {
        self.points.iter().find_map(|p| p.failure.as_ref()).map(SettingFailure::title)
    }
}

/// A sweep with its values laid out along the horizontal axis.
struct Layout<'a> {
    values: Vec<Value<'a>>,
    /// Whether the horizontal axis is one of numbers.
    numeric: bool,
    x_title: String,
    chosen: Option<&'a str>,
    /// Whether the sweep is about the share of memory.
    has_memory: bool,
    /// Whether the sweep is about the size of a step.
    has_chunks: bool,
    /// The value that is vLLM's default, where the arguments of the default name it.
    default: Option<&'a str>,
}

/// A horizontal line across a panel, with its interval where it has one.
struct Reference {
    figure: Figure,
    key: Key,
    name: String,
}

impl Reference {
    fn exact(value: f64, key: Key, name: String) -> Self {
        Self { figure: Figure { mean: value, interval: None }, key, name }
    }
}

/// Horizontal lines across a panel, each with its name.
struct References<'t> {
    lines: &'t [Reference],
    /// Whether the panel's own legend names them.
    named: bool,
}

/// Title of an axis of shares, which starts at 0 and is never logarithmic.
const SHARE: &str = "share (%)";

const NO_REFERENCES: References<'static> = References { lines: &[], named: false };

/// A line of a panel: one figure a value, and whether its load was above capacity.
struct Series {
    name: String,
    color: RGBColor,
    shape: Shape,
    figures: Vec<Option<(Figure, bool)>>,
}

pub(super) fn draw(inputs: &Inputs<'_>, sweep: &SweepResult) -> String {
    let loads = sweep_loads(sweep);
    let load = loads.iter().find(|load| **load == inputs.objective_load).or(loads.first());
    let load = load.copied().unwrap_or_default();
    let layout = Layout::new(inputs, sweep);
    let metric = objective_metric(inputs, sweep, load);
    let measure = Measure::over(metric, sweep.points.iter().filter(|point| point.load == load));
    let title = format!(
        "Sweep {}: {} and what explains it",
        sweep.header.stage,
        lower_first(measure.title)
    );
    let subtitle = format!("{} · load {load}, {}", inputs.engine(), spread(&sweep.points));
    page((1200, 750), &title, &subtitle, |canvas, body| {
        let objective =
            layout.series("measured", BLUE, 0, |value| at(value, load, metric, measure.factor));
        let references = references(inputs, &objective, (metric, load), measure);
        let top = body.top + legend(canvas, body, &keys(&layout, &references)) + 12;
        let middle = top + (body.bottom - top) / 2;
        let cell = Rect { top, bottom: middle - 8, ..body };
        let lines = References { lines: &references, named: false };
        layout.lines(canvas, cell, (measure.title, &measure.axis()), &[objective], &lines);
        explain(inputs, canvas, Rect { top: middle + 8, ..body }, &layout, &loads, load);
    })
}

/// The objective's metric where the sweep measured it, else throughput or latency.
fn objective_metric<'t>(inputs: &Inputs<'t>, sweep: &SweepResult, load: &str) -> &'t str {
    let points = || sweep.points.iter().filter(|point| point.load == load);
    let measured = |metric: &&str| points().any(|point| Figure::at(point, metric, 1.0).is_some());
    [inputs.objective_metric, "output_tokens_per_s", "e2e_p95_ms"]
        .into_iter()
        .find(measured)
        .unwrap_or(inputs.objective_metric)
}

fn at(value: &Value<'_>, load: &str, metric: &str, factor: f64) -> Option<(Figure, bool)> {
    let point = value.point(load)?;
    Some((Figure::at(point, metric, factor)?, point.saturated))
}

/// The figures of baseline and default, where they are near enough to share an axis.
fn references(
    inputs: &Inputs<'_>,
    objective: &Series,
    (metric, load): (&str, &str),
    measure: Measure,
) -> Vec<Reference> {
    let means = || objective.figures.iter().flatten().map(|(figure, _)| figure.mean);
    let (low, high) = (means().reduce(f64::min), means().reduce(f64::max));
    let near = |mean: f64| {
        low.is_none_or(|low| mean >= low / NEAR) && high.is_none_or(|high| mean <= high * NEAR)
    };
    CONFIGURATIONS
        .iter()
        .filter(|(role, ..)| *role != Role::Tuned)
        .filter_map(|(role, color)| {
            let figure = Figure::at(inputs.point(*role, load)?, metric, measure.factor)?;
            let name = inputs.name(*role);
            let name = format!("{name}: {} {}", number::figure(figure.mean), measure.unit);
            near(figure.mean).then_some(Reference { figure, key: Key::Dashes(*color), name })
        })
        .collect()
}

fn keys(layout: &Layout<'_>, references: &[Reference]) -> Vec<(Key, String)> {
    let mut keys: Vec<(Key, String)> =
        references.iter().map(|line| (line.key, line.name.clone())).collect();
    let has_band = |chosen: &&str| layout.values.iter().any(|value| value.label == *chosen);
    if let Some(chosen) = layout.chosen.filter(has_band) {
        keys.push((Key::Band, format!("chosen: {chosen}")));
    }
    if layout.values.iter().any(|value| value.failure().is_some()) {
        keys.push((Key::Cross, "cannot run".to_owned()));
    }
    if layout.values.iter().any(|value| value.points.iter().any(|point| point.saturated)) {
        keys.push((Key::Hollow, SATURATED.to_owned()));
    }
    keys
}

/// The panels below the objective: shares of the time, what long prompts do to others where the sweep
/// measured that, else tail latency (of shares of memory the mean), and the KV cache where it differs.
fn explain(
    inputs: &Inputs<'_>,
    canvas: &Canvas<'_>,
    body: Rect,
    layout: &Layout<'_>,
    loads: &[&str],
    load: &str,
) {
    let has_stalls = |load: &&&str| {
        layout.values.iter().any(|value| at(value, load, "stall_p99_ms", 1.0).is_some())
    };
    let mixed = loads.iter().find(has_stalls).filter(|_| layout.has_chunks);
    let kv = kv_cache(layout, load).filter(|_| mixed.is_none() && layout.numeric);
    let panels = if kv.is_some() || mixed.is_some() { 3 } else { 2 };
    let cell = |i| body.column(i, panels, 32);
    shares(inputs, canvas, cell(0), layout, loads, load);
    if let Some(load) = mixed {
        prompts(inputs, canvas, [cell(1), cell(2)], layout, load);
        return;
    }
    if layout.has_memory {
        mean(inputs, canvas, cell(1), layout, loads, load);
    } else {
        tail(inputs, canvas, cell(1), layout, loads);
    }
    if let Some(series) = kv {
        layout.lines(canvas, cell(2), ("KV cache", "million tokens"), &[series], &NO_REFERENCES);
    }
}

/// Shares of queue and front end: on the load of the target on the queue's share, with the target
/// and the reference's figure, where the sweep has that load.
fn shares(
    inputs: &Inputs<'_>,
    canvas: &Canvas<'_>,
    cell: Rect,
    layout: &Layout<'_>,
    loads: &[&str],
    load: &str,
) {
    const QUEUE_SHARE: &str = "queue_share";
    let of_target = loads.iter().find(|load| inputs.target(QUEUE_SHARE, load, 1.0).is_some());
    let load = of_target.copied().unwrap_or(load);
    let parts = [("queue", QUEUE, QUEUE_SHARE), ("front end", FRONT_END, "front_end_share")];
    let series: Vec<Series> = parts
        .into_iter()
        .enumerate()
        .map(|(i, (name, color, metric))| {
            layout.series(name, color, i, |value| at(value, load, metric, 100.0))
        })
        .collect();
    let target = inputs.target(QUEUE_SHARE, load, 100.0);
    let target = target.map(|limit| Reference::exact(limit, TARGET, "target".to_owned()));
    let referred = inputs.reference.zip(inputs.referred(QUEUE_SHARE, load, 100.0));
    let referred = referred
        .map(|(found, share)| Reference::exact(share, REFERENCE_KEY, found.name.to_owned()));
    let lines: Vec<Reference> = target.into_iter().chain(referred).collect();
    let references = References { lines: &lines, named: true };
    let title = format!("Share of mean E2E, load {load}");
    layout.lines(canvas, cell, (&title, SHARE), &series, &references);
}

/// TTFT of short and of long prompts, and what a long prompt does to those that decode, beside the defaults'.
fn prompts(
    inputs: &Inputs<'_>,
    canvas: &Canvas<'_>,
    cells: [Rect; 2],
    layout: &Layout<'_>,
    load: &str,
) {
    let panel = |cell: Rect, title: &str, lines: &[(&str, RGBColor, &str)]| {
        let series: Vec<Series> = lines
            .iter()
            .enumerate()
            .map(|(i, (name, color, metric))| {
                layout.series(name, *color, i, |value| at(value, load, metric, 1.0))
            })
            .collect();
        let defaults = lines.iter().filter_map(|(name, color, metric)| {
            let figure = Figure::at(inputs.point(Role::Default, load)?, metric, 1.0)?;
            Some(Reference::exact(figure.mean, Key::Dashes(*color), format!("{name}, default")))
        });
        let defaults: Vec<Reference> = defaults.collect();
        let references = References { lines: &defaults, named: true };
        layout.lines(canvas, cell, (title, "latency (ms)"), &series, &references);
    };
    let ttft = [
        ("short", SERIES[0], "short_ttft_p95_ms"),
        ("1,000 tokens on", SERIES[1], "long_ttft_p95_ms"),
    ];
    panel(cells[0], &format!("TTFT P95 by prompt, load {load}"), &ttft);
    let stall = [("stall", SERIES[4], "stall_p99_ms")];
    panel(cells[1], "ITL P99 while a long prompt waits", &stall);
}

/// Mean E2E, on the load of the limits where the sweep has it.
fn mean(
    inputs: &Inputs<'_>,
    canvas: &Canvas<'_>,
    cell: Rect,
    layout: &Layout<'_>,
    loads: &[&str],
    load: &str,
) {
    const MEAN: &str = "e2e_mean_ms";
    let load = loads.iter().find(|load| **load == inputs.latency_load).copied().unwrap_or(load);
    let points = layout.values.iter().filter_map(|value| value.point(load));
    let measure = Measure::over(MEAN, points);
    let series = layout.series("mean E2E", BLUE, 0, |value| at(value, load, MEAN, measure.factor));
    let title = format!("Mean E2E, load {load}");
    layout.lines(canvas, cell, (&title, &measure.axis()), &[series], &NO_REFERENCES);
}

fn kv_cache(layout: &Layout<'_>, load: &str) -> Option<Series> {
    let series =
        layout.series("KV cache", SERIES[2], 2, |value| at(value, load, "kv_cache_tokens", 1e-6));
    let sizes = || series.figures.iter().flatten().map(|(figure, _)| figure.mean);
    let (low, high) = (sizes().reduce(f64::min)?, sizes().reduce(f64::max)?);
    (high > low * KV_RATIO).then_some(series)
}

/// Where the figures of a line of tail latencies are.
struct Source<'t> {
    load: &'t str,
    class: Option<&'t str>,
}

impl Source<'_> {
    const METRIC: &'static str = "e2e_p95_ms";

    fn estimate<'p>(&self, value: &Value<'p>) -> Option<(&'p Estimate, bool)> {
        let point = value.point(self.load)?;
        let metrics = match self.class {
            Some(name) => &point.classes.iter().find(|class| class.name == name)?.metrics,
            None => &point.metrics,
        };
        Some((metrics.get(Self::METRIC)?, point.saturated))
    }
}

/// E2E P95: by class where a load of the sweep mixes several, else by load.
fn tail(inputs: &Inputs<'_>, canvas: &Canvas<'_>, cell: Rect, layout: &Layout<'_>, loads: &[&str]) {
    let points = layout.values.iter().flat_map(|value| &value.points);
    let mixed = points.filter(|p| p.classes.len() > 1).max_by_key(|p| p.classes.len());
    let (title, sources): (String, Vec<Source<'_>>) = match mixed {
        Some(point) => {
            let of = |class| Source { load: &point.load, class: Some(class) };
            let sources = point.classes.iter().map(|class| of(&class.name)).collect();
            (format!("E2E P95 by class of load {}", point.load), sources)
        }
        None => {
            let sources = loads.iter().map(|load| Source { load, class: None }).collect();
            ("E2E P95 by load".to_owned(), sources)
        }
    };
    let estimates = sources
        .iter()
        .flat_map(|source| layout.values.iter().filter_map(|value| source.estimate(value)));
    let largest = estimates.map(|(estimate, _)| estimate.mean).fold(0.0, f64::max);
    let measure = Measure::of(Source::METRIC, largest);
    let series: Vec<Series> = sources
        .iter()
        .zip(SERIES)
        .enumerate()
        .map(|(i, (source, color))| {
            layout.series(source.class.unwrap_or(source.load), color, i, |value| {
                let (estimate, saturated) = source.estimate(value)?;
                Some((Figure::of(estimate, measure.factor)?, saturated))
            })
        })
        .collect();
    let target = sources.last().and_then(|longest| target(inputs, longest, measure));
    let lines = References { lines: target.as_slice(), named: true };
    layout.lines(canvas, cell, (&title, &measure.axis()), &series, &lines);
}

/// The profile's target for the longest class of a load.
fn target(inputs: &Inputs<'_>, longest: &Source<'_>, measure: Measure) -> Option<Reference> {
    let class = longest.class?;
    let limit = inputs.target("long_e2e_p95_ms", longest.load, measure.factor)?;
    Some(Reference::exact(limit, TARGET, format!("target, {class}")))
}

impl<'a> Layout<'a> {
    fn new(inputs: &Inputs<'_>, sweep: &'a SweepResult) -> Self {
        let flag = &*sweep.flag;
        let labels = distinct(sweep.points.iter().map(|point| point.label.as_str()));
        let of = |label: &str| sweep.points.iter().filter(|p| p.label == label).collect::<Vec<_>>();
        let number =
            |point: &Point| Some(point.args.get(flag)?.as_f64()?).filter(|n| n.is_finite());
        let numbers: Option<Vec<f64>> =
            labels.iter().map(|label| number(of(label).first()?)).collect();
        let positions = numbers.as_deref().filter(|all| are_distinct(all)).map(positions);
        let slots = labels.len().max(1) as f64;
        let mut values: Vec<Value<'_>> = labels
            .iter()
            .enumerate()
            .map(|(i, label)| {
                let at = positions.as_ref().map_or((i as f64 + 0.5) / slots, |all| all[i]);
                Value { label, at, points: of(label) }
            })
            .collect();
        values.sort_by(|a, b| a.at.total_cmp(&b.at));
        let default = inputs.configurations().find(|point| point.role == Role::Default);
        let default = default.and_then(|point| point.args.get(flag)).and_then(|default| {
            sweep.points.iter().find(|point| point.args.get(flag) == Some(default))
        });
        Self {
            values,
            has_memory: flag == "gpu-memory-utilization",
            has_chunks: flag == "max-num-batched-tokens",
            numeric: positions.is_some(),
            x_title: if positions.is_some() {
                with_unit(flag)
            } else {
                format!("setting ({flag})")
            },
            chosen: sweep.choice.as_ref().map(|choice| choice.label.as_str()),
            default: default.map(|point| point.label.as_str()),
        }
    }

    fn series(
        &self,
        name: &str,
        color: RGBColor,
        index: usize,
        figure: impl Fn(&Value<'_>) -> Option<(Figure, bool)>,
    ) -> Series {
        let figures = self.values.iter().map(figure).collect();
        Series { name: name.to_owned(), color, shape: Shape::of(index), figures }
    }

    /// A panel of lines over the values. A single series shows its figures.
    fn lines(
        &self,
        canvas: &Canvas<'_>,
        cell: Rect,
        (title, y_title): (&str, &str),
        series: &[Series],
        references: &References<'_>,
    ) {
        let figures = || series.iter().flat_map(|series| &series.figures).flatten();
        let mut values: Vec<f64> = figures().flat_map(|(figure, _)| figure.values()).collect();
        values.extend(references.lines.iter().flat_map(|line| line.figure.values()));
        let labels: Vec<&str> = self.values.iter().map(|value| value.label).collect();
        let lines = if self.numeric { 1 } else { x_lines(cell, &labels) };
        let frame = Frame {
            title,
            y_title,
            x_title: &self.x_title,
            x_lines: lines + 1,
            legend: &self.panel_keys(series, references),
        };
        let scale = if y_title == SHARE {
            Scale::around(&values, true, 0.08)
        } else if series.len() == 1 {
            Scale::around(&values, false, 0.14)
        } else {
            Scale::fitting(&values, 0.08)
        };
        let panel = Panel::new(canvas, cell, &frame, scale);
        self.band(&panel);
        for line in references.lines {
            let across = (panel.plot.left, panel.plot.right);
            if let (Key::Dashes(color), Some((low, high))) = (line.key, line.figure.interval) {
                let (top, bottom) = (panel.y(high), panel.y(low));
                let band = Rect { top, bottom: bottom.max(top + 1), ..panel.plot };
                canvas.fill(band, color.mix(0.2));
            }
            panel.reference(across, line.figure.mean, line.key);
        }
        self.x_labels(&panel);
        self.failures(&panel);
        if figures().next().is_none() {
            panel.empty();
        }
        for line in series {
            self.line(&panel, line, y_title);
        }
        if let [only] = series {
            self.figures(&panel, only);
        }
    }

    fn panel_keys(&self, series: &[Series], references: &References<'_>) -> Vec<(Key, String)> {
        let key = |s: &Series| match self.numeric {
            true => Key::Line(s.color, s.shape),
            false => Key::Mark(s.color, s.shape),
        };
        let several = series.iter().filter(|_| series.len() > 1);
        let named = references.lines.iter().filter(|_| references.named);
        several
            .map(|series| (key(series), series.name.clone()))
            .chain(named.map(|line| (line.key, line.name.clone())))
            .collect()
    }

    fn x(&self, panel: &Panel<'_, '_>, value: &Value<'_>) -> i32 {
        let edge = if self.numeric { 40 } else { 0 };
        let width = f64::from(panel.plot.width() - 2 * edge);
        panel.plot.left + edge + libm::round(value.at * width) as i32
    }

    fn band(&self, panel: &Panel<'_, '_>) {
        for value in self.values.iter().filter(|value| self.chosen == Some(value.label)) {
            let x = self.x(panel, value);
            let band = Rect { left: x - 9, right: x + 9, ..panel.plot };
            panel.canvas.fill(band, BAND);
        }
    }

    /// Values that cannot run, each with its reason unless its neighbour has that place.
    fn failures(&self, panel: &Panel<'_, '_>) {
        let mut free = panel.plot.left;
        for value in &self.values {
            let Some(why) = value.failure() else { continue };
            let x = self.x(panel, value);
            panel.failed(
                Rect { left: x, right: x, ..panel.plot },
                if x >= free { &why } else { "" },
            );
            free = free.max(x + 16);
        }
    }

    /// Labels of the values, those that matter first, as far as they do not overlap.
    fn x_labels(&self, panel: &Panel<'_, '_>) {
        let how = label(Anchor::Middle);
        let width = if self.numeric {
            90
        } else {
            panel.plot.width() / self.values.len().max(1) as i32 - 6
        };
        let mut taken: Vec<Rect> = Vec::new();
        for value in self.by_weight() {
            let note = match (self.chosen == Some(value.label), self.default == Some(value.label)) {
                (true, true) => "chosen, default",
                (true, false) => "chosen",
                (false, true) => "default",
                (false, false) => "",
            };
            let mut lines = how.wrap(value.label, width, if self.numeric { 1 } else { X_LINES });
            let note = format!("({note})");
            // Where a slot is too narrow for the note, the band says it alone.
            if note.len() > 2 && (self.numeric || how.width(&note) <= width) {
                lines.push(note);
            }
            let x = self.x(panel, value);
            let bottom = panel.plot.bottom;
            panel.canvas.line(&[(x, bottom), (x, bottom + 4)], INK, 1);
            let half = lines.iter().map(|line| how.width(line)).max().unwrap_or_default() / 2 + 3;
            let height = lines.len() as i32;
            let rect = |row: i32| Rect::new(x - half, 2 * row, x + half, 2 * (row + height) - 1);
            // Where neighbours are too close, a line further down.
            let free = |row: &i32| !taken.iter().any(|other| other.overlaps(&rect(*row)));
            if let Some(row) = [0, 1].into_iter().find(free) {
                taken.push(rect(row));
                lines.splice(0..0, (0..row).map(|_| String::new()));
                panel.x_label(x, width.max(2 * half), &lines);
            }
        }
    }

    /// The values: the chosen one, the default, then the others in order.
    fn by_weight(&self) -> Vec<&Value<'a>> {
        let mut values: Vec<&Value<'_>> = self.values.iter().collect();
        values.sort_by_key(|value| {
            (self.chosen != Some(value.label), self.default != Some(value.label))
        });
        values
    }

    fn line(&self, panel: &Panel<'_, '_>, series: &Series, y_title: &str) {
        let places = self.values.iter().zip(&series.figures);
        let places: Vec<Option<(&str, i32, &Figure, bool)>> = places
            .map(|(value, figure)| {
                let (figure, hollow) = figure.as_ref()?;
                Some((value.label, self.x(panel, value), figure, *hollow))
            })
            .collect();
        if self.numeric {
            for run in places.split(Option::is_none).filter(|run| run.len() > 1) {
                let points: Vec<(i32, i32)> = run
                    .iter()
                    .flatten()
                    .map(|(_, x, figure, _)| (*x, panel.y(figure.mean)))
                    .collect();
                panel.canvas.line(&points, series.color, 2);
            }
        }
        for (label, x, figure, hollow) in places.into_iter().flatten() {
            let at = (x, panel.y(figure.mean));
            panel.interval(x, figure);
            panel.canvas.mark(at, series.shape, series.color, hollow);
            let figure = figure.words("");
            panel.tell(at, &format!("{label}, {}: {figure}, {y_title}", series.name));
        }
    }

    /// The figures of a series beside its marks, as far as they do not overlap.
    fn figures(&self, panel: &Panel<'_, '_>, series: &Series) {
        let how = small(Anchor::Middle);
        let marks = self.values.iter().zip(&series.figures).filter_map(|(value, figure)| {
            let (x, (figure, _)) = (self.x(panel, value), figure.as_ref()?);
            let y = panel.y(figure.mean);
            Some(Rect::new(x - 7, y.min(panel.y(figure.top())) - 2, x + 7, y + 7))
        });
        let mut taken: Vec<Rect> = marks.collect();
        for value in self.by_weight() {
            let index = self.values.iter().position(|other| other.label == value.label);
            let Some((figure, _)) = index.and_then(|i| series.figures[i]) else { continue };
            let text = number::figure(figure.mean);
            let (x, y) = (self.x(panel, value), panel.y(figure.top()) - 16);
            let half = how.width(&text) / 2 + 2;
            let rect = Rect::new(x - half, y - 7, x + half, y + 7);
            if rect.top >= panel.plot.top - 8 && !taken.iter().any(|other| other.overlaps(&rect)) {
                taken.push(rect);
                if self.chosen != Some(value.label) {
                    panel.canvas.fill(rect, PAPER.mix(0.75));
                }
                panel.canvas.text(&text, (x, y), how);
            }
        }
    }
}

fn are_distinct(numbers: &[f64]) -> bool {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.windows(2).all(|pair| pair[0] < pair[1])
}

/// Where numbers lie between the smallest at 0 and the largest at 1.
fn positions(numbers: &[f64]) -> Vec<f64> {
    let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = low > 0.0 && high / low >= LOG_RATIO;
    let place = |number: f64| if log { libm::log(number) } else { number };
    let span = place(high) - place(low);
    let share = |number: &f64| if span > 0.0 { (place(*number) - place(low)) / span } else { 0.5 };
    numbers.iter().map(share).collect()
}

/// The flag with the unit of its values, where that is known.
fn with_unit(flag: &str) -> String {
    match flag {
        "max-num-seqs" => format!("{flag} (sequences)"),
        "max-num-batched-tokens" | "long-prefill-token-threshold" => {
            format!("{flag} (tokens a step)")
        }
        "gpu-memory-utilization" => format!("{flag} (share of GPU memory)"),
        "max-model-len" | "block-size" => format!("{flag} (tokens)"),
        "api-server-count" => format!("{flag} (processes)"),
        _ => flag.to_owned(),
    }
}
