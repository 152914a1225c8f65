//! A request of a file, whatever the format of the file.

/// Most tokens in or out of one request.
pub const TOKENS_MAX: u32 = 10_000_000;
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
    /// The conversation that it is a turn of, where the file has such.
    pub turn: Option<Turn>,
}

/// A turn of a recorded conversation; its rows follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Number of the conversation in the file.
    pub conversation: u32,
    /// From the end of the answer before it to this turn: the time of the user, or of the tools.
    pub think_ns: u64,
}

/// What a file says of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowPrompt {
    /// A text.
    Text(Box<str>),
    /// Names of its blocks of so many tokens: equal names, equal tokens.
    Blocks {
        /// Tokens of a block.
        tokens: u32,
        /// In their order.
        names: Box<[u64]>,
    },
}

/// Tokens of a text, near enough to plan with; what the server counts is what is reported.
pub fn estimated_tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_A_TOKEN)).unwrap_or(u32::MAX)
}

/// A count of tokens; the error names it.
pub(super) fn tokens(name: &str, count: u64) -> Result<u32, String> {
    match u32::try_from(count) {
        Ok(count @ 1..=TOKENS_MAX) => Ok(count),
        _ => Err(format!("`{name}` is {count}, expected 1 to {TOKENS_MAX}")),
    }
}

/// A request of this text; `None` of an empty one.
pub(super) fn text_row(text: Box<str>, output_tokens: Option<u32>) -> Option<Row> {
    let input_tokens = estimated_tokens(&text);
    (input_tokens > 0).then_some(Row {
        at_ns: 0,
        input_tokens,
        output_tokens,
        prompt: RowPrompt::Text(text),
        turn: None,
    })
}
