//! Files of requests: traces and data sets in the shapes that other tools read and write.
//!
//! Rows are handed over one by one and the digest is taken on the way, so that a file of any
//! length needs the memory of its longest row. Nothing is opened here: a reader comes from outside.

mod chat_log;
mod row;

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
};

use serde::{
    Deserialize, Deserializer as _,
    de::{DeserializeOwned, SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};

use self::row::{text_row, tokens};
use crate::{canonical::Digest, schema::DataFormat};

pub use row::{Row, RowPrompt, TOKENS_MAX, Turn, estimated_tokens};

/// Tokens that one of Mooncake's `hash_ids` stands for.
pub const BLOCK_TOKENS: u32 = 512;
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// Far enough for milliseconds since 1970.
const TIMESTAMP_MS_MAX: f64 = 1e14;

/// What is wrong with a file, and where.
#[derive(Debug)]
pub struct DataError {
    /// Line, from 1; `None` where the file as a whole cannot be read.
    pub line: Option<usize>,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for DataError {}

impl DataError {
    fn at(line: usize, what: impl Into<String>) -> Self {
        Self { line: Some(line), what: what.into() }
    }
}

impl From<io::Error> for DataError {
    fn from(error: io::Error) -> Self {
        Self { line: None, what: error.to_string() }
    }
}

/// Reads a file to its end: hands each row to `on_row`, and gives the digest of the bytes.
///
/// # Errors
/// At the first row that is not of the format, or when reading fails.
pub fn read(
    format: DataFormat,
    source: impl Read,
    on_row: &mut dyn FnMut(Row),
) -> Result<Digest, DataError> {
    let mut source = BufReader::with_capacity(1 << 16, Hashed { source, hash: Sha256::new() });
    match format {
        DataFormat::Mooncake => {
            let mut last_ms = 0.0;
            each_line(&mut source, Traced::SHAPE, |line, traced: Traced| {
                if traced.timestamp < last_ms {
                    let what = format!(
                        "timestamp {} goes back behind {last_ms}; sort the trace by time",
                        traced.timestamp
                    );
                    return Err(DataError::at(line, what));
                }
                last_ms = traced.timestamp;
                on_row(traced.row().map_err(|what| DataError::at(line, what))?);
                Ok(())
            })?;
        }
        DataFormat::ChatLog => {
            let mut last_ns = 0;
            each_line(&mut source, chat_log::SHAPE, |line, logged: chat_log::Logged| {
                let row = logged.row().map_err(|what| DataError::at(line, what))?;
                if row.at_ns < last_ns {
                    let what = "its time is before that of the line above; sort the log by time";
                    return Err(DataError::at(line, what));
                }
                last_ns = row.at_ns;
                on_row(row);
                Ok(())
            })?;
        }
        DataFormat::Custom => each_line(&mut source, Custom::SHAPE, |line, custom: Custom| {
            on_row(custom.row().map_err(|what| DataError::at(line, what))?);
            Ok(())
        })?,
        DataFormat::ShareGpt => share_gpt(&mut source, on_row)?,
        DataFormat::Weka => {
            let mut conversation = 0;
            each_line(&mut source, Recorded::SHAPE, |line, recorded: Recorded| {
                let rows = recorded.rows(conversation);
                rows.map_err(|what| DataError::at(line, what))?.into_iter().for_each(&mut *on_row);
                conversation += 1;
                Ok(())
            })?;
        }
    }
    // What follows a list is white space, and part of the digest too.
    io::copy(&mut source, &mut io::sink())?;
    Ok(Digest::from_bytes(source.into_inner().hash.finalize().into()))
}

/// Takes the digest of what is read.
struct Hashed<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads a JSON object a line, which looks like `shape`; empty lines are passed over.
fn each_line<T: DeserializeOwned>(
    source: &mut impl BufRead,
    shape: &str,
    mut on_object: impl FnMut(usize, T) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if source.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(DataError::at(number, format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object = serde_json::from_slice(&line)
            .map_err(|error| DataError::at(number, described(&error, shape)))?;
        on_object(number, object)?;
    }
    Ok(())
}

/// The message and what was expected, without a place: the line is told apart, and a column is of
/// no help in long lines.
fn described(error: &serde_json::Error, shape: &str) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let is_json = if error.is_data() { "" } else { "not JSON: " };
    format!("{is_json}{message}; expected {shape}")
}

#[derive(Deserialize)]
struct Traced {
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    #[serde(default)]
    hash_ids: Box<[u64]>,
}

impl Traced {
    const SHAPE: &str =
        r#"{"timestamp": MS, "input_length": N, "output_length": N, "hash_ids": [N, …]}"#;

    fn row(self) -> Result<Row, String> {
        if !(0.0..=TIMESTAMP_MS_MAX).contains(&self.timestamp) {
            return Err(format!("`timestamp` is {:e}, expected milliseconds", self.timestamp));
        }
        Ok(Row {
            at_ns: (self.timestamp * 1e6) as u64,
            input_tokens: tokens("input_length", self.input_length)?,
            output_tokens: Some(tokens("output_length", self.output_length)?),
            prompt: RowPrompt::Blocks { tokens: BLOCK_TOKENS, names: self.hash_ids },
            turn: None,
        })
    }
}

/// A session of a coding agent as the KV-cache tester of Weka records it: its calls of the model, with
/// the names of the blocks of each prompt.
#[derive(Deserialize)]
struct Recorded {
    block_size: u32,
    /// `local`: names are those of this session.
    hash_id_scope: Option<String>,
    requests: Vec<Call>,
}

/// One call, or a session of an agent that was called in between.
#[derive(Deserialize)]
struct Call {
    /// When it was made, in seconds.
    t: f64,
    #[serde(rename = "in")]
    input: Option<u64>,
    #[serde(rename = "out")]
    output: Option<u64>,
    #[serde(default)]
    hash_ids: Box<[u64]>,
    /// From the end of the call before to this one, in seconds.
    think_time: Option<f64>,
    /// How long it took, in seconds.
    api_time: Option<f64>,
    /// Those of an agent that this one waited for.
    #[serde(default)]
    requests: Vec<Call>,
}

impl Recorded {
    const SHAPE: &str =
        r#"{"block_size": N, "requests": [{"t": S, "in": N, "out": N, "hash_ids": [N, …]}, …]}"#;
    /// Names of one session, at most.
    const NAMES_MAX: u64 = 1 << 40;

    /// Its calls in their order; an agent that was called runs before the next call of its caller.
    fn rows(self, conversation: u32) -> Result<Vec<Row>, String> {
        if !(1..=TOKENS_MAX).contains(&self.block_size) {
            return Err(format!("`block_size` is {}, expected at least 1", self.block_size));
        }
        let is_local = self.hash_id_scope.as_deref() != Some("global");
        // Of sessions with names of their own the same name is another block.
        let scope = if is_local { (u64::from(conversation) + 1) * Self::NAMES_MAX } else { 0 };
        let (mut rows, mut ended_s) = (Vec::new(), None::<f64>);
        let mut left: Vec<Call> = self.requests.into_iter().rev().collect();
        while let Some(call) = left.pop() {
            if !call.requests.is_empty() {
                left.extend(call.requests.into_iter().rev());
                continue;
            }
            // A marker of an agent without calls of its own.
            let (Some(input), Some(output)) = (call.input, call.output) else { continue };
            if let Some(name) = call.hash_ids.iter().find(|name| **name >= Self::NAMES_MAX) {
                return Err(format!(
                    "`hash_ids` has {name}, expected less than {}",
                    Self::NAMES_MAX
                ));
            }
            let waited_s = call.think_time.or(ended_s.map(|ended_s| call.t - ended_s));
            let think_s = if rows.is_empty() { 0.0 } else { waited_s.unwrap_or(0.0) };
            ended_s = Some(call.t + call.api_time.unwrap_or(0.0));
            if !(-TIMESTAMP_MS_MAX..=TIMESTAMP_MS_MAX).contains(&think_s) {
                return Err(format!("`think_time` is {think_s:e}, expected seconds"));
            }
            rows.push(Row {
                at_ns: 0,
                input_tokens: tokens("in", input)?,
                // An answer of no token is no request that can be made again.
                output_tokens: Some(tokens("out", output.max(1))?),
                prompt: RowPrompt::Blocks {
                    tokens: self.block_size,
                    names: call.hash_ids.iter().map(|name| scope + name).collect(),
                },
                turn: Some(Turn { conversation, think_ns: (think_s.max(0.0) * 1e9) as u64 }),
            });
        }
        Ok(rows)
    }
}

#[derive(Deserialize)]
struct Custom {
    prompt: Box<str>,
    output_tokens: Option<u64>,
}

impl Custom {
    const SHAPE: &str = r#"{"prompt": TEXT, "output_tokens": N}"#;

    fn row(self) -> Result<Row, String> {
        let output_tokens = self.output_tokens.map(|n| tokens("output_tokens", n)).transpose()?;
        text_row(self.prompt, output_tokens).ok_or_else(|| "`prompt` is empty".to_owned())
    }
}

#[derive(Deserialize)]
struct Shared {
    conversations: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    value: Box<str>,
}

impl Shared {
    const SHAPE: &str = r#"{"conversations": [{"value": PROMPT}, {"value": ANSWER}, …]}"#;

    /// The first message is the prompt and the second its answer, as in vLLM; a conversation
    /// that has not both is no request.
    fn row(self) -> Option<Row> {
        let mut messages = self.conversations.into_iter();
        let (prompt, answer) = (messages.next()?.value, messages.next()?.value);
        let output_tokens = Some(estimated_tokens(&answer)).filter(|tokens| *tokens > 0)?;
        text_row(prompt, Some(output_tokens))
    }
}

/// A list of conversations, read element by element, or one a line.
fn share_gpt(source: &mut impl BufRead, on_row: &mut dyn FnMut(Row)) -> Result<(), DataError> {
    let is_list = loop {
        let bytes = source.fill_buf()?;
        let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blank == bytes.len() && blank > 0 {
            source.consume(blank);
        } else {
            break bytes.get(blank) == Some(&b'[');
        }
    };
    if !is_list {
        return each_line(source, Shared::SHAPE, |_, shared: Shared| {
            shared.row().into_iter().for_each(&mut *on_row);
            Ok(())
        });
    }
    let mut json = serde_json::Deserializer::from_reader(source);
    json.deserialize_seq(Conversations { on_row })
        .and_then(|()| json.end())
        .map_err(|error| DataError::at(error.line().max(1), described(&error, Shared::SHAPE)))
}

struct Conversations<'a> {
    on_row: &'a mut dyn FnMut(Row),
}

impl<'de> Visitor<'de> for Conversations<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(shared) = items.next_element::<Shared>()? {
            shared.row().into_iter().for_each(&mut *self.on_row);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
