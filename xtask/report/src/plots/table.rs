//! A small table, drawn as text.

use plotters::style::RGBColor;

use super::{
    canvas::{Anchor, Canvas, Rect, Type},
    style::{FAINT_INK, GRID, INK, faint, heading, label},
};

/// Height of a row.
const ROW: i32 = 27;
/// Distance between columns.
const GAP: i32 = 9;

/// The text of a cell and its colour.
pub type Cell = (String, RGBColor);

/// Height of title, heads and note.
const AROUND: i32 = 56 + ROW;

/// Height of a table of so many rows.
pub fn height(rows: usize) -> i32 {
    AROUND + rows as i32 * ROW
}

/// Rows that fit into the rectangle, below title and heads and above a note.
pub fn capacity(within: Rect) -> usize {
    usize::try_from((within.height() - AROUND) / ROW).unwrap_or_default()
}

/// Draws the rows below the heads, and a note below the rows. The columns are as wide as their
/// texts; the first takes what is left and is cut where that does not suffice.
pub fn draw<R: AsRef<[Cell]>>(
    canvas: &Canvas<'_>,
    within: Rect,
    title: &str,
    heads: &[&str],
    rows: &[R],
    note: &str,
) {
    canvas.text(title, (within.left, within.top + 8), heading(Anchor::Start));
    let heads: Vec<Cell> = heads.iter().map(|head| ((*head).to_owned(), FAINT_INK)).collect();
    let rows = || std::iter::once(&heads[..]).chain(rows.iter().map(AsRef::as_ref));
    let mut lefts = vec![within.left; heads.len()];
    let mut right = within.right;
    for i in (1..heads.len()).rev() {
        let texts = rows().map(|row| &row[i]);
        right -= texts.map(|cell| how(cell, Anchor::End).width(&cell.0)).max().unwrap_or_default();
        lefts[i] = right;
        right -= GAP;
    }
    let mut y = within.top + 40;
    for row in rows() {
        for (i, cell) in row.iter().enumerate() {
            let end = if i + 1 < row.len() { lefts[i + 1] - GAP } else { within.right };
            let (x, anchor) =
                if i == 0 { (within.left, Anchor::Start) } else { (end, Anchor::End) };
            let how = how(cell, anchor);
            canvas.text(&how.cut(&cell.0, end - lefts[i]), (x, y), how);
        }
        canvas.line(&[(within.left, y + ROW / 2), (within.right, y + ROW / 2)], GRID, 1);
        y += ROW;
    }
    let how = faint(Anchor::Start);
    canvas.text(&how.cut(note, within.width()), (within.left, y), how);
}

/// What has a colour of its own is bold too.
fn how(cell: &Cell, anchor: Anchor) -> Type {
    let how = Type { color: cell.1, ..label(anchor) };
    if [INK, FAINT_INK].contains(&cell.1) { how } else { how.bold() }
}
