//! A log of chat requests as gateways and proxies write it: a JSON object a line, which is the body of an
//! OpenAI request, or holds it as `request` or `body`, with the time at which it came.

use serde::Deserialize;
use serde_json::Value;

use super::row::{Row, text_row, tokens};

pub(super) const SHAPE: &str = r#"{"timestamp": ISO 8601 or epoch, "messages": [{"role": …, "content": TEXT}, …], "max_tokens": N}"#;

/// A line.
#[derive(Deserialize)]
pub(super) struct Logged {
    #[serde(
        alias = "time",
        alias = "ts",
        alias = "created",
        alias = "created_at",
        alias = "@timestamp"
    )]
    timestamp: Option<Value>,
    #[serde(alias = "body")]
    request: Option<Request>,
    #[serde(alias = "response_body")]
    response: Option<Response>,
    // Where the line is the body itself.
    messages: Option<Vec<Message>>,
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<u64>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Response {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    /// A text, a list of parts that each have a `text`, or null.
    #[serde(default)]
    content: Value,
}

impl Message {
    /// Its texts.
    fn texts(&self) -> Result<Vec<&str>, String> {
        match &self.content {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(vec![text]),
            Value::Array(parts) => {
                let texts = parts.iter().map(|part| part.get("text").and_then(Value::as_str));
                texts.collect::<Option<_>>().ok_or_else(|| {
                    "a part of a message is no text; texts alone are replayed".to_owned()
                })
            }
            _ => Err(format!("`content` is neither text nor a list; expected {SHAPE}")),
        }
    }
}

impl Logged {
    /// The request: the texts of all its messages are its prompt, in their order, and the answer's tokens,
    /// else the limit on them, are its output.
    pub(super) fn row(self) -> Result<Row, String> {
        let time = self.timestamp.ok_or_else(|| format!("no time; expected {SHAPE}"))?;
        let at_ns = at_ns(&time).ok_or_else(|| {
            format!(
                "`timestamp` is {time}, expected ISO 8601 or seconds or milliseconds since 1970"
            )
        })?;
        let (messages, limit) = match (self.request, self.messages) {
            (Some(request), _) => (request.messages, request.max_tokens),
            (None, Some(messages)) => (messages, self.max_tokens),
            (None, None) => return Err(format!("no request: no `messages`; expected {SHAPE}")),
        };
        let answered = self.response.and_then(|response| response.usage).or(self.usage);
        let output =
            answered.and_then(|usage| usage.completion_tokens).filter(|n| *n > 0).or(limit);
        let output = output.map(|n| tokens("max_tokens", n)).transpose()?;
        let texts = messages.iter().map(Message::texts).collect::<Result<Vec<_>, _>>()?.concat();
        let row = text_row(texts.join("\n").into(), output);
        row.map(|row| Row { at_ns, ..row }).ok_or_else(|| "its messages have no text".to_owned())
    }
}

/// Nanoseconds since 1970.
fn at_ns(time: &Value) -> Option<u64> {
    match time {
        Value::Number(number) => epoch_ns(number.as_f64()?),
        Value::String(text) => text.parse().ok().and_then(epoch_ns).or_else(|| iso_ns(text.trim())),
        _ => None,
    }
}

/// Of seconds, milli-, micro- or nanoseconds, told apart by their size: as seconds, 10^11 is in the year
/// 5138, and as milliseconds in 1973.
fn epoch_ns(time: f64) -> Option<u64> {
    let scale = match time {
        t if t < 0.0 || t.is_nan() => return None,
        t if t < 1e11 => 1e9,
        t if t < 1e14 => 1e6,
        t if t < 1e17 => 1e3,
        _ => 1.0,
    };
    let ns = time * scale;
    (ns < u64::MAX as f64).then_some(ns as u64)
}

/// `2026-11-28T16:00:00.123+01:00`, with a space for the `T`, without fraction or zone (then UTC).
fn iso_ns(text: &str) -> Option<u64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let mark = |at: usize| text.as_bytes().get(at).copied();
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    let marks = [mark(4)?, mark(7)?, mark(13)?, mark(16)?];
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if marks != *b"--::" || !matches!(mark(10)?, b'T' | b't' | b' ') || !in_range || second > 60 {
        return None;
    }
    let rest = &text[19..];
    let fraction = rest
        .strip_prefix(['.', ','])
        .map_or("", |rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    let zone = &rest[if fraction.is_empty() { 0 } else { fraction.len() + 1 }..];
    let offset_s = match zone.trim_start() {
        "" | "Z" | "z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let digits: String = zone.strip_prefix(['+', '-'])?.replace(':', "");
            let number: i64 = digits.parse().ok()?;
            match digits.len() {
                2 => sign * number * 3600,
                4 => sign * (number / 100 * 3600 + number % 100 * 60),
                _ => return None,
            }
        }
    };
    let fraction_ns: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let s = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    u64::try_from(s).ok()?.checked_mul(1_000_000_000)?.checked_add(fraction_ns)
}

/// Days from 1970-01-01 in the Gregorian calendar; a year begins in March, so that the leap day ends it.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dataset::{RowPrompt, read},
        schema::DataFormat,
    };

    fn rows(log: &str) -> Result<Vec<Row>, String> {
        let mut rows = Vec::new();
        let read = read(DataFormat::ChatLog, log.as_bytes(), &mut |row| rows.push(row));
        read.map(|_| rows).map_err(|error| error.to_string())
    }

    #[test]
    fn a_log_is_read_as_it_is() {
        let log = r#"{"timestamp":"2026-11-28T16:00:00Z","model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}],"max_tokens":7}

{"time":1795881601.5,"request":{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_completion_tokens":9},"response":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}
{"created":1795881602000,"messages":[{"role":"user","content":"later"},{"role":"assistant","content":null}],"max_tokens":1}
"#;
        let rows = rows(log).expect("a log");
        let second = 1_000_000_000;
        let first = 1_795_881_600 * second;
        let at: Vec<u64> = rows.iter().map(|row| row.at_ns).collect();
        assert_eq!(at, [first, first + 1_500_000_000, first + 2 * second]);
        let output: Vec<_> = rows.iter().map(|row| row.output_tokens).collect();
        assert_eq!(output, [Some(7), Some(4), Some(1)]);
        assert_eq!(rows[0].prompt, RowPrompt::Text("be brief\nhello".into()));
        assert_eq!(rows[1].prompt, RowPrompt::Text("hi".into()));
    }

    #[test]
    fn a_line_that_is_no_request_is_named() {
        let good = r#"{"timestamp":5,"messages":[{"role":"user","content":"a"}]}"#;
        let mut found = String::new();
        for bad in [
            r#"{"timestamp":6,"level":"info","message":"server started"}"#,
            r#"{"messages":[{"role":"user","content":"a"}]}"#,
            r#"{"timestamp":"yesterday","messages":[{"role":"user","content":"a"}]}"#,
            r#"{"timestamp":4,"messages":[{"role":"user","content":"a"}]}"#,
            r#"{"timestamp":6,"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
            r#"{"timestamp":6,"messages":[]}"#,
            r#"{"timestamp":6,"messages":[{"role":"user","content":"a"}],"max_tokens":0}"#,
            "INFO: 127.0.0.1 POST /v1/chat/completions 200",
        ] {
            found += &rows(&format!("{good}\n{bad}\n")).expect_err(bad);
            found.push('\n');
        }
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(found); });
    }

    #[test]
    fn times_are_understood() {
        let first = 1_795_881_600_000_000_000;
        for text in [
            "2026-11-28T16:00:00Z",
            "2026-11-28 16:00:00",
            "2026-11-28T17:00:00+01:00",
            "2026-11-28T11:30:00.000-0430",
            "1795881600",
            "1795881600000",
        ] {
            assert_eq!(at_ns(&text.into()), Some(first), "{text}");
        }
        assert_eq!(at_ns(&"2026-11-28T16:00:00.25Z".into()), Some(first + 250_000_000));
        assert_eq!(iso_ns("2000-02-29T00:00:00Z"), Some(951_782_400_000_000_000));
        for text in
            ["", "2026-13-28T16:00:00Z", "2026-11-28", "-5", "NaN", "2026-11-28T16:00:00 CET"]
        {
            assert_eq!(at_ns(&text.into()), None, "{text}");
        }
    }
}
