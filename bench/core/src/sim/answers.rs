//! Answers of a simulated server: made up from the prompt, the start and the model's [`Effect`]s, so that
//! what judges answers can be tried without a server. No language model runs.

use super::{Effect, Model};
use crate::{
    answers::{Prompt, record},
    canonical::Digest,
    hist::round,
    rng::Random,
    schema::{Answers, Args},
};

/// About so many characters are a token.
const CHARS_A_TOKEN: usize = 4;
/// Standard deviation between starts of one prompt's log-likelihood, in shares of it.
const START_NOISE: f64 = 2e-4;
/// Right answers without effects.
const RIGHT_SHARE: f64 = 0.8;

/// What a start with these arguments answers to each prompt.
pub fn answers(model: &Model, args: &Args, replicate: u32, prompts: &[Prompt]) -> Answers {
    let effects: Vec<&Effect> = model.effects.iter().filter(|effect| effect.is_on(args)).collect();
    let of_start = Digest::of_json(&(args, replicate)).expect("arguments hold no floats").seed();
    let answer = |prompt: &Prompt| {
        // A stream of the prompt alone, so that every setting finds the same prompts hard.
        let seed = Digest::of(prompt.id.as_bytes()).seed();
        let (mut of_prompt, mut noise) = (Random::new(seed, 0), Random::new(seed ^ of_start, 1));
        let tokens = (prompt.continuation.chars().count() / CHARS_A_TOKEN).max(1) as u32;
        let mut nll = f64::from(tokens) * (1.0 + of_prompt.uniform());
        let mut is_right = of_prompt.uniform() < RIGHT_SHARE;
        for effect in &effects {
            // Some prompts suffer more than others.
            nll *= 1.0 + 2.0 * of_prompt.uniform() * effect.nll_increase_ppm as f64 / 1e6;
            is_right &= of_prompt.uniform() >= effect.right_lost_ppm as f64 / 1e6;
        }
        nll *= 1.0 + START_NOISE * noise.normal();
        let text = match is_right || !prompt.is_exact {
            true => prompt.continuation.clone(),
            false => prompt.continuation.chars().rev().collect(),
        };
        record(prompt, tokens, round(nll), Vec::new(), &text)
    };
    Answers { prompts: prompts.iter().map(answer).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answers::{Margins, judge, prompts},
        schema::{AnswerState, ArgValue},
    };

    fn model() -> Model {
        let text = include_str!("../../../models/h100-qwen2.5-7b.json");
        let mut model: Model = serde_json::from_str(text).expect("a model");
        model.effects = [("fp8", 2_000, 0), ("int4", 40_000, 300_000)]
            .map(|(value, nll_increase_ppm, right_lost_ppm)| Effect {
                flag: "quantization".to_owned(),
                value: ArgValue::Text(value.to_owned()),
                device_ppm: 500_000,
                device_token_ppm: Some(250_000).filter(|_| value == "int4"),
                nll_increase_ppm,
                right_lost_ppm,
            })
            .into();
        model
    }

    #[test]
    fn planted_effects_are_found_and_equals_pass() {
        let (model, prompts) = (model(), prompts(2_048));
        let of = |value: Option<&str>, start| {
            let args = value.map(|v| ("quantization".to_owned(), ArgValue::Text(v.to_owned())));
            answers(&model, &args.into_iter().collect(), start, &prompts)
        };
        let reference = [of(None, 0), of(None, 1)];
        let margins = Margins { nll_increase_percent_max: 1.0, right_change_points_min: -5.0 };
        let state = |setting: &Answers| {
            judge(&reference.each_ref(), setting, margins, &|_| None).map(|verdict| verdict.state)
        };
        assert_eq!(state(&of(None, 2)), Some(AnswerState::Passed));
        assert_eq!(state(&of(Some("fp8"), 0)), Some(AnswerState::Passed));
        assert_eq!(state(&of(Some("int4"), 0)), Some(AnswerState::Failed));
        assert_eq!(of(Some("int4"), 0), of(Some("int4"), 0));
    }

    #[test]
    fn a_made_up_flag_is_known_and_speeds_steps_up() {
        let model = model();
        let fast = Args::from([("quantization".into(), ArgValue::Text("fp8".into()))]);
        let faster = model.with_effects(&fast).step.weights_ns;
        assert_eq!(faster, model.step.weights_ns / 2);
        let steps = |value: &str| {
            let args = Args::from([("quantization".into(), ArgValue::Text(value.into()))]);
            let step = model.with_effects(&args).step;
            [step.weights_ns, step.kv_token_ps, step.token_ns, step.sequence_ns]
        };
        let step = &model.step;
        let own = [step.weights_ns, step.kv_token_ps, step.token_ns, step.sequence_ns];
        assert_eq!(steps("fp8"), own.map(|time| time / 2));
        let tokens = [own[0] / 2, own[1] / 2, own[2] / 4, own[3] / 4];
        assert_eq!(steps("int4"), tokens, "what grows with tokens has a factor of its own");
        assert!(super::super::launch(&model, &fast, 0).is_ok());
        let other = Args::from([("kv-cache-dtype".into(), ArgValue::Text("fp8".into()))]);
        assert!(super::super::launch(&model, &other, 0).is_err());
    }
}
