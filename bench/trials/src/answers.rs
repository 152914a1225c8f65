//! The prompts of a trial that asks for answers, read at the edge.

use anyhow::{Context as _, ensure};
use bench_core::{
    answers::{self, Prompt},
    canonical::Digest,
    schema::{AnswerSet, PlannedTrial},
};

/// The prompts that a trial asks, where it asks for answers.
///
/// # Errors
/// When the set is another version's, or the file is not the one that was planned with.
pub fn prompts(trial: &PlannedTrial) -> anyhow::Result<Option<Vec<Prompt>>> {
    let Some(set) = &trial.load.answers else { return Ok(None) };
    let AnswerSet { version, context_tokens, own } = set;
    ensure!(
        *version == answers::VERSION,
        "trial {} wants prompt set {version}, this program has {}; build both from one commit",
        trial.key,
        answers::VERSION
    );
    let mut prompts = answers::prompts(*context_tokens);
    if let Some(digest) = own {
        let path = trial.data_file.as_ref().with_context(|| {
            format!(
                "trial {} wants prompts of digest {digest}; name them as `data_file`",
                trial.key
            )
        })?;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            Digest::of(text.as_bytes()) == *digest,
            "{} is not the file that was planned with; run the suite again",
            path.display()
        );
        let own = answers::own_prompts(&text).map_err(anyhow::Error::msg)?;
        prompts.extend(own);
    }
    Ok(Some(prompts))
}
