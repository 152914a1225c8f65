//! `[answers]`: settings that may change answers are not recommended before their answers are judged.

mod config;

use std::path::{Path, PathBuf};

use bench_core::{
    answers::{self, Prompt},
    canonical::Digest,
    decimal::Decimal,
    schema::{Args, Arrival, Class, LoadSpec, Size, TokenRange},
};
pub use config::AnswersConfig;

use super::{
    diagnostic::Diagnostic,
    flags,
    read::{Item, Table, absent_or_right},
    resolved::{EngineConfig, NamedLoad, Profile},
};

const NLL_INCREASE_PERCENT_MAX: i64 = 1_000;
const CONTEXT_TOKENS_MIN: u32 = 256;
const CONTEXT_TOKENS_MAX: u32 = 1 << 20;
/// Largest file of a user's own prompts.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Name of the load that asks for answers.
const LOAD: &str = "answers";
/// Prompts under way at once: as many as a server takes without waiting, on a CPU too.
const CONCURRENCY: u32 = 8;

impl AnswersConfig {
    /// The load that asks them.
    pub fn load(&self) -> NamedLoad {
        let prompts = self.prompts();
        let tokens = |n: u32| TokenRange { min: 1, max: n.max(1) };
        let class = Class {
            name: LOAD.to_owned(),
            share: Decimal::from_millionths(1_000_000),
            input_tokens: tokens(self.set.context_tokens),
            output_tokens: tokens(prompts.iter().map(Prompt::answer_tokens).max().unwrap_or(1)),
            prefix: None,
        };
        let arrival = Arrival::ClosedLoop { concurrency: CONCURRENCY };
        let size = Size::Requests(prompts.len() as u32);
        let spec = LoadSpec::drawn(arrival, size, vec![class], 0);
        NamedLoad {
            name: LOAD.to_owned(),
            part: None,
            spec: LoadSpec { answers: Some(self.set.clone()), ..spec },
            repeats: 1,
            data_file: self.own_file.clone(),
            replay_per_s: None,
        }
    }
}

impl Profile {
    /// Those of a setting's arguments that may change answers, against the server with the profile's own.
    pub fn changes_answers(&self, args: &Args) -> Args {
        flags::that_change_answers(args, &self.engine_args)
    }

    /// Whether answers are checked before a setting that may change them is recommended.
    pub fn checks_answers(&self) -> bool {
        self.answers.as_ref().is_none_or(|answers| answers.check)
    }

    /// Why nothing can be concluded from the answers of this engine, where that is so.
    pub fn answers_say_nothing(&self) -> Option<&'static str> {
        match &self.engine {
            EngineConfig::Vllm(vllm) if vllm.model.starts_with("dummy:") => {
                Some("the weights are made up, so that no answer means anything")
            }
            EngineConfig::Vllm(_)
                if self
                    .engine_args
                    .get("load-format")
                    .is_some_and(|format| format.to_string() == "dummy") =>
            {
                Some(
                    "load-format = \"dummy\" makes the weights up, so that no answer means anything",
                )
            }
            EngineConfig::Simulator { model, .. } if model.effects.is_empty() => {
                Some("the simulator gives no answers")
            }
            EngineConfig::Endpoint(_) => Some("a server that runs already has one setting"),
            _ => None,
        }
    }

    /// Every distinct set of arguments that may change answers, among the settings that the profile
    /// tries, each with the first setting that has it; that setting is measured anyway, but for those of a
    /// search.
    pub fn settings_that_change_answers(&self) -> Vec<(Args, Args)> {
        let swept = self.sweeps.iter().flat_map(|sweep| &sweep.values).map(|value| &value.args);
        let tuned = self.tune.iter().flat_map(|tune| &tune.settings).map(|setting| &setting.args);
        let mut all: Vec<(Args, Args)> = Vec::new();
        let measured = swept.chain([&self.baseline_args]).map(|args| (args, args.clone()));
        let searched = tuned.map(|args| (args, self.changes_answers(args)));
        for (args, bearer) in measured.chain(searched) {
            let changing = self.changes_answers(args);
            if !changing.is_empty() && all.iter().all(|(known, _)| *known != changing) {
                all.push((changing, bearer));
            }
        }
        all
    }
}

/// Reads the section of a profile that lies in `folder`.
pub(super) fn read(
    mut table: Table<'_>,
    folder: &Path,
    longest: Option<u32>,
) -> Option<AnswersConfig> {
    let mut config = AnswersConfig::new(longest);
    let check = table.get("check").map(|item| item.boolean().map(|check| check.value));
    let nll = table
        .get("max_nll_increase_percent")
        .map(|item| item.positive_decimal(NLL_INCREASE_PERCENT_MAX));
    let points = table.get("min_exact_match_change_points").map(|item| points(&item));
    let context = table
        .get("context_tokens")
        .map(|item| item.integer_u32(CONTEXT_TOKENS_MIN..=longest.unwrap_or(CONTEXT_TOKENS_MAX)));
    let own = table.get("prompts").map(|item| own(&item, folder));
    table.finish(|_| None);

    config.check = absent_or_right(check)?.unwrap_or(config.check);
    config.nll_increase_percent_max =
        absent_or_right(nll)?.unwrap_or(config.nll_increase_percent_max);
    config.exact_match_change_points_min =
        absent_or_right(points)?.unwrap_or(config.exact_match_change_points_min);
    config.set.context_tokens = absent_or_right(context)?.unwrap_or(config.set.context_tokens);
    if let Some((path, digest, prompts)) = absent_or_right(own)? {
        (config.own_file, config.set.own, config.own) = (Some(path), Some(digest), prompts);
    }
    Some(config)
}

/// A change in points that is still allowed: 0 or below.
fn points(item: &Item<'_>) -> Option<Decimal> {
    let points = item.decimal()?.value;
    if !(-100_000_000..=0).contains(&points.millionths()) {
        item.report(
            format!("`{}` is a change for the worse", item.key.value),
            "expected -100 to 0, such as -5",
        );
        return None;
    }
    Some(points)
}

/// The user's own prompts: where they lie, the file's digest, what is in it.
fn own(item: &Item<'_>, folder: &Path) -> Option<(PathBuf, Digest, Vec<Prompt>)> {
    let name = item.text()?;
    let path = folder.join(name.value);
    let problem = |what: String, label: String| {
        item.tell(Diagnostic::new(what, name.span.clone(), label));
        None
    };
    let text = std::fs::metadata(&path).and_then(|found| match found.len() {
        0..=FILE_BYTES_MAX => std::fs::read_to_string(&path),
        bytes => Err(std::io::Error::other(format!("{bytes} bytes; at most {FILE_BYTES_MAX}"))),
    });
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            let shown = path.display();
            return problem(
                format!("cannot read {shown}: {error}"),
                "name a file of prompts".into(),
            );
        }
    };
    match answers::own_prompts(&text) {
        Ok(prompts) => Some((path, Digest::of(text.as_bytes()), prompts)),
        Err(why) => problem(
            format!("cannot use {}: {why}", path.display()),
            "expected {\"prompt\": …, \"continuation\": …} a line, perhaps with \"exact\": true"
                .to_owned(),
        ),
    }
}
