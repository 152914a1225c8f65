//! Two results side by side, for `cargo xtask compare A B`.

use bench_core::{
    metric,
    schema::{Column, Comparison, EngineLabel, Point, Role, Verdict},
    stats,
};
use serde_json::{Value, json};

use super::{words, words::verdict_word};
use crate::format::{self, NOTHING};
use analysis::{
    comparison::{Compared, is_goal},
    gate::{self, Gate, Goal},
    shared::{Pair, Shared},
};
use profile::Profile;

/// How to read the figures of a comparison.
pub const FIGURES: &str = "Figures are geometric means over server starts, and the change is their ratio \
    (of shares: means, and points). ± is half the 95 % interval; a single start has none.";

/// One side of a comparison.
pub struct Side {
    /// As the command line has it.
    pub name: String,
    /// What was measured.
    pub engine: EngineLabel,
    /// One configuration under several loads.
    pub points: Vec<Point>,
}

/// A comparison with its verdict.
pub struct Page<'a> {
    /// Side A.
    pub before: &'a Side,
    /// Side B.
    pub after: &'a Side,
    /// Metric by metric.
    pub compared: &'a Compared<'a>,
    /// Whose goals count; `None` where no profile is known.
    pub profile: Option<&'a Profile>,
    /// Of whose results how many other settings say how much starts differ in the objective.
    pub lenders: Vec<(String, usize)>,
    /// Both sides under each load that they have in common.
    pairs: Vec<(&'a str, Pair<'a>)>,
    /// The goals, the objective first; none without a profile.
    goals: Vec<Goal>,
}

impl<'a> Page<'a> {
    /// Of two sides.
    pub fn new(
        before: &'a Side,
        after: &'a Side,
        compared: &'a Compared<'a>,
        profile: Option<&'a Profile>,
        lenders: Vec<(String, usize)>,
    ) -> Self {
        let is_same = |a: &Point, b: &Point| {
            a.load == b.load && a.load_digest.zip(b.load_digest).is_none_or(|(a, b)| a == b)
        };
        let pair = |a: &'a Point| {
            let b = after.points.iter().find(|b| is_same(a, b))?;
            Some((a.load.as_str(), Pair::of(a, b)))
        };
        let pairs = before.points.iter().filter_map(pair).collect();
        let goals = profile.map(|profile| gate::goals(compared, profile)).unwrap_or_default();
        Self { before, after, compared, profile, lenders, pairs, goals }
    }

    /// Whether B may replace A.
    pub fn gate(&self) -> Gate {
        gate::gate(self.compared, &self.goals)
    }

    /// For a pull request.
    pub fn markdown(&self) -> String {
        let (a, b) = (&self.before.name, &self.after.name);
        let mut out =
            format!("### `{a}` → `{b}`: {}\n\n{}\n", self.word(), self.summary().join(" "));
        let header: Vec<String> =
            ["Side", "Engine", ">Starts", "Settings"].map(str::to_owned).into();
        let sides = [self.before, self.after].map(|side| {
            let settings = side.points.first().map(|point| format::args(&point.args));
            let settings = settings.filter(|text| !text.is_empty());
            vec![
                format!("`{}`", side.name),
                side.engine.title.clone(),
                starts(&side.points),
                settings.unwrap_or_else(|| "the engine's defaults".to_owned()),
            ]
        });
        out += &format!("\n{}\n", format::table(&header, &sides));
        let (goals, rest): (Vec<_>, Vec<_>) = self.rows().partition(|row| self.is_goal(row));
        let header: Vec<String> =
            ["Metric", "Load", &format!(">{a}"), &format!(">{b}"), ">Change", "Verdict", "Why"]
                .map(str::to_owned)
                .into();
        let table = |rows: &[&Comparison]| {
            let cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row)).collect();
            format::table(&header, &cells)
        };
        let (changed, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|row| is_change(row));
        let shown: Vec<_> = goals.into_iter().chain(changed).collect();
        if !shown.is_empty() {
            out += &format!("{}\n", table(&shown));
        }
        out += &format!("{FIGURES}\n");
        if !others.is_empty() {
            out += &format!(
                "\n<details>\n<summary>{} other metrics: none is better or worse</summary>\n\n{}\n</details>\n",
                others.len(),
                table(&others)
            );
        }
        out
    }

    /// What got worse or better, what is open, and what was compared, in sentences.
    pub fn summary(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let names = |verdict| -> Vec<String> {
            let rows = self.rows().filter(|row| row.verdict == Some(verdict));
            rows.map(|row| format!("{} on `{}`", format::name(&row.metric), row.load)).collect()
        };
        for (load, why) in &self.compared.broken {
            sentences.push(format!("Does not run any more on `{load}`: {why}."));
        }
        for (load, why) in &self.compared.unknown {
            sentences.push(format!("`{}` has no figure on `{load}`: {why}.", self.before.name));
        }
        if self.is_with_reference() {
            sentences.push(
                "One side is of other hardware and another load: changes, and no verdict."
                    .to_owned(),
            );
            return sentences;
        }
        sentences.extend(self.in_common());
        sentences.push(self.open());
        sentences.extend(self.within_margin());
        sentences.extend(self.next_step());
        sentences.extend(self.single_starts());
        let worse = self.also_worse();
        if !worse.is_empty() {
            sentences.push(format!("Also worse, and no goal: {}.", format::list(&worse)));
        }
        let better = names(Verdict::Better);
        if !better.is_empty() {
            sentences.push(format!("Better: {}.", format::list(&better)));
        }
        let tested = self.rows().filter(|row| row.detectable.is_some()).count();
        if tested > 0 {
            sentences.push(format!(
                "{tested} metrics on {} were tested, each as its role asks: if nothing differed, about one \
                 comparison in 20 would call the objective better or worse, and one in 20 any limit.",
                format::list(&self.loads())
            ));
        }
        let lenders = self.lenders.iter().filter(|(_, settings)| *settings > 0);
        let lenders: Vec<String> =
            lenders.map(|(name, settings)| format!("{settings} of `{name}`")).collect();
        if tested > 0 && !lenders.is_empty() {
            sentences.push(format!(
                "How much starts differ in the objective is judged with other settings, too: {}.",
                format::list(&lenders)
            ));
        }
        if !self.compared.other_loads.is_empty() {
            sentences.push(format!(
                "Left out, since the two sides ran different loads of that name: {}.",
                format::list(&self.compared.other_loads)
            ));
        }
        let unknown = |side: &&Side| side.points.iter().any(|point| point.load_digest.is_none());
        let unknown = [self.before, self.after].into_iter().filter(unknown);
        sentences.extend(unknown.map(|side| {
            format!(
                "`{}` does not say what its loads were: that they are the same is taken from their names.",
                side.name
            )
        }));
        if self.before.engine.identity != self.after.engine.identity {
            sentences.push("The engines differ: a change may be theirs.".to_owned());
        }
        sentences
    }

    /// The trials that both sides have, of which nothing can be told.
    fn in_common(&self) -> Option<String> {
        let all: Vec<_> = self.pairs.iter().map(|(load, pair)| (load, pair.shared)).collect();
        if !all.is_empty() && all.iter().all(|(_, shared)| shared.is_all()) {
            return Some("The same trials on both sides: nothing was measured anew.".to_owned());
        }
        let (a, b) = (&self.before.name, &self.after.name);
        let counts: Vec<String> = all
            .iter()
            .filter(|(_, shared)| shared.both > 0)
            .map(|(load, Shared { both, before, after })| {
                format!("on `{load}` {both}, of {before} of `{a}` and {after} of `{b}`")
            })
            .collect();
        let counts = (!counts.is_empty()).then(|| format::list(&counts))?;
        if !all.iter().any(|(_, shared)| shared.is_grown()) {
            return Some(format!(
                "Starts that are on both sides say nothing and are left out: {counts}."
            ));
        }
        let is_endpoint = self.profile.is_some_and(|profile| profile.endpoint().is_some());
        let advice = match is_endpoint {
            true => {
                " If the server was changed between them, give it an `identity` of its own and count its \
                 starts from 1."
            }
            false => "",
        };
        Some(format!(
            "The same setting on both sides, which was measured further; starts of both: {counts}. So the \
             first starts are compared with the further ones.{advice}"
        ))
    }

    /// Goals that pass although nothing is shown of them, with the margin that is excluded.
    fn within_margin(&self) -> Option<String> {
        let profile = self.profile?;
        let goals = self.goals.iter().filter(|goal| goal.gate == Gate::Passed);
        let told = goals.filter_map(|goal| {
            let row = self.row(goal)?;
            let is_open = row.verdict == Some(Verdict::Inconclusive) && row.excludes_worse;
            let metric = metric::find(&row.metric).filter(|_| is_open)?;
            let margin = profile.margin_percent(metric, &row.load);
            let unit = if metric.is_share() { "points" } else { "%" };
            Some(format!("{} (by more than {margin} {unit})", goal_name(goal)))
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| {
            format!(
                "Inconclusive, and a change for the worse is excluded: {}.",
                format::list(&told)
            )
        })
    }

    /// What would settle the goals that are not settled, where more starts may.
    fn next_step(&self) -> Option<String> {
        let profile = self.profile?;
        let open: Vec<&Comparison> = self
            .goals
            .iter()
            .filter(|goal| goal.gate == Gate::Inconclusive)
            .filter_map(|goal| self.row(goal))
            // A single start settles nothing, and has its own sentence.
            .filter(|row| row.detectable.is_some())
            .collect();
        let most = open.iter().map(|row| row.starts_to_settle).reduce(|a, b| Some(a?.max(b?)))?;
        Some(match (most, profile.endpoint()) {
            (Some(starts), None) => format!(
                "About {starts} starts a side would settle it: set `starts = {starts}` in the [baseline] or \
                 [sweep] that each is of, run its suite again, and compare again."
            ),
            (Some(starts), Some(_)) => format!(
                "About {starts} starts a side would settle it: restart the server, count `start` in [engine] \
                 on, and run its suite again, up to `start = {starts}`."
            ),
            (None, _) => format!(
                "More than {} starts a side would be needed: take a quieter machine, a load with more \
                 requests, or a wider margin (`margin_percent` in [compare]).",
                stats::STARTS_MAX
            ),
        })
    }

    fn row(&self, goal: &Goal) -> Option<&Comparison> {
        self.rows().find(|row| row.metric == goal.metric && row.load == goal.load)
    }

    fn is_with_reference(&self) -> bool {
        let points = |side: &Side| side.points.iter().all(|point| point.role == Role::Reference);
        points(self.before) != points(self.after)
    }

    /// The goals, the objective first; none without a profile.
    pub fn goals(&self) -> &[Goal] {
        &self.goals
    }

    /// How the goals fare, in a sentence.
    fn open(&self) -> String {
        let Some(profile) = self.profile else {
            return "No profile says which metrics count: name one with --profile.".to_owned();
        };
        let goals = &self.goals;
        let row = |goal: &Goal| self.row(goal);
        let of = |gate, is_measured| {
            let goals = goals.iter().filter(move |goal| goal.gate == gate);
            goals.filter(move |goal| row(goal).is_some() == is_measured)
        };
        let mut parts = Vec::new();
        let mut say = |word: &str, names: Vec<String>| {
            if !names.is_empty() {
                parts.push(format!("{word}: {}.", format::list(&names)));
            }
        };
        let worse = goals.iter().filter(|goal| goal.gate == Gate::Regression);
        say("Worse or beyond its limit", worse.map(goal_name).collect());
        say("Not measured on both sides", of(Gate::NotJudged, false).map(goal_name).collect());
        let why = |goal: &Goal| {
            let reason = row(goal).map_or("", |row| row.reason.trim_start_matches("not judged: "));
            format!("{} ({reason})", goal_name(goal))
        };
        say("Not judged", of(Gate::NotJudged, true).map(why).collect());
        let open = goals.iter().filter(|goal| goal.gate == Gate::Inconclusive);
        say("Not settled", open.map(goal_name).collect());
        let price: Vec<String> = goals.iter().filter(|goal| goal.is_price).map(goal_name).collect();
        if !price.is_empty() {
            parts.push(format!(
                "The limits are met, and were violated: for that {} may get worse.",
                format::list(&price)
            ));
        }
        if parts.is_empty() {
            parts.push(match goals.len() {
                1 => format!(
                    "The goal of profile `{}` did not get worse: {}.",
                    profile.name,
                    goal_name(&goals[0])
                ),
                n => format!("None of the {n} goals of profile `{}` got worse.", profile.name),
            });
        }
        parts.join(" ")
    }

    /// What to do where a side has one start, with which nothing can be told from chance.
    fn single_starts(&self) -> Option<String> {
        // Those of both sides count for neither.
        let is_single = |index: usize| {
            let sides = self.pairs.iter().map(|(_, pair)| &pair.sides[index]);
            let figures = sides.flat_map(|side| side.metrics.values());
            figures.map(|figure| figure.values().len()).max() == Some(1)
        };
        let single: Vec<_> = [self.before, self.after]
            .into_iter()
            .enumerate()
            .filter(|(index, _)| is_single(*index))
            .map(|(_, side)| format!("`{}`", side.name))
            .collect();
        let how = match self.profile?.endpoint() {
            Some(_) => {
                "restart the server, set `start = 2` in [engine] beside its `identity`, and run its suite \
                 again; then 3, and so on"
            }
            None => {
                "set `starts = 3` in the [baseline] or [sweep] that it is of, and run the suite again"
            }
        };
        (!single.is_empty()).then(|| {
            format!(
                "{} one server start, which cannot give a verdict: how much starts differ is not known. Two \
                 a side are the least, and three or more show smaller changes: {how}.",
                match single.as_slice() {
                    [one] => format!("{one} has"),
                    both => format!("{} have", format::list(both)),
                }
            )
        })
    }

    /// What got worse and is no goal.
    pub fn also_worse(&self) -> Vec<String> {
        words::worse(&self.compared.rows, |row| self.is_goal(row))
    }

    /// The verdict in words.
    pub fn word(&self) -> &'static str {
        match self.gate() {
            Gate::Passed => "passed",
            Gate::Regression => "regression",
            Gate::Inconclusive => "inconclusive",
            Gate::NotJudged => "could not be judged",
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let side = |side: &Side| json!({ "name": side.name, "engine": side.engine });
        json!({
            "format": bench_core::schema::FORMAT,
            "before": side(self.before),
            "after": side(self.after),
            "gate": self.gate(),
            "summary": self.summary().join(" "),
            "comparisons": self.compared.rows,
        })
    }

    fn rows(&self) -> impl Iterator<Item = &Comparison> {
        self.compared.rows.iter()
    }

    fn is_goal(&self, row: &Comparison) -> bool {
        self.profile.is_some_and(|profile| is_goal(profile, &row.metric, &row.load))
    }

    fn loads(&self) -> Vec<String> {
        let mut loads: Vec<String> = Vec::new();
        for row in self.rows() {
            let load = format!("`{}`", row.load);
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        loads
    }
}

/// ``TPOT P95 on `burst` ``
fn goal_name(goal: &Goal) -> String {
    format!("{} on `{}`", format::name(&goal.metric), goal.load)
}

fn is_change(row: &Comparison) -> bool {
    matches!(row.verdict, Some(Verdict::Better | Verdict::Worse))
}

/// Server starts behind the points: `3`, or `1 to 3`; unknown of figures by others.
fn starts(points: &[Point]) -> String {
    let counts = || points.iter().map(|point| point.trials.len()).filter(|n| *n > 0);
    match (counts().min(), counts().max()) {
        (Some(fewest), Some(most)) if fewest == most => fewest.to_string(),
        (Some(fewest), Some(most)) => format!("{fewest} to {most}"),
        _ => NOTHING.to_owned(),
    }
}

/// The figures of both sides as the change compares them, so that it can be checked by eye.
pub fn figures(row: &Comparison) -> [String; 2] {
    let metric = metric::find(&row.metric);
    let sides = [Column::Default, Column::Tuned].map(|column| row.columns.get(&column).cloned());
    let sides = match (sides, metric) {
        ([Some(before), Some(after)], Some(metric)) => {
            stats::compared(&before, &after, metric.is_share()).map(Some)
        }
        (sides, _) => sides,
    };
    sides.map(|side| side.map_or_else(|| NOTHING.to_owned(), |e| format::estimate(metric, &e)))
}

fn cells(row: &Comparison) -> Vec<String> {
    let metric = metric::find(&row.metric);
    let [before, after] = figures(row);
    let change = row.change.as_ref().map(|change| format::change(metric, change));
    vec![
        format::title(metric, &row.metric),
        row.load.clone(),
        before,
        after,
        change.unwrap_or_else(|| NOTHING.to_owned()),
        row.verdict.map_or(NOTHING, verdict_word).to_owned(),
        row.reason.clone(),
    ]
}
