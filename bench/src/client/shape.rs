//! Recognizes an event that differs from an earlier one in its text and numbers alone.
//!
//! A stream repeats one JSON object hundreds of times, and parsing all of it each time is most of
//! a client's work. So the first is parsed in full, and those that have the same bytes around the
//! same holes are read by comparing: as strict as the parser, ten times as fast. Whatever does
//! not fit exactly goes to the parser.

/// Names of the fields that hold a token's text, whichever a model's reasoning parser fills.
const TEXTS: [&[u8]; 4] =
    [b"\"text\":", b"\"content\":", b"\"reasoning\":", b"\"reasoning_content\":"];

/// The bytes between the holes, in order.
#[derive(Debug)]
pub(super) struct Shape {
    /// All literals, one after the other.
    literals: Vec<u8>,
    /// For each literal its length and the hole that follows it.
    parts: Vec<(usize, Hole)>,
}

/// What may differ after a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// The inside of a JSON string; whether it is the token's text, which must stay empty or not.
    Text { empty: bool },
    /// A number without sign, fraction or exponent.
    Number(Role),
    /// Nothing: the end.
    End,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    OutputTokens,
    InputTokens,
    Other,
}

impl Role {
    fn of(key: &[u8]) -> Self {
        if key.ends_with(b"\"completion_tokens\":") {
            Self::OutputTokens
        } else if key.ends_with(b"\"prompt_tokens\":") {
            Self::InputTokens
        } else {
            Self::Other
        }
    }
}

/// Counts that a fitting event gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) output_tokens: Option<u32>,
    pub(super) input_tokens: Option<u32>,
}

impl Shape {
    /// The shape of an event that a JSON parser has accepted.
    pub(super) fn of(json: &[u8]) -> Self {
        let mut shape = Self { literals: Vec::with_capacity(json.len()), parts: Vec::new() };
        let (mut from, mut at) = (0, 0);
        while at < json.len() {
            let key = json[..at].trim_ascii_end();
            match json[at] {
                b'"' => {
                    let start = at + 1;
                    let end = start + any_string_len(&json[start..]);
                    if TEXTS.iter().any(|name| key.ends_with(name)) {
                        shape.add(&json[from..start], Hole::Text { empty: start == end });
                        from = end;
                    }
                    at = end + 1;
                }
                b'0'..=b'9' => {
                    let end = at + digits(&json[at..]);
                    // A sign, a fraction or an exponent makes all of the number a literal.
                    if key.ends_with(b":") && matches!(json.get(end), Some(b',' | b'}')) {
                        shape.add(&json[from..at], Hole::Number(Role::of(key)));
                        from = end;
                    }
                    at = end;
                }
                _ => at += 1,
            }
        }
        shape.add(&json[from..], Hole::End);
        shape
    }

    fn add(&mut self, literal: &[u8], hole: Hole) {
        self.literals.extend_from_slice(literal);
        self.parts.push((literal.len(), hole));
    }

    /// The counts of an event of this shape; `None` when it has another.
    pub(super) fn fit(&self, mut json: &[u8]) -> Option<Fit> {
        let mut fit = Fit::default();
        let mut literals = &*self.literals;
        for (len, hole) in &self.parts {
            let (literal, others) = literals.split_at(*len);
            literals = others;
            json = json.strip_prefix(literal)?;
            let len = match hole {
                Hole::Text { empty } => string_len(json).filter(|len| (*len == 0) == *empty)?,
                Hole::Number(role) => {
                    let len = digits(json);
                    let digits = &json[..len];
                    match role {
                        Role::OutputTokens => fit.output_tokens = Some(number(digits)?),
                        Role::InputTokens => fit.input_tokens = Some(number(digits)?),
                        Role::Other if is_integer(digits) => {}
                        Role::Other => return None,
                    }
                    len
                }
                Hole::End => 0,
            };
            json = &json[len..];
        }
        json.is_empty().then_some(fit)
    }
}

/// Length of a JSON string up to its closing quote, where it is simple: no escapes but the
/// one-letter ones, no control characters, valid UTF-8.
fn string_len(json: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut ascii = true;
    loop {
        match json.get(at)? {
            b'"' => break,
            b'\\' => {
                if !matches!(
                    json.get(at + 1)?,
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'
                ) {
                    return None;
                }
                at += 2;
            }
            byte if *byte < 0x20 => return None,
            byte => {
                ascii &= byte.is_ascii();
                at += 1;
            }
        }
    }
    (ascii || std::str::from_utf8(&json[..at]).is_ok()).then_some(at)
}

fn digits(json: &[u8]) -> usize {
    json.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether digits are a JSON integer: some, and no leading zero.
fn is_integer(digits: &[u8]) -> bool {
    !matches!(digits, [] | [b'0', _, ..])
}

/// The value of a JSON integer of at most nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    let value = || digits.iter().fold(0, |n, digit| 10 * n + u32::from(digit - b'0'));
    (is_integer(digits) && digits.len() <= 9).then(value)
}

/// Length of a valid JSON string up to its closing quote.
fn any_string_len(json: &[u8]) -> usize {
    let mut at = 0;
    while at < json.len() && json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn completion(text: &str, tokens: u32) -> String {
        let text = Value::from(text);
        format!(
            r#"{{"id":"cmpl-\u00e9\"1","created":1764000000,"choices":[{{"index":0,"text":{text},"logprobs":null}}],"usage":{{"prompt_tokens":5,"total_tokens":{},"completion_tokens":{tokens}}}}}"#,
            tokens + 5
        )
    }

    #[test]
    fn text_and_counts_may_differ() {
        let shape = Shape::of(completion(" a", 1).as_bytes());
        let fit = shape.fit(completion("quote \" é", 99).as_bytes());
        assert_eq!(fit, Some(Fit { output_tokens: Some(99), input_tokens: Some(5) }));
    }

    #[test]
    fn reasoning_is_text() {
        for name in ["content", "reasoning", "reasoning_content"] {
            let event =
                |text: &str| format!(r#"{{"choices":[{{"delta":{{"{name}":"{text}"}}}}]}}"#);
            let shape = Shape::of(event(" a").as_bytes());
            assert_eq!(shape.fit(event(" other").as_bytes()), Some(Fit::default()), "{name}");
            assert_eq!(
                shape.fit(event("").as_bytes()),
                None,
                "{name}: an empty one may be no token"
            );
        }
    }

    #[test]
    fn whatever_else_differs_does_not_fit() {
        let event = completion(" a", 1);
        let shape = Shape::of(event.as_bytes());
        for (from, to) in [
            ("null", "[]"),
            ("\" a\"", "\"\""),
            ("\" a\"", "\" \\ud800\""),
            ("\" a\"", "\" \u{1}\""),
            ("cmpl", "cmpk"),
            (":1}}", ":01}}"),
            (":1}}", ":}}"),
            (":1}}", ":1.5}}"),
            (":1}}", ":-1}}"),
            (":1}}", ":4294967296}}"),
            (":1}}", ":1}} "),
            (":1}}", ":1}"),
        ] {
            let other = event.replacen(from, to, 1);
            assert_ne!(other, event);
            assert_eq!(shape.fit(other.as_bytes()), None, "{other}");
        }
        let mut cut_character = completion(" é", 1).into_bytes();
        cut_character.retain(|byte| *byte != 0xA9);
        assert_eq!(shape.fit(&cut_character), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = || "[a-c\"\\\\é\n0-9:,}]{0,5}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            let key = prop_oneof!["text", "content", "completion_tokens", text()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_event_fits_its_own_shape_unless_the_parser_must_see_it(value in value()) {
            let json = value.to_string();
            let shape = Shape::of(json.as_bytes());
            if let Some(fit) = shape.fit(json.as_bytes()) {
                let top = json!({"completion_tokens": fit.output_tokens});
                prop_assert!(fit.output_tokens.is_none() || json.contains(&top.to_string()[1..20]));
            }
        }

        #[test]
        fn what_fits_is_json(bytes in prop::collection::vec(any::<u8>(), 0..8), at in any::<prop::sample::Index>(), cut in 0_usize..8) {
            let event = completion(" a", 1).into_bytes();
            let shape = Shape::of(&event);
            let at = at.index(event.len());
            let mut other = event.clone();
            other.splice(at..(at + cut).min(event.len()), bytes);
            if shape.fit(&other).is_some() {
                prop_assert!(serde_json::from_slice::<Value>(&other).is_ok(), "{}", String::from_utf8_lossy(&other));
            }
        }
    }
}
