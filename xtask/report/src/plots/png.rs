//! The picture of an SVG, with no font but the program's own.
//!
//! Reads the SVG that [`super::canvas`] writes and refuses any other: rectangles, circles, lines,
//! polygons and lines of text, each filled or stroked in one colour. Text is drawn as the outlines
//! of DejaVu Sans, from left to right and without ligatures.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, OutlineCurve};
use anyhow::{Context, Result, bail, ensure};
use roxmltree::{Document, Node};
use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

/// Pixels of the picture for one of the drawing, so that it prints well.
const SCALE: u16 = 2;

static REGULAR: LazyLock<FontRef<'_>> = LazyLock::new(|| font(dejavu::sans::regular()));
static BOLD: LazyLock<FontRef<'_>> = LazyLock::new(|| font(dejavu::sans::bold()));

fn font(bytes: &[u8]) -> FontRef<'_> {
    FontRef::try_from_slice(bytes).expect("the embedded font is a font")
}

/// The picture of a drawing.
///
/// # Errors
/// When the text is not an SVG of [`super::canvas`], or too large for memory.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    Sheet::read(svg)?.png()
}

/// What an SVG draws, in its order.
pub(super) struct Sheet {
    /// In pixels of the drawing.
    pub width: u16,
    pub height: u16,
    shapes: Vec<Shape>,
    pub texts: Vec<Text>,
}

/// An area or a line of one colour.
struct Shape {
    path: Path,
    color: Color,
    /// `None` fills the path.
    stroke_width: Option<f32>,
}

/// A line of text with the box that it takes: its advance by the height of a line.
#[cfg_attr(not(test), expect(dead_code, reason = "tests look where texts are"))]
pub(super) struct Text {
    pub content: String,
    pub bounds: Rect,
}

impl Sheet {
    pub fn read(svg: &str) -> Result<Self> {
        let document = Document::parse(svg).context("the drawing is not XML")?;
        let root = document.root_element();
        let side = |name| -> Result<u16> {
            attribute(root, name)?.parse().with_context(|| format!("svg: invalid {name}"))
        };
        let mut sheet = Self {
            width: side("width")?,
            height: side("height")?,
            shapes: Vec::new(),
            texts: Vec::new(),
        };
        for (index, node) in root.children().filter(Node::is_element).enumerate() {
            let name = node.tag_name().name();
            sheet.add(node).with_context(|| format!("element {index}, <{name}>"))?;
        }
        Ok(sheet)
    }

    fn add(&mut self, node: Node<'_, '_>) -> Result<()> {
        let paint = |name| node.attribute(name).filter(|value| *value != "none");
        let (color, stroke_width) = match (paint("fill"), paint("stroke")) {
            (Some(fill), None) => (fill, None),
            (None, Some(stroke)) => {
                (stroke, Some(node.attribute("stroke-width").map_or(Ok(1.0), str::parse)?))
            }
            // A tooltip's rectangle.
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => bail!("both filled and stroked"),
        };
        let path = match node.tag_name().name() {
            "rect" => {
                let [x, y, width, height] = numbers(node, ["x", "y", "width", "height"])?;
                Rect::from_xywh(x, y, width, height).map(PathBuilder::from_rect)
            }
            "circle" => {
                let [x, y, r] = numbers(node, ["cx", "cy", "r"])?;
                PathBuilder::from_circle(x, y, r)
            }
            "polyline" => through(attribute(node, "points")?, false)?,
            "polygon" => through(attribute(node, "points")?, true)?,
            "text" => {
                let (text, path) = text(node)?;
                self.texts.extend(text);
                path
            }
            _ => bail!("no element of a drawing"),
        };
        let color = rgba(color, numbers(node, ["opacity"])?[0])?;
        // An empty path draws nothing.
        self.shapes.extend(path.map(|path| Shape { path, color, stroke_width }));
        Ok(())
    }

    fn png(&self) -> Result<Vec<u8>> {
        let [width, height] =
            [self.width, self.height].map(|side| u32::from(side) * u32::from(SCALE));
        let mut picture = Pixmap::new(width, height)
            .with_context(|| format!("a picture of {width} × {height} pixels is too large"))?;
        let scale = Transform::from_scale(f32::from(SCALE), f32::from(SCALE));
        for Shape { path, color, stroke_width } in &self.shapes {
            let mut paint = Paint::default();
            paint.set_color(*color);
            match *stroke_width {
                None => picture.fill_path(path, &paint, FillRule::Winding, scale, None),
                Some(width) => {
                    let stroke = Stroke { width, ..Stroke::default() };
                    picture.stroke_path(path, &paint, &stroke, scale, None);
                }
            }
        }
        picture.encode_png().context("the picture cannot be encoded as PNG")
    }
}

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Result<&'a str> {
    node.attribute(name).with_context(|| format!("no {name}"))
}

fn numbers<const N: usize>(node: Node<'_, '_>, names: [&str; N]) -> Result<[f32; N]> {
    let mut numbers = [0.0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        *number = attribute(node, name)?.parse().with_context(|| format!("invalid {name}"))?;
    }
    Ok(numbers)
}

/// A colour as `#RRGGBB`.
fn rgba(color: &str, opacity: f32) -> Result<Color> {
    let digits = color.strip_prefix('#').filter(|digits| digits.len() == 6);
    let rgb = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let [_, red, green, blue] =
        rgb.with_context(|| format!("invalid colour {color}"))?.to_be_bytes();
    let mut color = Color::from_rgba8(red, green, blue, 255);
    color.set_alpha(opacity);
    Ok(color)
}

/// The line through `x,y x,y …`.
fn through(points: &str, close: bool) -> Result<Option<Path>> {
    let mut path = PathBuilder::new();
    for point in points.split_whitespace() {
        let (x, y) = point.split_once(',').context("invalid points")?;
        let (x, y) = (x.parse().context("invalid points")?, y.parse().context("invalid points")?);
        if path.is_empty() { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if close {
        path.close();
    }
    Ok(path.finish())
}

/// A text and its outlines; neither where it has no extent.
fn text(node: Node<'_, '_>) -> Result<(Option<Text>, Option<Path>)> {
    let [x, y, size] = numbers(node, ["x", "y", "font-size"])?;
    let font = if node.attribute("font-weight") == Some("bold") { &*BOLD } else { &*REGULAR };
    // As XML's white space is shown.
    let words = node.text().unwrap_or_default().split([' ', '\n']).filter(|word| !word.is_empty());
    let content = words.collect::<Vec<_>>().join(" ");
    let (outline, advance) = outline(font, &content);

    let from = match attribute(node, "text-anchor")? {
        "start" => 0.0,
        "middle" => -advance / 2.0,
        "end" => -advance,
        other => bail!("unknown text-anchor {other}"),
    };
    ensure!(attribute(node, "dy")? == "0.5ex", "not centred");
    let turn = match node.attribute("transform") {
        None => Transform::identity(),
        Some(turn) if turn == format!("rotate(270, {x}, {y})") => {
            Transform::from_rotate_at(270.0, x, y)
        }
        Some(other) => bail!("unknown transform {other}"),
    };
    // Units of the font, upwards, to pixels, downwards. An ex is taken as half an em.
    let em = size / font.units_per_em().expect("the embedded font has an em");
    let place = turn.pre_translate(x, y + size / 4.0).pre_scale(em, -em).pre_translate(from, 0.0);
    let line = Rect::from_ltrb(0.0, font.descent_unscaled(), advance, font.ascent_unscaled());
    let bounds = line.and_then(|line| line.transform(place));
    let text = bounds.map(|bounds| Text { content, bounds });
    Ok((text, outline.and_then(|path| path.transform(place))))
}

/// The outlines of a line of text in units of the font, and its advance.
fn outline(font: &FontRef<'_>, text: &str) -> (Option<Path>, f32) {
    let mut path = PathBuilder::new();
    let (mut x, mut before) = (0.0, None);
    for glyph in text.chars().map(|c| font.glyph_id(c)) {
        x += before.map_or(0.0, |before| font.kern_unscaled(before, glyph));
        let mut pen = None;
        for curve in font.outline(glyph).into_iter().flat_map(|outline| outline.curves) {
            let (from, to) = match curve {
                OutlineCurve::Line(a, b) | OutlineCurve::Quad(a, _, b) => (a, b),
                OutlineCurve::Cubic(a, _, _, b) => (a, b),
            };
            if pen != Some(from) {
                path.move_to(x + from.x, from.y);
            }
            match curve {
                OutlineCurve::Line(..) => path.line_to(x + to.x, to.y),
                OutlineCurve::Quad(_, b, _) => path.quad_to(x + b.x, b.y, x + to.x, to.y),
                OutlineCurve::Cubic(_, b, c, _) => {
                    path.cubic_to(x + b.x, b.y, x + c.x, c.y, x + to.x, to.y);
                }
            }
            pen = Some(to);
        }
        x += font.h_advance_unscaled(glyph);
        before = Some(glyph);
    }
    (path.finish(), x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(text_anchor: &str, transform: &str) -> String {
        format!(
            "<svg width=\"200\" height=\"200\"><text x=\"100\" y=\"100\" dy=\"0.5ex\" \
             text-anchor=\"{text_anchor}\" font-size=\"20\" opacity=\"1\" fill=\"#212121\" \
             {transform}>\nHxHxH\n</text></svg>"
        )
    }

    /// Left, top, right and bottom of the ink.
    fn ink(svg: &str) -> [f32; 4] {
        let sheet = Sheet::read(svg).expect("a drawing");
        let (ink, text) = (sheet.shapes[0].path.bounds(), sheet.texts[0].bounds);
        assert_eq!(text.join(&ink), Some(text), "text lies in its box");
        [ink.left(), ink.top(), ink.right(), ink.bottom()].map(f32::round)
    }

    #[test]
    fn text_stands_at_its_anchor() {
        let [left, top, right, bottom] = ink(&svg("start", ""));
        assert_eq!([top, bottom], [90.0, 105.0]);
        assert_eq!([left, right], [102.0, 167.0]);
        let half = 34.0;
        assert_eq!(ink(&svg("middle", ""))[..1], [left - half]);
        assert_eq!(ink(&svg("end", ""))[..1], [left - 2.0 * half - 1.0]);
        let upwards = ink(&svg("start", "transform=\"rotate(270, 100, 100)\""));
        assert_eq!(upwards, [90.0, 33.0, 105.0, 98.0]);
    }

    #[test]
    fn another_svg_is_refused() {
        for (svg, says) in [
            ("no XML", "the drawing is not XML"),
            ("<svg width=\"1\" height=\"1\"><path fill=\"#000000\"/></svg>", "element 0, <path>"),
            (&svg("justify", ""), "element 0, <text>"),
            (&svg("end", "transform=\"scale(2)\""), "element 0, <text>"),
        ] {
            assert_eq!(png(svg).expect_err(svg).to_string(), says);
        }
    }
}
