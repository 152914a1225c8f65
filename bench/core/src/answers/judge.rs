//! Whether the answers of a setting are as good as those of the reference setting.
//!
//! Each setting says how likely it finds the same reference continuations, so the two are compared
//! prompt by prompt: how easy a prompt is falls out. Prompts are the unit, since the tokens of one text
//! are not independent. A setting passes where its negative log-likelihood a token is *shown* to rise by
//! no more than the margin (non-inferiority), and fails where it is shown to rise by more than that, and
//! by more than between two starts of the reference setting. In between nothing is concluded.

use std::collections::BTreeMap;

use crate::{
    hist::round,
    schema::{
        AnswerExample, AnswerGroup, AnswerState, AnswerVerdict, Answers, Estimate, GroupChange,
        PromptAnswer, RightAnswers,
    },
    stats::{LEVEL, critical, median},
};

/// Examples that are shown, and the characters of each answer.
const EXAMPLES_MAX: usize = 2;
const EXAMPLE_CHARS: usize = 160;

/// What a setting may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margins {
    /// By how much the negative log-likelihood a token may rise, in percent.
    pub nll_increase_percent_max: f64,
    /// By how much the share of right answers may change, in points: 0 or below.
    pub right_change_points_min: f64,
}

/// A prompt as examples show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How it ends.
    pub prompt: String,
    /// How it goes on.
    pub continuation: String,
}

/// One prompt under both settings.
#[derive(Clone, Copy)]
struct Pair<'a> {
    /// The reference's first start, whose text is compared.
    reference: &'a PromptAnswer,
    setting: &'a PromptAnswer,
    /// Sums over the continuation's tokens, the reference's a mean over its starts.
    reference_nll: f64,
    nll: f64,
    /// The same of right answers, 0 to 1; `None` where others may be as good.
    right: Option<(f64, f64)>,
}

/// Judges a setting by its answers; `None` where the two have no prompt in common.
///
/// `reference` holds the starts of the reference setting, at least one. `asked` says what a prompt is,
/// for the examples.
pub fn judge(
    reference: &[&Answers],
    setting: &Answers,
    margins: Margins,
    asked: &dyn Fn(&str) -> Option<Asked>,
) -> Option<AnswerVerdict> {
    let pairs = pairs(reference, setting);
    let nll = change_percent(&pairs, LEVEL)?;
    let noise = match reference {
        [first, second, ..] => Some(self::pairs(&[first], second)),
        _ => None,
    };
    let noise_percent = noise.as_ref().and_then(|noise| change_percent(noise, LEVEL));
    let groups = groups(&pairs);
    let right = right_answers(&pairs, |_| true);
    let found = right_answers(&pairs, |group| group == AnswerGroup::Long);
    let state = state(&nll, noise_percent.as_ref(), &groups, [&right, &found], margins);
    let tokens: u32 = pairs.iter().map(|pair| pair.setting.tokens).sum();
    Some(AnswerVerdict {
        state,
        prompts: pairs.len() as u32,
        tokens,
        reference_nll: nll_a_token(&pairs).map_or(0.0, round),
        nll_change_percent: nll,
        noise_percent,
        groups,
        top_changed_percent: top_changed_percent(&pairs),
        top_noise_percent: noise.as_deref().and_then(top_changed_percent),
        differing_percent: differing_percent(&pairs),
        differing_noise_percent: noise.as_deref().map(differing_percent),
        first_difference_chars: first_difference_chars(&pairs),
        right,
        found,
        examples: examples(&pairs, asked),
    })
}

/// What the figures come to.
fn state(
    nll: &Estimate,
    noise: Option<&Estimate>,
    groups: &[GroupChange],
    questions: [&RightAnswers; 2],
    margins: Margins,
) -> AnswerState {
    let most = margins.nll_increase_percent_max;
    let least = margins.right_change_points_min;
    let noise = noise.map_or(0.0, |noise| {
        [noise.low, noise.high].into_iter().flatten().fold(noise.mean.abs(), |a, b| a.max(b.abs()))
    });
    let is_worse = |change: &Estimate| change.low.is_some_and(|low| low > most.max(noise));
    let loses = |questions: &&RightAnswers| {
        let change = &questions.change_points;
        change.high.is_some_and(|high| high < least)
    };
    let may_lose = |questions: &&RightAnswers| questions.change_points.mean < least;
    if is_worse(nll)
        || groups.iter().any(|group| is_worse(&group.nll_change_percent))
        || questions.iter().any(loses)
    {
        return AnswerState::Failed;
    }
    let is_kept = nll.high.is_some_and(|high| high <= most);
    if is_kept && !questions.iter().any(may_lose) { AnswerState::Passed } else { AnswerState::Open }
}

fn pairs<'a>(reference: &[&'a Answers], setting: &'a Answers) -> Vec<Pair<'a>> {
    let by_name = |answers: &&'a Answers| -> BTreeMap<&'a str, &'a PromptAnswer> {
        answers.prompts.iter().map(|prompt| (prompt.id.as_str(), prompt)).collect()
    };
    let starts: Vec<_> = reference.iter().map(by_name).collect();
    let pair = |setting: &'a PromptAnswer| {
        let of_starts: Vec<&PromptAnswer> =
            starts.iter().filter_map(|start| start.get(setting.id.as_str()).copied()).collect();
        let mean = |of: &dyn Fn(&PromptAnswer) -> f64| {
            of_starts.iter().map(|one| of(one)).sum::<f64>() / of_starts.len() as f64
        };
        let is_right = |one: &PromptAnswer| f64::from(u8::from(one.right == Some(true)));
        Some(Pair {
            reference: of_starts.first()?,
            setting,
            reference_nll: mean(&|one| one.nll),
            nll: setting.nll,
            right: setting.right.map(|_| (mean(&is_right), is_right(setting))),
        })
    };
    setting.prompts.iter().filter_map(pair).collect()
}

/// Change of the negative log-likelihood a token in percent: a ratio of sums over prompts, with the
/// interval of a ratio estimator (Cochran, "Sampling Techniques", 1977, 6.4).
fn change_percent(pairs: &[Pair<'_>], level: f64) -> Option<Estimate> {
    let n = pairs.len() as f64;
    let before: f64 = pairs.iter().map(|pair| pair.reference_nll).sum();
    if pairs.is_empty() || before <= 0.0 {
        return None;
    }
    let after: f64 = pairs.iter().map(|pair| pair.nll).sum();
    let ratio = after / before;
    let residual = |pair: &Pair<'_>| pair.nll - ratio * pair.reference_nll;
    let squares: f64 = pairs.iter().map(|pair| residual(pair) * residual(pair)).sum();
    let error = libm::sqrt(squares * n / (n - 1.0)) / before;
    Some(with_interval(100.0 * (ratio - 1.0), 100.0 * error, n - 1.0, level))
}

/// Mean negative log-likelihood a token of the reference setting, in nats.
fn nll_a_token(pairs: &[Pair<'_>]) -> Option<f64> {
    let tokens: u32 = pairs.iter().map(|pair| pair.setting.tokens).sum();
    let sum: f64 = pairs.iter().map(|pair| pair.reference_nll).sum();
    (tokens > 0).then(|| sum / f64::from(tokens))
}

/// A mean with its interval by Student's t; none where one prompt is all there is.
fn with_interval(mean: f64, error: f64, freedom: f64, level: f64) -> Estimate {
    let half = (freedom > 0.0).then(|| critical(level, freedom) * error);
    Estimate {
        mean: round(mean),
        low: half.map(|half| round(mean - half)),
        high: half.map(|half| round(mean + half)),
        ..Estimate::default()
    }
}

/// Each kind apart, at a level that keeps their number from making chance a finding (Bonferroni), in
/// percent of its own mean or of that over all prompts, whichever is larger: of what a model all but knows,
/// such as a fact to copy, a rise that nobody would notice is a multiple.
fn groups(pairs: &[Pair<'_>]) -> Vec<GroupChange> {
    let of = |group: AnswerGroup| move |pair: &&Pair<'_>| pair.setting.group == group;
    let there: Vec<AnswerGroup> = AnswerGroup::ALL
        .into_iter()
        .filter(|group| pairs.iter().any(|pair| pair.setting.group == *group))
        .collect();
    let level = LEVEL / there.len().max(1) as f64;
    let change = |group: AnswerGroup| {
        let own: Vec<Pair<'_>> = pairs.iter().filter(of(group)).copied().collect();
        let own_nll = nll_a_token(&own)?;
        let nll_change_percent = change_percent(&own, level)?;
        let share = (own_nll / nll_a_token(pairs)?).min(1.0);
        let of_all = |percent: f64| round(share * percent);
        let nll_change_percent = Estimate {
            mean: of_all(nll_change_percent.mean),
            low: nll_change_percent.low.map(of_all),
            high: nll_change_percent.high.map(of_all),
            ..nll_change_percent
        };
        Some(GroupChange { group, prompts: own.len() as u32, nll_change_percent })
    };
    there.into_iter().filter_map(change).collect()
}

fn right_answers(pairs: &[Pair<'_>], is_wanted: impl Fn(AnswerGroup) -> bool) -> RightAnswers {
    let both: Vec<(f64, f64)> = pairs
        .iter()
        .filter(|pair| is_wanted(pair.setting.group))
        .filter_map(|pair| pair.right)
        .collect();
    let n = both.len() as f64;
    let percent = |sum: f64| if both.is_empty() { 0.0 } else { round(100.0 * sum / n) };
    let changes: Vec<f64> = both.iter().map(|(before, after)| 100.0 * (after - before)).collect();
    let mean = changes.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = changes.iter().map(|change| (change - mean) * (change - mean)).sum();
    let error = libm::sqrt(squares / (n - 1.0).max(1.0) / n.max(1.0));
    RightAnswers {
        asked: both.len() as u32,
        reference_percent: percent(both.iter().map(|(before, _)| before).sum()),
        percent: percent(both.iter().map(|(_, after)| after).sum()),
        change_points: with_interval(mean, error, n - 1.0, LEVEL),
    }
}

fn top_changed_percent(pairs: &[Pair<'_>]) -> Option<f64> {
    let tokens = |pair: &Pair<'_>| pair.reference.top.len().min(pair.setting.top.len());
    let changed = |pair: &Pair<'_>| {
        let both = pair.reference.top.iter().zip(&pair.setting.top);
        both.filter(|(before, after)| before != after).count()
    };
    let all: usize = pairs.iter().map(tokens).sum();
    (all > 0).then(|| round(100.0 * pairs.iter().map(changed).sum::<usize>() as f64 / all as f64))
}

fn differs(pair: &Pair<'_>) -> bool {
    pair.reference.answer != pair.setting.answer || pair.reference.digest != pair.setting.digest
}

fn differing_percent(pairs: &[Pair<'_>]) -> f64 {
    let differing = pairs.iter().filter(|pair| differs(pair)).count();
    round(100.0 * differing as f64 / pairs.len().max(1) as f64)
}

fn first_difference_chars(pairs: &[Pair<'_>]) -> Option<f64> {
    let place = |pair: &Pair<'_>| {
        let (before, after) = (pair.reference.answer.as_ref()?, pair.setting.answer.as_ref()?);
        let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b).count();
        Some(same as f64)
    };
    median(pairs.iter().filter(|pair| differs(pair)).filter_map(place).collect())
}

/// Questions that only the reference answers right first, then answers that differ, by how much less
/// likely the setting finds the continuation.
fn examples(pairs: &[Pair<'_>], asked: &dyn Fn(&str) -> Option<Asked>) -> Vec<AnswerExample> {
    let is_lost =
        |pair: &Pair<'_>| pair.reference.right == Some(true) && pair.setting.right == Some(false);
    let mut shown: Vec<&Pair<'_>> = pairs.iter().filter(|pair| differs(pair)).collect();
    shown.sort_by(|a, b| {
        let rise = |pair: &Pair<'_>| pair.nll - pair.reference_nll;
        is_lost(b).cmp(&is_lost(a)).then_with(|| rise(b).total_cmp(&rise(a)))
    });
    let example = |pair: &&Pair<'_>| {
        let short = |text: &str| text.chars().take(EXAMPLE_CHARS).collect::<String>();
        let asked = asked(&pair.setting.id)?;
        Some(AnswerExample {
            id: pair.setting.id.clone(),
            reference: short(pair.reference.answer.as_ref()?),
            answer: short(pair.setting.answer.as_ref()?),
            prompt: asked.prompt,
            expected: short(&asked.continuation),
        })
    };
    shown.iter().filter_map(example).take(EXAMPLES_MAX).collect()
}

#[cfg(test)]
mod tests;
