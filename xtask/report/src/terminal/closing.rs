//! The last screen of a suite: what to deploy and why, the limits, the objective, and what else
//! got worse. Nothing in it is wider than a terminal of 80 columns.

use bench_core::{
    metric,
    schema::{
        Column, CompareResult, Comparison, Decision, Point, Recommendation, Role, TargetState,
    },
    wrap::{WIDTH, wrap},
};

use crate::{
    format::{self, NOTHING},
    tables, targets, words,
};
use analysis::{Configuration, comparison::is_goal, limits};
use profile::Profile;

/// What got worse, the goals aside, is named so far; the report has the rest.
const WORSE_MAX: usize = 3;

/// The screen. `problems` are the causes for which settings or trials do not count.
pub fn closing(profile: &Profile, comparison: &CompareResult, problems: &[String]) -> String {
    let mut out = String::new();
    let mut say = |text: &str, indent: usize| out += &wrap(&plain(text), indent, WIDTH);
    let decision = &comparison.decision;
    say(&words::headline(decision), 1);
    let grounds = words::grounds(decision, &comparison.comparisons, profile);
    if !grounds.is_empty() {
        say(&grounds, 1);
    }
    if let Some(words) = crate::serve_command(profile, comparison) {
        say("", 0);
        command(&words).iter().for_each(|line| say(line, 1));
    }
    if !(decision.flags.is_empty() && decision.limits.is_empty()) {
        say("", 0);
    }
    if !decision.flags.is_empty() {
        say("Why each flag:", 1);
        for reason in &decision.flags {
            let flags = format::args(&reason.args);
            say(&format!("{flags}: {}.", words::flag(reason, profile)), 3);
        }
    }
    for limit in &decision.limits {
        say(&format!("Limit: {}{}.", words::limit(limit, profile), of_whom(decision)), 1);
    }
    say("", 0);
    for line in table(profile, comparison) {
        say(&line, 1);
    }
    let limits = decision.limits.iter().filter(|limit| limit.found.is_some());
    let limits = limits.map(|limit| (limit.metric.as_str(), limit.load.as_str()));
    let targets = comparison.targets.iter().filter(|target| target.found.is_some());
    let targets = targets.map(|target| (target.metric.as_str(), target.load.as_str()));
    if let Some(note) = words::few_note(profile, limits.chain(targets)) {
        say(&note, 1);
    }
    for line in beside(profile, comparison, problems) {
        say(&line, 1);
    }
    out
}

/// The screen where nothing was compared since a stage failed: what is known all the same. Why it failed
/// stands above it, at the stage.
pub fn failed(profile: &Profile, points: &[Point], problems: &[String]) -> String {
    let mut out = String::new();
    let mut say = |text: &str| out += &wrap(&plain(text), 1, WIDTH);
    let of = |role| Configuration::of(points, profile, |point: &Point| point.role == role);
    let default = of(Role::Default);
    for limit in &profile.slo {
        let points: Vec<&Point> = points.iter().filter(|p| p.role == Role::Default).collect();
        let limit = limits::judge(limit, &points);
        let whose =
            limit.found.as_ref().and(default.as_ref()).map(|one| format!(", {}", one.label));
        say(&format!("Limit: {}{}.", words::limit(&limit, profile), whose.unwrap_or_default()));
    }
    let objective = &profile.objective;
    let metric = metric::find(&objective.metric);
    let figures: Vec<String> = [Role::Baseline, Role::Default, Role::Tuned]
        .into_iter()
        .filter_map(of)
        .filter_map(|one| {
            Some(format!("{} {}", one.label, format::estimate(metric, one.objective?)))
        })
        .collect();
    say(&format!(
        "{} on {} (objective) {}.",
        format::title(metric, &objective.metric),
        objective.load,
        if figures.is_empty() { "was not measured".to_owned() } else { figures.join(", ") }
    ));
    match profile.targets.len() + profile.gains.len() {
        0 => {}
        n => say(&format!("Targets: none of {n} was judged.")),
    }
    say("Nothing was compared, so nothing is known to be better or worse.");
    problems.iter().for_each(|problem| say(&format!("Does not count: {problem}.")));
    out
}

/// Whose figure a limit shows.
fn of_whom(decision: &Decision) -> &'static str {
    match decision.recommendation {
        Recommendation::Change => "",
        Recommendation::Defaults => ", with vLLM's defaults",
        Recommendation::Measured => "",
        Recommendation::NoneMeets => ", at the nearest setting",
    }
}

/// `vllm serve` on lines that a shell reads as one, none too wide where that can be helped.
fn command(words: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() + 4 < WIDTH => {
                *line += " ";
                *line += word;
            }
            Some(line) => {
                *line += " \\";
                lines.push(format!("  {word}"));
            }
            None => lines.push(word.clone()),
        }
    }
    lines
}

/// The goals and the targets: figures of each setting, change and verdict.
fn table(profile: &Profile, comparison: &CompareResult) -> Vec<String> {
    let is_target = |row: &Comparison| {
        profile.targets.iter().any(|t| t.metric == row.metric && t.load == row.load)
    };
    let rows: Vec<&Comparison> = comparison
        .comparisons
        .iter()
        .filter(|row| is_goal(profile, &row.metric, &row.load) || is_target(row))
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let tuned = match comparison.decision.recommendation {
        Recommendation::Change if comparison.decision.label == "tuned" => "tuned",
        _ => "candidate",
    };
    let is_judged = rows.iter().any(|row| row.change.is_some());
    let shows_baseline = !profile.baseline_args.is_empty();
    let columns = [
        (shows_baseline, Column::Baseline, "baseline"),
        (true, Column::Default, profile.endpoint().map_or("default", |_| &profile.name)),
        (is_judged, Column::Tuned, tuned),
    ];
    let shown = || columns.iter().filter(|(is_shown, ..)| *is_shown);
    let line = |cells: Vec<String>, last: &str| {
        let cells: String = cells.iter().map(|cell| format!("{cell:<16}")).collect();
        format!("  {cells}{last}").trim_end().to_owned()
    };
    let titles = shown().map(|(_, _, title)| (*title).to_owned()).collect();
    let mut lines = vec![line(titles, if is_judged { "change" } else { "" })];
    for row in rows {
        let metric = metric::find(&row.metric);
        let cell = |column: &Column| {
            let found = row.columns.get(column);
            found.map_or_else(|| NOTHING.to_owned(), |found| format::estimate(metric, found))
        };
        let name = format::title(metric, &row.metric);
        lines.push(format!("{name} on {}{}", row.load, target(profile, comparison, row)));
        let cells = shown().map(|(_, column, _)| cell(column)).collect();
        let verdict = if is_judged { words::verdict(row) } else { None };
        lines.push(line(cells, &verdict.unwrap_or_default()));
    }
    lines
}

/// ` (objective)`, or the target and whether it is met.
fn target(profile: &Profile, comparison: &CompareResult, row: &Comparison) -> String {
    let objective = &profile.objective;
    let mut notes = Vec::new();
    if row.metric == objective.metric && row.load == objective.load {
        notes.push("objective".to_owned());
    }
    let of_row = |metric: &str, load: &str| row.metric == metric && row.load == load;
    if profile.slo.iter().any(|limit| of_row(&limit.metric, &limit.load)) {
        notes.push("limit".to_owned());
    }
    for guard in profile.guards.iter().filter(|guard| of_row(&guard.metric, &guard.load)) {
        notes.push(format!("no worse by more than {} %", guard.margin_percent));
    }
    for target in comparison.targets.iter().filter(|t| of_row(&t.metric, &t.load)) {
        let what = if target.over_baseline { "gain" } else { "target" };
        let goal = targets::goal(target);
        notes.push(format!("{what} {goal}: {}", targets::outcome(target, profile)));
        if let (TargetState::OutOfReach, Some(floor)) = (target.state, &target.floor) {
            notes.push(format!("floor {}", format::value(metric::find(&row.metric), floor.value)));
        }
    }
    if let Some(week2) = row.columns.get(&Column::Week2) {
        let name = tables::reference_name(profile);
        let figure = format::given(metric::find(&row.metric), week2.mean);
        notes.push(format!("{name}: {figure}"));
    }
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) }
}

/// What else got worse, where the time went, and what does not count.
fn beside(profile: &Profile, comparison: &CompareResult, problems: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let worse =
        words::worse(&comparison.comparisons, |row| is_goal(profile, &row.metric, &row.load));
    let is_judged = comparison.comparisons.iter().any(|row| row.change.is_some());
    match worse.len() {
        0 if is_judged => lines.push("Nothing else is proven worse.".to_owned()),
        0 if profile.endpoint().is_some() => lines.push(
            "Nothing was compared with it, so nothing is known to be better or worse.".to_owned(),
        ),
        0 => lines.push(
            "Nothing was judged against vLLM's defaults, so nothing is known to be worse."
                .to_owned(),
        ),
        n => {
            let more = n.saturating_sub(WORSE_MAX);
            let named = format::list(&worse[..n.min(WORSE_MAX)]);
            let rest =
                if more > 0 { format!("; {more} more in the report") } else { String::new() };
            lines.push(format!("Also worse: {named}{rest}."));
        }
    }
    if is_judged {
        lines.extend(
            comparison.findings.first().map(|went| format!("Where the time went: {went}.")),
        );
    }
    if problems.is_empty() {
        lines.push("Every setting ran, and every trial counts.".to_owned());
    }
    for problem in problems {
        lines.push(format!("Does not count: {problem}."));
    }
    lines
}

/// Markdown's marks are for the report.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::Fixture, outcomes::outcomes};

    /// What a user asks, and the beginnings of lines of which one answers it.
    const QUESTIONS: [(&str, &[&str]); 10] = [
        ("what do I deploy?", &[" Deploy ", " Keep vLLM's defaults.", " No setting meets"]),
        ("with which command?", &[" vllm serve ", " No setting meets the limits: nothing is"]),
        (
            "why?",
            &[
                " It changes ",
                " Of what was tried ",
                " No value tried ",
                " It meets the limits, which ",
                " Nearest: ",
                " vLLM's defaults do not run",
            ],
        ),
        (
            "does it keep my first limit, how surely?",
            &[" Limit: TTFT P95 ≤ 500 ms on production is "],
        ),
        ("and the other?", &[" Limit: TPOT P95 ≤ 50 ms on production is "]),
        ("what did the objective do?", &[" Output throughput, tokens/s on burst (objective"]),
        ("against what?", &["   baseline        default"]),
        ("are my targets met?", &[" Queue share of E2E on burst (target ≤ 50 %: "]),
        ("what got worse?", &[" Also worse: ", " Nothing else is proven", " Nothing was judged"]),
        ("what failed, and why?", &[" Does not count: 4096: sampler warm-up (out of memory)"]),
    ];

    #[test]
    fn ten_questions_are_answered_by_the_last_screen_alone() {
        for (name, Fixture { profile, comparison, .. }) in outcomes() {
            let problems = ["4096: sampler warm-up (out of memory)".to_owned()];
            let screen = closing(&profile, &comparison, &problems);
            for (question, answers) in QUESTIONS {
                let is_answer = |line: &str| answers.iter().any(|answer| line.starts_with(answer));
                assert!(screen.lines().any(is_answer), "{name}: {question}\n{screen}");
            }
        }
    }

    #[test]
    fn what_comes_of_too_few_requests_is_marked() {
        let mut fixture = Fixture::full();
        let screen = |fixture: &Fixture| {
            closing(&fixture.profile, &fixture.comparison, &[]).replace("\n   ", " ")
        };
        assert!(!screen(&fixture).contains('†'), "1,000 requests");
        fixture.few_requests("production");
        let screen = screen(&fixture);
        for part in [
            "Limit: TTFT P95 ≤ 500 ms on production is met†: ",
            "Limit: TPOT P95 ≤ 50 ms on production is met†: ",
            "E2E P95 on production (target ≤ 2 s: missed†, ",
            "Queue share of E2E on burst (target ≤ 50 %: met, ",
            " † of fewer requests a start than a verdict on it needs: TTFT P95 on production 40 of 200, TPOT P95 \
             on production 40 of 200, E2E P95 on production 40 of 200.",
        ] {
            assert!(screen.contains(part), "{part}\n{screen}");
        }
    }

    /// Six outcomes: every question of a user has its answer on one screen of 80 columns.
    #[test]
    fn the_last_screen_of_six_outcomes() {
        let mut out = String::new();
        for (name, Fixture { profile, comparison, .. }) in outcomes() {
            let problems = ["4096: sampler warm-up (out of memory)".to_owned()];
            let screen = closing(&profile, &comparison, &problems);
            for line in screen.lines() {
                assert!(line.chars().count() <= WIDTH, "{name}: {line}");
            }
            assert!(screen.lines().count() <= 40, "{name} is more than a screen");
            out += &format!("── {name}\n{screen}\n");
        }
        insta::assert_snapshot!(out);
    }
}
