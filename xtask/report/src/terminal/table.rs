//! The tables of a terminal.

use bench_core::{
    metric,
    schema::Comparison,
    wrap::{WIDTH, wrap},
};

use crate::{
    Page, format,
    verdicts::{FIGURES, figures},
    words,
};

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
        say(&line(row), 3);
    }
    say("", 0);
    page.summary().iter().for_each(|sentence| say(sentence, 1));
    say(FIGURES, 1);
    if !all {
        say("Every metric: --all", 1);
        return out;
    }
    for row in &page.compared.rows {
        say("", 0);
        say(
            &format!("{} on {}", format::title(metric::find(&row.metric), &row.metric), row.load),
            1,
        );
        say(&line(row), 3);
        if !row.reason.is_empty() {
            say(&format!("{}.", row.reason), 3);
        }
    }
    out
}

/// The figures of both sides, change and verdict.
fn line(row: &Comparison) -> String {
    let verdict = words::verdict(row)
        .or_else(|| row.verdict.map(|verdict| words::verdict_word(verdict).to_owned()));
    let [before, after] = figures(row);
    format!("{before:<18}{after:<18}{}", verdict.unwrap_or_default())
}
