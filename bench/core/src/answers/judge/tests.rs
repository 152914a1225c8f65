use super::*;
use crate::rng::Random;

const MARGINS: Margins = Margins { nll_increase_percent_max: 1.0, right_change_points_min: -5.0 };

/// Answers to 100 prompts: their difficulty is the seed's, everything else that of `change`.
fn answers(noise: u64, change: &dyn Fn(&mut PromptAnswer, usize)) -> Answers {
    let (mut prompts, mut own) = (Random::new(1, 0), Random::new(noise, 1));
    let groups = [AnswerGroup::Text, AnswerGroup::Code, AnswerGroup::Fact, AnswerGroup::Long];
    let one = |number: usize| {
        let group = groups[number % 4];
        let is_exact = number % 4 >= 2;
        let tokens = if is_exact { 2 } else { 40 };
        let nll = f64::from(tokens) * (1.0 + prompts.uniform());
        let mut prompt = PromptAnswer {
            id: format!("p-{number}"),
            group,
            tokens,
            nll: nll * (1.0 + 0.001 * own.normal()),
            top: (0..tokens).collect(),
            right: is_exact.then_some(true),
            answer: Some(format!("answer {number}")),
            digest: None,
        };
        change(&mut prompt, number);
        prompt
    };
    Answers { prompts: (0..100).map(one).collect() }
}

fn verdict(change: &dyn Fn(&mut PromptAnswer, usize)) -> AnswerVerdict {
    let reference = [answers(2, &|_, _| {}), answers(3, &|_, _| {})];
    let setting = answers(4, change);
    let asked = |id: &str| {
        let continuation = format!("expected of {id}");
        Some(Asked { prompt: format!("prompt of {id}"), continuation })
    };
    judge(&reference.each_ref(), &setting, MARGINS, &asked).expect("prompts in common")
}

#[test]
fn an_equal_passes_and_its_change_is_noise() {
    let found = verdict(&|_, _| {});
    assert_eq!(found.state, AnswerState::Passed, "{found:?}");
    assert!(found.nll_change_percent.mean.abs() < 0.1);
    assert!(found.noise_percent.expect("two starts").mean.abs() < 0.1);
    assert_eq!((found.prompts, found.right.asked, found.found.asked), (100, 50, 25));
    assert_eq!((found.top_changed_percent, found.differing_percent), (Some(0.0), 0.0));
    assert_eq!(found.first_difference_chars, None);
    assert!(found.examples.is_empty());
}

#[test]
fn a_rise_beyond_the_margin_fails_and_one_within_it_passes() {
    for (percent, state) in
        [(0.5, AnswerState::Passed), (1.0, AnswerState::Open), (3.0, AnswerState::Failed)]
    {
        let found = verdict(&|prompt, _| prompt.nll *= 1.0 + percent / 100.0);
        assert_eq!(found.state, state, "{percent} %: {:?}", found.nll_change_percent);
        assert!((found.nll_change_percent.mean - percent).abs() < 0.1);
    }
}

#[test]
fn better_answers_pass() {
    assert_eq!(verdict(&|prompt, _| prompt.nll *= 0.8).state, AnswerState::Passed);
}

/// Facts in long contexts are few tokens: in the sum over all prompts nobody would see them.
#[test]
fn what_is_lost_in_long_contexts_alone_is_found() {
    let found = verdict(&|prompt, _| {
        if prompt.group == AnswerGroup::Long {
            prompt.nll *= 1.2;
        }
    });
    let all = &found.nll_change_percent;
    assert!(all.mean < 1.0, "the sum hides it: {all:?}");
    assert_eq!(found.state, AnswerState::Failed);
}

/// A fact to copy costs next to nothing: twice of it is next to nothing too.
#[test]
fn a_multiple_of_next_to_nothing_is_no_finding() {
    let easy = |prompt: &mut PromptAnswer, factor: f64| {
        if prompt.group == AnswerGroup::Long {
            prompt.nll *= 0.001 * factor;
        }
    };
    let reference = [answers(2, &|p, _| easy(p, 1.0)), answers(3, &|p, _| easy(p, 1.0))];
    let setting = answers(4, &|p, _| easy(p, 2.0));
    let found = judge(&reference.each_ref(), &setting, MARGINS, &|_| None).expect("a verdict");
    assert_eq!(found.state, AnswerState::Passed, "{:?}", found.groups);
}

#[test]
fn right_answers_lost_fail_though_the_likelihood_does_not_show_it() {
    let lose = |share: usize| {
        verdict(&|prompt, number| {
            if prompt.right.is_some() && number % share < 4 {
                prompt.right = Some(false);
                prompt.answer = Some("another answer".to_owned());
            }
        })
    };
    let many = lose(12);
    assert_eq!(many.state, AnswerState::Failed, "{:?}", many.right);
    assert_eq!(many.examples.len(), 2);
    assert_eq!(many.examples[0].answer, "another answer");
    assert_eq!(many.examples[0].expected, format!("expected of {}", many.examples[0].id));
    assert_eq!(many.examples[0].prompt, format!("prompt of {}", many.examples[0].id));
    assert_eq!(many.first_difference_chars, Some(2.0), "\"an\" is common");
    // Beyond the margin and not proven: nothing is concluded.
    let few = lose(50);
    assert!(few.right.change_points.mean < -5.0, "{:?}", few.right);
    assert_eq!(few.state, AnswerState::Open);
}

/// Where two starts of the reference differ by more than the margin, a rise of the same size says nothing.
#[test]
fn a_rise_within_the_noise_of_the_reference_is_not_held_against_a_setting() {
    let reference = [answers(2, &|_, _| {}), answers(3, &|prompt, _| prompt.nll *= 1.05)];
    let setting = answers(4, &|prompt, _| prompt.nll *= 1.05);
    let found = judge(&reference.each_ref(), &setting, MARGINS, &|_| None).expect("a verdict");
    assert!(found.nll_change_percent.low.expect("an interval") > 1.0);
    assert_eq!(found.state, AnswerState::Open);
}

#[test]
fn tokens_whose_rank_changes_are_counted() {
    let found = verdict(&|prompt, number| {
        if number % 4 == 0 {
            prompt.top[0] = 999;
        }
    });
    // One of the 40 tokens of 25 texts, of 25 × (40 + 40 + 2 + 2).
    assert_eq!(found.top_changed_percent, Some(round(100.0 * 25.0 / 2_100.0)));
}

#[test]
fn what_was_not_asked_of_both_is_not_compared() {
    let reference = answers(2, &|_, _| {});
    let none = Answers { prompts: Vec::new() };
    assert_eq!(judge(&[&reference], &none, MARGINS, &|_| None), None);
    let one = Answers { prompts: reference.prompts[..1].to_vec() };
    let found = judge(&[&reference], &one, MARGINS, &|_| None).expect("one prompt");
    assert_eq!((found.state, found.nll_change_percent.high), (AnswerState::Open, None));
}
