//! Bodies of requests to the OpenAI API.

use std::fmt::Write as _;

use bench_core::{
    prompt::Prompts,
    schema::{Api, ServerEngine, Usage},
    workload::{Piece, PlannedRequest, Source, Workload},
};
use bytes::Bytes;

/// Words that are one token each, with the space before them, in common vocabularies.
const WORDS: [&str; 32] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by",
    "on", "not", "he", "his", "but", "at", "are", "this", "have", "from", "or", "had", "an",
    "they", "which", "one", "you", "were",
];

/// What a server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Everything that vLLM does.
    Vllm,
    /// The OpenAI API, without fields of vLLM's own that a load does not ask for by name.
    Plain,
}

/// Writes the bodies of one load.
#[derive(Debug)]
pub(crate) struct Bodies {
    load: Workload,
    prompts: Prompts,
    head: String,
    tail: String,
}

impl Bodies {
    /// For a load on a server. What is vLLM's own is left out where the server refuses it; the `salt`
    /// keeps texts that were sent under another one out of the prefix cache.
    pub(crate) fn new(
        engine: &ServerEngine,
        load: &Workload,
        dialect: Dialect,
        salt: Option<&str>,
    ) -> Self {
        let shape = &load.request;
        let model = serde_json::Value::from(engine.model.as_str());
        let mut tail = String::new();
        if !shape.extra_body.contains_key("temperature") {
            tail.push_str(",\"temperature\":0");
        }
        if shape.ignore_eos {
            tail.push_str(",\"ignore_eos\":true");
        }
        if let Some(salt) = salt.filter(|_| dialect == Dialect::Vllm) {
            let salt = serde_json::Value::from(salt);
            // Writing to a string does not fail.
            let _ = write!(tail, ",\"cache_salt\":{salt}");
        }
        let usage = if dialect == Dialect::Vllm { shape.usage } else { Usage::Final };
        match (shape.stream, usage) {
            (false, _) => {}
            (true, Usage::Final) => {
                tail.push_str(r#","stream":true,"stream_options":{"include_usage":true}"#);
            }
            (true, Usage::Continuous) => tail.push_str(
                r#","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}"#,
            ),
        }
        for (name, json) in &shape.extra_body {
            let _ = write!(tail, ",{}:{json}", serde_json::Value::from(name.as_str()));
        }
        tail.push('}');
        let vocab_size = match shape.api {
            Api::Completions => engine.vocab_size,
            Api::CompletionsText | Api::Chat => WORDS.len() as u32,
        };
        Self {
            prompts: Prompts::new(load, vocab_size),
            head: format!(r#"{{"model":{model},"#),
            tail,
            load: load.clone(),
        }
    }

    /// Path of the route, after the base URL.
    pub(crate) fn path(&self) -> &'static str {
        self.load.request.api.path()
    }

    /// The body of a request.
    pub(crate) fn write(&self, request: &PlannedRequest) -> Bytes {
        let mut body = String::with_capacity(256 + 7 * request.input_tokens as usize);
        body.push_str(&self.head);
        match self.load.request.api {
            Api::Completions => {
                body.push_str("\"prompt\":[");
                let mut digits = itoa::Buffer::new();
                for id in self.prompts.draw(request) {
                    body.push_str(digits.format(id));
                    body.push(',');
                }
                body.pop();
                body.push(']');
            }
            Api::CompletionsText => {
                body.push_str("\"prompt\":\"");
                self.push_text(&mut body, request, &request.prompt);
                body.push('"');
            }
            Api::Chat => self.push_messages(&mut body, request),
        }
        // Writing to a string does not fail.
        let _ = write!(body, ",\"max_tokens\":{}", request.output_tokens);
        body.push_str(&self.tail);
        body.into()
    }

    /// A message of the user, and in a conversation those of both sides in turn.
    fn push_messages(&self, body: &mut String, request: &PlannedRequest) {
        let is_answer = |piece: &Piece| matches!(piece.source, Source::Answer(_));
        body.push_str("\"messages\":[");
        for pieces in request.prompt.chunk_by(|a, b| is_answer(a) == is_answer(b)) {
            let role = if is_answer(&pieces[0]) { "assistant" } else { "user" };
            let _ = write!(body, r#"{{"role":"{role}","content":""#);
            self.push_text(body, request, pieces);
            body.push_str("\"},");
        }
        body.pop();
        body.push(']');
    }

    /// The inside of a JSON string: the file's text of the request, else a word for each token.
    fn push_text(&self, body: &mut String, request: &PlannedRequest, pieces: &[Piece]) {
        if let Some(text) = self.load.text(request) {
            let json = serde_json::Value::from(text).to_string();
            body.push_str(&json[1..json.len() - 1]);
            return;
        }
        for id in pieces.iter().flat_map(|piece| self.prompts.piece(*piece)) {
            body.push_str(WORDS[id as usize % WORDS.len()]);
            body.push(' ');
        }
        body.pop();
    }
}

#[cfg(test)]
mod tests {
    use bench_core::{
        dataset,
        schema::{
            Arrival, Class, Conversation, DataFormat, DataSpec, LoadSpec, Prefix, Size, TokenRange,
        },
        workload::Plan,
    };
    use serde_json::{Value, json};

    use super::*;

    fn load(api: Api) -> LoadSpec {
        let class = Class {
            name: "only".into(),
            share: "1".parse().expect("decimal"),
            input_tokens: TokenRange { min: 2, max: 2 },
            output_tokens: TokenRange { min: 3, max: 3 },
            prefix: Some(Prefix { groups: 1, tokens: 1 }),
        };
        let mut load = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(2), vec![class], 1);
        load.request.api = api;
        load
    }

    fn bodies(load: &Workload) -> Vec<Value> {
        let engine = ServerEngine {
            base_url: String::new(),
            model: "m".into(),
            vocab_size: 1_000,
            api_key_env: None,
        };
        let bodies = Bodies::new(&engine, load, Dialect::Vllm, None);
        let parse = |body: Bytes| serde_json::from_slice(&body).expect("JSON");
        Plan::new(load).map(|request| parse(bodies.write(&request))).collect()
    }

    fn words(value: &Value) -> usize {
        value.as_str().expect("a text").split(' ').count()
    }

    #[test]
    fn prompts_are_token_ids_texts_or_messages() {
        let [ids, text, chat] = [Api::Completions, Api::CompletionsText, Api::Chat]
            .map(|api| bodies(&load(api).into()).remove(0));
        assert_eq!(ids["prompt"].as_array().map(Vec::len), Some(3));
        assert_eq!(words(&text["prompt"]), 3);
        assert_eq!(words(&chat["messages"][0]["content"]), 3);
        for body in [ids, text, chat] {
            let common =
                [&body["model"], &body["max_tokens"], &body["ignore_eos"], &body["stream"]];
            assert_eq!(common, [&json!("m"), &json!(3), &json!(true), &json!(true)], "{body}");
        }
    }

    #[test]
    fn more_fields_join_ours_and_replace_the_temperature() {
        let mut load = load(Api::Chat);
        load.request.stream = false;
        load.request.ignore_eos = false;
        let plain = bodies(&load.clone().into()).remove(0);
        assert_eq!((&plain["temperature"], plain.get("stream")), (&json!(0), None));
        assert_eq!(plain.get("ignore_eos"), None);
        load.request.extra_body = [("temperature", "0.7"), ("stop", "[\"\\n\"]")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        let body = bodies(&load.into()).remove(0);
        assert_eq!((&body["temperature"], &body["stop"]), (&json!(0.7), &json!(["\n"])));
    }

    #[test]
    fn what_is_vllms_own_is_asked_of_vllm() {
        let mut load = load(Api::Chat);
        let engine = ServerEngine { vocab_size: 9, ..ServerEngine::default() };
        let body = |load: &LoadSpec, dialect| {
            let load = Workload::from(load.clone());
            let request = Plan::new(&load).next().expect("a request");
            let body = Bodies::new(&engine, &load, dialect, Some("s\"1")).write(&request);
            serde_json::from_slice::<Value>(&body).expect("JSON")
        };
        let found = body(&load, Dialect::Vllm);
        assert_eq!(found["stream_options"], json!({"include_usage": true}));
        assert_eq!(found["cache_salt"], json!("s\"1"));
        load.request.usage = Usage::Continuous;
        let stats =
            |dialect| body(&load, dialect)["stream_options"]["continuous_usage_stats"].clone();
        assert_eq!((stats(Dialect::Vllm), stats(Dialect::Plain)), (json!(true), Value::Null));
        assert_eq!(body(&load, Dialect::Plain).get("cache_salt"), None);
    }

    #[test]
    fn a_conversation_alternates_its_roles() {
        let mut load = load(Api::Chat);
        load.conversation =
            Some(Conversation { turns_min: 2, turns_max: 2, think_ms_min: 0, think_ms_max: 0 });
        let [first, second]: [Value; 2] = bodies(&load.into()).try_into().expect("two turns");
        let messages = second["messages"].as_array().expect("a list");
        let shape: Vec<_> = messages.iter().map(|m| (&m["role"], words(&m["content"]))).collect();
        assert_eq!(shape, [(&json!("user"), 3), (&json!("assistant"), 3), (&json!("user"), 2)]);
        assert_eq!(first["messages"][0], messages[0]);
    }

    #[test]
    fn a_text_of_a_file_arrives_as_it_is() {
        let text = "say \"né\"\n\u{1F600}\\";
        let line = json!({"prompt": text, "output_tokens": 4}).to_string();
        let mut rows = Vec::new();
        let format = DataFormat::Custom;
        let digest =
            dataset::read(format, line.as_bytes(), &mut |row| rows.push(row)).expect("rows");
        for api in [Api::CompletionsText, Api::Chat] {
            let mut load = load(api);
            load.data = Some(DataSpec { format, digest, output_tokens: None, think_ms_max: None });
            let body = bodies(&Workload::new(load, rows.clone())).remove(0);
            let found = match api {
                Api::Chat => &body["messages"][0]["content"],
                _ => &body["prompt"],
            };
            assert_eq!((found, &body["max_tokens"]), (&json!(text), &json!(4)));
        }
    }
}
