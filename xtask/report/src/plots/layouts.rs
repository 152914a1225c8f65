//! Tokens/s a user against tokens/s a card, a curve a layout, and the points that none beats in both.

use bench_core::schema::{LayoutPoint, Role};
use plotters::style::RGBColor;

use super::{
    Inputs,
    canvas::{Anchor, Canvas, Rect, Shape},
    data::Figure,
    panel::{Frame, Key, Panel, page},
    scale::Scale,
    style::{BAND, FAINT_GREY, LINE, NAMES, PAPER, SERIES, faint, label},
};
use analysis::pareto::beaten_by;

/// Name of the drawing and, with another ending, of its figures.
pub const NAME: &str = "layouts";

struct Dot<'a> {
    point: &'a LayoutPoint,
    user: Figure,
    card: Figure,
    at: (i32, i32),
    style: (RGBColor, Shape),
}

pub(super) fn draw(inputs: &Inputs<'_>) -> String {
    let points = inputs.layouts;
    let mut layouts: Vec<&str> = points.iter().map(|point| point.layout.as_str()).collect();
    layouts.dedup();
    let style = |layout: &str| {
        let index = layouts.iter().position(|other| *other == layout).unwrap_or_default();
        (SERIES[index % SERIES.len()], Shape::of(index))
    };
    let subtitle = format!(
        "{} · loads whose pace the server sets · tokens/s a user: 1 / mean TPOT",
        inputs.engine()
    );
    page((1200, 700), "Layouts: what a user gets, what a card gives", &subtitle, |canvas, body| {
        let cell = Rect { right: body.right - NAMES, ..body };
        let key = |layout: &&str| {
            let (color, shape) = style(layout);
            (Key::Line(color, shape), (*layout).to_owned())
        };
        let unbeaten = (Key::Band, "none gives more of both".to_owned());
        let legend: Vec<_> = layouts.iter().map(key).chain([unbeaten]).collect();
        let figures = |of: fn(&LayoutPoint) -> Option<Figure>| {
            points.iter().filter_map(of).flat_map(|figure| figure.values()).collect::<Vec<_>>()
        };
        let across = Scale::around(&figures(user), true, 0.05);
        let frame = Frame {
            title: "One point a load",
            y_title: "output tokens/s a card",
            x_title: "output tokens/s a user",
            x_lines: 1,
            legend: &legend,
        };
        let up = Scale::around(&figures(card), true, 0.08);
        let panel = Panel::new(canvas, cell, &frame, up);
        let x = |value: f64| {
            panel.plot.left + libm::round(across.at(value) * f64::from(panel.plot.width())) as i32
        };
        for (value, text) in across.ticks() {
            panel.x_label(x(*value), 80, std::slice::from_ref(text));
        }
        let dots: Vec<Dot<'_>> = points
            .iter()
            .filter_map(|point| {
                let (user, card) = (user(point)?, card(point)?);
                let at = (x(user.mean), panel.y(card.mean));
                Some(Dot { point, user, card, at, style: style(&point.layout) })
            })
            .collect();
        for dot in &dots {
            let (x_at, y_at) = dot.at;
            if let Some((low, high)) = dot.card.interval {
                canvas.whisker(x_at, (panel.y(low), panel.y(high)), 3, FAINT_GREY);
            }
            if let Some((low, high)) = dot.user.interval {
                canvas.line(&[(x(low), y_at), (x(high), y_at)], FAINT_GREY, 1);
            }
        }
        line(canvas, dots.iter().filter(|dot| dot.point.is_unbeaten), BAND, 9);
        for layout in &layouts {
            let own = || dots.iter().filter(|dot| dot.point.layout == *layout);
            let costs: Vec<_> = own().map(|dot| [-dot.user.mean, -dot.card.mean]).collect();
            let beaten = beaten_by(&costs);
            let best = own().zip(&beaten).filter(|(_, by)| by.is_none()).map(|(dot, _)| dot);
            line(canvas, best, style(layout).0, 2);
        }
        let list = Rect { left: cell.right + 24, top: panel.plot.top, ..body };
        name(canvas, &dots, Rect { bottom: panel.plot.bottom, ..list });
    })
}

fn user(point: &LayoutPoint) -> Option<Figure> {
    Figure::of(&point.tokens_per_s_per_user, 1.0)
}

fn card(point: &LayoutPoint) -> Option<Figure> {
    Figure::of(&point.tokens_per_s_per_card, 1.0)
}

/// Through the dots, from left to right.
fn line<'d>(
    canvas: &Canvas<'_>,
    dots: impl Iterator<Item = &'d Dot<'d>>,
    color: RGBColor,
    width: u32,
) {
    let mut corners: Vec<_> = dots.map(|dot| dot.at).collect();
    corners.sort_unstable();
    if corners.len() > 1 {
        canvas.line(&corners, color, width);
    }
}

/// The dots, and beside those that none beats their number in the list.
fn name(canvas: &Canvas<'_>, dots: &[Dot<'_>], list: Rect) {
    let mut taken: Vec<Rect> = Vec::new();
    for Dot { point, at: (x, y), style: (color, shape), user, card } in dots {
        canvas.mark((*x, *y), *shape, *color, false);
        let spot = Rect::new(x - 7, y - 7, x + 7, y + 7);
        taken.push(spot);
        let told = format!(
            "{}: {} a user, {} a card",
            told(point),
            user.words("tokens/s"),
            card.words("tokens/s")
        );
        canvas.tell(spot, &told);
    }
    let mut y = list.top;
    canvas.text("None gives more of both:", (list.left, y), faint(Anchor::Start));
    let mut unbeaten: Vec<&Dot<'_>> = dots.iter().filter(|dot| dot.point.is_unbeaten).collect();
    unbeaten.sort_by_key(|dot| dot.at);
    for (i, dot) in unbeaten.into_iter().enumerate() {
        let text = (i + 1).to_string();
        let how = label(Anchor::Middle).bold();
        let half = how.width(&text) / 2 + 2;
        let rect = |(x, y): (i32, i32)| Rect::new(x - half, y - 8, x + half, y + 8);
        let (x, at_y) = dot.at;
        let spots =
            [(0, -16), (16, 0), (-16, 0), (0, 16), (14, -14), (-14, -14), (14, 14), (-14, 14)];
        let mut spots = spots.into_iter().map(|(right, down)| (x + right, at_y + down));
        if let Some(spot) = spots.find(|spot| !taken.iter().any(|t| t.overlaps(&rect(*spot)))) {
            taken.push(rect(spot));
            canvas.fill(rect(spot), PAPER);
            canvas.text(&text, spot, how);
        }
        y += LINE;
        if y < list.bottom {
            canvas.mark((list.left + 4, y), dot.style.1, dot.style.0, false);
            canvas.text(&text, (list.left + 20, y), label(Anchor::Start).bold());
            let how = label(Anchor::Start);
            let words = how.cut(&told(dot.point), list.right - list.left - 44);
            canvas.text(&words, (list.left + 44, y), how);
        }
    }
}

/// Layout, load and, where the layout does not say it, the setting.
fn told(point: &LayoutPoint) -> String {
    let LayoutPoint { layout, label, load, role, .. } = point;
    match role {
        Role::Sweep | Role::Default => format!("{layout}, {load}"),
        _ => format!("{layout}, {load} ({label})"),
    }
}
