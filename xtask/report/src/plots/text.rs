//! How a text in a plot looks, and its size.

use std::sync::LazyLock;

use plotters::style::{FontDesc, FontFamily, FontStyle, RGBColor, register_font};

/// DejaVu Sans, and for a browser without it the fonts closest in width.
pub const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Height of DejaVu Sans's line (ascent less descent) in units of its size.
const LINE_PER_PX: f64 = 1.164;

static FONTS: LazyLock<()> = LazyLock::new(|| {
    for (style, bytes) in
        [(FontStyle::Normal, dejavu::sans::regular()), (FontStyle::Bold, dejavu::sans::bold())]
    {
        assert!(register_font(FAMILY, style, bytes).is_ok(), "the embedded font is a font");
    }
});

/// Which point of a text its position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks. Sizes are pixels; 13 and 15 have no exact text in the SVG backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Type {
    pub px: u32,
    pub bold: bool,
    pub color: RGBColor,
    pub anchor: Anchor,
}

impl Type {
    pub fn new(px: u32, color: RGBColor, anchor: Anchor) -> Self {
        Self { px, bold: false, color, anchor }
    }

    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The font, in plotters' size.
    pub fn font(self, size: f64) -> FontDesc<'static> {
        LazyLock::force(&FONTS);
        let style = if self.bold { FontStyle::Bold } else { FontStyle::Normal };
        FontDesc::new(FontFamily::Name(FAMILY), size, style)
    }

    /// Width of the text in pixels.
    pub fn width(self, text: &str) -> i32 {
        let font = self.font(f64::from(self.px) * LINE_PER_PX);
        let (width, _) = font.box_size(text).expect("the embedded font has metrics");
        width as i32 + 1
    }

    /// The text, cut with an ellipsis where it is wider than `width`.
    pub fn cut(self, text: &str, width: i32) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let mut kept: Vec<char> = text.chars().take(200).collect();
        while kept.pop().is_some() {
            let shorter = format!("{}…", kept.iter().collect::<String>().trim_end());
            if self.width(&shorter) <= width {
                return shorter;
            }
        }
        String::new()
    }

    /// The text on at most `lines` lines of that width, broken after spaces and hyphens.
    pub fn wrap(self, text: &str, width: i32, lines: usize) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for word in text.split_inclusive([' ', '-', '_', ',', '/']) {
            match out.last_mut() {
                Some(line) if self.width(format!("{line}{word}").trim_end()) <= width => {
                    line.push_str(word);
                }
                _ => out.push(word.to_owned()),
            }
        }
        if out.len() > lines {
            let rest = out.split_off(lines.saturating_sub(1)).concat();
            out.push(rest);
        }
        out.iter().map(|line| self.cut(line.trim_end(), width)).collect()
    }
}
