//! What the commands print. A reader of standard output that goes away (`xtask status | head`) ends a
//! command quietly.
//!
//! Commands that a text names are written `cargo xtask …`; whatever is shown goes through [`typed`], which names
//! them as whoever started this program types them.

use std::{
    borrow::Cow,
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

/// Prints text, with commands as they are typed.
///
/// # Errors
/// [`Closed`], or what else writing fails with.
pub fn print(text: impl fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{}", typed(&text.to_string())).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => Ok(written?),
    }
}

/// The text with its commands as they are typed here: by cargo, which tells so in the environment, or under the
/// program's own name where it was installed.
pub fn typed(text: &str) -> Cow<'_, str> {
    match std::env::var_os("CARGO").is_some() {
        true => text.into(),
        false => without_cargo(text).into(),
    }
}

/// `cargo xtask …` as `xtask …`, also where a line was folded between the two words.
fn without_cargo(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("cargo") {
        let (before, from) = rest.split_at(at);
        let after = &from["cargo".len()..];
        let command = after.trim_start();
        let is_command = after.len() > command.len()
            && command.strip_prefix("xtask").is_some_and(|end| !end.starts_with(is_word))
            && !unstyled(before).ends_with(is_word);
        out += before;
        if !is_command {
            out += "cargo";
            rest = after;
            continue;
        }
        let gap = &after[..after.len() - command.len()];
        if let Some(fold) = gap.find('\n') {
            out.truncate(out.trim_end_matches(' ').len());
            out += &gap[fold..];
        }
        rest = command;
    }
    out + rest
}

/// The text without the change of style that it ends with, whose last character is a letter.
fn unstyled(text: &str) -> &str {
    let sequence = text.rfind("\x1b[").map(|at| text.split_at(at));
    let is_style = |codes: &str| codes.chars().all(|c| c.is_ascii_digit() || c == ';');
    match sequence {
        Some((before, style)) if style[2..].strip_suffix('m').is_some_and(is_style) => before,
        _ => text,
    }
}

/// Whether standard output is shown in colours: on a terminal, unless the environment says otherwise
/// (`NO_COLOR`, `CLICOLOR`, `TERM`).
pub fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Columns of the terminal that standard output is; a fixed number where it is none.
pub fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|n| *n > 0).unwrap_or(wrap::WIDTH)
}

/// Tells people what is wrong, on standard error and folded for a terminal. Nobody is left to hear of
/// a closed one.
pub fn complain(text: &str) {
    let _ = write!(io::stderr(), "{}", wrap::fold(&typed(text)));
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

/// Prints a text, or as the one field of an object.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn an_installed_program_names_commands_as_they_are_typed() {
        for (written, typed) in [
            ("run `cargo xtask suite` first", "run `xtask suite` first"),
            ("with: cargo xtask status", "with: xtask status"),
            ("Usage: cargo xtask [OPTIONS]", "Usage: xtask [OPTIONS]"),
            (" Next: cargo\n   xtask suite", " Next:\n   xtask suite"),
            ("`cargo xtask a`, then `cargo xtask b`", "`xtask a`, then `xtask b`"),
            ("cargo install xtask", "cargo install xtask"),
            (
                "my-cargo xtask, cargo xtasks, cargoxtask",
                "my-cargo xtask, cargo xtasks, cargoxtask",
            ),
            ("for cargo", "for cargo"),
            ("\x1b[1;4mcargo xtask\x1b[0m x", "\x1b[1;4mxtask\x1b[0m x"),
            ("cram\x1b[1mcargo xtask", "cram\x1b[1mcargo xtask"),
        ] {
            assert_eq!(without_cargo(written), typed);
        }
    }

    #[test]
    fn coloured_help_of_every_command_does_too() {
        fn check(command: &mut clap::Command) {
            let shown = command.render_long_help().ansi().to_string();
            assert!(shown.contains('\x1b') && shown.contains("cargo xtask"), "{shown}");
            let shown = without_cargo(&shown);
            assert!(!shown.contains("cargo xtask"), "{shown:?}");
            command.get_subcommands_mut().for_each(check);
        }
        let mut command = crate::cli::Cli::command();
        command.build();
        check(&mut command);
    }
}
