//! Which settings may be recommended for their answers: those that leave answers as they are by design,
//! and those whose answers were judged and passed.

use bench_core::schema::{
    AnswerRefusal, AnswerState, AnswersResult, Args, Estimate, JudgedAnswers, LimitState,
};

use super::{Configuration, choice::Swept};
use profile::Profile;

/// What is known of answers in a run.
#[derive(Clone, Copy, Debug)]
pub struct KnownAnswers<'a> {
    /// The profile: which arguments are the server's own, and whether answers are checked.
    pub profile: &'a Profile,
    /// Every set of arguments that was judged.
    pub judged: &'a [JudgedAnswers],
}

impl<'a> KnownAnswers<'a> {
    /// What the stage `answers` found, where it ran.
    pub fn from_result(profile: &'a Profile, result: Option<&'a AnswersResult>) -> Self {
        Self { profile, judged: result.map_or(&[], |result| &result.settings) }
    }

    /// What is known of a setting's answers; one that cannot change them has passed.
    pub fn state(&self, args: &Args) -> AnswerState {
        let changing = self.profile.changes_answers(args);
        if changing.is_empty() {
            return AnswerState::Passed;
        }
        self.of(&changing).map_or(AnswerState::Unchecked, |judged| judged.state)
    }

    /// Whether a setting may be recommended.
    pub fn permits(&self, args: &Args) -> bool {
        !self.profile.checks_answers() || self.state(args) == AnswerState::Passed
    }

    /// Why a setting may not be recommended; `None` where it may.
    pub fn why_withheld(&self, args: &Args) -> Option<String> {
        let said = match self.state(args) {
            _ if self.permits(args) => return None,
            AnswerState::Failed => "were judged worse",
            AnswerState::Open => "are not shown to be as good",
            AnswerState::Passed | AnswerState::Unchecked => "were not judged",
        };
        let changing = self.profile.changes_answers(args);
        let flags: Vec<String> = changing.iter().map(|(f, v)| format!("{f} {v}")).collect();
        Some(format!("the answers of {} {said}", flags.join(", ")))
    }

    /// Those of a setting's arguments that may change answers, where the profile has them unchecked.
    pub fn unchecked(&self, args: &Args) -> Args {
        match self.profile.checks_answers() {
            true => Args::new(),
            false => self.profile.changes_answers(args),
        }
    }

    /// Takes out of sweeps what must not be recommended; gives what of it promised a gain, the greatest
    /// first.
    pub fn withhold(&self, sweeps: &mut [Swept<'_>]) -> Vec<AnswerRefusal> {
        let mut refused: Vec<AnswerRefusal> = Vec::new();
        for swept in sweeps {
            let mut changes = swept.changes(self.profile).into_iter();
            swept.values.retain(|value| {
                let gain = changes.next().and_then(|(change, _)| change);
                let is_permitted = self.permits(value.args);
                if !is_permitted && refused.iter().all(|other| other.args != *value.args) {
                    refused.extend(gain.and_then(|gain| self.refusal(gain, value)));
                }
                is_permitted
            });
        }
        let sign = if self.profile.objective.maximize { 1.0 } else { -1.0 };
        refused.sort_by(|a, b| (sign * b.gain.mean).total_cmp(&(sign * a.gain.mean)));
        refused
    }

    /// What a value would have gained; `None` where it promises nothing beyond the margin, or violates a
    /// limit: for that it would not have been recommended either.
    fn refusal(&self, gain: Estimate, value: &Configuration<'_>) -> Option<AnswerRefusal> {
        let profile = self.profile;
        let better = if profile.objective.maximize { gain.mean } else { -gain.mean };
        if better < profile.objective.margin_percent() || value.state() == LimitState::Violated {
            return None;
        }
        let changes_answers = profile.changes_answers(value.args);
        let judged = self.of(&changes_answers);
        Some(AnswerRefusal {
            args: value.args.clone(),
            state: judged.map_or(AnswerState::Unchecked, |judged| judged.state),
            gain,
            nll_change_percent: judged
                .and_then(|judged| Some(judged.verdict.as_ref()?.nll_change_percent.clone())),
            changes_answers,
        })
    }

    fn of(&self, changing: &Args) -> Option<&JudgedAnswers> {
        self.judged.iter().find(|judged| judged.args == *changing)
    }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::{ArgValue, Point};

    use super::*;
    use crate::fixture::{point, profile};

    fn quantized(method: &str) -> Args {
        Args::from([("quantization".to_owned(), ArgValue::Text(method.to_owned()))])
    }

    fn judged(method: &str, state: AnswerState) -> JudgedAnswers {
        JudgedAnswers {
            args: quantized(method),
            why: Vec::new(),
            state,
            verdict: None,
            problem: None,
        }
    }

    /// The defaults and two quantized values, one faster than the other.
    fn points() -> Vec<Point> {
        let of = |label: &str, args: Args, rate: f64| {
            let rates = [rate * 0.999, rate, rate * 1.001];
            Point { args, ..point(label, &[], "burst", &[("output_tokens_per_s", &rates)]) }
        };
        vec![
            of("default", Args::new(), 100.0),
            of("int4", quantized("int4"), 200.0),
            of("fp8", quantized("fp8"), 150.0),
            of("slow", quantized("slow"), 90.0),
        ]
    }

    fn swept<'a>(points: &'a [Point], profile: &Profile) -> Swept<'a> {
        Swept {
            name: "quantization",
            values: Configuration::all(points, profile, |point| point.label != "default"),
            default: Configuration::of(points, profile, |point| point.label == "default"),
            lenders: Box::leak(Box::default()),
        }
    }

    #[test]
    fn what_failed_or_was_not_checked_is_withheld_and_its_gain_told() {
        let (profile, points) = (profile(None), points());
        let all = [
            judged("int4", AnswerState::Failed),
            judged("fp8", AnswerState::Passed),
            judged("slow", AnswerState::Open),
        ];
        for (known, kept, refused) in [
            (&all[..], vec!["fp8"], vec![("int4", AnswerState::Failed)]),
            (&[], vec![], vec![("int4", AnswerState::Unchecked), ("fp8", AnswerState::Unchecked)]),
        ] {
            let mut sweeps = [swept(&points, &profile)];
            let found = KnownAnswers { profile: &profile, judged: known }.withhold(&mut sweeps);
            let labels: Vec<_> = sweeps[0].values.iter().map(|value| value.label).collect();
            assert_eq!(labels, kept);
            let of = |one: &AnswerRefusal| (one.args["quantization"].to_string(), one.state);
            let expected: Vec<_> =
                refused.iter().map(|(m, state)| ((*m).to_owned(), *state)).collect();
            assert_eq!(found.iter().map(of).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn other_flags_beside_do_not_change_what_is_known() {
        let profile = profile(None);
        let judged = [judged("fp8", AnswerState::Passed)];
        let known = KnownAnswers { profile: &profile, judged: &judged };
        let mut args = quantized("fp8");
        args.insert("max-num-seqs".to_owned(), ArgValue::Int(256));
        assert!(known.permits(&args));
        args.insert("kv-cache-dtype".to_owned(), ArgValue::Text("fp8".to_owned()));
        assert_eq!(
            known.state(&args),
            AnswerState::Unchecked,
            "the two together are another setting"
        );
        assert!(known.permits(&Args::new()));
    }

    /// Of two flags that passed together each alone is another setting, and is withheld until it is judged.
    #[test]
    fn what_is_left_of_a_setting_that_passed_is_not_judged_by_it() {
        let profile = profile(None);
        let (quantized, mut both) = (quantized("fp8"), quantized("fp8"));
        both.insert("kv-cache-dtype".to_owned(), ArgValue::Text("fp8".to_owned()));
        let together = JudgedAnswers { args: both.clone(), ..judged("fp8", AnswerState::Passed) };
        let of = |state| [together.clone(), judged("fp8", state)];
        let why = |judged: &[JudgedAnswers], args: &Args| {
            KnownAnswers { profile: &profile, judged }.why_withheld(args)
        };
        assert_eq!(why(std::slice::from_ref(&together), &both), None);
        assert_eq!(
            why(std::slice::from_ref(&together), &quantized).as_deref(),
            Some("the answers of quantization fp8 were not judged")
        );
        for (state, said) in
            [(AnswerState::Failed, "judged worse"), (AnswerState::Open, "not shown")]
        {
            let why = why(&of(state), &quantized).expect("withheld");
            assert!(why.contains(said), "{why}");
        }
        assert_eq!(why(&of(AnswerState::Passed), &quantized), None);
    }
}
