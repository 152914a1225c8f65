//! Errors that are the user's to fix: exit code 2, and nothing was changed.

use std::fmt;

use profile::nearest;

/// A wrong command line or profile.
#[derive(Debug)]
pub struct UsageError(String);

impl UsageError {
    pub fn new(message: String) -> Self {
        Self(message)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

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
