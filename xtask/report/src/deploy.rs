//! The configuration to deploy.

use std::collections::BTreeMap;

use bench_core::schema::{Args, CompareResult, Comparison, Recommendation};
use serde::Serialize;

use super::{Inputs, words};
use crate::format;
use profile::{EngineConfig, Profile, flags};

/// Stands for the model where none can be named.
const MODEL: &str = "MODEL";

/// What to deploy, ready to paste.
#[derive(Debug, Serialize)]
pub struct Deploy {
    /// What to deploy, in a sentence.
    headline: String,
    /// Why, in sentences.
    grounds: String,
    /// The same without the objective's change, where that has a line of its own.
    why: String,
    /// Whether there is a configuration to deploy.
    is_recommended: bool,
    /// Whether it is other than vLLM's defaults.
    is_change: bool,
    /// The chosen arguments in a sentence.
    args: String,
    /// Why each flag, and what the sweeps say of those that were not taken.
    reasons: Vec<String>,
    /// The limits with the figures of what is to be deployed, or of the nearest setting.
    limits: Vec<String>,
    /// Environment of the server, as `NAME=VALUE`.
    env: Vec<String>,
    /// Body of the YAML.
    yaml: String,
    /// `vllm serve` with flags, lines joined by backslashes.
    command: String,
    /// Name of the model for `vllm serve`.
    model: String,
    /// What a start from the file showed.
    confirmed: Option<String>,
    /// Why a start from the file did not confirm it.
    unconfirmed: Option<String>,
}

/// The settings to deploy.
#[derive(Debug)]
pub struct Recommended {
    /// Every flag.
    pub args: Args,
    /// Environment of the server.
    pub env: BTreeMap<String, String>,
    /// `recommended.yaml` but for its comments.
    pub yaml: String,
}

/// What the comparison decided; `None` where it recommends nothing.
pub fn recommended(profile: &Profile, comparison: &CompareResult) -> Option<Recommended> {
    let decision = &comparison.decision;
    if matches!(decision.recommendation, Recommendation::NoneMeets | Recommendation::Measured) {
        return None;
    }
    let (args, env) = profile.started_with(&decision.args);
    Some(Recommended { yaml: to_yaml(&args), args, env })
}

impl Deploy {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let Inputs { profile, comparison, .. } = *inputs;
        let decision = &comparison.decision;
        let recommended = recommended(profile, comparison);
        let env = recommended.as_ref().map(|recommended| words_of(&recommended.env));
        let env = env.unwrap_or_default();
        let model = model(&profile.engine);
        let own = decision.flags.iter().map(|reason| {
            format!("{}: {}", format::args(&reason.args), words::flag(reason, profile))
        });
        let grounds = |rows: &[Comparison]| words::grounds(decision, rows, profile);
        let mut without_change = comparison.comparisons.clone();
        let objective = &profile.objective;
        let is_objective =
            |row: &&mut Comparison| row.metric == objective.metric && row.load == objective.load;
        without_change.iter_mut().filter(is_objective).for_each(|row| row.change = None);
        let others = inputs.choose.map(|file| file.findings.clone()).unwrap_or_default();
        Self {
            headline: words::headline(decision),
            grounds: grounds(&comparison.comparisons),
            why: grounds(&without_change),
            is_recommended: recommended.is_some(),
            is_change: decision.recommendation == Recommendation::Change,
            args: format::args(&decision.args),
            reasons: own.chain(others).collect(),
            limits: decision
                .limits
                .iter()
                .map(|limit| words::limit(limit, profile))
                .chain(words::few_limits(&decision.limits, profile))
                .collect(),
            command: recommended
                .as_ref()
                .map(|recommended| command_words(&model, recommended).join(" \\\n  "))
                .unwrap_or_default(),
            yaml: recommended.map(|recommended| recommended.yaml).unwrap_or_default(),
            env,
            model,
            confirmed: inputs
                .confirmation
                .and_then(|file| Some(file.choice.as_ref()?.reason.clone())),
            unconfirmed: inputs.confirmation.and_then(|file| file.findings.first().cloned()),
        }
    }
}

/// `vllm serve` with what the comparison decided, one flag a line; `None` where it recommends
/// nothing.
pub fn serve_command(profile: &Profile, comparison: &CompareResult) -> Option<Vec<String>> {
    let recommended = recommended(profile, comparison)?;
    Some(command_words(&model(&profile.engine), &recommended))
}

/// Variables as a shell sets them for one command.
fn words_of(env: &BTreeMap<String, String>) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={}", flags::shell_word(value))).collect()
}

fn model(engine: &EngineConfig) -> String {
    match engine {
        EngineConfig::Vllm(vllm) if !vllm.model.starts_with("dummy:") => {
            match vllm.model.split_once('@') {
                Some((id, revision)) => {
                    format!("{} --revision {}", flags::shell_word(id), flags::shell_word(revision))
                }
                None => flags::shell_word(&vllm.model),
            }
        }
        _ => MODEL.to_owned(),
    }
}

fn command_words(model: &str, recommended: &Recommended) -> Vec<String> {
    let serve = std::iter::once(format!("vllm serve {model}"));
    words_of(&recommended.env)
        .into_iter()
        .chain(serve)
        .chain(flags::to_shell(&recommended.args))
        .collect()
}

/// YAML that `vllm serve --config` reads. An empty file stops vLLM 0.32, so no arguments are `{}`.
fn to_yaml(args: &Args) -> String {
    if args.is_empty() { "{}\n".to_owned() } else { flags::to_yaml(args) }
}
