//! What the bytes of an answer say: tokens and their times, usage, and how it ended.

use bench_core::schema::{Phases, RequestStatus};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    shape::{Fit, Shape},
    sse,
};

/// Largest answer that is not streamed, in bytes.
const WHOLE_BYTES_MAX: usize = 16 << 20;
/// A stream whose events all differ is not worth a shape for each.
const SHAPES_MAX: u32 = 8;

/// Why an answer does not count. The names are those of [`RequestStatus::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An event is no JSON, or not of the OpenAI API.
    MalformedEvent,
    /// An event holds half a character.
    InvalidUtf8,
    /// The server reported an error inside the stream.
    ErrorEvent,
    /// A line, an event or an answer has no end.
    TooLong,
    /// Far more tokens than asked for.
    TooManyTokens,
    /// It ended without a reason to finish.
    Truncated,
    /// It is whole and holds no token.
    Empty,
    /// The server gave it up (`finish_reason` of `abort` or `error`).
    Aborted,
    /// It has fewer tokens than asked for, although the end of the text was to be ignored.
    Short,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MalformedEvent => "malformed_event",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::ErrorEvent => "error_event",
            Self::TooLong => "too_long",
            Self::TooManyTokens => "too_many_tokens",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Aborted => "aborted",
            Self::Short => "short_answer",
        }
    }
}

/// What a failure of this name means, where that needs words and the server says none.
pub(crate) fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        "malformed_event" => "an event is no JSON of the OpenAI API",
        "truncated" => "the answer ended without `finish_reason` and without [DONE]",
        "empty" => "the answer holds no token",
        "too_long" => "a line or an event of the answer has no end",
        "too_many_tokens" => "the answer has far more tokens than `max_tokens`",
        "content_type" => {
            "the answer is of another type than was asked for, see `stream` of the load"
        }
        "connection_closed" => "the server closed the connection before the answer was whole",
        _ => return None,
    })
}

/// An answer as far as it has come.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: bool,
    events: sse::Parser,
    whole: Vec<u8>,
    tally: Tally,
}

/// What the events add up to.
#[derive(Debug, Default)]
struct Tally {
    shape: Option<Shape>,
    /// Tokens of an event of that shape, where it does not say itself.
    shape_tokens: u32,
    shapes_made: u32,
    tokens: Vec<(u64, u32)>,
    output_tokens: u32,
    output_tokens_max: u32,
    /// Tokens that a whole answer has at least.
    output_tokens_min: u32,
    input_tokens: Option<u32>,
    usage_output_tokens: Option<u32>,
    phases: Option<Phases>,
    finished: bool,
    aborted: bool,
    done: bool,
    fault: Option<Fault>,
    /// The event that holds the fault.
    fault_text: Option<Box<str>>,
}

/// A whole answer in the terms of a sample.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) tokens: Vec<(u64, u32)>,
    pub(crate) input_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) phases: Option<Phases>,
    /// Whether the total was spread over events that did not count their tokens.
    pub(crate) is_spread: bool,
    /// What the server said of a failure.
    pub(crate) fault_text: Option<Box<str>>,
}

impl Answer {
    /// An answer to a request for so many tokens, or no fewer where `is_exact`.
    pub(crate) fn new(stream: bool, output_tokens: u32, is_exact: bool) -> Self {
        let tally = Tally {
            tokens: Vec::with_capacity(if stream {
                output_tokens.min(1 << 14) as usize
            } else {
                0
            }),
            // Without `ignore_eos`, or with a server that knows no limit, a little more is no fault.
            output_tokens_max: output_tokens.saturating_mul(4).saturating_add(1_024),
            output_tokens_min: if is_exact { output_tokens } else { 0 },
            ..Tally::default()
        };
        Self { stream, events: sse::Parser::default(), whole: Vec::new(), tally }
    }

    /// Whether this is the type of content that was asked for.
    pub(crate) fn accepts(&self, content_type: Option<&hyper::header::HeaderValue>) -> bool {
        let wanted = if self.stream { "text/event-stream" } else { "application/json" };
        let found = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        found.split(';').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(wanted))
    }

    /// Takes bytes that were read at `at_ns`. After a fault the rest is of no use.
    pub(crate) fn push(&mut self, bytes: &[u8], at_ns: u64) -> Result<(), Fault> {
        if self.stream {
            let tally = &mut self.tally;
            self.events
                .push(bytes, |data| tally.event(data, at_ns))
                .map_err(|sse::TooLong| Fault::TooLong)?;
        } else if self.whole.len() + bytes.len() > WHOLE_BYTES_MAX {
            return Err(Fault::TooLong);
        } else {
            self.whole.extend_from_slice(bytes);
        }
        self.tally.fault.map_or(Ok(()), Err)
    }

    /// Closes the answer when its last byte has been read.
    pub(crate) fn finish(mut self) -> (Reading, Result<(), Fault>) {
        if !self.stream {
            self.tally.whole(&self.whole);
        }
        let tally = self.tally;
        let output_tokens = tally.usage_output_tokens.unwrap_or(tally.output_tokens);
        let outcome = match tally.fault {
            Some(fault) => Err(fault),
            None if !tally.finished && !tally.done => Err(Fault::Truncated),
            None if tally.aborted => Err(Fault::Aborted),
            None if output_tokens == 0 => Err(Fault::Empty),
            // Without the server's count an event may have held several tokens.
            None if output_tokens < tally.output_tokens_min
                && tally.usage_output_tokens.is_some() =>
            {
                Err(Fault::Short)
            }
            None => Ok(()),
        };
        let counted = tally.output_tokens;
        let reading = Reading {
            is_spread: self.stream && counted != output_tokens,
            fault_text: tally.fault_text,
            tokens: reconcile(tally.tokens, output_tokens),
            input_tokens: tally.input_tokens.unwrap_or(0),
            output_tokens,
            phases: tally.phases,
        };
        (reading, outcome)
    }
}

impl Tally {
    fn event(&mut self, data: &[u8], at_ns: u64) {
        if self.done || self.fault.is_some() {
            return;
        }
        if let Some(Fit { output_tokens, input_tokens }) =
            self.shape.as_ref().and_then(|shape| shape.fit(data))
        {
            self.input_tokens = input_tokens.or(self.input_tokens);
            self.count(output_tokens, self.shape_tokens, at_ns);
        } else if data == b"[DONE]" {
            self.done = true;
        } else if let Err(fault) = self.unusual(data, at_ns) {
            self.fault = Some(fault);
            self.fault_text = Some(quoted(data));
        }
    }

    fn unusual(&mut self, data: &[u8], at_ns: u64) -> Result<(), Fault> {
        let chunk = Chunk::parse(data)?;
        self.note(&chunk);
        let choices = chunk.choices.as_deref().unwrap_or_default();
        // The total alone, after all tokens, is no arrival.
        if choices.is_empty() {
            return Ok(());
        }
        let tokens = choices.iter().map(Choice::tokens).sum();
        self.count(chunk.usage.and_then(|usage| usage.completion_tokens), tokens, at_ns);
        if choices.iter().any(|c| c.finish_reason.is_none()) && self.shapes_made < SHAPES_MAX {
            self.shape = Some(Shape::of(data));
            self.shape_tokens = tokens;
            self.shapes_made += 1;
        }
        Ok(())
    }

    fn whole(&mut self, data: &[u8]) {
        match Chunk::parse(data) {
            Ok(chunk) => self.note(&chunk),
            Err(fault) => {
                self.fault = Some(fault);
                self.fault_text = Some(quoted(data));
            }
        }
    }

    fn note(&mut self, chunk: &Chunk) {
        for reason in chunk.choices.iter().flatten().filter_map(|c| c.finish_reason.as_deref()) {
            self.finished = true;
            self.aborted |= matches!(reason, "abort" | "error");
        }
        if let Some(usage) = &chunk.usage {
            self.input_tokens = usage.prompt_tokens.or(self.input_tokens);
            self.usage_output_tokens = usage.completion_tokens.or(self.usage_output_tokens);
        }
        self.phases = chunk.metrics.as_ref().and_then(Metrics::phases).or(self.phases);
    }

    /// Counts an event's tokens: exactly where it says how many there are by now.
    fn count(&mut self, output_tokens_by_now: Option<u32>, tokens: u32, at_ns: u64) {
        if output_tokens_by_now.is_some() {
            self.usage_output_tokens = output_tokens_by_now;
        }
        let by_now = output_tokens_by_now.unwrap_or(self.output_tokens.saturating_add(tokens));
        let new = by_now.saturating_sub(self.output_tokens);
        self.output_tokens += new;
        if self.output_tokens > self.output_tokens_max {
            self.fault = Some(Fault::TooManyTokens);
            return;
        }
        match self.tokens.last_mut() {
            _ if new == 0 => {}
            Some((last_ns, count)) if *last_ns == at_ns => *count += new,
            _ => self.tokens.push((at_ns, new)),
        }
    }
}

/// Most bytes of what a server says of a failure.
pub(crate) const QUOTED_BYTES_MAX: usize = 300;

/// The first bytes of what a server says, in one line.
pub(crate) fn quoted(bytes: &[u8]) -> Box<str> {
    let cut = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    let text = String::from_utf8_lossy(cut);
    text.split_whitespace().collect::<Vec<_>>().join(" ").into()
}

/// Spreads the total that the server counted over the arrivals, in proportion to what we counted:
/// a server that does not say how many tokens an event holds may put several into one.
fn reconcile(mut tokens: Vec<(u64, u32)>, total: u32) -> Vec<(u64, u32)> {
    let counted: u64 = tokens.iter().map(|(_, count)| u64::from(*count)).sum();
    if counted == u64::from(total) {
        return tokens;
    }
    let (mut seen, mut given) = (0, 0);
    for (_, count) in &mut tokens {
        seen += u64::from(*count);
        // Rounded up, so that the first arrival keeps a token.
        let by_now = (seen * u64::from(total)).div_ceil(counted) as u32;
        *count = by_now - given;
        given = by_now;
    }
    tokens.retain(|(_, count)| *count > 0);
    tokens
}

/// The parts of `text_completion`, `chat.completion` and their chunks that matter here.
#[derive(Debug, Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    metrics: Option<Metrics>,
    error: Option<IgnoredAny>,
    object: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    role: Option<IgnoredAny>,
    content: Option<String>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

/// Added by vLLM's `--enable-per-request-metrics`; its time to first token counts from the
/// first scheduling.
#[derive(Debug, Deserialize)]
struct Metrics {
    queue_time_ms: Option<f64>,
    time_to_first_token_ms: Option<f64>,
    generation_time_ms: Option<f64>,
}

impl Chunk {
    fn parse(data: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(data).map_err(|_| Fault::InvalidUtf8)?;
        let chunk: Self = serde_json::from_str(text).map_err(|_| Fault::MalformedEvent)?;
        if chunk.error.is_some() || chunk.object.as_deref() == Some("error") {
            return Err(Fault::ErrorEvent);
        }
        if chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(Fault::MalformedEvent);
        }
        Ok(chunk)
    }
}

impl Choice {
    /// One token for an event with text. An event that has none may still be a token whose
    /// characters are not whole yet; an opening with a role or a closing with a reason is not.
    fn tokens(&self) -> u32 {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let (has_text, opens) = match &self.delta {
            Some(delta) => (
                filled(&delta.content)
                    || filled(&delta.reasoning)
                    || filled(&delta.reasoning_content),
                delta.role.is_some(),
            ),
            None => (filled(&self.text), false),
        };
        u32::from(has_text || (!opens && self.finish_reason.is_none()))
    }
}

impl Metrics {
    fn phases(&self) -> Option<Phases> {
        let ns = |ms: f64| (ms * 1e6).max(0.0) as u64;
        Some(Phases {
            queue_ns: ns(self.queue_time_ms?),
            prefill_ns: ns(self.time_to_first_token_ms?),
            decode_ns: ns(self.generation_time_ms?),
        })
    }
}

impl From<Fault> for RequestStatus {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.name().to_owned())
    }
}

#[cfg(test)]
mod tests;
