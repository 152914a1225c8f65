//! Bodies of requests to the OpenAI API.

use std::fmt::Write as _;

use bench_core::{
    prompt::Prompts,
    schema::{Api, LoadSpec, ServerEngine},
    workload::PlannedRequest,
};
use bytes::Bytes;

/// Words that are one token each, with the space before them, in common vocabularies.
const WORDS: [&str; 32] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by",
    "on", "not", "he", "his", "but", "at", "are", "this", "have", "from", "or", "had", "an",
    "they", "which", "one", "you", "were",
];

/// Writes the bodies of one load.
#[derive(Debug)]
pub(crate) struct Bodies {
    prompts: Prompts,
    api: Api,
    head: String,
    tail: String,
}

impl Bodies {
    /// For a load on a server. `exact_counts` asks for the number of tokens so far with each
    /// event, which some servers other than vLLM refuse.
    pub(crate) fn new(engine: &ServerEngine, load: &LoadSpec, exact_counts: bool) -> Self {
        let shape = &load.request;
        let model = serde_json::Value::from(engine.model.as_str());
        let mut tail = String::from(",\"temperature\":0");
        if shape.ignore_eos {
            tail.push_str(",\"ignore_eos\":true");
        }
        match (shape.stream, exact_counts) {
            (false, _) => {}
            (true, false) => {
                tail.push_str(r#","stream":true,"stream_options":{"include_usage":true}"#);
            }
            (true, true) => tail.push_str(
                r#","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}"#,
            ),
        }
        tail.push('}');
        let vocab_size = match shape.api {
            Api::Completions => engine.vocab_size,
            Api::Chat => WORDS.len() as u32,
        };
        Self {
            prompts: Prompts::new(load, vocab_size),
            api: shape.api,
            head: format!(r#"{{"model":{model},"#),
            tail,
        }
    }

    /// Path of the route, after the base URL.
    pub(crate) fn path(&self) -> &'static str {
        match self.api {
            Api::Completions => "/v1/completions",
            Api::Chat => "/v1/chat/completions",
        }
    }

    /// The body of a request.
    pub(crate) fn write(&self, request: &PlannedRequest) -> Bytes {
        let mut body = String::with_capacity(256 + 7 * request.input_tokens as usize);
        body.push_str(&self.head);
        let ids = self.prompts.draw(request);
        match self.api {
            Api::Completions => {
                body.push_str("\"prompt\":[");
                let mut digits = itoa::Buffer::new();
                for id in ids {
                    body.push_str(digits.format(id));
                    body.push(',');
                }
                body.pop();
                body.push(']');
            }
            Api::Chat => {
                body.push_str(r#""messages":[{"role":"user","content":""#);
                for id in ids {
                    body.push_str(WORDS[id as usize % WORDS.len()]);
                    body.push(' ');
                }
                body.pop();
                body.push_str("\"}]");
            }
        }
        // Writing to a string does not fail.
        let _ = write!(body, ",\"max_tokens\":{}", request.output_tokens);
        body.push_str(&self.tail);
        body.into()
    }
}
