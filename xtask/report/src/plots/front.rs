//! Throughput against latency: every configuration, and those that none beats in both.

use bench_core::schema::{ComprehensiveResult, Role, SweepResult};
use plotters::style::RGBColor;

use super::{
    Inputs,
    canvas::{Anchor, Canvas, Rect, Shape},
    data::{Figure, Measure},
    panel::{Frame, Key, Panel, page},
    scale::Scale,
    style::{
        BLUE, CONFIGURATIONS, FAINT_GREY, FAINT_INK, GRID, INK, LINE, NAMES, PAPER, VERMILLION,
        faint, label,
    },
};
use analysis::pareto::{Candidate, Front};

/// Beyond this multiple of the best, in either, a configuration is named and not drawn: it would
/// press all others into a corner.
const FAR: f64 = 2.5;

/// A configuration to draw.
struct Dot<'a> {
    candidate: &'a Candidate,
    throughput: Figure,
    latency: Figure,
}

pub(super) fn draw(inputs: &Inputs<'_>) -> String {
    let judged = inputs.comprehensive.map(ComprehensiveResult::measured);
    let sweeps = inputs.sweeps.iter().map(SweepResult::measured);
    let files = judged.into_iter().chain([inputs.baseline.measured()]).chain(sweeps);
    let objective = (inputs.objective_metric, inputs.objective_load);
    let front = Front::new(objective, inputs.latency_load, files, inputs.lenders);
    let largest =
        |figure: fn(&Candidate) -> f64| front.candidates.iter().map(figure).fold(0.0, f64::max);
    let tokens = Measure::of(front.throughput.metric.id, largest(|c| c.throughput.mean));
    let wait = Measure::of(front.latency.metric.id, largest(|c| c.latency.mean));
    let (far, dots) = far_and_near(&front, &tokens, &wait);
    let subtitle = format!(
        "{} · {} on {} against {} on {}",
        inputs.engine(),
        tokens.title,
        front.throughput.load,
        wait.title,
        front.latency.load
    );
    page((1200, 700), "Throughput against latency", &subtitle, |canvas, body| {
        let cell = Rect { right: body.right - NAMES, ..body };
        let legend = [
            (Key::Mark(BLUE, Shape::Circle), "no other beats it in both".to_owned()),
            (Key::Mark(FAINT_INK, Shape::Circle), "beaten".to_owned()),
        ];
        let up = dots.iter().flat_map(|dot| dot.throughput.values()).collect::<Vec<_>>();
        let across = dots.iter().flat_map(|dot| dot.latency.values()).collect::<Vec<_>>();
        let scale = Scale::around(&across, false, 0.05);
        let from = if scale.contains(0.0) { "" } else { ", axis does not start at 0" };
        let frame = Frame {
            title: "Configurations with their 95 % intervals",
            y_title: &axis_title(&tokens),
            x_title: &format!("{}{from}", axis_title(&wait)),
            x_lines: 1,
            legend: &legend,
        };
        let panel = Panel::new(canvas, cell, &frame, Scale::around(&up, false, 0.08));
        if dots.is_empty() {
            return panel.empty();
        }
        let across = Across { panel: &panel, scale };
        across.ticks();
        across.stairs(&dots);
        let numbers = Rect { left: cell.right + 24, top: panel.plot.top, ..body };
        across.dots(&dots, numbers);
        if !far.is_empty() {
            let how = faint(Anchor::Start);
            let far: Vec<&str> = far.iter().map(|dot| dot.candidate.name.as_str()).collect();
            let text = how.cut(&format!("far off, not drawn: {}", far.join("; ")), NAMES - 24);
            canvas.text(&text, (numbers.left, panel.plot.bottom), how);
        }
    })
}

/// The candidates that would squeeze all others together, and the others.
fn far_and_near<'a>(
    front: &'a Front,
    tokens: &Measure,
    wait: &Measure,
) -> (Vec<Dot<'a>>, Vec<Dot<'a>>) {
    let dot = |candidate: &'a Candidate| {
        Some(Dot {
            candidate,
            throughput: Figure::of(&candidate.throughput, tokens.factor)?,
            latency: Figure::of(&candidate.latency, wait.factor)?,
        })
    };
    let dots: Vec<Dot<'_>> = front.candidates.iter().filter_map(dot).collect();
    let most = dots.iter().map(|dot| dot.throughput.mean).fold(0.0, f64::max);
    let least = dots.iter().map(|dot| dot.latency.mean).fold(f64::INFINITY, f64::min);
    dots.into_iter()
        .partition(|dot| dot.throughput.mean * FAR < most || dot.latency.mean > FAR * least)
}

fn axis_title(measure: &Measure) -> String {
    format!("{} ({})", measure.title, measure.unit)
}

/// A panel with a horizontal scale.
struct Across<'p, 'c, 'a> {
    panel: &'p Panel<'c, 'a>,
    scale: Scale,
}

impl Across<'_, '_, '_> {
    fn x(&self, value: f64) -> i32 {
        let plot = self.panel.plot;
        plot.left + libm::round(self.scale.at(value) * f64::from(plot.width())) as i32
    }

    fn at(&self, dot: &Dot<'_>) -> (i32, i32) {
        (self.x(dot.latency.mean), self.panel.y(dot.throughput.mean))
    }

    fn ticks(&self) {
        let plot = self.panel.plot;
        for (value, text) in self.scale.ticks() {
            let x = self.x(*value);
            self.panel.canvas.line(&[(x, plot.top), (x, plot.bottom)], GRID, 1);
            self.panel.x_label(x, 80, std::slice::from_ref(text));
        }
    }

    /// Between those that none beats: what is below and to the right of the stairs is beaten.
    fn stairs(&self, dots: &[Dot<'_>]) {
        let mut corners: Vec<(i32, i32)> =
            dots.iter().filter(|dot| is_unbeaten(dot)).map(|dot| self.at(dot)).collect();
        corners.sort_unstable();
        for pair in corners.windows(2) {
            let [(x, y), (next_x, next_y)] = pair else { unreachable!("windows of two") };
            let stairs = [(*x, *y), (*next_x, *y), (*next_x, *next_y)];
            self.panel.canvas.line(&stairs, BLUE, 2);
        }
    }

    /// The dots, and beside those that none beats, or that have a name, its number in the list.
    fn dots(&self, dots: &[Dot<'_>], list: Rect) {
        let canvas = self.panel.canvas;
        for named in [false, true] {
            dots.iter().filter(|dot| is_named(dot) == named).for_each(|dot| self.intervals(dot));
        }
        let mut taken: Vec<Rect> = Vec::new();
        for dot in dots {
            let (x, y) = self.at(dot);
            canvas.mark((x, y), shape(dot.candidate.role), color(dot), dot.candidate.saturated);
            taken.push(Rect::new(x - 7, y - 7, x + 7, y + 7));
        }
        let mut line = list.top;
        for (i, dot) in dots.iter().filter(|dot| is_named(dot)).enumerate() {
            let how = label(Anchor::Middle).bold();
            let text = format!("{}", i + 1);
            let half = how.width(&text) / 2 + 2;
            let (x, y) = self.at(dot);
            let spots =
                [(0, -16), (16, 0), (-16, 0), (0, 16), (14, -14), (-14, -14), (14, 14), (-14, 14)];
            let spots = spots.map(|(right, down)| (x + right, y + down));
            let rect = |(x, y): (i32, i32)| Rect::new(x - half, y - 8, x + half, y + 8);
            let free =
                spots.into_iter().find(|spot| !taken.iter().any(|t| t.overlaps(&rect(*spot))));
            if let Some(spot) = free {
                taken.push(rect(spot));
                canvas.fill(rect(spot), PAPER);
                canvas.text(&text, spot, how);
            }
            if line + LINE < self.panel.plot.bottom {
                line += entry(canvas, (list.left, line), &text, dot, list.right);
            }
        }
    }

    fn intervals(&self, dot: &Dot<'_>) {
        let (x, y) = self.at(dot);
        let canvas = self.panel.canvas;
        let ink = if is_named(dot) { INK } else { FAINT_GREY };
        if let Some((low, high)) = dot.throughput.interval {
            canvas.whisker(x, (self.panel.y(low), self.panel.y(high)), 4, ink);
        }
        if let Some((low, high)) = dot.latency.interval {
            canvas.line(&[(self.x(low), y), (self.x(high), y)], ink, 1);
        }
    }
}

/// An entry of the list: mark, number and name; the height that it takes.
fn entry(canvas: &Canvas<'_>, (x, y): (i32, i32), number: &str, dot: &Dot<'_>, right: i32) -> i32 {
    canvas.mark((x, y), shape(dot.candidate.role), color(dot), dot.candidate.saturated);
    canvas.text(number, (x + 18, y), label(Anchor::Start).bold());
    let how = label(Anchor::Start);
    let lines = how.wrap(&dot.candidate.name, right - x - 42, 2);
    for (i, name) in lines.iter().enumerate() {
        canvas.text(name, (x + 42, y + 15 * i as i32), how);
    }
    LINE + 15 * (lines.len() as i32 - 1)
}

fn is_unbeaten(dot: &Dot<'_>) -> bool {
    dot.candidate.beaten.is_none()
}

/// Whether the list names the dot. The intervals of the others stay in the background.
fn is_named(dot: &Dot<'_>) -> bool {
    is_unbeaten(dot) || dot.candidate.role != Role::Sweep
}

fn color(dot: &Dot<'_>) -> RGBColor {
    match dot.candidate.role {
        _ if is_unbeaten(dot) => BLUE,
        Role::Sweep => FAINT_INK,
        role => {
            let known = CONFIGURATIONS.iter().find(|(other, ..)| *other == role);
            known.map_or(VERMILLION, |(_, color)| *color)
        }
    }
}

fn shape(role: Role) -> Shape {
    match role {
        Role::Sweep => Shape::Circle,
        Role::Baseline => Shape::Square,
        Role::Default => Shape::Diamond,
        _ => Shape::Triangle,
    }
}
