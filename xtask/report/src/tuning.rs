//! `tuning.md` and `tuning.csv`: the joint search, and what was confirmed.

use std::{collections::BTreeSet, fmt::Write as _};

use bench_core::{
    metric,
    schema::{Choice, Comparison, Point},
    search::{DEFAULTS, Evaluation, Failure, Over, Predicted, Problem},
};

use super::words;
use crate::format::{self, NOTHING};
use profile::{NamedLoad, Profile};

/// A search and its confirmation.
pub struct TuningPage<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// What was searched.
    pub problem: &'a Problem,
    /// Names of the settings.
    pub labels: &'a [String],
    /// Loads of the search.
    pub loads: &'a [&'a NamedLoad],
    /// What was measured, in order.
    pub evaluations: &'a [Evaluation],
    /// The settings that were confirmed, the best first.
    pub finalists: &'a [usize],
    /// Why the search ended.
    pub over: Over,
    /// What the confirmation gave.
    pub confirmed: &'a [Point],
    /// The choice against the defaults, as confirmed.
    pub comparisons: &'a [Comparison],
    /// The setting that won.
    pub choice: &'a Choice,
}

impl TuningPage<'_> {
    /// What the search came to, in sentences without an end.
    pub fn findings(&self) -> Vec<String> {
        let settings = self.problem.candidates.len() - 1;
        let mut started: Vec<usize> = self.evaluations.iter().map(|e| e.candidate).collect();
        started.sort_unstable();
        started.dedup();
        started.retain(|candidate| *candidate != DEFAULTS);
        let failed = self.evaluations.iter().filter(|e| is_refused(e)).count();
        let cut = self.evaluations.iter().filter(|e| self.is_given_up(e)).count();
        let minutes = |seconds: f64| format::number(seconds / 60.0, 1);
        let mut findings = vec![format!(
            "{} of {settings} settings were started, {} times in all, in {} engine minutes, of {} that \
             the search and its confirmation may take; {failed} starts did not run, {cut} were given \
             up after their first load; the search ended since {}",
            started.len(),
            self.evaluations.len(),
            minutes(Problem::spent_s(self.evaluations)),
            minutes(self.problem.budget_s),
            match self.over {
                Over::NothingPromises => "no other setting promised a gain",
                Over::Budget => "no other start fitted the budget",
            },
        )];
        findings.extend(self.layouts());
        findings.extend(self.luck());
        findings
    }

    /// How many layouts of several cards were started, where settings differ in them.
    fn layouts(&self) -> Option<String> {
        let candidates = &self.problem.candidates;
        let count = |of: &mut dyn Iterator<Item = usize>| {
            of.map(|index| candidates[index].layout).collect::<BTreeSet<_>>().len()
        };
        let all = count(&mut (0..candidates.len()));
        let started = count(&mut self.evaluations.iter().map(|e| e.candidate));
        (all > 1).then(|| {
            format!(
                "{started} of {all} layouts were started: once a setting kept the limits, each that might \
                 be best at its best setting, before the rest was searched"
            )
        })
    }

    /// How the winner's figure of the search compares with what it was confirmed to be.
    fn luck(&self) -> Option<String> {
        let objective = &self.profile.objective;
        let winner = *self.finalists.first().filter(|index| **index != DEFAULTS)?;
        let of_it = self.evaluations.iter().filter(|e| e.candidate == winner);
        let figures: Vec<f64> = of_it.flat_map(|e| e.figures[0].iter().copied()).collect();
        let seen = figures.iter().sum::<f64>() / figures.len() as f64;
        let confirmed =
            self.confirmed_point(winner, &objective.load)?.metrics.get(&objective.metric)?;
        let metric = metric::find(&objective.metric);
        Some(format!(
            "the search's winner, {}, gave {} in the search ({} loads); confirmed on fresh starts and \
             seeds it gives {}",
            self.labels[winner],
            format::value(metric, seen),
            figures.len(),
            format::estimate(metric, confirmed),
        ))
    }

    fn confirmed_point(&self, candidate: usize, load: &str) -> Option<&Point> {
        let label = &self.labels[candidate];
        self.confirmed.iter().find(|point| point.label == *label && point.load == load)
    }

    fn is_given_up(&self, evaluation: &Evaluation) -> bool {
        evaluation.failure.is_none() && !evaluation.is_whole()
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let objective = &self.profile.objective;
        let mut out = format!(
            "# The joint search\n\n{}\n\n## Confirmed\n\nMeasured again on fresh starts and with \
             fresh seeds: the best of many noisy figures is too good, and is shown nowhere as a \
             result. ± is half the 95 % interval over starts.\n\n",
            format::sentence(&self.choice.reason),
        );
        out += &self.confirmed_table();
        let row = self
            .comparisons
            .iter()
            .find(|row| row.metric == objective.metric && row.load == objective.load);
        if let Some((verdict, row)) = row.and_then(|row| Some((row.verdict?, row))) {
            let _ = writeln!(
                out,
                "\n{} against the defaults: **{}** ({}).",
                if self.choice.args.is_empty() { "The winner" } else { "The choice" },
                words::verdict_word(verdict),
                row.reason
            );
        }
        out += "\n## How it was found\n\n";
        for finding in self.findings() {
            let _ = writeln!(out, "- {}", format::sentence(&finding));
        }
        out += "\nEach line is one start, in the order of the search; figures are means over its \
                repeats of a load. \"Predicted\" is the simulator's, before anything was measured";
        let is_guessed = |e: &Evaluation| self.within(e.candidate).is_some();
        out += match self.evaluations.iter().any(is_guessed) {
            true => {
                "; in brackets with everything that is guessed of a layout at its worst and at its best \
                 ([assumptions](../../docs/how-to.md#choose-a-layout-of-several-cards)).\n\n"
            }
            false => ".\n\n",
        };
        out += &self.search_table();
        out
    }

    fn goal_headers(&self) -> impl Iterator<Item = String> {
        self.problem.goals.iter().map(|goal| {
            let load = self.loads[goal.load];
            format!(
                "> {} on `{}`",
                format::title(metric::find(&goal.metric), &goal.metric),
                load.name
            )
        })
    }

    fn confirmed_table(&self) -> String {
        let mut header = vec!["Setting".to_owned()];
        header.extend(self.goal_headers());
        let rows: Vec<Vec<String>> = self
            .finalists
            .iter()
            .map(|candidate| {
                let cells = self.problem.goals.iter().map(|goal| {
                    let point = self.confirmed_point(*candidate, &self.loads[goal.load].name);
                    let found = point.and_then(|point| point.metrics.get(&goal.metric));
                    match (found, point.and_then(|point| point.failure.as_ref())) {
                        (Some(found), _) => format::estimate(metric::find(&goal.metric), found),
                        (None, Some(failure)) => failure.title(),
                        (None, None) => NOTHING.to_owned(),
                    }
                });
                std::iter::once(format!("`{}`", self.labels[*candidate])).chain(cells).collect()
            })
            .collect();
        format::table(&header, &rows)
    }

    fn search_table(&self) -> String {
        let mut header = vec!["> #".to_owned(), "Setting".to_owned(), "> Predicted".to_owned()];
        header.extend(self.goal_headers());
        header.extend(["Outcome", "> Repeats", "> Engine time, s"].map(str::to_owned));
        let rows: Vec<Vec<String>> = (1..)
            .zip(self.evaluations)
            .map(|(number, evaluation): (usize, _)| {
                let mut cells = vec![
                    number.to_string(),
                    format!("`{}`", self.labels[evaluation.candidate]),
                    self.predicted(evaluation.candidate),
                ];
                let goals = 0..self.problem.goals.len();
                cells.extend(goals.map(|goal| self.figure(goal, evaluation.figure(goal))));
                cells.push(self.outcome(evaluation).to_owned());
                cells.push(evaluation.served[0].to_string());
                cells.push(format::number(evaluation.cost_s, 0));
                cells
            })
            .collect();
        format::table(&header, &rows)
    }

    fn figure(&self, goal: usize, figure: Option<f64>) -> String {
        let metric = metric::find(&self.problem.goals[goal].metric);
        figure.map_or_else(|| NOTHING.to_owned(), |figure| format::value(metric, figure))
    }

    /// What was predicted of the objective, and between what it is.
    fn predicted(&self, candidate: usize) -> String {
        let shown = self.figure(0, self.predicted_figure(candidate));
        match self.within(candidate) {
            Some([low, high]) => {
                format!("{shown} ({} to {})", self.figure(0, Some(low)), self.figure(0, Some(high)))
            }
            None => shown,
        }
    }

    fn predicted_figure(&self, candidate: usize) -> Option<f64> {
        match &self.problem.candidates[candidate].predicted {
            Predicted::Runs { figures, .. } => figures[0],
            Predicted::Unknown | Predicted::Refused => None,
        }
    }

    fn within(&self, candidate: usize) -> Option<[f64; 2]> {
        match self.problem.candidates[candidate].predicted {
            Predicted::Runs { within, .. } => within,
            Predicted::Unknown | Predicted::Refused => None,
        }
    }

    fn outcome(&self, evaluation: &Evaluation) -> &'static str {
        match evaluation.failure {
            Some(Failure::Memory) => "no memory",
            Some(Failure::Other) => "does not run",
            Some(Failure::Invalid) => "a trial is invalid",
            None if self.is_given_up(evaluation) => "given up",
            None if self.problem.is_feasible(evaluation) => "within the limits",
            None => "breaks a limit",
        }
    }

    /// A line a start: the flags, what was predicted, what was measured, and the time it took.
    pub fn csv(&self) -> String {
        let mut out = "setting".to_owned();
        for goal in &self.problem.goals {
            let _ = write!(out, ",{}@{}", goal.metric, self.loads[goal.load].name);
        }
        out += ",predicted,outcome,repeats,engine_s\n";
        let number =
            |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
        for evaluation in self.evaluations {
            out += &format::csv_cell(&self.labels[evaluation.candidate]);
            for goal in 0..self.problem.goals.len() {
                let _ = write!(out, ",{}", number(evaluation.figure(goal)));
            }
            let _ = writeln!(
                out,
                ",{},{},{},{:.3}",
                number(self.predicted_figure(evaluation.candidate)),
                self.outcome(evaluation),
                evaluation.served[0],
                evaluation.cost_s
            );
        }
        out
    }
}

fn is_refused(evaluation: &Evaluation) -> bool {
    matches!(evaluation.failure, Some(Failure::Memory | Failure::Other))
}
