//! Raw samples on their way to disk: one JSON object a line, gzip, and summed up on the way.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bench_core::{
    canonical::Digest, schema::RequestSample, summarize::Summarizer, workload::Workload,
};
use flate2::{Compression, GzBuilder, write::GzEncoder};

/// Writes the samples of one trial and sums them up. The file has its name only once it is whole.
#[derive(Debug)]
pub struct Recorder {
    summarizer: Summarizer,
    out: GzEncoder<BufWriter<File>>,
    partial: PathBuf,
    path: PathBuf,
    line: Vec<u8>,
}

impl Recorder {
    /// For a trial's load, into `KEY.jsonl.gz` of a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(folder: &Path, key: &Digest, load: &Workload) -> anyhow::Result<Self> {
        let path = folder.join(format!("{key}.jsonl.gz"));
        let partial = folder.join(format!("{key}.jsonl.gz.partial"));
        let file = File::create(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        // The fastest level, and no time or name in the header: equal samples, equal bytes.
        let out = GzBuilder::new().mtime(0).write(BufWriter::new(file), Compression::fast());
        Ok(Self { summarizer: Summarizer::new(load), out, partial, path, line: Vec::new() })
    }

    /// Takes one sample.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn push(&mut self, sample: &RequestSample) -> io::Result<()> {
        self.summarizer.push(sample);
        self.line.clear();
        serde_json::to_writer(&mut self.line, sample)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    /// Ends the file; gives what has been summed up, and the file's name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> anyhow::Result<(Summarizer, String)> {
        let Self { summarizer, out, partial, path, .. } = self;
        let write = || -> io::Result<()> {
            out.finish()?.into_inner()?.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((summarizer, name))
    }
}
