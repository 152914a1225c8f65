//! What is wrong with a profile, shown at its place in the file.

use std::{
    fmt,
    io::{IsTerminal as _, Write as _},
    ops::Range,
};

use bench_core::wrap::{WIDTH, fold, wrap};
use codespan_reporting::{
    diagnostic::{Diagnostic as Report, Label},
    files::{Error, Files, SimpleFile},
    term,
};
use serde::Serialize;

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

    /// Folded for a terminal: a label that does not fit beside its place stands below.
    fn report(&self, excerpt: &Excerpt<'_>) -> Report<()> {
        let mut below = Vec::new();
        let mut label = |label: Label<()>, text: &str| {
            if excerpt.has_room(&label.range, text) {
                return label.with_message(text);
            }
            below.push(folded(text, NOTE_MARGIN));
            label
        };
        let mut labels = vec![label(Label::primary((), self.span.clone()), &self.label)];
        if let Some((span, text)) = &self.related {
            labels.push(label(Label::secondary((), span.clone()), text));
        }
        below.extend(self.notes.iter().map(|note| folded(note, NOTE_MARGIN)));
        Report::error()
            .with_message(folded(&self.message, "error: ".len()))
            .with_labels(labels)
            .with_notes(below)
    }
}

/// Why there is no profile: the user's to fix, with exit code 2.
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

/// Mistakes that are shown; of the others the number is said.
const SHOWN_MAX: usize = 20;

/// Bytes of a line that are shown around a mistake: with the line's number no wider than a terminal.
const LINE_BYTES_MAX: usize = 72;

/// Columns before a note of a mistake in a line whose number has three digits.
const NOTE_MARGIN: usize = 6;

/// A text for a terminal that has so many columns less.
fn folded(text: &str, margin: usize) -> String {
    let lines = text.lines().map(|line| wrap(line, 0, WIDTH - margin));
    lines.collect::<String>().trim_end().to_owned()
}

/// How many mistakes are not shown, in a line; nothing where all are.
fn unshown(problems: &[Diagnostic]) -> String {
    match problems.len().saturating_sub(SHOWN_MAX) {
        0 => String::new(),
        more => format!("error: {more} more mistakes like these, {} in all\n\n", problems.len()),
    }
}

/// The part of a profile around a mistake: whole, unless its line is too long for a terminal.
struct Excerpt<'a> {
    file: SimpleFile<&'a str, &'a str>,
    /// Lines and columns that were left out before it.
    lines: usize,
    columns: usize,
}

impl<'a> Excerpt<'a> {
    /// With the mistake at its place there.
    fn of(file: &'a str, source: &'a str, problem: &Diagnostic) -> (Self, Diagnostic) {
        let at = source.floor_char_boundary(problem.span.start);
        let begin = source[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = source[at..].find('\n').map_or(source.len(), |length| at + length);
        let mut problem = problem.clone();
        if end - begin <= LINE_BYTES_MAX {
            let file = SimpleFile::new(file, source);
            return (Self { file, lines: 0, columns: 0 }, problem);
        }
        let middle = at.saturating_sub(LINE_BYTES_MAX / 2).min(end - LINE_BYTES_MAX);
        let from = source.ceil_char_boundary(middle.max(begin));
        let to = source.floor_char_boundary(from + LINE_BYTES_MAX);
        let shifted = |place: usize| place.clamp(from, to) - from;
        problem.span = shifted(problem.span.start)..shifted(problem.span.end);
        // The other place may be far away.
        let is_outside =
            |(span, _): &mut (Range<usize>, String)| span.start < from || span.end > to;
        if let Some((span, label)) = problem.related.take_if(is_outside) {
            let line = source[..source.floor_char_boundary(span.start)].matches('\n').count() + 1;
            problem.notes.push(format!("line {line}: {label}"));
        }
        if let Some((span, _)) = &mut problem.related {
            *span = shifted(span.start)..shifted(span.end);
        }
        let excerpt = Self {
            file: SimpleFile::new(file, &source[from..to]),
            lines: source[..begin].matches('\n').count(),
            columns: source[begin..from].chars().count(),
        };
        (excerpt, problem)
    }
}

impl Excerpt<'_> {
    /// Whether a label has room on its line, after the marks below the place.
    fn has_room(&self, place: &Range<usize>, label: &str) -> bool {
        let source = *self.file.source();
        let start = source.floor_char_boundary(place.start);
        let begin = source[..start].rfind('\n').map_or(0, |end| end + 1);
        let end = source[start..].find('\n').map_or(source.len(), |length| start + length);
        let end = source.floor_char_boundary(place.end.clamp(start, end));
        let marks = source[begin..end].chars().count().max(1);
        let number = self.lines + source[..start].matches('\n').count() + 1;
        let margin = number.to_string().len() + " │ ".chars().count();
        margin + marks + 1 + label.chars().count() <= WIDTH
    }
}

impl<'a> Files<'a> for Excerpt<'_> {
    type FileId = ();
    type Name = &'a str;
    type Source = &'a str;

    fn name(&'a self, (): ()) -> Result<&'a str, Error> {
        Ok(self.file.name())
    }

    fn source(&'a self, (): ()) -> Result<&'a str, Error> {
        Ok(self.file.source())
    }

    fn line_index(&'a self, (): (), byte: usize) -> Result<usize, Error> {
        self.file.line_index((), byte)
    }

    fn line_number(&'a self, (): (), index: usize) -> Result<usize, Error> {
        Ok(self.lines + self.file.line_number((), index)?)
    }

    fn column_number(&'a self, (): (), index: usize, byte: usize) -> Result<usize, Error> {
        Ok(self.columns + self.file.column_number((), index, byte)?)
    }

    fn line_range(&'a self, (): (), index: usize) -> Result<Range<usize>, Error> {
        self.file.line_range((), index)
    }
}

/// A mistake in a profile, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// The file, as messages name it.
    pub file: String,
    /// Where it is there, from 1.
    pub line: usize,
    /// Likewise, in characters.
    pub column: usize,
    /// What to do, beside the place.
    pub advice: String,
    /// What is good to know.
    pub notes: Vec<String>,
}

impl Mistake {
    fn of(file: &str, source: &str, problem: &Diagnostic) -> Self {
        let before = &source[..source.floor_char_boundary(problem.span.start)];
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            message: problem.message.clone(),
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            advice: problem.label.clone(),
            notes: problem.notes.clone(),
        }
    }
}

impl ConfigError {
    /// The first of them, in one line.
    pub fn message(&self) -> String {
        match self {
            Self::Unreadable { message, advice } => format!("{message}: {advice}"),
            Self::Invalid { problems, .. } => {
                problems.first().map(|problem| problem.message.clone()).unwrap_or_default()
            }
        }
    }

    /// Every mistake, in the order of the file; none where there is no file.
    pub fn mistakes(&self) -> Vec<Mistake> {
        match self {
            Self::Unreadable { .. } => Vec::new(),
            Self::Invalid { file, source, problems } => {
                problems.iter().map(|problem| Mistake::of(file, source, problem)).collect()
            }
        }
    }

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
            Self::Unreadable { .. } => {
                let _ = write!(stream, "{self}");
            }
            Self::Invalid { file, source, problems } => {
                // Nobody is left to hear of a closed stderr.
                for problem in problems.iter().take(SHOWN_MAX) {
                    let (excerpt, problem) = Excerpt::of(file, source, problem);
                    let report = problem.report(&excerpt);
                    let config = term::Config::default();
                    let _ = term::emit_to_write_style(&mut stream, &config, &excerpt, &report);
                }
                let _ = writeln!(stream, "{}{NOTHING_CHANGED}", unshown(problems));
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { message, advice } => {
                f.write_str(&fold(&format!("error: {message}\n{advice}")))?;
            }
            Self::Invalid { file, source, problems } => {
                for problem in problems.iter().take(SHOWN_MAX) {
                    let (excerpt, problem) = Excerpt::of(file, source, problem);
                    let report = problem.report(&excerpt);
                    let text = term::emit_into_string(&term::Config::default(), &excerpt, &report)
                        .map_err(|_| fmt::Error)?;
                    f.write_str(&text)?;
                }
                f.write_str(&unshown(problems))?;
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
