//! The tables of a terminal.

use bench_core::{
    metric,
    wrap::{WIDTH, wrap},
};

use crate::{
    Page, format,
    verdicts::{FIGURES, figures},
    words,
};

/// Lays out rows in columns wide enough for their cells; the first is left-aligned like the rest.
fn layout(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width - cell.chars().count();
            line += &format!(" {cell}{}  ", " ".repeat(pad));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// Two results side by side, for `cargo xtask compare A B`: the verdict, the goals, what else got
/// worse; with `all` every metric.
pub fn compared(page: &Page<'_>, all: bool) -> String {
    let mut out = String::new();
    let mut say = |text: &str, indent| out += &wrap(&text.replace('`', ""), indent, WIDTH);
    say(
        &format!(
            "{}: {} → {}",
            format::sentence(page.word()).trim_end_matches('.'),
            page.before.name,
            page.after.name
        ),
        1,
    );
    say("", 0);
    for goal in page.goals() {
        let rows = &page.compared.rows;
        let row = rows.iter().find(|row| row.metric == goal.metric && row.load == goal.load);
        let metric = metric::find(&goal.metric);
        let title = format::title(metric, &goal.metric);
        let what = match &goal.limit {
            None => format!("{title} on {} (objective)", goal.load),
            Some((_, after)) => format!("{} {}", words::bound(after), words::state(after)),
        };
        say(&what, 1);
        let Some(row) = row else {
            say("not measured on both sides", 3);
            continue;
        };
        let verdict = words::verdict(row).unwrap_or_default();
        let [before, after] = figures(row);
        say(&format!("{before:<18}{after:<18}{verdict}"), 3);
    }
    say("", 0);
    page.summary().iter().for_each(|sentence| say(sentence, 1));
    say(FIGURES, 1);
    if all {
        out += &format!("\n{}", layout(&page.lines()));
    } else {
        out += " Every metric: --all\n";
    }
    out
}
