//! Decisions, limits and reasons in words, the same in the terminal and in the report.

use analysis::{
    comparison::{self, guards, primary, too_few},
    lead::Lead,
};
use bench_core::{
    metric::{self, Metric},
    schema::{
        CapacityResult, Column, CompareResult, Comparison, Decision, Effect, Estimate, FlagReason,
        Grounds, LimitOutcome, LimitState, Point, Recommendation, Role, Verdict,
    },
    stats::STARTS_MAX,
};

use super::provenance::distinct;
use crate::{
    answers, fleet,
    format::{self, NOTHING},
};
use profile::{Guard, Profile};

/// The first words of all: what to deploy.
pub fn headline(decision: &Decision) -> String {
    match decision.recommendation {
        Recommendation::Change => format!("Deploy {}.", format::args(&decision.args)),
        Recommendation::Defaults => "Keep vLLM's defaults.".to_owned(),
        Recommendation::NoneMeets if is_violated(&decision.limits) => {
            "No setting meets the limits: nothing is recommended.".to_owned()
        }
        Recommendation::NoneMeets => {
            "No setting is known to meet the limits: nothing is recommended.".to_owned()
        }
        Recommendation::Measured if decision.limits.is_empty() => {
            format!("{} was measured as it runs.", decision.label)
        }
        Recommendation::Measured => {
            let outcome = match analysis::limits::worst(&decision.limits) {
                LimitState::Met => "meets the limits",
                LimitState::Violated => "violates its limits",
                _ => "is not known to meet its limits",
            };
            format!("{} {outcome}.", decision.label)
        }
    }
}

/// What is said of all else where the settings of `[baseline]` are deployed and no candidate was judged.
pub const BASELINE_ALONE: &str =
    "Nothing but the goals of `[baseline]` was judged against vLLM's defaults.";

/// The head of the column that shows the candidate, where there is one.
pub fn candidate_name(decision: &Decision) -> Option<&'static str> {
    match decision.candidate {
        _ if decision.deploys_candidate() => Some("tuned"),
        Some(_) => Some("candidate, not deployed"),
        None => None,
    }
}

/// Why, in sentences. `rows`: defaults against candidate.
pub fn grounds(decision: &Decision, rows: &[Comparison], profile: &Profile) -> String {
    let carried = carried(decision, rows, profile);
    let answers = answers::of_decision(decision, profile);
    [carried, answers].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What carries the decision.
fn carried(decision: &Decision, rows: &[Comparison], profile: &Profile) -> String {
    let primary = primary(rows, profile);
    let candidate = || decision.candidate.as_ref().map_or_else(String::new, format::args);
    let judged = |word: &str| match primary.and_then(change) {
        Some(change) => format!(
            "Of what was tried {} promised most; measured again, it changes {change}: {word}.",
            candidate()
        ),
        None => format!("Of what was tried {} promised most: {word}.", candidate()),
    };
    match decision.grounds {
        Grounds::Better if !decision.deploys_candidate() => match decision.flags.first() {
            Some(FlagReason { effect: Effect::Objective { change }, .. }) => format!(
                "It is what `[baseline]` sets, and changes {} on `{}` by {} against vLLM's defaults: better.",
                format::name(&profile.objective.metric),
                profile.objective.load,
                format::change(metric::find(&profile.objective.metric), change)
            ),
            _ => String::new(),
        },
        Grounds::Better => match primary.and_then(change) {
            Some(change) => format!("It changes {change} against vLLM's defaults: better."),
            None => String::new(),
        },
        Grounds::Limits => {
            let beside = match decision.deploys_candidate() {
                true => primary.and_then(change).map(|change| format!(" It changes {change}.")),
                false => primary.and_then(cost_of_baseline),
            };
            let open = || decision.default_limits.iter().filter(is_open);
            let verb = match open().any(|limit| limit.state == LimitState::Violated) {
                true => "which vLLM's defaults violate",
                false => "and vLLM's defaults are not known to",
            };
            let open: Vec<_> = open().map(figure).collect();
            let beside = beside.unwrap_or_default();
            format!("It meets the limits, {verb} ({}).{beside}", format::list(&open))
        }
        Grounds::DefaultsFail => "vLLM's defaults do not run here.".to_owned(),
        Grounds::NothingPromised if profile.sweeps.is_empty() && profile.tune.is_none() => {
            "No other value was tried.".to_owned()
        }
        Grounds::NothingPromised => format!(
            "No value tried improves {} on `{}` by more than the margin of {} % and than chance may.",
            format::name(&profile.objective.metric),
            profile.objective.load,
            profile.objective.margin_percent()
        ),
        Grounds::NotJudged => match primary.filter(|_| decision.candidate.is_some()) {
            Some(row) => judged(&row.reason),
            None => "No other setting was judged against them.".to_owned(),
        },
        Grounds::NotProven => judged("not proven better"),
        Grounds::NoDifference => judged("no difference worth having"),
        Grounds::Worse => judged("worse"),
        Grounds::CandidateLimits => {
            let open = decision.candidate_limits.iter().filter(is_open);
            let broken: Vec<_> = open.map(|open| limit(open, profile)).collect();
            format!(
                "{} promised most, and is not known to meet the limits: {}.",
                candidate(),
                format::list(&broken)
            )
        }
        Grounds::Guard => {
            let open = guards(rows, profile)
                .filter(|(_, row)| !row.is_some_and(|row| row.excludes_worse))
                .map(|(one, row)| guard(one, row));
            let open = format::list(&open.collect::<Vec<_>>());
            judged(&format!("better, and not recommended for what it may make worse: {open}"))
        }
        Grounds::CandidateFails => format!("{} promised most, and does not run.", candidate()),
        Grounds::OneConfiguration => {
            "It runs already: its settings are its owner's, and nothing is \
                                      recommended. cargo xtask compare judges two servers, or one \
                                      before and after a restart."
                .to_owned()
        }
        Grounds::NoneMeets => {
            // Their figures are those of the limits, which follow.
            let open = || decision.limits.iter().filter(is_open);
            let (verb, advice) = match is_violated(&decision.limits) {
                true => ("violates", ""),
                false if starts_of(&decision.limits) < 2 => {
                    ("is not known to meet", " One start cannot tell: set `starts` to 3 or more.")
                }
                false => ("is not known to meet", " More `starts` may settle it."),
            };
            let broken: Vec<_> = open().map(bound).collect();
            let (nearest, verb) = match decision.args.is_empty() {
                true if verb == "violates" => ("vLLM's defaults".to_owned(), "violate"),
                true => ("vLLM's defaults".to_owned(), "are not known to meet"),
                false => (format::args(&decision.args), verb),
            };
            format!("Nearest: {nearest}, which {verb} {}.{advice}", format::list(&broken))
        }
    }
}

/// The fewest starts that a limit was judged by.
fn starts_of(limits: &[LimitOutcome]) -> usize {
    let found = limits.iter().filter_map(|limit| limit.found.as_ref());
    found.map(|found| found.values().len()).min().unwrap_or(0)
}

fn is_violated(limits: &[LimitOutcome]) -> bool {
    limits.iter().any(|limit| limit.state == LimitState::Violated)
}

/// What the objective is at the settings of `[baseline]`, where these are deployed: nothing judged it.
fn cost_of_baseline(row: &Comparison) -> Option<String> {
    let metric = metric::find(&row.metric);
    let figure = |column| row.columns.get(&column).map(|found| format::estimate(metric, found));
    let (baseline, default) = (figure(Column::Baseline)?, figure(Column::Default)?);
    Some(format!(
        " {} on `{}` is {baseline} there and {default} with vLLM's defaults.",
        format::title(metric, &row.metric),
        row.load
    ))
}

/// `ITL P99 on `burst` +90.8 ± 9.4 % (margin 10 %): worse`
pub fn guard(guard: &Guard, row: Option<&Comparison>) -> String {
    let metric = metric::find(&guard.metric);
    let (unit, margin) =
        (if metric.is_some_and(Metric::is_share) { "points" } else { "%" }, guard.margin_percent);
    let change = row.and_then(|row| row.change.as_ref());
    let change = change.map_or_else(|| NOTHING.to_owned(), |change| format::change(metric, change));
    let state = match row {
        Some(row) if row.verdict == Some(Verdict::Worse) => "worse",
        Some(row) if row.excludes_worse => "no worse",
        Some(_) => "not shown to be no worse",
        None => "not measured",
    };
    let name = format::name(&guard.metric);
    format!("{name} on `{}` {change} (margin {margin} {unit}): {state}", guard.load)
}

/// `output throughput on `burst` by +47.5 ± 2.9 %`
fn change(row: &Comparison) -> Option<String> {
    let metric = metric::find(&row.metric);
    let change = format::change(metric, row.change.as_ref()?);
    Some(format!("{} on `{}` by {change}", format::name(&row.metric), row.load))
}

fn is_open(limit: &&LimitOutcome) -> bool {
    limit.state != LimitState::Met
}

/// `TPOT P95 ≤ 20 ms on `burst``
pub fn bound(limit: &LimitOutcome) -> String {
    let sign = if limit.bound == "max" { "≤" } else { "≥" };
    let value = format::given(metric::find(&limit.metric), limit.limit);
    format!("{} {sign} {value} on `{}`", format::name(&limit.metric), limit.load)
}

/// `TPOT P95 ≤ 20 ms on `burst` is met: 18.8 ± 0.1 ms over 5 starts`
pub fn limit(limit: &LimitOutcome, profile: &Profile) -> String {
    let figure = limit
        .found
        .as_ref()
        .map(|found| format!(": {} over {}", value(limit), number_of(found.starts.len(), "start")));
    format!("{} {}{}", bound(limit), marked(limit, profile), figure.unwrap_or_default())
}

fn figure(limit: &LimitOutcome) -> String {
    format!("{}: {}", bound(limit), value(limit))
}

/// The figure behind a limit.
pub fn value(limit: &LimitOutcome) -> String {
    let metric = metric::find(&limit.metric);
    let found = limit.found.as_ref();
    found.map_or_else(|| NOTHING.to_owned(), |found| format::estimate(metric, found))
}

/// Whether a limit is met, and how surely.
pub fn state(limit: &LimitOutcome) -> &'static str {
    match limit.state {
        LimitState::Met => "is met",
        LimitState::OneStart => "is unknown from one start",
        LimitState::NotMeasured => "was not measured",
        LimitState::Open => "is unknown (the 95 % interval holds it)",
        LimitState::Violated if limit.saturated => "is violated (above capacity)",
        LimitState::Violated => "is violated",
    }
}

/// The same with the mark of [`few`].
pub fn marked(limit: &LimitOutcome, profile: &Profile) -> String {
    let few = limit.found.as_ref().map_or("", |_| few(profile, &limit.metric, &limit.load));
    format!("{}{few}", state(limit))
}

/// A mark behind what comes of fewer requests than a verdict on the metric needs ([`few_note`]).
pub fn few(profile: &Profile, metric: &str, load: &str) -> &'static str {
    if too_few(profile, metric, load).is_some() { "†" } else { "" }
}

/// What the mark of [`few`] means for those of these metrics and loads that have it; `None` where none has.
pub fn few_note<'a>(
    profile: &Profile,
    shown: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Option<String> {
    let of = |(metric, load): (&str, &str)| {
        let (requests, least) = too_few(profile, metric, load)?;
        Some(format!("{} on `{load}` {requests} of {least}", format::name(metric)))
    };
    let few = distinct(shown.into_iter().filter_map(of));
    (!few.is_empty()).then(|| {
        format!("† of fewer requests a start than a verdict on it needs: {}.", few.join(", "))
    })
}

/// [`few_note`] of limits.
pub fn few_limits(limits: &[LimitOutcome], profile: &Profile) -> Option<String> {
    let found = limits.iter().filter(|limit| limit.found.is_some());
    few_note(profile, found.map(|limit| (limit.metric.as_str(), limit.load.as_str())))
}

/// Why a flag is part of a setting: what it does, after the label of the value by which it was proposed where
/// that is what was measured.
pub fn flag(reason: &FlagReason, profile: &Profile) -> String {
    let objective = &profile.objective;
    let subject = match reason.others.is_empty() {
        true => format!("{} ", reason.label),
        false => String::new(),
    };
    match &reason.effect {
        Effect::Objective { change } => {
            let change = format::change(metric::find(&objective.metric), change);
            let name = format::name(&objective.metric);
            let how = match (reason.others.is_empty(), reason.args.len()) {
                (false, _) => "beside the other flags",
                (true, 0..2) => "by itself",
                (true, _) => "together; what each of them does was not tested",
            };
            format!("{subject}changes {name} on `{}` by {change} {how}", objective.load)
        }
        Effect::Needed { why } if reason.others.is_empty() => {
            format!("without it vLLM does not serve here: {why}")
        }
        Effect::Needed { why } => format!("without it the other flags are not deployed: {why}"),
        Effect::Limit { limits, default_limits } => {
            let against = |limit: &LimitOutcome| {
                let default = default_limits
                    .iter()
                    .find(|other| other.metric == limit.metric && other.load == limit.load);
                let less = match reason.others.is_empty() {
                    true => "vLLM's defaults",
                    false => "without it",
                };
                let default = default.map(|d| format!(", {less} {}", value(d)));
                format!("{} {}", figure(limit), default.unwrap_or_default())
                    .trim_end()
                    .replace(" ,", ",")
            };
            let limits: Vec<_> = limits.iter().map(against).collect();
            let verb = match analysis::limits::worst(&reason_limits(reason)) {
                LimitState::Met => "meets",
                LimitState::Violated => "comes nearest to",
                _ => "may meet",
            };
            format!("{subject}{verb} {}", format::list(&limits))
        }
    }
}

fn reason_limits(reason: &FlagReason) -> Vec<LimitOutcome> {
    match &reason.effect {
        Effect::Limit { limits, .. } => limits.clone(),
        Effect::Objective { .. } | Effect::Needed { .. } => Vec::new(),
    }
}

/// Why a flag is no part of a setting any more.
pub fn dropped(reason: &FlagReason, profile: &Profile) -> String {
    let others = format::args(&reason.others);
    format!(
        "{} is left out beside {others}, since nothing shows that it does better: {}",
        format::args(&reason.args),
        flag(reason, profile)
    )
}

/// The reasons of every flag, each with the sweep it comes from.
pub fn flags(reasons: &[FlagReason], profile: &Profile) -> String {
    let each = reasons.iter().map(|reason| {
        let own = match reason.others.is_empty() {
            true => String::new(),
            false => format!("{} ", format::args(&reason.args)),
        };
        format!("{}: {own}{}", reason.from, flag(reason, profile))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// What got worse, the goals aside: metric, load and change, of every row that is worse.
pub fn worse(rows: &[Comparison], is_left_out: impl Fn(&Comparison) -> bool) -> Vec<String> {
    let worse = bench_core::schema::Verdict::Worse;
    let rows = rows.iter().filter(|row| row.verdict == Some(worse) && !is_left_out(row));
    rows.map(|row| {
        let metric = metric::find(&row.metric);
        let change = row.change.as_ref().map(|change| format::change(metric, change));
        let change = change.map(|change| format!(" ({change})")).unwrap_or_default();
        format!("{} on `{}`{change}", format::name(&row.metric), row.load)
    })
    .collect()
}

/// A verdict with its change: `+47.5 ± 2.9 %, better`.
pub fn verdict(row: &Comparison) -> Option<String> {
    Some(judged(&row.metric, row.change.as_ref()?, row.verdict))
}

/// A change of a metric with its verdict, if it has one.
pub fn judged(metric: &str, change: &Estimate, verdict: Option<Verdict>) -> String {
    let change = format::change(metric::find(metric), change);
    match verdict {
        Some(verdict) => format!("{change}, {}", verdict_word(verdict)),
        None => change,
    }
}

/// What a request on the objective's load spends most of its time with, at the settings to deploy. Of the
/// defaults the point with most starts tells.
pub fn limited_by<'a>(
    profile: &Profile,
    decision: &Decision,
    points: impl IntoIterator<Item = &'a Point>,
) -> Option<String> {
    let load = &profile.objective.load;
    let role = match decision.deployed {
        Some(Column::Tuned) => Role::Tuned,
        Some(Column::Baseline) => Role::Baseline,
        _ => Role::Default,
    };
    let own = points.into_iter().filter(|point| point.role == role && point.load == *load);
    let anatomy = own.max_by_key(|point| point.trials.len())?.anatomy?;
    let all = anatomy.e2e_ms();
    let parts = [
        (anatomy.queue_ms, "vLLM's queue"),
        (anatomy.front_end_ms, "the API server (HTTP, tokenizer, sending tokens out)"),
        (anatomy.prefill_ms, "prefill"),
        (anatomy.decode_ms, "decoding"),
        (anatomy.send_lag_ms, "the client's send lag"),
    ];
    let mut parts = parts.map(|(ms, what)| (100.0 * ms / all, what));
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let [first, second, ..] = parts;
    (all > 0.0).then(|| {
        format!(
            "On `{load}` a request now spends most of its time in {} ({:.0} %), then in {} ({:.0} %).",
            first.1, first.0, second.1, second.0
        )
    })
}

/// The rates that the settings sustain within the limits, with the verdict and what may settle an open one.
pub fn capacity(found: &CapacityResult, decision: &Decision, profile: &Profile) -> Option<String> {
    let row = found.comparisons.first()?;
    let load = load_of(row);
    let figure = |(column, name): (Column, Option<&str>)| {
        let found = row.columns.get(&column)?;
        let half = found.low.zip(found.high).map(|(low, high)| (high - low) / 2.0);
        let half = half.map(|half| format!(" ± {}", format::number(half, 1))).unwrap_or_default();
        Some(format!("{} {}{half}", name?, format::number(found.mean, 1)))
    };
    let figures: Vec<String> =
        columns_named(decision, profile).into_iter().filter_map(figure).collect();
    let change = verdict(row).map(|change| format!(": {change} ({})", row.reason));
    let advice = match row.verdict {
        Some(Verdict::Inconclusive) => " More `starts` in `[capacity]` may settle it.",
        _ => "",
    };
    Some(format!(
        "Requests/s of `{load}` within the limits: {}{}.{advice}",
        format::list(&figures),
        change.unwrap_or_default()
    ))
}

/// What each column is called beside the others, `None` where nothing was a candidate.
fn columns_named<'a>(decision: &Decision, profile: &'a Profile) -> [(Column, Option<&'a str>); 3] {
    let default = profile.endpoint().map_or("vLLM's defaults", |_| &profile.name);
    [
        (Column::Tuned, candidate_name(decision)),
        (Column::Default, Some(default)),
        (Column::Baseline, Some("the baseline")),
    ]
}

/// The load whose rates a row compares.
fn load_of(row: &Comparison) -> &str {
    row.load.split('@').next().unwrap_or_default()
}

/// How many cards the traffic of `[capacity]` takes with each setting, and what they cost.
pub fn traffic(found: &CapacityResult, decision: &Decision, profile: &Profile) -> Option<String> {
    let traffic = found.traffic.as_ref()?;
    let row = found.comparisons.first()?;
    let takes = |(column, name): (Column, Option<&str>)| {
        let name = name?;
        let role = comparison::role(column);
        let Some(found) = traffic.fleets.iter().find(|fleet| fleet.role == role) else {
            let is_measured = row.columns.contains_key(&column);
            return is_measured.then(|| format!("{name} {}", fleet::NO_RATE));
        };
        let cards = fleet::count(found, |n| n.cards);
        let servers = match found.cards_per_server {
            1 => String::new(),
            n => format!(" in servers of {n}"),
        };
        let money = found.servers.dollars_per_hour.map(|_| {
            let hour = fleet::dollars(found, |n| n.dollars_per_hour);
            let tokens = fleet::dollars(found, |n| n.dollars_per_million_output_tokens);
            format!(", {hour} an hour, {tokens} a million output tokens")
        });
        Some(format!("{name} {cards}{servers}{}", money.unwrap_or_default()))
    };
    let each: Vec<String> =
        columns_named(decision, profile).into_iter().filter_map(takes).collect();
    let load = load_of(row);
    let rate = traffic.requests_per_s;
    if traffic.fleets.is_empty() {
        return Some(format!(
            "No number of servers was shown to serve {rate} requests/s of `{load}` within the limits."
        ));
    }
    let reserve = match traffic.reserve_servers {
        0 => String::new(),
        1 => ", with a server in reserve".to_owned(),
        n => format!(", with {n} servers in reserve"),
    };
    let is_single = row.columns.values().any(|figure| figure.starts.len() == 1);
    let is_open = traffic.fleets.iter().any(|fleet| fleet.most.is_none());
    let advice = match (is_single, is_open) {
        (true, _) => {
            " One start each: how much servers differ is not in it; more `starts` in `[capacity]` tell."
        }
        (false, true) => " More `starts` in `[capacity]` bound it.",
        (false, false) => "",
    };
    Some(format!(
        "Cards for {rate} requests/s of `{load}` within the limits{reserve}: {}, if a balancer spreads requests \
         evenly.{advice}",
        each.join("; ")
    ))
}

/// What to do where nothing is to be deployed and no more starts are asked for already.
pub fn next(profile: &Profile, decision: &Decision, is_undecided: bool) -> Option<String> {
    let tries = "other values or flags (`[sweep.NAME]`)";
    match decision.recommendation {
        Recommendation::Defaults if !is_undecided && decision.grounds != Grounds::Guard => {
            Some(format!("Next: nothing has to change; a gain may lie in {tries}."))
        }
        Recommendation::NoneMeets if is_violated(&decision.limits) => {
            Some(format!("Next: try {tries} beyond the nearest, less load, or a wider limit."))
        }
        Recommendation::Measured if is_violated(&decision.limits) => Some(format!(
            "Next: change the server's settings or send less, then compare: `cargo xtask compare` with \
             `{}`.",
            profile.name
        )),
        Recommendation::Measured => {
            let start = profile.endpoint()?.start + 1;
            let is_single = analysis::limits::worst(&decision.limits) == LimitState::OneStart;
            is_single.then(|| {
                format!(
                    "Next: one start cannot tell: restart the server, set `start = {start}` in [engine] beside \
                     its `identity`, and run the same command."
                )
            })
        }
        _ => None,
    }
}

/// Why settings gave no valid figures, each cause once with the settings that it struck.
pub fn causes(points: &[Point]) -> Vec<String> {
    let mut causes: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |cause: String, who: &str| match causes.iter_mut().find(|(c, _)| *c == cause) {
        Some((_, struck)) => struck.push(who.to_owned()),
        None => causes.push((cause, vec![who.to_owned()])),
    };
    for point in points {
        if let Some(failure) = &point.failure {
            let evidence = failure.evidence.first();
            let evidence = evidence.map(|line| format!(" ({})", line.trim())).unwrap_or_default();
            add(failure.title() + &evidence, &format::setting(point));
        }
        for why in point.trials.iter().filter_map(|trial| trial.invalid.as_ref()) {
            add(format!("invalid on {}: {why}", point.load), &format::setting(point));
        }
    }
    let told =
        causes.into_iter().map(|(cause, who)| format!("{}: {cause}", format::list(&distinct(who))));
    told.collect()
}

fn number_of(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What nothing is decided of, and how many starts might settle it: the candidate, else a value that led
/// its sweep; or one that is better and that nothing judges.
pub fn undecided(
    profile: &Profile,
    comparison: &CompareResult,
    lead: Option<&Lead>,
) -> Option<String> {
    let decision = &comparison.decision;
    let metric = metric::find(&profile.objective.metric);
    let open = lead.filter(|lead| !lead.limits.is_empty() && lead.args != decision.args);
    if let Some(lead) = open {
        let limits: Vec<_> = lead.limits.iter().map(|open| limit(open, profile)).collect();
        return Some(format!(
            "Undecided: {} changes {} by {} against these; {}. More `starts` may settle it.",
            format::args(&lead.args),
            format::name(&profile.objective.metric),
            format::change(metric, &lead.change),
            format::list(&limits)
        ));
    }
    // Where no limit is known to be met, it is not the objective that more starts must settle.
    if [Recommendation::Change, Recommendation::NoneMeets].contains(&decision.recommendation) {
        return None;
    }
    let settled_by = |starts: Option<u32>, now: usize, of: &str| match starts {
        Some(starts) => {
            format!("about {starts} starts a side (`starts` {of}) might settle it, it has {now}")
        }
        None => format!("more than {STARTS_MAX} starts a side would be needed, it has {now}"),
    };
    if let Some(row) = primary(&comparison.comparisons, profile)
        && row.verdict == Some(Verdict::Inconclusive)
        && let Some(candidate) = decision.candidate.as_ref()
    {
        let starts = row.columns.get(&Column::Tuned).map_or(0, |found| found.values().len());
        let settled_by = match starts {
            0 | 1 => "two starts a side are the least".to_owned(),
            now => settled_by(row.starts_to_settle, now, "in `[baseline]`"),
        };
        return Some(format!("Undecided: {}; {settled_by}.", format::args(candidate)));
    }
    let lead = lead.filter(|lead| decision.candidate.as_ref() != Some(&lead.args))?;
    if lead.is_proven {
        return Some(format!(
            "Better in its sweep, and judged by no stage: {}, by {}; `stages` with `choose` and \
             `comprehensive` judge it on fresh starts.",
            format::args(&lead.args),
            format::change(metric, &lead.change)
        ));
    }
    Some(format!(
        "Undecided: {} led its sweep by {}; {}.",
        format::args(&lead.args),
        format::change(metric, &lead.change),
        settled_by(lead.starts_to_settle, lead.starts, "of its sweep")
    ))
}

/// A verdict's word.
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Equivalent => "equivalent",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// What a reader must know of a point beside its figures; empty when nothing.
pub fn note(point: &Point) -> String {
    if let Some(failure) = &point.failure {
        return match &failure.foreseen {
            None => format!("does not run: {}", failure.class.title()),
            Some(why) => format!("not tried: {why} ({})", failure.class.title()),
        };
    }
    let (all, invalid) =
        (point.trials.len(), point.trials.iter().filter(|trial| trial.invalid.is_some()).count());
    let mut notes = Vec::new();
    match invalid {
        0 => {}
        n if n == all => notes.push("no valid trial".to_owned()),
        n => notes.push(format!("{n} of {all} trials invalid")),
    }
    if point.saturated {
        notes.push("saturated".to_owned());
    }
    notes.join(", ")
}
