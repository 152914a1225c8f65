//! `reference`: stages, metrics and flags as Markdown, from their definitions.

use bench_core::metric::{Direction, METRICS, Margin, Metric};
use clap::ValueEnum as _;

use profile::{
    flags::{self, Answers, Flag, Memory},
    stage::{Runs, STAGES},
};
use report::format;

use crate::error::Code;

/// A profile is its own documentation: a test runs this one.
const WORKLOADS: &str = include_str!("../../../bench/profiles/workloads.toml");

/// How `compare` judges, and where it comes from.
const VERDICTS: &str = include_str!("verdicts.md");

/// What is recommended, and how a program learns of it.
const DECISIONS: &str = include_str!("decisions.md");

/// What limits a server.
const FLOORS: &str = include_str!("floors.md");

/// How a trial judges itself.
const CHECKS: &str = include_str!("checks.md");

/// What the formulas of the metrics have in common.
const LATENCIES: &str = "\
Latencies count from the intended time of sending. Failed requests rank behind all completed ones in
percentiles of TTFT, TPOT and E2E; a percentile among them is \"not reached\" and breaks every limit. Means and
rates are those of completed requests, and not reached or not sustained where more than 1 % failed. A
request is sent when its first byte goes out or a connection for it is asked for; the send lag is how much
later than intended that is, without the wait for one of `max_concurrency` places. An answer comes when
the kernel has received it (`SO_TIMESTAMPNS`), however late it is read. Tokens are the server's own
counts: the total at the end of a stream, spread over its events where those are fewer, or with
`usage = \"continuous\"` the count in each event. An event of several tokens is one gap of ITL and then
gaps of 0; the gaps between events are the inter-chunk latency. Percentiles are of all requests of a
trial. A conversation is one unit more: it is done when its last turn is.

Throughput counts the whole trial, its warm-up and its drain too. The steady state is what is left
without them, and it is found, not given: of 64 equal parts of the trial, the stretch whose mean token
rate has the smallest standard error (the truncation rule MSER of White, 1997, at both ends). Where that
is no more than half of the trial, or its two halves differ by more than a tenth and more than chance,
the rate never settled (a ramp, a burst that mostly drains) and the trial has no such figure; nor has one
of fewer than 64 requests. A load's `goodput = { ttft_ms = 500,
tpot_ms = 50, e2e_ms = 5000 }` says what one request must keep to be good; other limits are another
load, which is measured again.

";

/// The text of `docs/reference.md`; a test keeps the file fresh.
pub fn text() -> String {
    let mut out = String::from(
        "# Reference\n\nWritten by `cargo xtask reference` from the definitions in the code.\n",
    );
    out += "\n## Stages\n\nEach `[sweep.NAME]` of a profile is one more, after `baseline`; it writes \
            `NAME_optimization.json`\nunless the profile says otherwise.\n\n";
    let rows: Vec<_> = STAGES
        .iter()
        .filter(|stage| stage.runs != Runs::EachSweep)
        .map(|stage| vec![code(stage.name), stage.about.to_owned(), stage.files.join(", ")])
        .collect();
    out +=
        &format::table(&header(&["Stage", "What it does", "Files in `results/<profile>/`"]), &rows);

    out += "\n## Loads\n\nEvery arrival and every kind of request, as `bench/profiles/workloads.toml` has them.\n\n";
    out += &format!("```toml\n{WORKLOADS}```\n");

    out += "\n## Metrics\n\n";
    out += LATENCIES;
    out += &metrics();
    out += CHECKS;
    out += VERDICTS;
    out += &margins();
    out += DECISIONS;
    out += &errors();
    out += FLOORS;

    out += "\n## Flags\n\nAny flag of `vllm serve` may be swept. Of these more is known: their domain is \
            checked, and what\nvLLM refuses together is an error before anything starts. Beyond a value that did not start \
            for want of memory,\na sweep does not try those further out. What may change answers, and any flag that is \
            not here, is not recommended\nbefore the stage `answers` has judged it.\n\n";
    out += &known_flags();
    out
}

fn header(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|title| (*title).to_owned()).collect()
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Kinds of errors, with the exit code of each.
fn errors() -> String {
    let row = |kind: &Code| vec![code(&kind.name()), kind.exit_code().to_string(), kind.about()];
    let rows: Vec<_> = Code::value_variants().iter().map(row).collect();
    format!(
        "\n**Errors.** What ends a command before its work is done goes to standard error; with \
         `--message-format json` it\nis also the last line of standard output: `event` is `error`, `code` one of \
         these, which never changes its meaning.\nWith 2 nothing was changed. Where a gate decides \
         (`compare --gate`, `watch`), 5 stands for 1.\n\n{}",
        format::table(&header(&["Code", "> Exit code", "When"]), &rows)
    )
}

fn metrics() -> String {
    let row = |metric: &Metric| {
        let better = match metric.direction {
            Direction::Higher => "more",
            Direction::Lower => "less",
            Direction::Neither => format::NOTHING,
        };
        let unit = if metric.unit.is_empty() { format::NOTHING } else { metric.unit };
        let cells = [unit, better, metric.formula, metric.vllm].map(str::to_owned);
        [vec![code(metric.id)], cells.to_vec()].concat()
    };
    let rows: Vec<_> = METRICS.iter().map(row).collect();
    format::table(&header(&["Metric", "Unit", "Better", "Formula", "In vLLM"]), &rows)
}

fn margins() -> String {
    let row = |metric: &Metric| {
        let Margin { percent, floor } = metric.margin();
        let unit = if metric.is_share() { "points" } else { "%" };
        let floor = match floor {
            0.0 => format::NOTHING.to_owned(),
            floor => format!("{floor} {}", metric.unit).trim_end().to_owned(),
        };
        vec![code(metric.id), format!("{percent} {unit}"), floor]
    };
    let judged = METRICS.iter().filter(|metric| metric.direction != Direction::Neither);
    format::table(
        &header(&["Metric", ">Margin", ">At least"]),
        &judged.map(row).collect::<Vec<_>>(),
    )
}

fn known_flags() -> String {
    let row = |flag: &Flag| {
        let memory = match flag.more_needs_memory {
            Some(Memory::Increasing) => "larger values",
            Some(Memory::Decreasing) => "smaller values",
            Some(Memory::Between) => "beyond two edges",
            None => format::NOTHING,
        };
        let answers = match flag.answers {
            Answers::MayChange { why, .. } => why,
            Answers::Same => format::NOTHING,
        };
        let cells = [flag.default, memory, answers, flag.help].map(str::to_owned);
        [vec![code(flag.name)], cells.to_vec()].concat()
    };
    let rows: Vec<_> = flags::FLAGS.iter().map(row).collect();
    format::table(
        &header(&["Flag", "Default", "Needs more memory", "May change answers", "What it does"]),
        &rows,
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_is_fresh() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let found = std::fs::read_to_string(file).expect("docs/reference.md is readable");
        assert!(
            found == super::text(),
            "docs/reference.md is stale: cargo xtask reference > docs/reference.md"
        );
    }
}
