//! A bundle: action records and their outputs in one file, to carry them to another store.
//!
//! gzip of JSON lines, so that `zcat` shows it: a head, then an entry a line, in the order of kind
//! and key, then the files that it carries beside them, a line each. The comment in gzip's header is
//! the SHA-256 of all that follows it, since a decompressor does not look at every bit of a file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Take, Write},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::canonical::Digest;
use flate2::{Compression, GzBuilder, bufread::GzDecoder, write::GzEncoder};
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
/// Largest text in a bundle, decompressed: a small file may hold a very large one.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Largest one in a bundle that carries files.
pub const TEXT_BYTES_MAX_WITH_FILES: u64 = 512 << 20;
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

/// Most bytes of a bundle with so many files, and of its text.
fn bytes_max(files: usize) -> (usize, u64) {
    match files {
        0 => (BYTES_MAX, TEXT_BYTES_MAX),
        _ => (BYTES_MAX_WITH_FILES, TEXT_BYTES_MAX_WITH_FILES),
    }
}

/// Keeps the bytes of a bundle without files.
fn is_none(files: &usize) -> bool {
    *files == 0
}

/// An entry as written: the record in the store's own form, sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    record: Box<RawValue>,
    outputs: Cow<'a, BTreeMap<String, String>>,
}

/// The text under its seal.
pub fn packed(text: &str) -> Result<Vec<u8>> {
    Ok(pack(|gzip| Ok(gzip.write_all(text.as_bytes())?))?.0)
}

/// What is written under its seal, and how many bytes of text that was.
fn pack(write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<(Vec<u8>, u64)> {
    let comment = [b'0'; COMMENT_BYTES];
    let builder = GzBuilder::new().comment(comment.as_slice());
    let mut counted = Counted { gzip: builder.write(Vec::new(), Compression::best()), bytes: 0 };
    write(&mut counted)?;
    Ok((seal(counted.gzip.finish()?), counted.bytes))
}

/// Counts the text that it compresses.
struct Counted {
    gzip: GzEncoder<Vec<u8>>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.gzip.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gzip.flush()
    }
}

fn write_line(to: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    Ok(to.write_all(b"\n")?)
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
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|entry| order(&entry.action));
        let mut files: Vec<&CarriedFile> = self.files.iter().collect();
        files.sort_unstable_by_key(|file| &file.name);
        let (bytes, text_bytes) = pack(|text| {
            write_line(text, &head)?;
            for Entry { action, outputs } in entries {
                let record = serde_json::from_slice(&action.to_json())?;
                write_line(text, &Line { record, outputs: Cow::Borrowed(outputs) })?;
            }
            files.into_iter().try_for_each(|file| write_line(text, file))
        })?;
        let (max, text_max) = bytes_max(self.files.len());
        let instead = match self.files.is_empty() {
            true => "export a profile with fewer trials",
            false => "export without its files, and copy them separately",
        };
        ensure!(
            text_bytes <= text_max,
            "the bundle has {text_bytes} bytes of text, at most {text_max} are allowed: {instead}"
        );
        ensure!(
            bytes.len() <= max,
            "the bundle has {} bytes, at most {max} are allowed: {instead}",
            bytes.len()
        );
        Ok(bytes)
    }

    /// What a file holds, every digest checked.
    ///
    /// # Errors
    /// When anything in it is not what it says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut text = Text::of(bytes)?;
        let head: Head = serde_json::from_str(&text.line()?.unwrap_or_default())
            .context("its first line is no head of a bundle")?;
        ensure!(
            head.format == format(head.files),
            "it has format {}, this program reads {FORMAT}, and {FORMAT_WITH_FILES} with files",
            head.format
        );
        let (max, text_max) = bytes_max(head.files);
        ensure!(bytes.len() <= max, "it has more than {max} bytes");
        text.allow(text_max);
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < head.entries
            && let Some(line) = text.line()?
        {
            let number = text.lines;
            let entry = read_entry(&line).with_context(|| format!("line {number}"))?;
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
        while let Some(line) = text.line()? {
            let number = text.lines;
            let file: CarriedFile = serde_json::from_str(&line).with_context(|| {
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
        text.end()?;
        ensure!(files.len() == head.files, "it has {} files and says {}", files.len(), head.files);
        Ok(Self { profile: head.profile, calibration: head.calibration, entries, files })
    }
}

fn order(action: &Action) -> (&str, Digest) {
    (action.kind.name(), action.key)
}

/// The text of a bundle, line by line.
struct Text<'a> {
    rest: BufReader<Take<GzDecoder<&'a [u8]>>>,
    /// Most bytes of it.
    max: u64,
    /// How many lines were read.
    lines: usize,
}

impl<'a> Text<'a> {
    /// That of a file whose seal is right, so far as one without files may be long.
    fn of(bytes: &'a [u8]) -> Result<Self> {
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
        let max = TEXT_BYTES_MAX;
        let rest = BufReader::new(GzDecoder::new(bytes).take(max + 1));
        Ok(Self { rest, max, lines: 0 })
    }

    /// Allows so much text, which is not less than before.
    fn allow(&mut self, max: u64) {
        let gzip = self.rest.get_mut();
        gzip.set_limit(gzip.limit() + max - self.max);
        self.max = max;
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let read = self.rest.read_line(&mut line);
        let max = self.max;
        ensure!(self.rest.get_ref().limit() > 0, "its text is longer than {max} bytes");
        if read.context("it is no gzip of text")? == 0 {
            return Ok(None);
        }
        self.lines += 1;
        if line.ends_with('\n') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// After the last line.
    fn end(self) -> Result<()> {
        let rest = self.rest.into_inner().into_inner().into_inner();
        ensure!(rest.is_empty(), "something follows its end");
        Ok(())
    }
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
    Ok(Entry { action, outputs: outputs.into_owned() })
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
