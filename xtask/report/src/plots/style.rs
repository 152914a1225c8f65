//! Colours, type and distances. The colours are Okabe and Ito's, told apart with any colour vision.

use bench_core::schema::Role;
use plotters::style::RGBColor;

use super::text::{Anchor, Type};

pub const PAPER: RGBColor = RGBColor(255, 255, 255);
pub const INK: RGBColor = RGBColor(33, 33, 33);
pub const FAINT_INK: RGBColor = RGBColor(95, 95, 95);
pub const GRID: RGBColor = RGBColor(225, 225, 225);
pub const FAINT_GREY: RGBColor = RGBColor(190, 190, 190);
pub const BAND: RGBColor = RGBColor(222, 235, 246);

const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub const SKY: RGBColor = RGBColor(86, 180, 233);
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
const YELLOW: RGBColor = RGBColor(240, 228, 66);
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const GREY: RGBColor = RGBColor(140, 140, 140);

/// Colours of the parts of a request's life, in the order of `Anatomy::parts`.
pub const PARTS: [RGBColor; 5] = [YELLOW, PURPLE, VERMILLION, ORANGE, GREEN];
pub const FRONT_END: RGBColor = PARTS[1];
pub const QUEUE: RGBColor = PARTS[2];

/// The configurations that are compared, in order, with their colours.
pub const CONFIGURATIONS: [(Role, RGBColor); 3] =
    [(Role::Baseline, GREY), (Role::Default, SKY), (Role::Tuned, BLUE)];

/// Colours of series without a meaning of their own.
pub const SERIES: [RGBColor; 6] = [BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY];

/// Width of a list of names beside a plot.
pub const NAMES: i32 = 330;
/// Distance between two names of it.
pub const LINE: i32 = 22;

/// Whether black text reads on the colour.
pub fn is_light(RGBColor(r, g, b): RGBColor) -> bool {
    u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114 > 140_000
}

pub fn heading(anchor: Anchor) -> Type {
    Type::new(14, INK, anchor).bold()
}

pub fn label(anchor: Anchor) -> Type {
    Type::new(12, INK, anchor)
}

pub fn faint(anchor: Anchor) -> Type {
    Type::new(12, FAINT_INK, anchor)
}

pub fn small(anchor: Anchor) -> Type {
    Type::new(11, INK, anchor)
}
