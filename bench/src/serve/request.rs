//! The body of a request, as far as a server without a model needs it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

/// Which route was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Completions,
    Chat,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub api: Api,
    pub model: Option<String>,
    /// Token ids; those of a text are hashes of its words.
    pub prompt: Vec<u32>,
    pub max_tokens: u32,
    pub stream: bool,
    /// A last event with `usage`.
    pub include_usage: bool,
    /// `usage` in every event.
    pub continuous_usage: bool,
    pub return_token_ids: bool,
}

/// `max_tokens` of vLLM's `/v1/completions` where the body has none.
const COMPLETIONS_TOKENS_DEFAULT: u32 = 16;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Option<Prompt>,
    messages: Option<Vec<Message>>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    return_token_ids: Option<bool>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Prompt>,
}

/// Reads a request; the error says what vLLM's answer with status 400 would.
pub(crate) fn parse(api: Api, body: &[u8], max_model_len: u32) -> Result<Ask, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let prompt = match api {
        Api::Completions => body.prompt.ok_or("`prompt` is missing")?.0,
        Api::Chat => {
            let messages = body.messages.ok_or("`messages` is missing")?;
            messages.into_iter().filter_map(|m| m.content).flat_map(|prompt| prompt.0).collect()
        }
    };
    if prompt.is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    if body.n.unwrap_or(1) != 1 {
        return Err("`n` must be 1: this server gives one choice".to_owned());
    }
    let room = max_model_len.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX));
    let max_tokens = body.max_completion_tokens.or(body.max_tokens).unwrap_or(match api {
        Api::Completions => COMPLETIONS_TOKENS_DEFAULT,
        Api::Chat => room,
    });
    if max_tokens == 0 {
        return Err("`max_tokens` must be at least 1".to_owned());
    }
    if max_tokens > room {
        return Err(format!(
            "this model's maximum context length is {max_model_len} tokens: {} in the prompt and \
             {max_tokens} asked for",
            prompt.len()
        ));
    }
    let stream_options = body.stream_options.unwrap_or_default();
    let include_usage = stream_options.include_usage.unwrap_or(false);
    Ok(Ask {
        api,
        model: body.model,
        prompt,
        max_tokens,
        stream: body.stream.unwrap_or(false),
        include_usage,
        continuous_usage: include_usage && stream_options.continuous_usage_stats.unwrap_or(false),
        return_token_ids: body.return_token_ids.unwrap_or(false),
    })
}

/// A text, token ids, a list of one of these, or a chat's content parts.
struct Prompt(Vec<u32>);

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = Prompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one text or one list of token ids")
    }

    fn visit_str<E>(self, text: &str) -> Result<Prompt, E> {
        Ok(Prompt(text.split_whitespace().map(hash).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Prompt, A::Error> {
        let mut tokens = Vec::with_capacity(items.size_hint().unwrap_or(0));
        let mut prompts = 0;
        while let Some(item) = items.next_element::<Item>()? {
            match item {
                Item::Token(id) => tokens.push(id),
                Item::Part(mut part) => {
                    tokens.append(&mut part);
                }
                Item::Prompt(mut prompt) => {
                    prompts += 1;
                    tokens.append(&mut prompt);
                }
            }
        }
        if prompts > 1 {
            return Err(serde::de::Error::custom("one prompt a request"));
        }
        Ok(Prompt(tokens))
    }
}

/// An element of a list that stands for a prompt.
enum Item {
    Token(u32),
    Prompt(Vec<u32>),
    /// A chat's content part; several make one prompt.
    Part(Vec<u32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token id, a text, a list of token ids or a content part")
    }

    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Item, E> {
        u32::try_from(id).map(Item::Token).map_err(|_| E::custom("a token id is too large"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
        PromptVisitor.visit_str(text).map(|prompt| Item::Prompt(prompt.0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Item, A::Error> {
        PromptVisitor.visit_seq(items).map(|prompt| Item::Prompt(prompt.0))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        #[derive(Deserialize)]
        struct Part {
            text: Option<Prompt>,
        }
        let part = Part::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(Item::Part(part.text.map_or_else(Vec::new, |prompt| prompt.0)))
    }
}

/// FNV-1a: equal words, equal ids, on every machine.
fn hash(word: &str) -> u32 {
    word.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completions(body: &str) -> Result<Ask, String> {
        parse(Api::Completions, body.as_bytes(), 100)
    }

    #[test]
    fn prompts_of_every_shape_are_counted() {
        for (body, tokens) in [
            (r#"{"prompt":[5,6,7]}"#, 3),
            (r#"{"prompt":[[5,6,7,8]]}"#, 4),
            (r#"{"prompt":"two words"}"#, 2),
            (r#"{"prompt":["three words here"]}"#, 3),
        ] {
            assert_eq!(completions(body).map(|ask| ask.prompt.len()), Ok(tokens), "{body}");
        }
        let chat = r#"{"messages":[{"role":"system","content":"be brief"},
            {"role":"user","content":[{"type":"text","text":"say"},{"type":"text","text":"yes please"}]}]}"#;
        let ask = parse(Api::Chat, chat.as_bytes(), 100).expect("a chat");
        assert_eq!((ask.prompt.len(), ask.max_tokens), (5, 95));
    }

    #[test]
    fn what_vllm_refuses_is_refused() {
        for body in [
            r#"{"prompt":[]}"#,
            r#"{"prompt":["a","b"]}"#,
            r#"{"prompt":"a","n":2}"#,
            r#"{"prompt":"a","max_tokens":0}"#,
            r#"{"prompt":"a","max_tokens":100}"#,
            r#"{"messages":[]}"#,
            "{",
        ] {
            assert!(completions(body).is_err(), "{body}");
        }
        assert!(completions(r#"{"prompt":"a","max_tokens":99}"#).is_ok());
    }

    #[test]
    fn usage_in_every_event_needs_usage_at_all() {
        let ask = completions(
            r#"{"prompt":"a","stream":true,"stream_options":{"continuous_usage_stats":true}}"#,
        )
        .expect("valid");
        assert!(!ask.continuous_usage && ask.stream && ask.max_tokens == 16);
    }
}
