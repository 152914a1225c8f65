//! The configuration to deploy.

use bench_core::schema::{Args, Choice, ResultFile, Verdict};
use serde::Serialize;

use super::{Inputs, view::objective_row};
use crate::{
    config::{EngineConfig, Profile},
    flags, format,
};

/// Stands for the model where none can be named.
const MODEL: &str = "MODEL";

/// What to deploy, ready to paste.
#[derive(Debug, Serialize)]
pub struct Deploy {
    /// Where the settings come from: `choose`, the name of a sweep, or `defaults`.
    source: String,
    /// The chosen arguments in a sentence.
    args: String,
    /// No argument is chosen: vLLM's defaults.
    is_default: bool,
    /// Why these, as the stage that chose them says.
    reason: String,
    /// What it says of each sweep.
    reasons: Vec<String>,
    /// Environment of the server, as `NAME=VALUE`.
    env: Vec<String>,
    /// The chosen arguments were found worse than the defaults, which are recommended instead.
    turned_down: bool,
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
    /// Where they come from: `choose`, the name of a sweep, or `defaults`.
    source: String,
    /// What was chosen, on top of the profile's arguments.
    chosen: Args,
    /// Every argument.
    pub args: Args,
    /// Why these, as the stage that chose them says.
    reason: String,
    /// The choice was found worse than the defaults, which are recommended instead.
    turned_down: bool,
    /// `recommended.yaml` but for its comments.
    pub yaml: String,
}

/// The combined choice; without it the only sweep's; else, and when the comparison found the
/// choice worse, the engine's arguments alone.
pub fn recommended(
    profile: &Profile,
    choose: Option<&ResultFile>,
    sweeps: &[ResultFile],
    comparison: &ResultFile,
) -> Recommended {
    let choice = choice(choose, sweeps);
    let verdict = objective_row(profile, comparison).and_then(|row| row.verdict);
    let turned_down = choice.is_some() && verdict == Some(Verdict::Worse);
    let (source, chosen, reason) = match choice.filter(|_| !turned_down) {
        Some((source, choice)) => (source, choice.args.clone(), choice.reason.clone()),
        None => ("defaults", Args::new(), String::new()),
    };
    let mut args = profile.engine_args.clone();
    args.extend(chosen.clone());
    let (source, yaml) = (source.to_owned(), to_yaml(&args));
    Recommended { source, chosen, args, reason, turned_down, yaml }
}

impl Deploy {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let Recommended { source, chosen, args, reason, turned_down, yaml } =
            recommended(inputs.profile, inputs.choose, inputs.sweeps, inputs.comparison);
        let model = model(&inputs.profile.engine);
        let env = &inputs.profile.engine_env;
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| format!("{name}={}", format::shell_word(value)))
            .collect();
        Self {
            source,
            args: format::args(&chosen),
            is_default: chosen.is_empty(),
            reason: format::sentence(&reason),
            reasons: inputs.choose.map(|file| file.findings.clone()).unwrap_or_default(),
            turned_down,
            yaml,
            command: command(&model, &env, &args),
            env,
            model,
            confirmed: inputs
                .confirmation
                .and_then(|file| Some(file.choice.as_ref()?.reason.clone())),
            unconfirmed: inputs.confirmation.and_then(|file| file.findings.first().cloned()),
        }
    }
}

fn choice<'a>(
    choose: Option<&'a ResultFile>,
    sweeps: &'a [ResultFile],
) -> Option<(&'a str, &'a Choice)> {
    if let Some(choice) = choose.and_then(|file| file.choice.as_ref()) {
        return Some(("choose", choice));
    }
    match sweeps {
        [only] => Some((only.stage.as_str(), only.choice.as_ref()?)),
        _ => None,
    }
}

fn model(engine: &EngineConfig) -> String {
    match engine {
        EngineConfig::Vllm(vllm) if !vllm.model.starts_with("dummy:") => {
            match vllm.model.split_once('@') {
                Some((id, revision)) => {
                    format!(
                        "{} --revision {}",
                        format::shell_word(id),
                        format::shell_word(revision)
                    )
                }
                None => format::shell_word(&vllm.model),
            }
        }
        _ => MODEL.to_owned(),
    }
}

fn command(model: &str, env: &[String], args: &Args) -> String {
    let serve = std::iter::once(format!("vllm serve {model}"));
    let words = env.iter().cloned().chain(serve).chain(format::shell_flags(args));
    words.collect::<Vec<_>>().join(" \\\n  ")
}

/// YAML that `vllm serve --config` reads. An empty file stops vLLM 0.32, so no arguments are `{}`.
fn to_yaml(args: &Args) -> String {
    if args.is_empty() { "{}\n".to_owned() } else { flags::to_yaml(args) }
}
