//! `data` of a `[[load]]`: a file of requests, read once here so that its mistakes are shown
//! before anything starts, and a second time by whoever sends them.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use bench_core::{
    dataset::{self, Row},
    decimal::Decimal,
    schema::{DataFormat, DataSpec, Size, TokenRange},
};

use super::{
    arrival::DURATION_S_MAX,
    read::{At, Item, absent_or_right},
};

pub(super) const REQUESTS_MAX: u32 = 10_000_000;

pub(super) const FORMATS: [(&str, DataFormat); 5] = [
    ("mooncake", DataFormat::Mooncake),
    ("chatlog", DataFormat::ChatLog),
    ("custom", DataFormat::Custom),
    ("sharegpt", DataFormat::ShareGpt),
    ("weka", DataFormat::Weka),
];

/// A file and what is in the part of it that the load takes.
pub(super) struct Data {
    pub(super) spec: DataSpec,
    pub(super) path: PathBuf,
    /// The load's size, which is the file's where the load gives none.
    pub(super) size: At<Size>,
    /// Between what the lengths of its prompts and outputs lie.
    pub(super) input_tokens: TokenRange,
    pub(super) output_tokens: TokenRange,
    /// Most tokens in and out of a request; those of a text are not known before a tokenizer has
    /// seen it.
    pub(super) longest: u64,
    /// Requests per second by the file's own times, where it has some.
    pub(super) per_s: Option<Decimal>,
}

/// Reads the file. `folder` is the profile's, to which names are relative; `output_tokens` are the
/// load's, in place of the file's.
pub(super) fn read(
    item: &Item<'_>,
    folder: &Path,
    size: Option<At<Size>>,
    output_tokens: Option<TokenRange>,
) -> Option<Data> {
    let mut table = item.table("`data`")?;
    let file = table.require("file", "file = its name, relative to the profile");
    let format = table.require(
        "format",
        "format = \"mooncake\", \"chatlog\", \"custom\", \"sharegpt\" or \"weka\"",
    );
    let think_s_max =
        table.get("think_time_s_max").map(|item| item.positive_decimal(DURATION_S_MAX));
    table.finish(|_| None);
    let think_ms_max =
        absent_or_right(think_s_max)?.map(|seconds| seconds.millionths().unsigned_abs() / 1_000);
    let (file, format) = (file?, format?.choice(&FORMATS)?.value);
    let name = file.text()?.value;
    let path = std::path::absolute(folder.join(name)).ok()?;
    // Opening a pipe waits for a writer, and what it yields is gone after one reading.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        file.report(
            format!("{name} is no regular file"),
            "write the requests into one, and name it",
        );
        return None;
    }
    let source = File::open(&path)
        .inspect_err(|error| {
            file.report(
                format!("cannot read {name}: {error}"),
                "names are relative to the profile; a bundle brings it if it was exported --with-files, else copy it \
                 from where the profile was measured",
            );
        })
        .ok()?;
    let rows_max = match size.as_ref().map(|size| size.value) {
        Some(Size::Requests(count)) => u64::from(count),
        _ => u64::MAX,
    };
    let mut extent = Extent { rows_max, output_tokens, ..Extent::default() };
    let digest = dataset::read(format, source, &mut |row| extent.take(&row))
        .inspect_err(|error| {
            file.report(format!("{name}: {error}"), "fix the file, or name another `format`");
        })
        .ok()?;
    let rows = extent.enough(&file, name, size.as_ref())?;
    Some(Data {
        spec: DataSpec { format, digest, output_tokens, think_ms_max },
        path,
        size: size.unwrap_or(At { value: Size::Requests(rows), span: item.span() }),
        input_tokens: extent.input?,
        output_tokens: output_tokens.or(extent.output)?,
        longest: if format.is_text() { 0 } else { extent.longest },
        per_s: extent.per_s().filter(|_| format.has_times()),
    })
}

/// What is to be known of the rows that a load takes.
#[derive(Default)]
struct Extent {
    rows_max: u64,
    output_tokens: Option<TokenRange>,
    rows: u64,
    input: Option<TokenRange>,
    output: Option<TokenRange>,
    longest: u64,
    /// Times of the first row and the last.
    times_ns: Option<(u64, u64)>,
    /// The first one, from 1, without a length of its output.
    lengthless: Option<u64>,
}

impl Extent {
    /// The number of rows, if the load can be made of them; reports it where not.
    fn enough(&self, file: &Item<'_>, name: &str, size: Option<&At<Size>>) -> Option<u32> {
        let rows = u32::try_from(self.rows).ok().filter(|rows| (1..=REQUESTS_MAX).contains(rows));
        let Some(rows) = rows else {
            let expected = format!("expected 1 to {REQUESTS_MAX}");
            file.report(format!("{name} has {} requests", self.rows), expected);
            return None;
        };
        if let Some(At { value: Size::Requests(asked), span }) = size
            && *asked > rows
        {
            file.report_at(
                span.clone(),
                format!("{asked} requests of a file that has {rows}"),
                format!("expected at most {rows}: a prompt sent twice finds itself in the cache"),
            );
            return None;
        }
        if let Some(row) = self.lengthless {
            file.report(
                format!("request {row} of {name} says no length of its output"),
                "add output_tokens = N or [min, max] to the load",
            );
            return None;
        }
        Some(rows)
    }

    /// Mean rate of the rows; `None` where they come at once, or too slowly for a decimal.
    fn per_s(&self) -> Option<Decimal> {
        let (first_ns, last_ns) = self.times_ns?;
        let gaps = u128::from(self.rows.min(self.rows_max).saturating_sub(1));
        let millionths = (gaps * 1_000_000_000_000_000).checked_div((last_ns - first_ns).into())?;
        let rate = i64::try_from(millionths).ok().filter(|rate| *rate > 0)?;
        Some(Decimal::from_millionths(rate))
    }

    fn take(&mut self, row: &Row) {
        self.rows += 1;
        if self.rows > self.rows_max {
            return;
        }
        self.times_ns = Some((self.times_ns.map_or(row.at_ns, |(first, _)| first), row.at_ns));
        let output = self.output_tokens.map(|range| range.max).or(row.output_tokens);
        if output.is_none() {
            self.lengthless.get_or_insert(self.rows);
        }
        widen(&mut self.input, row.input_tokens);
        output.into_iter().for_each(|tokens| widen(&mut self.output, tokens));
        let longest = u64::from(row.input_tokens) + u64::from(output.unwrap_or(0));
        self.longest = self.longest.max(longest);
    }
}

fn widen(range: &mut Option<TokenRange>, tokens: u32) {
    let found = range.get_or_insert(TokenRange { min: tokens, max: tokens });
    *found = TokenRange { min: found.min.min(tokens), max: found.max.max(tokens) };
}
