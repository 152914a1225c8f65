//! Answers in the shape of vLLM 0.32's: the same keys in the same order.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::request::{Api, Ask};

/// The text of every token.
const TOKEN_TEXT: &str = " x";
/// The id of every token.
const TOKEN_ID: u32 = 87;
/// The end of every event.
const EVENT_TAIL: &[u8] = b"}\n\n";
/// The event that ends a stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// Renders the answer to one request.
pub(crate) struct Events {
    /// `"id":…,"object":…,"created":…,"model":…`.
    identity: String,
    api: Api,
    prompt: Vec<u32>,
    return_token_ids: bool,
    continuous_usage: bool,
    /// How many tokens most events carry.
    usual_tokens: u32,
    usual: Usual,
}

/// What is written ahead of the events that carry the usual number of tokens.
enum Usual {
    /// Nothing: each is different.
    Different,
    /// Copies of the event.
    Same { copies: Bytes, event_bytes: usize },
    /// The event up to its counts.
    Counted { head: Vec<u8> },
}

impl Events {
    /// The answer to `ask`, the `number`th of this server. `copies` is how many events a write
    /// may hold, `usual_tokens` how many tokens most events carry.
    pub(crate) fn new(
        ask: &mut Ask,
        number: u64,
        created_s: u64,
        model_json: &str,
        (copies, usual_tokens): (usize, u32),
    ) -> Self {
        let (prefix, object) = match (ask.api, ask.stream) {
            (Api::Completions, _) => ("cmpl", "text_completion"),
            (Api::Chat, true) => ("chatcmpl", "chat.completion.chunk"),
            (Api::Chat, false) => ("chatcmpl", "chat.completion"),
        };
        let mut events = Self {
            identity: format!(
                r#""id":"{prefix}-{number:032x}","object":"{object}","created":{created_s},"model":{model_json}"#
            ),
            api: ask.api,
            prompt: std::mem::take(&mut ask.prompt),
            return_token_ids: ask.return_token_ids,
            continuous_usage: ask.continuous_usage,
            usual_tokens,
            usual: Usual::Different,
        };
        if ask.stream && !ask.return_token_ids {
            events.usual = events.write_ahead(copies);
        }
        events
    }

    fn write_ahead(&self, copies: usize) -> Usual {
        let mut event = self.render(1..1 + self.usual_tokens, false);
        if self.continuous_usage {
            let counts = self.counts(1 + self.usual_tokens).len() + EVENT_TAIL.len();
            event.truncate(event.len() - counts);
            Usual::Counted { head: event }
        } else {
            let event_bytes = event.len();
            let copies = if copies == 1 { event } else { event.repeat(copies) };
            Usual::Same { copies: copies.into(), event_bytes }
        }
    }

    /// Prompt tokens.
    pub(crate) fn prompt_tokens(&self) -> u32 {
        self.prompt.len() as u32
    }

    /// Whether the event of these output tokens is the same as most, so that there are copies.
    pub(crate) fn is_usual(&self, tokens: &Range<u32>, last: bool) -> bool {
        matches!(self.usual, Usual::Same { .. }) && self.has_usual_size(tokens, last)
    }

    fn has_usual_size(&self, tokens: &Range<u32>, last: bool) -> bool {
        !last && tokens.len() == self.usual_tokens as usize
    }

    /// `count` usual events.
    pub(crate) fn usual(&self, count: usize) -> Bytes {
        match &self.usual {
            Usual::Same { copies, event_bytes } => copies.slice(..count * event_bytes),
            Usual::Different | Usual::Counted { .. } => Bytes::new(),
        }
    }

    /// The event that carries these output tokens, numbered from 0.
    pub(crate) fn tokens(&self, tokens: Range<u32>, last: bool) -> Bytes {
        match &self.usual {
            Usual::Same { .. } if self.has_usual_size(&tokens, last) => self.usual(1),
            Usual::Counted { head } if self.has_usual_size(&tokens, last) => {
                let counts = self.counts(tokens.end);
                let mut event = BytesMut::with_capacity(head.len() + counts.len() + 3);
                event.put_slice(head);
                event.put_slice(counts.as_bytes());
                event.put_slice(EVENT_TAIL);
                event.freeze()
            }
            _ => self.render(tokens, last).into(),
        }
    }

    fn render(&self, tokens: Range<u32>, last: bool) -> Vec<u8> {
        let text = TOKEN_TEXT.repeat(tokens.len());
        let ids = if self.return_token_ids { token_ids(tokens.len()) } else { "null".to_owned() };
        let finish = if last { r#""length""# } else { "null" };
        let choice = match self.api {
            Api::Completions => {
                let prompt = if self.return_token_ids && tokens.start == 0 {
                    format!("{:?}", self.prompt).replace(", ", ",")
                } else {
                    "null".to_owned()
                };
                format!(
                    r#""text":"{text}","logprobs":null,"finish_reason":{finish},"stop_reason":null,"prompt_token_ids":{prompt},"token_ids":{ids}"#
                )
            }
            Api::Chat => {
                let stop = if last { r#","stop_reason":null"# } else { "" };
                format!(
                    r#""delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":{finish}{stop},"token_ids":{ids}"#
                )
            }
        };
        let usage = self.usage_if_continuous(tokens.end);
        self.event(&format!(r#""choices":[{{"index":0,{choice}}}]{usage}"#))
    }

    fn event(&self, rest: &str) -> Vec<u8> {
        let mut event = format!("data: {{{},{rest}", self.identity).into_bytes();
        event.extend_from_slice(EVENT_TAIL);
        event
    }

    fn usage_if_continuous(&self, output_tokens: u32) -> String {
        if self.continuous_usage {
            format!(r#","usage":{}"#, self.usage(output_tokens))
        } else {
            String::new()
        }
    }

    fn usage(&self, output_tokens: u32) -> String {
        let counts = self.counts(output_tokens);
        format!(r#"{{"prompt_tokens":{},"total_tokens":{counts}"#, self.prompt_tokens())
    }

    /// The end of `usage`, from the number of all tokens.
    fn counts(&self, output_tokens: u32) -> String {
        let total_tokens = self.prompt_tokens() + output_tokens;
        format!(r#"{total_tokens},"completion_tokens":{output_tokens}}}"#)
    }

    /// The event before a chat's first token.
    pub(crate) fn role(&self) -> Bytes {
        let usage = self.usage_if_continuous(0);
        let prompt = if self.return_token_ids {
            format!("{:?}", self.prompt).replace(", ", ",")
        } else {
            "null".to_owned()
        };
        self.event(&format!(
            r#""choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]{usage},"prompt_token_ids":{prompt},"prompt_text":null"#
        ))
        .into()
    }

    /// The event after the last token that has the counts.
    pub(crate) fn last_usage(&self, output_tokens: u32) -> Bytes {
        self.event(&format!(r#""choices":[],"usage":{}"#, self.usage(output_tokens))).into()
    }

    /// The event that ends a stream.
    pub(crate) fn done() -> Bytes {
        Bytes::from_static(DONE)
    }

    /// The whole answer, where it is not streamed.
    pub(crate) fn whole(&self, output_tokens: u32) -> Bytes {
        let text = TOKEN_TEXT.repeat(output_tokens as usize);
        let (ids, prompt) = if self.return_token_ids {
            let prompt = format!("{:?}", self.prompt).replace(", ", ",");
            (token_ids(output_tokens as usize), prompt)
        } else {
            ("null".to_owned(), "null".to_owned())
        };
        let usage = self.usage(output_tokens);
        let usage = usage.strip_suffix('}').unwrap_or(&usage);
        let usage = format!(r#"{usage},"prompt_tokens_details":null}}"#);
        let identity = &self.identity;
        let tail = r#""service_tier":null,"system_fingerprint":null"#;
        match self.api {
            Api::Completions => format!(
                r#"{{{identity},"choices":[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":{ids},"prompt_logprobs":null,"prompt_token_ids":{prompt}}}],{tail},"usage":{usage},"kv_transfer_params":null}}"#
            ),
            Api::Chat => format!(
                r#"{{{identity},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":{ids}}}],{tail},"usage":{usage},"prompt_logprobs":null,"prompt_token_ids":{prompt},"kv_transfer_params":null}}"#
            ),
        }
        .into()
    }
}

fn token_ids(count: usize) -> String {
    format!("{:?}", vec![TOKEN_ID; count]).replace(", ", ",")
}

/// Several pieces in one.
pub(crate) fn join<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut joined = BytesMut::new();
    pieces.for_each(|piece| joined.put_slice(piece));
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::request;

    fn events(api: Api, body: &str) -> Events {
        let mut ask = request::parse(api, body.as_bytes(), 100).expect("a valid request");
        Events::new(&mut ask, 7, 1_700_000_000, "\"m\"", (4, 2))
    }

    /// Each kind of event once, as bytes.
    fn stream(events: &Events) -> String {
        let mut pieces = vec![events.tokens(0..1, false), events.tokens(1..3, false)];
        if events.api == Api::Chat {
            pieces.insert(0, events.role());
        }
        pieces.extend([events.tokens(3..4, true), events.last_usage(4), Events::done()]);
        String::from_utf8(join(pieces.iter()).to_vec()).expect("UTF-8")
    }

    #[test]
    fn streams_have_vllms_shape() {
        let counted = r#""stream":true,"return_token_ids":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}"#;
        let text = r#""prompt":[3,4,5]"#;
        let chat = r#""messages":[{"role":"user","content":"say three words"}]"#;
        let all = [
            events(Api::Completions, &format!(r#"{{{text},"stream":true}}"#)),
            events(Api::Completions, &format!("{{{text},{counted}}}")),
            events(Api::Chat, &format!(r#"{{{chat},"stream":true}}"#)),
            events(Api::Chat, &format!("{{{chat},{counted}}}")),
        ]
        .map(|events| stream(&events));
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn whole_answers_have_vllms_shape() {
        let chat = r#"{"messages":[{"role":"user","content":"say three words"}]}"#;
        let all = [
            events(Api::Completions, r#"{"prompt":[3,4,5],"return_token_ids":true}"#),
            events(Api::Chat, chat),
        ]
        .map(|events| String::from_utf8(events.whole(2).to_vec()).expect("UTF-8"));
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn copies_of_the_usual_event_are_the_event() {
        let events = events(Api::Completions, r#"{"prompt":[3],"stream":true}"#);
        assert!(events.is_usual(&(1..3), false));
        assert!(!events.is_usual(&(1..3), true) && !events.is_usual(&(0..1), false));
        let one = events.render(1..3, false);
        assert_eq!(events.usual(3), one.repeat(3));
    }

    #[test]
    fn counts_are_written_behind_what_was_written_ahead() {
        let body = r#"{"prompt":[3],"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#;
        let events = events(Api::Completions, body);
        assert!(matches!(events.usual, Usual::Counted { .. }));
        for start in [1, 9, 97] {
            let tokens = start..start + 2;
            assert_eq!(events.tokens(tokens.clone(), false), events.render(tokens, false));
        }
    }
}
