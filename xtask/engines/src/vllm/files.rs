//! Small files of JSON, and what a program wrote last.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};
use store::disk::write_whole;

/// The last lines that say something.
pub fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The last line that says something.
pub fn last_line(bytes: &[u8]) -> String {
    last_lines(bytes, 1)
}

/// A file of JSON; `None` where it is not there or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file of JSON, whole or not at all.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_whole(path, serde_json::to_string_pretty(value)?.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
