//! A bundle: action records and their outputs in one file, to carry them to another store.
//!
//! gzip of JSON lines, so that `zcat` shows it: a head, then an entry a line, in the order of kind
//! and key, then the files that it carries beside them, a line each. The comment in gzip's header is the SHA-256 of all that follows it, since a
//! decompressor does not look at every bit of a file.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::canonical::Digest;
use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{Action, Store};

/// Version of the file's layout.
const FORMAT: u32 = 1;
/// The same of a bundle that carries files.
const FORMAT_WITH_FILES: u32 = 2;
/// Largest bundle: it is to fit into a repository.
const BYTES_MAX: usize = 5_000_000;
/// Largest one that carries files.
pub const BYTES_MAX_WITH_FILES: usize = 200_000_000;
/// Largest text in a bundle of [`BYTES_MAX`]: a small file may hold a very large one.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Largest text in a larger one, as a multiple of its size.
const TEXT_OF_BYTES_MAX: u64 = 30;
/// gzip's header: with a comment, no time, best compression, no operating system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0x10, 0, 0, 0, 0, 2, 255];
/// A digest's digits; a NUL ends the comment.
const COMMENT_BYTES: usize = 64;

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Name of the profile whose results these are.
    pub profile: String,
    /// What the report quotes of the load generator that measured.
    pub calibration: Option<Value>,
    /// Records with their outputs.
    pub entries: Vec<Entry>,
    /// Files that its reader needs beside them.
    pub files: Vec<CarriedFile>,
}

/// A file as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedFile {
    /// Its name where it lay, parted by `/`, from a folder that both ends know.
    pub name: String,
    /// Of its text.
    pub digest: Digest,
    /// Its content.
    pub text: String,
}

impl CarriedFile {
    /// A file of that name and content.
    pub fn new(name: String, text: String) -> Self {
        Self { name, digest: Digest::of(text.as_bytes()), text }
    }
}

/// A record and its outputs, those that it has left out excepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The record.
    pub action: Action,
    /// Outputs by name: text, as everything is that a bundle carries.
    pub outputs: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    profile: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Value>,
    entries: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    files: usize,
}

/// The layout of a bundle with so many files.
fn format(files: usize) -> u32 {
    if files == 0 { FORMAT } else { FORMAT_WITH_FILES }
}

/// Keeps the bytes of a bundle without files.
fn is_none(files: &usize) -> bool {
    *files == 0
}

/// An entry as written: the record in the store's own form, sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    record: Box<RawValue>,
    outputs: BTreeMap<String, String>,
}

/// The text under its seal.
pub fn packed(text: &str) -> Result<Vec<u8>> {
    let comment = [b'0'; COMMENT_BYTES];
    let builder = GzBuilder::new().comment(comment.as_slice());
    let mut gzip = builder.write(Vec::new(), Compression::best());
    gzip.write_all(text.as_bytes())?;
    Ok(seal(gzip.finish()?))
}

/// The file with the digest of what follows its comment in the comment's place.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let (start, end) = (GZIP_HEADER.len(), GZIP_HEADER.len() + COMMENT_BYTES);
    debug_assert_eq!(bytes[..start], GZIP_HEADER);
    let digest = Digest::of(&bytes[end..]).to_string();
    bytes[start..end].copy_from_slice(digest.as_bytes());
    bytes
}

impl Bundle {
    /// The file: the same bytes for the same content, in whatever order it is given.
    ///
    /// # Errors
    /// When it is larger than a bundle may be.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let head = Head {
            format: format(self.files.len()),
            profile: self.profile.clone(),
            calibration: self.calibration.clone(),
            entries: self.entries.len(),
            files: self.files.len(),
        };
        let mut text = serde_json::to_string(&head)? + "\n";
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|entry| order(&entry.action));
        for Entry { action, outputs } in entries {
            let record = serde_json::from_slice(&action.to_json())?;
            text += &serde_json::to_string(&Line { record, outputs: outputs.clone() })?;
            text += "\n";
        }
        let mut files: Vec<&CarriedFile> = self.files.iter().collect();
        files.sort_unstable_by_key(|file| &file.name);
        for file in files {
            text += &serde_json::to_string(file)?;
            text += "\n";
        }
        let bytes = packed(&text)?;
        let (max, instead) = match self.files.is_empty() {
            true => (BYTES_MAX, "export a profile with fewer trials"),
            false => (BYTES_MAX_WITH_FILES, "export without them, and copy them by themselves"),
        };
        ensure!(
            bytes.len() <= max && text.len() as u64 <= text_bytes_max(bytes.len()),
            "the bundle has {} bytes of {} bytes of text, at most {max} are allowed: {instead}",
            bytes.len(),
            text.len()
        );
        Ok(bytes)
    }

    /// What a file holds, every digest checked.
    ///
    /// # Errors
    /// When anything in it is not what it says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        ensure!(
            bytes.len() <= BYTES_MAX_WITH_FILES,
            "it has more than {BYTES_MAX_WITH_FILES} bytes"
        );
        let text = decompress(bytes)?;
        let mut lines = text.lines();
        let head: Head = serde_json::from_str(lines.next().unwrap_or_default())
            .context("its first line is no head of a bundle")?;
        ensure!(
            head.format == format(head.files),
            "it has format {}, this program reads {FORMAT}, and {FORMAT_WITH_FILES} with files",
            head.format
        );
        let mut lines = (2..).zip(lines);
        let mut entries: Vec<Entry> = Vec::new();
        for (number, line) in lines.by_ref().take(head.entries) {
            let entry = read_entry(line).with_context(|| format!("line {number}"))?;
            let ordered =
                entries.last().is_none_or(|last| order(&last.action) < order(&entry.action));
            ensure!(ordered, "line {number}: a record twice, or out of order");
            entries.push(entry);
        }
        ensure!(
            entries.len() == head.entries,
            "it has {} records and says {}",
            entries.len(),
            head.entries
        );
        let mut files: Vec<CarriedFile> = Vec::new();
        for (number, line) in lines {
            let file: CarriedFile = serde_json::from_str(line).with_context(|| {
                format!("line {number}: neither a record that its head counts nor a file")
            })?;
            ensure!(
                Digest::of(file.text.as_bytes()) == file.digest,
                "line {number}: the content of {} does not match its digest",
                file.name
            );
            let ordered = files.last().is_none_or(|last| last.name < file.name);
            ensure!(ordered, "line {number}: a file twice, or out of order");
            files.push(file);
        }
        ensure!(files.len() == head.files, "it has {} files and says {}", files.len(), head.files);
        Ok(Self { profile: head.profile, calibration: head.calibration, entries, files })
    }
}

fn order(action: &Action) -> (&str, Digest) {
    (action.kind.name(), action.key)
}

/// Most text that a file of so many bytes may hold.
fn text_bytes_max(bytes: usize) -> u64 {
    TEXT_BYTES_MAX.max(bytes as u64 * TEXT_OF_BYTES_MAX)
}

fn decompress(bytes: &[u8]) -> Result<String> {
    let Some((header, rest)) = bytes.split_first_chunk::<{ GZIP_HEADER.len() }>() else {
        bail!("it is no bundle: too short");
    };
    ensure!(*header == GZIP_HEADER, "it is no bundle: another header");
    let Some((comment, sealed)) = rest.split_first_chunk::<COMMENT_BYTES>() else {
        bail!("it is no bundle: too short");
    };
    ensure!(
        Digest::of(sealed).to_string().as_bytes() == comment,
        "it is damaged: its bytes do not match their digest"
    );
    let mut text = String::new();
    let max = text_bytes_max(bytes.len());
    let mut gzip = GzDecoder::new(bytes).take(max + 1);
    gzip.read_to_string(&mut text).context("it is no gzip of text")?;
    ensure!(text.len() as u64 <= max, "its text is longer than {max} bytes");
    ensure!(gzip.into_inner().into_inner().is_empty(), "something follows its end");
    Ok(text)
}

fn read_entry(line: &str) -> Result<Entry> {
    let Line { record, outputs } = serde_json::from_str(line).context("no entry of a bundle")?;
    let action = Action::from_json(record.get().as_bytes())
        .context("its record is damaged or of another version")?;
    ensure!(
        Digest::of_json(&action.key_inputs)? == action.key,
        "its key is not that of its key inputs"
    );
    let found: BTreeMap<String, Digest> =
        outputs.iter().map(|(name, text)| (name.clone(), Digest::of(text.as_bytes()))).collect();
    ensure!(found == action.outputs, "its outputs are not those that its record names");
    Ok(Entry { action, outputs })
}

impl Store {
    /// A record with those of its outputs that `keep` names, as it travels.
    ///
    /// # Errors
    /// When an output is gone or no text.
    pub fn export(&self, action: Action, keep: impl Fn(&str) -> bool) -> Result<Entry> {
        let action = action.leaving_out(keep);
        let mut outputs = BTreeMap::new();
        for (name, digest) in &action.outputs {
            let bytes = self
                .get(digest)?
                .with_context(|| format!("{name} of {} is gone; run again", action.key.short()))?;
            let text = String::from_utf8(bytes)
                .with_context(|| format!("{name} of {} is no text", action.key.short()))?;
            outputs.insert(name.clone(), text);
        }
        Ok(Entry { action, outputs })
    }

    /// Stores entries; returns how many were not, because the store has more of them: outputs
    /// that the bundle left out.
    pub fn import(&self, entries: &[Entry]) -> Result<usize> {
        let mut kept = 0;
        for Entry { action, outputs } in entries {
            let here = self.action(&action.kind, &action.key)?;
            if here.is_some_and(|here| action.left_out.keys().any(|n| here.outputs.contains_key(n)))
            {
                kept += 1;
                continue;
            }
            for text in outputs.values() {
                self.put(text.as_bytes())?;
            }
            self.put_action(action)?;
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
