//! What the commands print. A reader of standard output that goes away (`xtask status | head`) ends a
//! command quietly.

use std::{
    fmt,
    io::{self, Write as _},
};

use anyhow::Result;
use bench_core::wrap;
use serde::Serialize;

use crate::cli::MessageFormat;

/// Nobody reads standard output any more.
#[derive(Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// Prints text as it is.
///
/// # Errors
/// [`Closed`], or what else writing fails with.
pub fn print(text: impl fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => Ok(written?),
    }
}

/// How this program is called: by cargo, or under its own name where it was installed.
pub fn program() -> &'static str {
    if std::env::var_os("CARGO").is_some() { "cargo xtask" } else { "xtask" }
}

/// Columns of the terminal that standard output is; a fixed number where it is none.
pub fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|n| *n > 0).unwrap_or(wrap::WIDTH)
}

/// Tells people what is wrong, on standard error and folded for a terminal. Nobody is left to hear of
/// a closed one.
pub fn complain(text: &str) {
    let _ = write!(io::stderr(), "{}", wrap::fold(text));
}

/// Prints an object as one line of JSON, with the event that it is.
///
/// # Errors
/// As [`print`].
pub fn answer(event: &str, value: &impl Serialize) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        event: &'a str,
        #[serde(flatten)]
        value: &'a T,
    }
    print(serde_json::to_string(&Line { event, value })? + "\n")
}

/// Prints a text as it is, or as the one field of an object.
///
/// # Errors
/// As [`print`].
pub fn text(event: &str, text: &str, format: MessageFormat) -> Result<()> {
    match format {
        MessageFormat::Human => print(text),
        MessageFormat::Json => answer(event, &serde_json::json!({ "text": text })),
    }
}

/// As `println!`, with what [`print`] returns.
macro_rules! outln {
    ($($arguments:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($arguments)*)))
    };
}
