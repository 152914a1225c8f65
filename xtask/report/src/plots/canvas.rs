//! A sheet to draw on: text, bars and marks at whole pixels, through plotters' SVG backend.
//!
//! Everything is placed with the metrics of DejaVu Sans, which the program carries, so that a
//! drawing has the same bytes on every machine.

use std::{cell::RefCell, fmt::Write as _};

use plotters::{
    coord::Shift,
    element::{PathElement, Polygon, Rectangle},
    prelude::{Circle, DrawingArea, IntoDrawingArea, RGBColor, SVGBackend},
    style::{
        Color, FontTransform, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub use super::text::{Anchor, Type};

/// The SVG backend writes `font-size` as plotters' size divided by this.
const PLOTTERS_PER_PX: f64 = 1.24;
/// A rectangle in pixels; y grows downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    pub left: i32,
    pub top: i32,
    pub right: i32,
    pub bottom: i32,
}

impl Rect {
    pub fn new(left: i32, top: i32, right: i32, bottom: i32) -> Self {
        Self { left, top, right, bottom }
    }

    pub fn width(&self) -> i32 {
        self.right - self.left
    }

    pub fn height(&self) -> i32 {
        self.bottom - self.top
    }

    pub fn center(&self) -> (i32, i32) {
        (i32::midpoint(self.left, self.right), i32::midpoint(self.top, self.bottom))
    }

    /// The `index`th of `count` columns with a gap between them.
    pub fn column(&self, index: usize, count: usize, gap: i32) -> Self {
        let count = count.max(1) as i32;
        let width = (self.width() - gap * (count - 1)) / count;
        let left = self.left + index as i32 * (width + gap);
        Self { left, right: left + width, ..*self }
    }

    /// Whether the two share a pixel.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// What an SVG is drawn on.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    /// What [`Canvas::tell`] said: on top of everything else, so that the pointer meets it.
    told: RefCell<String>,
}

/// Why drawing cannot fail: the SVG goes into memory, and the font is part of the program.
const INFALLIBLE: &str = "drawing into memory cannot fail";

impl Canvas<'_> {
    /// The SVG text of what `body` draws on a white sheet.
    pub fn svg(width: u32, height: u32, body: impl FnOnce(&Canvas<'_>)) -> String {
        let mut svg = String::new();
        let told = {
            let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
            let canvas = Canvas { area, told: RefCell::default() };
            canvas.area.fill(&super::style::PAPER).expect(INFALLIBLE);
            body(&canvas);
            canvas.area.present().expect(INFALLIBLE);
            canvas.told.into_inner()
        };
        svg.insert_str(svg.rfind("</svg>").expect("the backend closes what it opens"), &told);
        svg
    }

    /// A text for whoever points at the rectangle, as browsers show a title.
    pub fn tell(&self, rect: Rect, text: &str) {
        let (x, y) = (rect.left, rect.top);
        let (width, height) = (rect.width().max(1), rect.height().max(1));
        let text = printable(text);
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(
            self.told.borrow_mut(),
            "<rect class=\"figure\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
             fill=\"none\" pointer-events=\"all\"><title>{text}</title></rect>"
        )
        .expect("writing into memory cannot fail");
    }

    /// A text at its anchor, its line's middle at `y`.
    pub fn text(&self, text: &str, (x, y): (i32, i32), how: Type) {
        self.put(text, (x, y + how.px as i32 / 10), how, FontTransform::None);
    }

    /// A text that reads upwards, its line's middle at `x`.
    pub fn text_upwards(&self, text: &str, (x, y): (i32, i32), how: Type) {
        self.put(text, (x + how.px as i32 / 10, y), how, FontTransform::Rotate270);
    }

    fn put(&self, text: &str, at: (i32, i32), how: Type, transform: FontTransform) {
        let text = printable(text);
        if text.is_empty() {
            return;
        }
        let h_pos = match how.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = TextStyle {
            font: how.font(f64::from(how.px) * PLOTTERS_PER_PX).transform(transform),
            color: how.color.to_backend_color(),
            pos: Pos::new(h_pos, VPos::Center),
        };
        self.area.draw_text(&text, &style, at).expect(INFALLIBLE);
    }

    /// A filled rectangle.
    pub fn fill(&self, rect: Rect, color: impl Color) {
        let corners = [(rect.left, rect.top), (rect.right, rect.bottom)];
        self.area.draw(&Rectangle::new(corners, color.filled())).expect(INFALLIBLE);
    }

    /// A line.
    pub fn line(&self, points: &[(i32, i32)], color: impl Color, width: u32) {
        let style = color.stroke_width(width);
        self.area.draw(&PathElement::new(points.to_vec(), style)).expect(INFALLIBLE);
    }

    /// A horizontal line in strokes of `dash` pixels with gaps of the same length.
    pub fn dashed(&self, (left, right): (i32, i32), y: i32, color: RGBColor, dash: i32) {
        let mut x = left;
        while x < right {
            self.line(&[(x, y), ((x + dash).min(right), y)], color, 2);
            x += 2 * dash;
        }
    }

    /// An interval: a thin upright with feet.
    pub fn whisker(&self, x: i32, (low, high): (i32, i32), foot: i32, ink: RGBColor) {
        self.line(&[(x, low), (x, high)], ink, 1);
        self.line(&[(x - foot, low), (x + foot, low)], ink, 1);
        self.line(&[(x - foot, high), (x + foot, high)], ink, 1);
    }

    /// A mark of a series; hollow where the figure needs a grain of salt.
    pub fn mark(&self, (x, y): (i32, i32), shape: Shape, color: RGBColor, hollow: bool) {
        self.shape((x, y), shape, 5, color.filled());
        if hollow {
            self.shape((x, y), shape, 3, super::style::PAPER.filled());
        }
    }

    fn shape(&self, (x, y): (i32, i32), shape: Shape, r: i32, style: ShapeStyle) {
        let polygon = |points: Vec<(i32, i32)>| {
            self.area.draw(&Polygon::new(points, style)).expect(INFALLIBLE);
        };
        match shape {
            Shape::Circle => self.area.draw(&Circle::new((x, y), r, style)).expect(INFALLIBLE),
            Shape::Square => {
                polygon(vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]);
            }
            Shape::Triangle => {
                polygon(vec![(x - r - 1, y + r), (x + r + 1, y + r), (x, y - r - 1)]);
            }
            Shape::Diamond => {
                let r = r + 2;
                polygon(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)]);
            }
        }
    }

    /// A cross: a value that cannot run.
    pub fn cross(&self, (x, y): (i32, i32), color: RGBColor) {
        self.line(&[(x - 5, y - 5), (x + 5, y + 5)], color, 2);
        self.line(&[(x - 5, y + 5), (x + 5, y - 5)], color, 2);
    }
}

/// The text without control characters, which are no text and which XML refuses.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect()
}

/// Shapes of marks, so that series differ in more than colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
}

impl Shape {
    /// The shape of the `index`th series.
    pub fn of(index: usize) -> Self {
        [Self::Circle, Self::Square, Self::Triangle, Self::Diamond][index % 4]
    }
}
