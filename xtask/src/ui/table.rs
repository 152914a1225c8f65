//! The tables of a terminal.

use bench_core::{
    metric,
    schema::{Column, Comparison, ResultFile},
};

use crate::{
    config::Profile,
    format,
    report::{Page, verdict_word},
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

/// The closing table of a suite: the objective, the targets, and where the time went.
pub fn closing_table(profile: &Profile, comparison: &ResultFile) -> String {
    let mut wanted: Vec<(&str, &str)> =
        profile.targets.iter().map(|limit| (limit.metric.as_str(), limit.load.as_str())).collect();
    let objective = (profile.objective.metric.as_str(), profile.objective.load.as_str());
    if !wanted.contains(&objective) {
        wanted.insert(0, objective);
    }
    let header = ["", "load", "baseline", "default", "tuned", "tuned vs default", "target", ""];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (metric_id, load) in wanted {
        let found = comparison.comparisons.iter().find(|c| c.metric == metric_id && c.load == load);
        let (Some(row), Some(metric)) = (found, metric::find(metric_id)) else { continue };
        let cell = |column| {
            let estimate = row.columns.get(&column);
            estimate.map_or(format::NOTHING.to_owned(), |e| format::estimate(Some(metric), e))
        };
        let (target, met) = target(comparison, row);
        rows.push(vec![
            format::title(Some(metric), metric.id),
            load.to_owned(),
            cell(Column::Baseline),
            cell(Column::Default),
            cell(Column::Tuned),
            change(row),
            target,
            met,
        ]);
    }
    let mut out = layout(&rows);
    for finding in &comparison.findings {
        out += &format!(" {finding}\n");
    }
    out
}

fn change(row: &Comparison) -> String {
    let (Some(change), Some(word), Some(metric)) =
        (&row.change, row.verdict, metric::find(&row.metric))
    else {
        return String::new();
    };
    format!("{}  {}", format::change(Some(metric), change), verdict_word(word))
}

fn target(comparison: &ResultFile, row: &Comparison) -> (String, String) {
    let found = comparison.targets.iter().find(|t| t.metric == row.metric && t.load == row.load);
    let (Some(target), Some(metric)) = (found, metric::find(&row.metric)) else {
        return (String::new(), String::new());
    };
    let sign = if target.bound == "max" { "≤" } else { "≥" };
    let met = match (target.found, target.met) {
        (None, _) => "not measured",
        (_, true) => "met",
        (_, false) => "missed",
    };
    (format!("{sign} {}", format::given(Some(metric), target.limit)), met.to_owned())
}

/// Two results side by side, for `cargo xtask compare A B`.
pub fn verdicts(page: &Page<'_>) -> String {
    format!("{}\n {} {}\n", layout(&page.lines()), format::sentence(page.word()), page.summary())
}
