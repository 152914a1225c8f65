//! What ends the program before its work is done: errors, their codes and exit codes.

use std::{fmt, io};

use anyhow::Error;
use clap::ValueEnum;
use engines::launch::LaunchError;
use profile::{ConfigError, Mistake, nearest};
use serde::Serialize;

use crate::{cli::MessageFormat, output};

/// What kind of error ended the program; a name never changes its meaning. `docs/reference.md` has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A word, an option or a value of the command line is wrong
    CommandLine,
    /// There is no such profile, or its file cannot be read
    ProfileUnreadable,
    /// A profile has mistakes; `mistakes` has each with file, line and column
    ProfileInvalid,
    /// No stage, sweep, trial, result or configuration has this name
    UnknownName,
    /// What the command reads is not measured yet
    NoResults,
    /// A file that the command line names cannot be read, or is of another kind
    FileRefused,
    /// The two sides of a comparison have no load in common, or ran on different engines
    NotComparable,
    /// A file is there already, and `--yes` was not given
    Exists,
    /// The plan takes more engine time than `[budget]` allows
    OverBudget,
    /// The plan takes more memory than this machine has
    OutOfMemory,
    /// A start of an endpoint was not measured, and another one runs now
    StartGone,
    /// Neither a checkout nor the profiles of an installed program were found
    NoProject,
    /// A file of results is damaged
    FileDamaged,
    /// A file of results was written by another version of this program
    FormatUnknown,
    /// The engine could not be installed, or does not answer
    EngineUnavailable,
    /// A server start did not run to its end (`launch` alone; a suite goes on without it)
    LaunchFailed,
    /// Somebody pressed Ctrl-C (`launch` alone; a suite says so in its `end`, exit code 130)
    Interrupted,
    /// The disk is full
    DiskFull,
    /// All or some is measured, and the results could not be written
    ResultsUnwritten,
    /// Anything else
    Failed,
}

impl Code {
    /// An error of this kind.
    pub fn error(self, message: impl Into<String>) -> Error {
        Coded { code: self, message: message.into() }.into()
    }

    /// The same error, of this kind where it had none.
    pub fn of(self, error: Error) -> Error {
        match Self::found(&error) {
            Self::Failed => self.error(format!("{error:#}")),
            _ => error,
        }
    }

    /// That of an error; of one within others, the outermost.
    pub fn found(error: &Error) -> Self {
        if let Some(coded) = error.downcast_ref::<Coded>() {
            return coded.code;
        }
        match error.downcast_ref() {
            Some(ConfigError::Unreadable { .. }) => return Self::ProfileUnreadable,
            Some(ConfigError::Invalid { .. }) => return Self::ProfileInvalid,
            None => {}
        }
        match error.downcast_ref() {
            Some(LaunchError::Interrupted) => Self::Interrupted,
            _ if is_disk_full(error) => Self::DiskFull,
            Some(_) => Self::LaunchFailed,
            None => Self::Failed,
        }
    }

    /// Its name, for programs.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it says, in a line.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Whether it is the user's to fix before anything was changed.
    pub fn is_usage(self) -> bool {
        self.exit_code() == 2
    }

    /// The exit code that goes with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::CommandLine
            | Self::ProfileUnreadable
            | Self::ProfileInvalid
            | Self::UnknownName
            | Self::NoResults
            | Self::FileRefused
            | Self::NotComparable
            | Self::Exists
            | Self::OverBudget
            | Self::OutOfMemory
            | Self::StartGone => 2,
            Self::NoProject
            | Self::FileDamaged
            | Self::FormatUnknown
            | Self::EngineUnavailable
            | Self::LaunchFailed
            | Self::Interrupted
            | Self::DiskFull
            | Self::ResultsUnwritten
            | Self::Failed => 1,
        }
    }
}

/// An error whose kind was decided where it arose.
#[derive(Debug)]
struct Coded {
    code: Code,
    message: String,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Coded {}

/// Whether a file could not be written for want of room.
pub fn is_disk_full(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    })
}

/// An error for programs, as one line.
#[derive(Serialize)]
struct Message {
    code: Code,
    exit_code: u8,
    message: String,
    /// Of a profile alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<Mistake>,
}

/// Tells what ended the program: people on standard error, programs on standard output too.
pub fn tell(error: &Error, exit_code: u8, format: MessageFormat) {
    let (code, config) = (Code::found(error), error.downcast_ref::<ConfigError>());
    match config {
        Some(mistakes) => mistakes.print(),
        None if code.is_usage() => {
            output::complain(&format!("error: {error}\nnothing was changed."));
        }
        None => output::complain(&format!("error: {error:#}")),
    }
    let message = config.map_or_else(|| format!("{error:#}"), ConfigError::message);
    let mistakes = config.map(ConfigError::mistakes).unwrap_or_default();
    report(&Message { code, exit_code, message, mistakes }, format);
}

/// Tells that the command line is wrong, in the words of its parser.
pub fn tell_usage(text: &str, format: MessageFormat) {
    output::complain(text);
    let message = text.trim_start_matches("error: ").trim_end().to_owned();
    let (code, mistakes) = (Code::CommandLine, Vec::new());
    report(&Message { code, exit_code: code.exit_code(), message, mistakes }, format);
}

fn report(message: &Message, format: MessageFormat) {
    if format == MessageFormat::Json {
        // Nobody is left to hear of a closed standard output.
        let _ = output::answer("error", message);
    }
}

/// `no stage max-num-seq: did you mean max-num-seqs?`
pub fn no_such(kind: &str, name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("no {kind} `{name}`: did you mean `{near}`?"),
        None if known.is_empty() => format!("no {kind} `{name}`: there is none"),
        None => match known {
            [one] => format!("no {kind} `{name}`: there is `{one}` alone"),
            several => format!("no {kind} `{name}`: there are {}", several.join(", ")),
        },
    }
}
