//! What is wrong with a profile, shown at its place in the file.

use std::{fmt, io::IsTerminal as _, ops::Range};

use codespan_reporting::{
    diagnostic::{Diagnostic as Report, Label},
    files::SimpleFile,
    term,
};

/// One mistake in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the source.
    pub span: Range<usize>,
    /// What to do, beside the place.
    pub label: String,
    /// Another place that has to do with it.
    pub related: Option<(Range<usize>, String)>,
    /// What is good to know, below.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// A mistake at a place, with what to do about it.
    pub fn new(message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            label: label.into(),
            related: None,
            notes: Vec::new(),
        }
    }

    /// With another place.
    pub fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    /// With a line below.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn report(&self) -> Report<()> {
        let mut labels =
            vec![Label::primary((), self.span.clone()).with_message(self.label.clone())];
        if let Some((span, label)) = &self.related {
            labels.push(Label::secondary((), span.clone()).with_message(label.clone()));
        }
        Report::error()
            .with_message(&self.message)
            .with_labels(labels)
            .with_notes(self.notes.clone())
    }
}

/// Why there is no profile: the user's to mend, with exit code 2.
#[derive(Clone, Debug)]
pub enum ConfigError {
    /// There is no such file, or it cannot be read.
    Unreadable {
        /// What failed.
        message: String,
        /// What to do.
        advice: String,
    },
    /// Its text is wrong.
    Invalid {
        /// The file, as messages name it.
        file: String,
        /// Its text.
        source: String,
        /// The mistakes, in the order of the file.
        problems: Vec<Diagnostic>,
    },
}

/// Ends every message: a reader who mistyped wants to know what became of the results.
const NOTHING_CHANGED: &str = "nothing was changed.";

impl ConfigError {
    /// Writes the message to standard error, coloured where that is a terminal.
    pub fn print(&self) {
        let choice = if std::io::stderr().is_terminal() {
            // Heeds NO_COLOR and TERM=dumb.
            term::termcolor::ColorChoice::Auto
        } else {
            term::termcolor::ColorChoice::Never
        };
        let mut stream = term::termcolor::StandardStream::stderr(choice);
        match self {
            Self::Unreadable { .. } => eprint!("{self}"),
            Self::Invalid { file, source, problems } => {
                let file = SimpleFile::new(file.as_str(), source.as_str());
                for problem in problems {
                    let report = problem.report();
                    // Nobody is left to hear of a closed stderr.
                    let _ = term::emit_to_write_style(
                        &mut stream,
                        &term::Config::default(),
                        &file,
                        &report,
                    );
                }
                eprintln!("{NOTHING_CHANGED}");
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { message, advice } => {
                writeln!(f, "error: {message}\n{advice}")?;
            }
            Self::Invalid { file, source, problems } => {
                let file = SimpleFile::new(file.as_str(), source.as_str());
                for problem in problems {
                    let report = problem.report();
                    let text = term::emit_into_string(&term::Config::default(), &file, &report)
                        .map_err(|_| fmt::Error)?;
                    f.write_str(&text)?;
                }
            }
        }
        writeln!(f, "{NOTHING_CHANGED}")
    }
}

impl std::error::Error for ConfigError {}

/// The candidate that was most likely meant, if one is near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (likeness, candidate) = most_alike(word, candidates)?;
    // Short words are unlike each other after one slip.
    let is_slip = strsim::damerau_levenshtein(word, candidate) <= 1;
    (likeness >= 0.85 || is_slip).then_some(candidate)
}

/// The label of a wrong name: the nearest right one, or all of them where they are few.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(word, candidates.clone()) {
        return format!("did you mean `{name}`?");
    }
    let all: Vec<_> = candidates.clone().into_iter().collect();
    match most_alike(word, candidates) {
        Some((_, nearest)) if all.len() > 8 => format!("the nearest is `{nearest}`"),
        Some(_) => format!("expected one of {}", all.join(", ")),
        None => "there is none".to_owned(),
    }
}

/// The candidate with the largest likeness, which is 1 for the same word.
fn most_alike<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<(f64, &'a str)> {
    // Flags have dashes and keys have underscores; people mix them up.
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &plain(candidate)), candidate))
        // Of equals the first, so that the order of a list counts.
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
}
