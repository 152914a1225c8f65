//! The answers of a server to the prompts of [`bench_core::answers`].
//!
//! Each prompt is asked twice: once with its reference continuation, whose log-probabilities the server
//! gives (`prompt_logprobs`), and once for its greedy answer. Texts become token ids first, by the
//! server's own tokenizer, so that where the continuation begins is exact.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use bench_core::{
    answers::{self, Context, Prompt},
    hist::round,
    schema::{Answers, Arrival, Check, LoadSpec, PromptAnswer, RequestSample, RequestStatus},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::observe::ControlPlane;

/// How long one prompt may take: a long context on a CPU.
const PROMPT_LIMIT: Duration = Duration::from_secs(600);

/// What a load of answers came to.
pub(super) struct Answered {
    pub(super) answers: Answers,
    /// Whether every prompt was answered.
    pub(super) check: Check,
    /// Both requests of a prompt as one.
    pub(super) samples: Vec<RequestSample>,
}

/// Asks every prompt, as many at once as the load says. `done` is told after each.
pub(super) async fn ask(
    control: &ControlPlane,
    load: &LoadSpec,
    prompts: Vec<Prompt>,
    mut done: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Answered> {
    let at_once = match load.arrival {
        Arrival::ClosedLoop { concurrency } => concurrency as usize,
        _ => 1,
    };
    let asker = Asker {
        control: control.clone(),
        filling: tokens(control, &answers::filling(), false).await.map_err(|why| {
            anyhow::anyhow!("the server does not tokenize, so no answer can be judged: {why}")
        })?,
        start: Instant::now(),
    };
    let (asker, permits) = (Arc::new(asker), Arc::new(Semaphore::new(at_once)));
    let (total, mut tasks) = (prompts.len(), JoinSet::new());
    for (number, prompt) in prompts.into_iter().enumerate() {
        let (asker, permits) = (Arc::clone(&asker), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            (number, asker.ask(number, &prompt).await)
        });
    }
    let mut found: BTreeMap<usize, (Option<PromptAnswer>, RequestSample)> = BTreeMap::new();
    let mut first_failure = None;
    while let Some(ended) = tasks.join_next().await {
        let (number, (answer, sample)) = ended.context("a task that asked failed")?;
        if first_failure.is_none() {
            first_failure.clone_from(&sample.failure_text);
        }
        found.insert(number, (answer, sample));
        done(found.len() as u64)?;
    }
    let (answers, samples): (Vec<_>, Vec<_>) = found.into_values().unzip();
    let answers: Vec<PromptAnswer> = answers.into_iter().flatten().collect();
    let passed = answers.len() == total;
    let why = first_failure.map(|why| format!(": {why}")).unwrap_or_default();
    let detail = format!("{} of {total} prompts answered{why}", answers.len());
    let check = Check { name: "answered".to_owned(), passed, detail };
    Ok(Answered { answers: Answers { prompts: answers }, check, samples })
}

struct Asker {
    control: ControlPlane,
    /// Tokens that long contexts are filled with.
    filling: Vec<u32>,
    start: Instant,
}

impl Asker {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    async fn ask(&self, number: usize, prompt: &Prompt) -> (Option<PromptAnswer>, RequestSample) {
        let sent_ns = self.now_ns();
        let found = self.answer(prompt).await;
        let end_ns = self.now_ns();
        let sample = RequestSample {
            id: number as u32,
            intended_ns: sent_ns,
            sent_ns,
            end_ns,
            ..RequestSample::default()
        };
        match found {
            Ok((answer, input_tokens, output_tokens)) => {
                let tokens = vec![(end_ns, output_tokens)];
                (Some(answer), RequestSample { tokens, input_tokens, output_tokens, ..sample })
            }
            Err(why) => {
                let status = RequestStatus::Failed("no_answer".to_owned());
                let why = self.control.masked(&format!("{}: {why}", prompt.id));
                (None, RequestSample { status, failure_text: Some(why.into()), ..sample })
            }
        }
    }

    /// The record of a prompt, with the tokens in and out that it took.
    async fn answer(&self, prompt: &Prompt) -> Result<(PromptAnswer, u32, u32), String> {
        let continuation = tokens(&self.control, &prompt.continuation, false).await?;
        let context = match &prompt.context {
            Context::Text(text) => tokens(&self.control, text, true).await?,
            long @ Context::Long { fact, question, .. } => {
                let fact = tokens(&self.control, fact, false).await?;
                let question = tokens(&self.control, question, false).await?;
                answers::long_tokens(long, &self.filling, &fact, &question, continuation.len())
            }
        };
        let mut whole = context.clone();
        whole.extend(&continuation);
        let input_tokens = (whole.len() + context.len()) as u32;
        let forced = json!({
            "prompt": whole, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1,
        });
        let forced: Forced = self.complete(forced).await?;
        let scored = forced.scored(&whole, context.len())?;
        let greedy = json!({
            "prompt": context, "max_tokens": prompt.answer_tokens(), "temperature": 0,
        });
        let greedy: Greedy = self.complete(greedy).await?;
        let text = &greedy.choices.first().ok_or("an answer without choices")?.text;
        let record =
            answers::record(prompt, continuation.len() as u32, scored.nll, scored.top, text);
        let output_tokens = greedy.usage.map_or(0, |usage| usage.completion_tokens);
        Ok((record, input_tokens, output_tokens + 1))
    }

    async fn complete<T: for<'d> Deserialize<'d>>(&self, mut body: Value) -> Result<T, String> {
        body["model"] = self.control.model().into();
        body["stream"] = false.into();
        self.control.post("/v1/completions", &body, PROMPT_LIMIT).await
    }
}

/// The ids of a text, by the server's tokenizer.
async fn tokens(control: &ControlPlane, text: &str, begins: bool) -> Result<Vec<u32>, String> {
    #[derive(Deserialize)]
    struct Tokenized {
        tokens: Vec<u32>,
    }
    let body = json!({"model": control.model(), "prompt": text, "add_special_tokens": begins});
    let found: Tokenized = control.post("/tokenize", &body, PROMPT_LIMIT).await?;
    Ok(found.tokens)
}

/// An answer with the log-probabilities of its prompt.
#[derive(Deserialize)]
struct Forced {
    choices: Vec<ForcedChoice>,
}

#[derive(Deserialize)]
struct ForcedChoice {
    /// By token id, at each place of the prompt but the first.
    prompt_logprobs: Option<Vec<Option<BTreeMap<String, TokenLogprob>>>>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f64,
    rank: Option<u32>,
}

#[derive(Deserialize)]
struct Greedy {
    choices: Vec<GreedyChoice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct GreedyChoice {
    text: String,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u32,
}

struct Scored {
    nll: f64,
    top: Vec<u32>,
}

impl Forced {
    /// Of the tokens of a prompt from this one on.
    fn scored(&self, prompt: &[u32], from: usize) -> Result<Scored, String> {
        let choice = self.choices.first().ok_or("an answer without choices")?;
        let places =
            choice.prompt_logprobs.as_ref().ok_or("the server gives no prompt_logprobs")?;
        if places.len() != prompt.len() {
            let (found, asked) = (places.len(), prompt.len());
            return Err(format!("log-probabilities of {found} tokens; {asked} were sent"));
        }
        let mut scored = Scored { nll: 0.0, top: Vec::new() };
        // The first token has none.
        for (id, place) in prompt.iter().zip(places).skip(from.max(1)) {
            let place = place.as_ref().ok_or("a token without log-probability")?;
            let own = place.get(&id.to_string()).ok_or("the log-probability of another token")?;
            scored.nll -= own.logprob;
            let top = place.iter().find(|(_, token)| token.rank == Some(1));
            scored.top.push(top.and_then(|(id, _)| id.parse().ok()).unwrap_or(*id));
        }
        scored.nll = round(scored.nll);
        Ok(scored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forced(text: &str) -> Forced {
        serde_json::from_str(text).expect("an answer")
    }

    #[test]
    fn the_tokens_of_the_continuation_alone_are_counted() {
        let answer = forced(
            r#"{"choices": [{"prompt_logprobs": [null,
                {"7": {"logprob": -9.0, "rank": 3}, "1": {"logprob": -0.1, "rank": 1}},
                {"8": {"logprob": -2.5, "rank": 2}, "4": {"logprob": -0.5, "rank": 1}},
                {"9": {"logprob": -0.25, "rank": 1, "decoded_token": "x"}}]}]}"#,
        );
        let scored = answer.scored(&[5, 7, 8, 9], 2).expect("scores");
        assert_eq!((scored.nll, scored.top), (2.75, vec![4, 9]));
        assert!(answer.scored(&[5, 7, 8], 2).is_err(), "another length");
        assert!(answer.scored(&[5, 7, 6, 9], 2).is_err(), "another token");
    }

    #[test]
    fn a_server_without_log_probabilities_is_told() {
        let why = forced(r#"{"choices": [{"text": "a"}]}"#).scored(&[1], 0).err();
        assert_eq!(why.as_deref(), Some("the server gives no prompt_logprobs"));
    }
}
