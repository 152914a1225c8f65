//! `answers.md`: how the answers of each setting that may change them compare with those of the defaults;
//! and what decisions say of answers.

use std::fmt::Write as _;

use bench_core::{
    answers::Prompt,
    metric,
    schema::{
        AnswerExample, AnswerRefusal, AnswerState, AnswerVerdict, AnswersResult, Decision,
        Estimate, JudgedAnswers, RightAnswers,
    },
    wrap::wrap,
};

use crate::format::{self, NOTHING};
use profile::{AnswersConfig, Profile};

/// Columns of a page's prose.
const COLUMNS: usize = 110;

/// What was found of each setting.
pub struct AnswersPage<'a> {
    /// How answers were judged.
    pub config: &'a AnswersConfig,
    /// What was asked.
    pub prompts: &'a [Prompt],
    /// What came of it.
    pub result: &'a AnswersResult,
    /// Why nothing can be concluded from this engine's answers.
    pub nothing: Option<&'a str>,
}

impl AnswersPage<'_> {
    /// The page.
    pub fn markdown(&self) -> String {
        let mut out = "# Answers\n\n".to_owned();
        match self.nothing {
            Some(why) => out += &prose(&self.not_concluded(why)),
            None => self.figures(&mut out),
        }
        out += "\n## Why they may change answers\n\n";
        for why in self.result.settings.iter().flat_map(|setting| &setting.why) {
            let line = format!("- {why}\n");
            if !out.contains(&line) {
                out += &line;
            }
        }
        out
    }

    fn not_concluded(&self, why: &str) -> String {
        let of = |setting: &JudgedAnswers| format::args(&setting.args);
        let settings: Vec<_> = self.result.settings.iter().map(of).collect();
        format!(
            "Nothing can be concluded about answers: {why}. Before {} {} deployed, run this profile with \
             the real weights (`model` in [engine]); until then no setting with {} is recommended.",
            format::list(&settings),
            if settings.len() == 1 { "is" } else { "are" },
            if settings.len() == 1 { "it" } else { "one of them" },
        )
    }

    fn figures(&self, out: &mut String) {
        let config = self.config;
        let own = match config.own.len() {
            0 => String::new(),
            n => format!(", {n} of them the user's own"),
        };
        *out += &prose(&format!(
            "The same {} prompts{own} (set {}) were asked of the defaults and of every setting that may \
             change answers. A setting passes where the negative log-likelihood (NLL) a token of the \
             reference texts is shown to rise by no more than {} %, and the share of right answers does not \
             fall by more than {} points; it fails where it is shown to be worse. In between it is open, and \
             not recommended.",
            self.prompts.len(),
            config.set.version,
            config.nll_increase_percent_max,
            format::number(config.exact_match_change_points_min.to_f64().abs(), 1),
        ));
        let header = [
            "Setting",
            "Answers",
            "> NLL a token",
            "> Right answers",
            "> Found in long contexts",
            "> Likeliest token differs",
            "> Answers that differ",
        ];
        let rows: Vec<Vec<String>> = self.result.settings.iter().map(row).collect();
        *out += "\n";
        *out += &format::table(&header.map(str::to_owned), &rows);
        let verdicts = self.result.settings.iter().filter_map(|s| Some((s, s.verdict.as_ref()?)));
        if let Some((_, verdict)) = verdicts.clone().next() {
            *out += "\n";
            *out += &prose(&noise(verdict));
        }
        for setting in &self.result.settings {
            if let Some(problem) = &setting.problem {
                *out += "\n";
                *out += &prose(&format!(
                    "Not judged: {}, since {problem}.",
                    format::args(&setting.args)
                ));
            }
        }
        for (setting, verdict) in verdicts {
            let _ = write!(out, "\n## {}\n\n", format::args(&setting.args));
            *out += &by_group(verdict);
            if !verdict.examples.is_empty() {
                *out += "\nWhat the two answered:\n\n";
                let examples = verdict.examples.iter().map(example_row).collect::<Vec<_>>();
                let header = ["Prompt", "Goes on", "The defaults answer", "This setting answers"];
                *out += &format::table(&header.map(str::to_owned), &examples);
            }
        }
    }
}

fn prose(text: &str) -> String {
    wrap(text, 0, COLUMNS).replace("\n  ", "\n")
}

fn row(setting: &JudgedAnswers) -> Vec<String> {
    let name = format::args(&setting.args);
    let state = state(setting.state).to_owned();
    let Some(verdict) = &setting.verdict else {
        let mut row = vec![name, state];
        row.resize(7, NOTHING.to_owned());
        return row;
    };
    let percent = |share: Option<f64>| {
        share.map_or_else(|| NOTHING.to_owned(), |share| format!("{} %", format::number(share, 1)))
    };
    let first = verdict.first_difference_chars;
    let first =
        first.map(|chars| format!(", from character {} on", format::number(chars + 1.0, 0)));
    vec![
        name,
        state,
        change(&verdict.nll_change_percent, " %"),
        right(&verdict.right),
        right(&verdict.found),
        percent(verdict.top_changed_percent),
        format!("{}{}", percent(Some(verdict.differing_percent)), first.unwrap_or_default()),
    ]
}

/// A change with half its interval.
fn change(change: &Estimate, unit: &str) -> String {
    let mean = format::signed(change.mean, 2);
    match (change.low, change.high) {
        (Some(low), Some(high)) => {
            format!("{mean} ± {}{unit}", format::number((high - low) / 2.0, 2))
        }
        _ => format!("{mean}{unit}"),
    }
}

fn right(right: &RightAnswers) -> String {
    if right.asked == 0 {
        return NOTHING.to_owned();
    }
    let percent = |percent| format::number(percent, 1);
    format!("{} → {} %", percent(right.reference_percent), percent(right.percent))
}

/// What two starts of the defaults differ by.
fn noise(verdict: &AnswerVerdict) -> String {
    let Some(nll) = &verdict.noise_percent else {
        return "One start of the defaults gave answers, so that the noise between starts is not known."
            .to_owned();
    };
    let percent = |share: f64| format!("{} %", format::number(share, 1));
    let top = verdict.top_noise_percent.map(|share| {
        format!(", another token is the likeliest at {} of the places", percent(share))
    });
    format!(
        "Two starts of the defaults differ too: by {} in NLL{}; {} of their answers differ. ± is half the \
         95 % interval over prompts.",
        change(nll, " %"),
        top.unwrap_or_default(),
        percent(verdict.differing_noise_percent.unwrap_or(0.0)),
    )
}

fn by_group(verdict: &AnswerVerdict) -> String {
    let row = |group: &bench_core::schema::GroupChange| {
        vec![
            group.group.name().to_owned(),
            group.prompts.to_string(),
            change(&group.nll_change_percent, " %"),
        ]
    };
    let rows: Vec<_> = verdict.groups.iter().map(row).collect();
    format::table(&["Prompts", "> Number", "> NLL a token"].map(str::to_owned), &rows)
}

fn example_row(example: &AnswerExample) -> Vec<String> {
    let cell = |text: &str| {
        let plain: Vec<_> = text.split_whitespace().collect();
        let plain = plain.join(" ").replace('`', "'");
        if plain.is_empty() { NOTHING.to_owned() } else { format!("`{plain}`") }
    };
    vec![
        cell(&example.prompt),
        cell(&example.expected),
        cell(&example.reference),
        cell(&example.answer),
    ]
}

/// A state in a word or two.
pub fn state(state: AnswerState) -> &'static str {
    match state {
        AnswerState::Passed => "as good",
        AnswerState::Open => "open",
        AnswerState::Failed => "worse",
        AnswerState::Unchecked => "not checked",
    }
}

/// What a decision says of answers, in sentences; empty where answers have no part in it.
pub fn of_decision(decision: &Decision, profile: &Profile) -> String {
    let mut said = Vec::new();
    if !decision.unchecked.is_empty() {
        said.push(format!(
            "Its answers were not checked, since the profile says so: {} may change them.",
            format::args(&decision.unchecked)
        ));
    }
    said.extend(decision.refused.first().map(|refused| refusal(refused, profile)));
    let others = decision.refused.len().saturating_sub(1);
    if others > 0 {
        let plural = if others == 1 { "setting was" } else { "settings were" };
        said.push(format!("{others} other faster {plural} refused for answers too."));
    }
    said.join(" ")
}

/// Why a setting that promised a gain is not recommended.
pub fn refusal(refused: &AnswerRefusal, profile: &Profile) -> String {
    let objective = &profile.objective;
    let gain = format::change(metric::find(&objective.metric), &refused.gain);
    let nll = refused.nll_change_percent.as_ref();
    let nll = nll.map(|nll| format!(" (NLL a token {})", change(nll, " %"))).unwrap_or_default();
    let why = match refused.state {
        AnswerState::Failed => format!("its answers are worse{nll}"),
        AnswerState::Open => format!("its answers are not shown to be as good{nll}"),
        AnswerState::Passed | AnswerState::Unchecked => "its answers were not checked".to_owned(),
    };
    format!(
        "{} changes {} on `{}` by {gain} and is refused: {why}.",
        format::args(&refused.args),
        format::name(&objective.metric),
        objective.load,
    )
}

#[cfg(test)]
mod tests;
