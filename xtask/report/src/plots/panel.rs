//! The parts that every plot is put together from: the page with its title, panels with a
//! vertical axis, legends, labels below the axis.

use bench_core::schema::Anatomy;
use plotters::style::{Color, RGBColor};

use super::{
    canvas::{Anchor, Canvas, Rect, Shape, Type},
    data::Figure,
    number,
    scale::Scale,
    style::{
        BAND, FAINT_INK, GRID, INK, PAPER, VERMILLION, faint, heading, is_light, label, small,
    },
};

/// How a configuration above capacity is named wherever it is drawn.
pub const SATURATED: &str = "hollow: offered load above capacity";

/// Key of the profile's targets.
pub const TARGET: Key = Key::Dashes(VERMILLION);

/// Height of a line of labels.
const LINE: i32 = 15;
/// Most lines that a label below the axis takes.
pub const X_LINES: usize = 5;
/// Distance between the page's edge and what is drawn.
const MARGIN: i32 = 28;

/// A page with its title; `body` draws into the rest.
pub fn page(
    (width, height): (i32, i32),
    title: &str,
    subtitle: &str,
    body: impl FnOnce(&Canvas<'_>, Rect),
) -> String {
    Canvas::svg(width.unsigned_abs(), height.unsigned_abs(), |canvas| {
        let room = width - 2 * MARGIN;
        let how = Type::new(20, INK, Anchor::Start).bold();
        canvas.text(&how.cut(title, room), (MARGIN, 30), how);
        let how = Type::new(14, FAINT_INK, Anchor::Start);
        canvas.text(&how.cut(subtitle, room), (MARGIN, 56), how);
        body(canvas, Rect::new(MARGIN, 80, width - MARGIN, height - 18));
    })
}

/// How a series looks in a legend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    Box(RGBColor),
    Line(RGBColor, Shape),
    Mark(RGBColor, Shape),
    Hollow,
    Dashes(RGBColor),
    Dots(RGBColor),
    Cross,
    Band,
}

impl Key {
    fn width(self) -> i32 {
        match self {
            Self::Line(..) | Self::Dashes(_) | Self::Dots(_) => 24,
            Self::Box(_) | Self::Mark(..) | Self::Hollow | Self::Cross | Self::Band => 16,
        }
    }
}

/// A legend from the rectangle's top left corner on; the height that it takes.
pub fn legend(canvas: &Canvas<'_>, within: Rect, entries: &[(Key, String)]) -> i32 {
    let how = label(Anchor::Start);
    let (mut x, mut y) = (within.left, within.top + 8);
    for (key, text) in entries {
        let text = how.cut(text, within.width() - 32);
        let text_at = key.width() + 7;
        let width = text_at + how.width(&text);
        if x > within.left && x + width > within.right {
            (x, y) = (within.left, y + 20);
        }
        draw_key(canvas, (x, y), *key);
        canvas.text(&text, (x + text_at, y), how);
        x += width + 22;
    }
    if entries.is_empty() { 0 } else { y + 16 - within.top }
}

fn draw_key(canvas: &Canvas<'_>, (x, y): (i32, i32), key: Key) {
    let middle = (x + 12, y);
    match key {
        Key::Box(color) => canvas.fill(Rect::new(x, y - 6, x + 16, y + 6), color),
        Key::Band => canvas.fill(Rect::new(x, y - 8, x + 16, y + 8), BAND),
        Key::Line(color, shape) => {
            canvas.line(&[(x, y), (x + 24, y)], color, 2);
            canvas.mark(middle, shape, color, false);
        }
        Key::Mark(color, shape) => canvas.mark((x + 8, y), shape, color, false),
        Key::Hollow => canvas.mark((x + 8, y), Shape::Circle, FAINT_INK, true),
        Key::Dashes(color) => canvas.dashed((x, x + 25), y, color, 5),
        Key::Dots(color) => canvas.dashed((x, x + 24), y, color, 2),
        Key::Cross => canvas.cross((x + 8, y), INK),
    }
}

/// Lines that the labels need below an axis as wide as the cell.
pub fn x_lines(cell: Rect, labels: &[&str]) -> i32 {
    // The vertical axis takes at most this much of the cell.
    let width = (cell.width() - 90) / labels.len().max(1) as i32 - 6;
    let how = label(Anchor::Middle);
    labels.iter().map(|text| how.wrap(text, width, X_LINES).len()).max().unwrap_or(1) as i32
}

/// What stands around a panel's plot.
pub struct Frame<'t> {
    pub title: &'t str,
    /// What the vertical axis shows, with its unit.
    pub y_title: &'t str,
    /// What the horizontal axis shows, with its unit.
    pub x_title: &'t str,
    /// Lines of labels below the axis.
    pub x_lines: i32,
    pub legend: &'t [(Key, String)],
}

/// A plot with a vertical axis.
pub struct Panel<'c, 'a> {
    pub canvas: &'c Canvas<'a>,
    pub plot: Rect,
    pub scale: Scale,
}

impl<'c, 'a> Panel<'c, 'a> {
    pub fn new(canvas: &'c Canvas<'a>, cell: Rect, frame: &Frame<'_>, scale: Scale) -> Self {
        let how = heading(Anchor::Start);
        let title = how.cut(frame.title, cell.width());
        canvas.text(&title, (cell.left, cell.top + 8), how);
        let aside = cell.left + how.width(&title) + 14;
        if !scale.contains(0.0) && !scale.is_log() {
            let how = faint(Anchor::Start);
            let room = cell.right - aside;
            let words = ["axis does not start at 0", "axis not from 0"];
            if let Some(text) = words.into_iter().find(|text| how.width(text) <= room) {
                canvas.text(text, (aside, cell.top + 8), how);
            }
        }
        let top = cell.top + 28;
        let legend_height = legend(canvas, Rect { top, ..cell }, frame.legend);

        let ticks = label(Anchor::End);
        let tick_width =
            scale.ticks().iter().map(|(_, text)| ticks.width(text)).max().unwrap_or_default();
        let plot = Rect {
            left: cell.left + 18 + tick_width + 8,
            top: top + legend_height + 4,
            right: cell.right,
            bottom: cell.bottom - frame.x_lines * LINE - 26,
        };
        let panel = Self { canvas, plot, scale };
        panel.draw_axes(cell, frame);
        panel
    }

    fn draw_axes(&self, cell: Rect, frame: &Frame<'_>) {
        let plot = self.plot;
        for (value, text) in self.scale.ticks() {
            let y = self.y(*value);
            self.canvas.line(&[(plot.left, y), (plot.right, y)], GRID, 1);
            self.canvas.text(text, (plot.left - 8, y), label(Anchor::End));
        }
        self.canvas.line(&[(plot.left, plot.bottom), (plot.right, plot.bottom)], INK, 1);
        let how = label(Anchor::Middle);
        let y_title = match (frame.y_title, self.scale.is_log()) {
            (title, false) => title.to_owned(),
            ("", true) => "log scale".to_owned(),
            (title, true) => format!("{title}, log scale"),
        };
        let (x, y) = plot.center();
        self.canvas.text_upwards(&how.cut(&y_title, plot.height()), (cell.left + 6, y), how);
        let x_title = how.cut(frame.x_title, plot.width());
        self.canvas.text(&x_title, (x, cell.bottom - 8), how);
    }

    /// Where a value lies.
    pub fn y(&self, value: f64) -> i32 {
        let height = f64::from(self.plot.height());
        self.plot.bottom - libm::round(self.scale.at(value) * height) as i32
    }

    /// A label below the axis.
    pub fn x_label(&self, x: i32, width: i32, lines: &[String]) {
        let how = label(Anchor::Middle);
        for (i, line) in lines.iter().enumerate() {
            let y = self.plot.bottom + 14 + i as i32 * LINE;
            self.canvas.text(&how.cut(line, width), (x, y), how);
        }
    }

    /// An interval at `x`.
    pub fn interval(&self, x: i32, figure: &Figure) {
        if let Some((low, high)) = figure.interval {
            self.canvas.whisker(x, (self.y(low), self.y(high)), 4, INK);
        }
    }

    /// A text for whoever points at a mark.
    pub fn tell(&self, (x, y): (i32, i32), text: &str) {
        self.canvas.tell(Rect::new(x - 8, y - 8, x + 8, y + 8), text);
    }

    /// A horizontal reference line over a part of the axis.
    pub fn reference(&self, (left, right): (i32, i32), value: f64, key: Key) {
        let dash = if matches!(key, Key::Dots(_)) { 2 } else { 5 };
        let (Key::Dots(color) | Key::Dashes(color)) = key else { return };
        if self.scale.contains(value) {
            self.canvas.dashed((left, right), self.y(value), color, dash);
        }
    }

    /// Says why nothing is drawn between `left` and `right`.
    pub fn missing(&self, slot: Rect, text: &str) {
        let how = faint(Anchor::Start);
        let text = how.cut(text, self.plot.height() - 24);
        if text.is_empty() {
            return;
        }
        let (x, _) = slot.center();
        let bottom = self.plot.bottom - 16;
        let behind = Rect::new(x - 7, bottom - how.width(&text) - 3, x + 7, bottom + 3);
        self.canvas.fill(behind, PAPER);
        self.canvas.text_upwards(&text, (x, bottom), how);
    }

    /// Marks a value that cannot run, and says why.
    pub fn failed(&self, slot: Rect, why: &str) {
        let (x, _) = slot.center();
        self.canvas.cross((x, self.plot.bottom), INK);
        self.missing(slot, why);
    }

    /// Says that the panel has nothing to show.
    pub fn empty(&self) {
        let how = Type::new(14, FAINT_INK, Anchor::Middle);
        self.canvas.text(&how.cut("not measured", self.plot.width()), self.plot.center(), how);
    }
}

/// A group of bars, one for each series; `None` where it was not measured.
pub struct Group<'t> {
    pub label: &'t str,
    pub bars: Vec<Option<Bar>>,
    /// A reference line over the group.
    pub reference: Option<f64>,
    /// The target's line over the group.
    pub target: Option<f64>,
}

/// One bar.
pub struct Bar {
    /// Whose figure it is.
    pub name: &'static str,
    pub figure: Figure,
    pub color: RGBColor,
    pub hollow: bool,
}

/// Share of an axis that labels above bars need.
pub const BAR_HEADROOM: f64 = 0.18;

/// Groups of bars with their values and intervals.
pub fn grouped_bars(panel: &Panel<'_, '_>, groups: &[Group<'_>], reference: Key, unit: &str) {
    let figures = || groups.iter().flat_map(|group| &group.bars).flatten();
    let percent = if unit == "%" { " %" } else { "" };
    let text = |bar: &Bar| format!("{}{percent}", number::short(bar.figure.mean));
    let widest = figures().map(|bar| small(Anchor::Middle).width(&text(bar))).max();
    let Some(widest) = widest else { return panel.empty() };
    for (i, group) in groups.iter().enumerate() {
        let slot = panel.plot.column(i, groups.len(), 0);
        let tell = |column: Rect, bar: &Bar| {
            let at = Rect { top: panel.y(bar.figure.top()) - 16, ..column };
            let figure = bar.figure.words(unit);
            panel.canvas.tell(at, &format!("{}, {}: {figure}", group.label, bar.name));
        };
        let room = (slot.width() / 6).clamp(4, 60);
        let inner = Rect { left: slot.left + room, right: slot.right - room, ..slot };
        let columns = || {
            group
                .bars
                .iter()
                .enumerate()
                .map(|(j, bar)| (inner.column(j, group.bars.len(), 2), bar))
        };
        for (column, bar) in columns() {
            match bar {
                Some(bar) => {
                    draw_bar(panel, column, bar);
                    tell(column, bar);
                }
                None => panel.missing(column, "not measured"),
            }
        }
        if let Some(value) = group.reference {
            panel.reference((slot.left + room / 2, slot.right - room / 2), value, reference);
        }
        if let Some(value) = group.target {
            panel.reference((slot.left + room / 2, slot.right - room / 2), value, TARGET);
        }
        for (column, bar) in columns() {
            if let Some(bar) = bar {
                bar_label(panel, column, &bar.figure, &text(bar), widest);
            }
        }
        let width = slot.width() - 6;
        let lines = label(Anchor::Middle).wrap(group.label, width, X_LINES);
        panel.x_label(slot.center().0, width, &lines);
    }
}

fn draw_bar(panel: &Panel<'_, '_>, column: Rect, bar: &Bar) {
    let rect = Rect { top: panel.y(bar.figure.mean), bottom: panel.plot.bottom, ..column };
    panel.canvas.fill(rect, bar.color);
    if bar.hollow && rect.height() > 4 && rect.width() > 6 {
        let inside = Rect::new(rect.left + 2, rect.top + 2, rect.right - 2, rect.bottom);
        panel.canvas.fill(inside, PAPER.mix(0.75));
    }
    panel.interval(rect.center().0, &bar.figure);
}

/// The bar's figure above its interval; all upright where the widest has no room.
fn bar_label(panel: &Panel<'_, '_>, column: Rect, figure: &Figure, text: &str, widest: i32) {
    let (x, _) = column.center();
    let top = panel.y(figure.top());
    let how = small(Anchor::Middle);
    let width = how.width(text);
    if widest <= column.width() + 2 {
        let half = width.min(column.width()) / 2 + 3;
        panel.canvas.fill(Rect::new(x - half, top - 16, x + half, top - 3), PAPER);
        panel.canvas.text(text, (x, top - 10), how);
    } else {
        panel.canvas.fill(Rect::new(x - 6, top - 5 - width, x + 6, top - 4), PAPER);
        panel.canvas.text_upwards(text, (x, top - 5), small(Anchor::Start));
    }
}

/// A bar of a request's parts from the axis upwards, each with its share where it has room.
pub fn stacked_bar(panel: &Panel<'_, '_>, column: Rect, name: &str, parts: &[(f64, RGBColor); 5]) {
    let total: f64 = parts.iter().map(|(value, _)| value).sum();
    let mut below = 0.0;
    for ((value, color), (part, _)) in parts.iter().zip(Anatomy::default().parts()) {
        let rect = Rect { top: panel.y(below + value), bottom: panel.y(below), ..column };
        below += value;
        if rect.height() > 0 {
            panel.canvas.fill(rect, *color);
            let share = 100.0 * value / total;
            panel.canvas.tell(rect, &format!("{name}, {part}: {share:.1} % of mean E2E"));
        }
        let share = format!("{:.0} %", 100.0 * value / total);
        let ink = if is_light(*color) { INK } else { PAPER };
        let how = Type { color: ink, ..label(Anchor::Middle) };
        if rect.height() >= 16 && how.width(&share) <= rect.width() {
            panel.canvas.text(&share, rect.center(), how);
        }
    }
}
