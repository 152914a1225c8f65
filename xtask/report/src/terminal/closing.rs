//! The last screen of a suite: what to deploy and why, the limits, the objective, and what else
//! got worse. Nothing in it is wider than a terminal of 80 columns.

use bench_core::{
    metric,
    schema::{
        CapacityResult, Column, CompareResult, Comparison, Decision, LimitOutcome, Point,
        Recommendation, Role, TargetState,
    },
    wrap::{WIDTH, wrap},
};

use crate::{
    format::{self, NOTHING},
    tables, targets, words,
};
use analysis::{Configuration, comparison::is_goal, lead::Lead, limits};
use profile::Profile;

/// An interval as wide as this, in percent or points, is shown without digits after the point.
const WIDE_PERCENT: f64 = 20.0;

/// Said where a server does not tell what a request waits for.
const UNKNOWN_PARTS: &str = "Where a request's time goes the server does not say.";

/// What got worse, the goals aside, is named so far; the report has the rest.
const WORSE_MAX: usize = 3;

/// How to read figures and changes.
const INTERVALS: &str = "± is half the 95 % interval over server starts, (a to b) are its ends.";

/// What the screen shows beside the comparison.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Every configuration that was measured.
    pub points: &'a [Point],
    /// Causes for which settings or trials do not count.
    pub problems: &'a [String],
    /// Failed requests of trials that count.
    pub failed_requests: &'a [String],
    /// A value that leads a sweep and is no candidate.
    pub lead: Option<&'a Lead>,
    /// The rates that the settings sustain, where the profile has `[capacity]`.
    pub capacity: Option<&'a CapacityResult>,
}

/// The screen.
pub fn closing(profile: &Profile, comparison: &CompareResult, beside: &Beside<'_>) -> String {
    let mut out = String::new();
    let mut say = |text: &str, indent: usize| out += &wrap(&plain(text), indent, WIDTH);
    let decision = &comparison.decision;
    say(&words::headline(decision), 1);
    let grounds = words::grounds(decision, &comparison.comparisons, profile);
    if !grounds.is_empty() {
        say(&grounds, 1);
    }
    let own = &profile.engine_args;
    if own.keys().any(|flag| flag != "max-model-len") {
        say(
            &format!("Here vLLM's defaults are those with [engine.args]: {}.", format::args(own)),
            1,
        );
    }
    let undecided = words::undecided(profile, comparison, beside.lead);
    let next = words::next(profile, decision, undecided.is_some());
    undecided.into_iter().chain(next).for_each(|sentence| say(&sentence, 1));
    if let Some(words) = crate::serve_command(profile, comparison) {
        say("", 0);
        command(&words).iter().for_each(|line| say(line, 1));
    }
    if !decision.flags.is_empty() {
        say("", 0);
        say("Why each flag:", 1);
        for reason in &decision.flags {
            let flags = format::args(&reason.args);
            say(&format!("{flags}: {}.", words::flag(reason, profile)), 3);
        }
    }
    say("", 0);
    Table::of(profile, comparison).lines().iter().for_each(|line| say(line, 1));
    targets_met(profile, comparison).iter().for_each(|line| say(line, 1));
    let limits = decision.limits.iter().filter(|limit| limit.found.is_some());
    let limits = limits.map(|limit| (limit.metric.as_str(), limit.load.as_str()));
    let targets = comparison.targets.iter().filter(|target| target.found.is_some());
    let targets = targets.map(|target| (target.metric.as_str(), target.load.as_str()));
    if let Some(note) = words::few_note(profile, limits.chain(targets)) {
        say(&note, 1);
    }
    for line in besides(profile, comparison, beside) {
        say(&line, 1);
    }
    explained(out)
}

/// The screen with how to read its intervals, where it has any.
fn explained(screen: String) -> String {
    if screen.contains('±') { screen + &wrap(INTERVALS, 1, WIDTH) } else { screen }
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
    say(
        "Nothing was compared, so nothing is known to be better or worse, nor what limits the server.",
    );
    problems.iter().for_each(|problem| say(&format!("Does not count: {problem}.")));
    // Without figures of the defaults nothing is compared.
    let is_stored = |point: &Point| {
        let is_invalid = || point.trials.iter().any(|trial| trial.invalid.is_some());
        point.role == Role::Default && (point.failure.is_some() || is_invalid())
    };
    say(match points.iter().any(is_stored) {
        true => {
            "Next: remove the cause, then run the same command; with `--fresh` where the profile stays as it \
             is, for what failed is stored as a result."
        }
        false => {
            "Next: remove the cause, then run the same command: it goes on from what is stored."
        }
    });
    explained(out)
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

/// The objective, the limits, the guards and what has a target: figures of each setting, change and
/// verdict.
struct Table<'a> {
    profile: &'a Profile,
    comparison: &'a CompareResult,
    rows: Vec<&'a Comparison>,
    columns: Vec<(Column, String)>,
    is_judged: bool,
}

impl<'a> Table<'a> {
    fn of(profile: &'a Profile, comparison: &'a CompareResult) -> Self {
        let has_target = |row: &Comparison| {
            profile.targets.iter().any(|t| t.metric == row.metric && t.load == row.load)
        };
        let mut rows: Vec<&Comparison> = Vec::new();
        for row in &comparison.comparisons {
            let is_goal = is_goal(profile, &row.metric, &row.load);
            // Metrics whose ratio is the same are one measurement, such as tokens and requests a second.
            let is_shown = rows.iter().any(|other| {
                other.load == row.load && other.change.is_some() && other.change == row.change
            });
            if is_goal || (has_target(row) && !is_shown) {
                rows.push(row);
            }
        }
        let is_judged = rows.iter().any(|row| row.change.is_some());
        // Where the defaults do not run, what is deployed has nothing beside it.
        let is_alone = |row: &&Comparison| {
            row.columns.contains_key(&Column::Tuned) && !row.columns.contains_key(&Column::Default)
        };
        let has_candidate = is_judged || rows.iter().any(is_alone);
        let candidate = words::candidate_name(&comparison.decision).filter(|_| has_candidate);
        let default = profile.endpoint().map_or("default", |_| &profile.name);
        let baseline = Some("baseline").filter(|_| !profile.baseline_args.is_empty());
        let columns = [
            (Column::Baseline, baseline),
            (Column::Default, Some(default)),
            (Column::Tuned, candidate),
        ];
        let columns = columns.into_iter();
        let columns = columns.filter_map(|(column, title)| Some((column, title?.to_owned())));
        let columns = columns.collect();
        Self { profile, comparison, rows, columns, is_judged }
    }

    /// Titles, and of each row its name above its figures; a limit's name says whether it is met.
    fn lines(&self) -> Vec<String> {
        let decision = &self.comparison.decision;
        let limit_of = |row: &Comparison| {
            let is_own =
                |limit: &&LimitOutcome| limit.metric == row.metric && limit.load == row.load;
            decision.limits.iter().find(is_own)
        };
        let limit_name = |limit: &LimitOutcome| {
            format!("Limit: {}{}.", words::limit(limit, self.profile), of_whom(decision))
        };
        let mut lines = Vec::new();
        if !self.rows.is_empty() {
            // A title wider than a column goes on below.
            let titles = self.columns.iter().map(|(_, title)| title.split_once(", "));
            let titles = titles.zip(&self.columns).map(|(two, (_, title))| match two {
                Some((first, second)) => (format!("{first},"), second.to_owned()),
                None => (title.clone(), String::new()),
            });
            let (titles, below): (Vec<_>, Vec<_>) = titles.unzip();
            lines.push(self.line(&titles, if self.is_judged { "change" } else { "" }));
            lines
                .extend(below.iter().any(|title| !title.is_empty()).then(|| self.line(&below, "")));
        }
        // What nobody measured has no row.
        let without_row = decision.limits.iter().filter(|limit| {
            !self.rows.iter().any(|row| row.metric == limit.metric && row.load == limit.load)
        });
        lines.extend(without_row.map(limit_name));
        for row in &self.rows {
            lines.push(limit_of(row).map_or_else(|| self.name(row), limit_name));
            let cells: Vec<_> = self.columns.iter().map(|(column, _)| cell(row, *column)).collect();
            lines
                .push(self.line(&cells, &if self.is_judged { change(row) } else { String::new() }));
        }
        lines
    }

    fn line(&self, cells: &[String], last: &str) -> String {
        let width = |column| {
            let cells = self.rows.iter().map(|row| cell(row, column).chars().count());
            cells.max().unwrap_or(0).max("not deployed".len()) + 2
        };
        let padded = cells.iter().zip(&self.columns).map(|(text, (column, _))| {
            let pad = width(*column).saturating_sub(text.chars().count());
            format!("{text}{}", " ".repeat(pad))
        });
        format!("  {}{last}", padded.collect::<String>()).trim_end().to_owned()
    }

    /// `Output throughput, tokens/s on burst (objective, Week 2: 949)`
    fn name(&self, row: &Comparison) -> String {
        let Self { profile, .. } = self;
        let metric = metric::find(&row.metric);
        let mut notes = Vec::new();
        if row.metric == profile.objective.metric && row.load == profile.objective.load {
            notes.push("objective".to_owned());
        }
        let is_own = |metric: &str, load: &str| row.metric == metric && row.load == load;
        for guard in profile.guards.iter().filter(|guard| is_own(&guard.metric, &guard.load)) {
            notes.push(format!("no worse by more than {} %", guard.margin_percent));
        }
        if let Some(week2) = row.columns.get(&Column::Week2) {
            let name = tables::reference_name(profile);
            notes.push(format!("{name}: {}", format::given(metric, week2.mean)));
        }
        let notes =
            if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        format!("{} on {}{notes}", format::title(metric, &row.metric), row.load)
    }
}

fn cell(row: &Comparison, column: Column) -> String {
    let found = row.columns.get(&column);
    let metric = metric::find(&row.metric);
    found.map_or_else(|| NOTHING.to_owned(), |found| format::estimate(metric, found))
}

/// The change with its verdict; of one that is known to within tens of percent no digit after the point.
fn change(row: &Comparison) -> String {
    let Some(change) = &row.change else { return String::new() };
    let is_wide = change.low.zip(change.high).is_some_and(|(low, high)| high - low >= WIDE_PERCENT);
    let metric = metric::find(&row.metric);
    let change = match is_wide {
        true => format::change_to(metric, change, 0),
        false => format::change(metric, change),
    };
    match row.verdict {
        Some(verdict) => format!("{change}, {}", words::verdict_word(verdict)),
        None => change,
    }
}

/// How many targets are met, and of each other what it lacks.
fn targets_met(profile: &Profile, comparison: &CompareResult) -> Option<String> {
    let targets = &comparison.targets;
    let met = targets.iter().filter(|target| target.state == TargetState::Met);
    let few = met.clone().filter(|t| !words::few(profile, &t.metric, &t.load).is_empty()).count();
    let few = if few > 0 { format!(" ({few} of them†)") } else { String::new() };
    let mut text = format!("Targets: {} of {} met{few}", met.count(), targets.len());
    for target in targets.iter().filter(|target| target.state != TargetState::Met) {
        let metric = metric::find(&target.metric);
        let figure = target.found.map(|found| match target.over_baseline {
            true => format!("{} %", format::signed(found, 1)),
            false => format::value(metric, found),
        });
        let floor = target.floor.as_ref().filter(|_| target.state == TargetState::OutOfReach);
        let floor = floor.map(|floor| format!("floor {}", format::value(metric, floor.value)));
        let notes: Vec<String> = figure.into_iter().chain(floor).collect();
        let notes =
            if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        text += &format!(
            "; {} {} on {} {}{notes}",
            targets::name(target),
            targets::goal(target),
            target.load,
            targets::outcome(target, profile)
        );
    }
    (!targets.is_empty()).then(|| text + ".")
}

/// What else got worse, where the time goes, what rates are sustained, and what does not count.
fn besides(profile: &Profile, comparison: &CompareResult, beside: &Beside<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let worse =
        words::worse(&comparison.comparisons, |row| is_goal(profile, &row.metric, &row.load));
    let is_judged = comparison.comparisons.iter().any(|row| row.change.is_some());
    match worse.len() {
        0 if is_judged => lines.push("Nothing else is proven worse.".to_owned()),
        0 if profile.endpoint().is_some() => lines.push(
            "Nothing was compared with it, so nothing is known to be better or worse.".to_owned(),
        ),
        0 if comparison.decision.deployed == Some(Column::Baseline) => {
            lines.push(words::BASELINE_ALONE.to_owned());
        }
        0 => lines.push(
            "Nothing was judged against vLLM's defaults, so nothing is known to be worse."
                .to_owned(),
        ),
        n => {
            let more = n.saturating_sub(WORSE_MAX);
            let named = format::list(&worse[..n.min(WORSE_MAX)]);
            let rest =
                if more > 0 { format!("; {more} more in the report") } else { String::new() };
            lines.push(format!("Also worse{}: {named}{rest}.", of_candidate(&comparison.decision)));
        }
    }
    if is_judged {
        lines.extend(comparison.findings.first().map(|went| {
            format!("Where the time went{}: {went}.", of_candidate(&comparison.decision))
        }));
    }
    lines.push(
        words::limited_by(profile, &comparison.decision, beside.points)
            .unwrap_or_else(|| UNKNOWN_PARTS.to_owned()),
    );
    lines.extend(
        beside.capacity.and_then(|found| words::capacity(found, &comparison.decision, profile)),
    );
    lines.extend(
        beside.capacity.and_then(|found| words::traffic(found, &comparison.decision, profile)),
    );
    match (beside.problems, beside.failed_requests) {
        ([], []) => lines.push("Every setting ran, and every trial counts.".to_owned()),
        ([], _) => lines.push("Every setting ran. Some requests failed.".to_owned()),
        (problems, _) => {
            lines.extend(problems.iter().map(|problem| format!("Does not count: {problem}.")));
        }
    }
    lines.extend(beside.failed_requests.iter().map(|failed| format!("Failed requests: {failed}.")));
    lines
}

/// Of what figures against the defaults are, where that is not deployed.
fn of_candidate(decision: &Decision) -> &'static str {
    if decision.deploys_candidate() { "" } else { " with the candidate, not deployed" }
}

/// Markdown's marks are for the report.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use bench_core::{
        schema::{ArgValue, Estimate, Fleet, Servers, Traffic, Verdict},
        stats,
    };

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
                " No other value was tried.",
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
        ("against what?", &["   baseline "]),
        ("are my targets met?", &[" Targets: "]),
        ("what got worse?", &[" Also worse", " Nothing else is proven", " Nothing was judged"]),
        ("what failed, and why?", &[" Does not count: 4096: sampler warm-up (out of memory)"]),
    ];

    fn shown(profile: &Profile, comparison: &CompareResult, problems: &[String]) -> String {
        closing(profile, comparison, &Beside { problems, ..Beside::default() })
    }

    #[test]
    fn ten_questions_are_answered_by_the_last_screen_alone() {
        for (name, Fixture { profile, comparison, .. }) in outcomes() {
            let problems = ["4096: sampler warm-up (out of memory)".to_owned()];
            let screen = shown(&profile, &comparison, &problems);
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
            shown(&fixture.profile, &fixture.comparison, &[]).replace("\n   ", " ")
        };
        assert!(!screen(&fixture).contains('†'), "1,000 requests");
        fixture.few_requests("production");
        let screen = screen(&fixture);
        for part in [
            "Limit: TTFT P95 ≤ 500 ms on production is met†: ",
            "Limit: TPOT P95 ≤ 50 ms on production is met†: ",
            " Targets: 4 of 6 met; E2E P95, longest class ≤ 3 s on lengths missed (6.92 s); E2E P95 ≤ 2 s on \
             production missed† (2.27 s).",
            " † of fewer requests a start than a verdict on it needs: TTFT P95 on production 40 of 200, TPOT P95 \
             on production 40 of 200, E2E P95 on production 40 of 200.",
        ] {
            assert!(screen.contains(part), "{part}\n{screen}");
        }
    }

    /// A value that led its sweep does not vanish from the answer because chance may have made it lead.
    #[test]
    fn an_undecided_lead_is_named_with_the_starts_that_may_settle_it() {
        let outcomes = outcomes();
        let (_, fixture) = outcomes
            .iter()
            .find(|(name, _)| *name == "no value promises anything")
            .expect("it is one");
        let lead = Lead {
            label: "512".to_owned(),
            args: [("max-num-seqs".to_owned(), ArgValue::Int(512))].into(),
            change: Estimate {
                mean: 6.1,
                low: Some(-3.0),
                high: Some(16.0),
                ..Estimate::default()
            },
            limits: Vec::new(),
            is_proven: false,
            starts: 3,
            starts_to_settle: Some(7),
        };
        let screen = |lead| {
            let beside = Beside { lead, ..Beside::default() };
            closing(&fixture.profile, &fixture.comparison, &beside)
        };
        let text = screen(Some(&lead)).replace("\n   ", " ");
        let line = " Undecided: max-num-seqs 512 led its sweep by +6.1 ± 9.5 %; about 7 starts a side \
                    (starts of its sweep) might settle it, it has 3.";
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(!screen(None).contains("Undecided"));
        let proven = Lead { is_proven: true, ..lead.clone() };
        let text = screen(Some(&proven)).replace("\n   ", " ");
        assert!(
            text.contains(" Better in its sweep, and judged by no stage: max-num-seqs 512, by "),
            "{text}"
        );
        // The candidate that was judged is named in its place.
        let (_, judged) = outcomes
            .iter()
            .find(|(name, _)| name.contains("not proven better"))
            .expect("it is one");
        let beside = Beside { lead: Some(&lead), ..Beside::default() };
        let text = closing(&judged.profile, &judged.comparison, &beside);
        assert!(text.contains(" Undecided: max-num-batched-tokens 16384; "), "{text}");
    }

    /// What failed as a result is not measured again by the same command.
    #[test]
    fn what_to_do_after_a_failure_depends_on_what_is_stored() {
        let Fixture { profile, baseline, .. } = Fixture::full();
        let screen = |points: &[Point]| failed(&profile, points, &[]).replace("\n   ", " ");
        assert!(screen(&baseline.points).contains("it goes on from what is stored."));
        let mut points = baseline.points;
        let default = points.iter_mut().find(|point| point.role == Role::Default);
        default.expect("it has them").trials[0].invalid = Some("send-lag".to_owned());
        let screen = screen(&points);
        assert!(screen.contains("run the same command; with --fresh where the"), "{screen}");
    }

    /// Rates of [capacity] and failed requests stand on the screen, and nothing there contradicts them.
    #[test]
    fn an_open_gain_of_capacity_and_failed_requests_are_on_the_screen() {
        let Fixture { profile, comparison, .. } = Fixture::full();
        let rate = |rate: f64| stats::estimate(vec![rate]).expect("a start");
        let row = Comparison {
            metric: "requests_per_s".to_owned(),
            load: "production@capacity".to_owned(),
            columns: [
                (Column::Default, rate(45.0)),
                (Column::Tuned, rate(52.4)),
                (Column::Baseline, rate(0.0)),
            ]
            .into(),
            change: Some(Estimate { mean: 16.4, ..Estimate::default() }),
            verdict: Some(Verdict::Inconclusive),
            reason: "a single start on one side".to_owned(),
            ..Comparison::default()
        };
        let capacity = CapacityResult {
            header: Fixture::full().baseline.header,
            points: Vec::new(),
            comparisons: vec![row],
            findings: Vec::new(),
            traffic: Some(Traffic {
                requests_per_s: 200.0,
                reserve_servers: 1,
                fleets: vec![
                    fleet(Role::Default, 4, [5, 6, 7].map(Some)),
                    fleet(Role::Tuned, 4, [Some(4), Some(5), None]),
                ],
            }),
        };
        let failed = ["2 of 40 of default on burst (5.0 %: http_500 2), few enough".to_owned()];
        let beside =
            Beside { capacity: Some(&capacity), failed_requests: &failed, ..Beside::default() };
        let screen = closing(&profile, &comparison, &beside).replace("\n   ", " ");
        for line in [
            " Requests/s of production within the limits: tuned 52.4, vLLM's defaults 45.0 and the baseline \
             0.0: +16.4 %, inconclusive (a single start on one side). More starts in [capacity] may settle it.",
            " Cards for 200 requests/s of production within the limits, with a server in reserve: tuned 20 (16 \
             or more) in servers of 4, $50.00 ($40.00 or more) an hour, $0.500 ($0.400 or more) a million output \
             tokens; vLLM's defaults 24 (20 to 28) in servers of 4, $60.00 ($50.00 to $70.00) an hour, $0.600 \
             ($0.500 to $0.700) a million output tokens; the baseline no rate within the limits, if a balancer \
             spreads requests evenly. One start each: how much servers differ is not in it; more starts in \
             [capacity] tell.",
            " Every setting ran. Some requests failed.",
            " Failed requests: 2 of 40 of default on burst (5.0 %: http_500 2), few enough.",
        ] {
            assert!(screen.lines().any(|found| found == line), "{line}\n{screen}");
        }
        assert!(!screen.contains("every trial counts"), "{screen}");
    }

    /// So many servers of so many cards: fewest, expected, most.
    fn fleet(role: Role, cards_per_server: u32, [fewest, found, most]: [Option<u32>; 3]) -> Fleet {
        let servers = |n: u32| Servers {
            servers: n,
            cards: n * cards_per_server,
            dollars_per_hour: Some(f64::from(n * cards_per_server) * 2.5),
            dollars_per_million_output_tokens: Some(f64::from(n) / 10.0),
        };
        Fleet {
            label: String::new(),
            role,
            cards_per_server,
            servers: servers(found.expect("a number")),
            fewest: fewest.map(servers),
            most: most.map(servers),
        }
    }

    #[test]
    fn wide_intervals_have_no_digits_after_the_point() {
        let row = |mean, low, high| Comparison {
            metric: "output_tokens_per_s".to_owned(),
            change: Some(Estimate {
                mean,
                low: Some(low),
                high: Some(high),
                ..Estimate::default()
            }),
            verdict: Some(Verdict::Inconclusive),
            ..Comparison::default()
        };
        assert_eq!(change(&row(-5.3, -51.6, 85.1)), "−5 (−52 to +85) %, inconclusive");
        assert_eq!(change(&row(-0.3, -54.8, 120.1)), "0 (−55 to +120) %, inconclusive");
        assert_eq!(change(&row(5.8, 4.9, 6.7)), "+5.8 ± 0.9 %, inconclusive");
        assert_eq!(change(&row(23.2, 11.5, 34.9)), "+23 ± 12 %, inconclusive");
    }

    /// Six outcomes: every question of a user has its answer on one screen of 80 columns.
    #[test]
    fn the_last_screen_of_six_outcomes() {
        let mut out = String::new();
        for (name, Fixture { profile, comparison, baseline, comprehensive, .. }) in outcomes() {
            let problems = &["4096: sampler warm-up (out of memory)".to_owned()];
            let judged = comprehensive.map(|file| file.points).unwrap_or_default();
            let points = &[baseline.points, judged].concat();
            let beside = Beside { points, problems, ..Beside::default() };
            let screen = closing(&profile, &comparison, &beside);
            for line in screen.lines() {
                assert!(line.chars().count() <= WIDTH, "{name}: {line}");
            }
            assert!(screen.lines().count() <= 40, "{name} is more than a screen");
            out += &format!("── {name}\n{screen}\n");
        }
        insta::assert_snapshot!(out);
    }
}
