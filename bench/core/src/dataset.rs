//! Files of requests: traces and data sets in the shapes that other tools read and write.
//!
//! Rows are handed over one by one and the digest is taken on the way, so that a file of any
//! length needs the memory of its longest row. Nothing is opened here: a reader comes from outside.

mod chat_log;

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
};

use serde::{
    Deserialize, Deserializer as _,
    de::{DeserializeOwned, SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};

use crate::{canonical::Digest, schema::DataFormat};

/// Tokens that one of Mooncake's `hash_ids` stands for.
pub const BLOCK_TOKENS: u32 = 512;
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: u64 = 16 << 20;
/// Most tokens in or out of one request.
pub const TOKENS_MAX: u32 = 10_000_000;

/// Far enough for milliseconds since 1970.
const TIMESTAMP_MS_MAX: f64 = 1e14;
/// Text is about this many bytes a token in common vocabularies.
const BYTES_A_TOKEN: usize = 4;

/// One request of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When it came, by the file's clock; 0 where the file has no times.
    pub at_ns: u64,
    /// Prompt length; of a text, [`estimated_tokens`].
    pub input_tokens: u32,
    /// Output length, where the file says one.
    pub output_tokens: Option<u32>,
    /// The prompt, or what it is made of.
    pub prompt: RowPrompt,
}

/// What a file says of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowPrompt {
    /// A text.
    Text(Box<str>),
    /// Names of its blocks of [`BLOCK_TOKENS`] tokens: equal names, equal tokens.
    Blocks(Box<[u64]>),
}

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

/// Tokens of a text, near enough to plan with; what the server counts is what is reported.
pub fn estimated_tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_A_TOKEN)).unwrap_or(u32::MAX)
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

fn tokens(name: &str, count: u64) -> Result<u32, String> {
    match u32::try_from(count) {
        Ok(count @ 1..=TOKENS_MAX) => Ok(count),
        _ => Err(format!("`{name}` is {count}, expected 1 to {TOKENS_MAX}")),
    }
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
            prompt: RowPrompt::Blocks(self.hash_ids),
        })
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

fn text_row(text: Box<str>, output_tokens: Option<u32>) -> Option<Row> {
    let input_tokens = estimated_tokens(&text);
    (input_tokens > 0).then_some(Row {
        at_ns: 0,
        input_tokens,
        output_tokens,
        prompt: RowPrompt::Text(text),
    })
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
mod tests;
