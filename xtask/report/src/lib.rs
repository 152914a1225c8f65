//! From results to `OPTIMIZATION_RESULTS.md`, `report.html` and `recommended.yaml`.
//!
//! Rust counts and formats, the templates beside this file hold the words: changing a sentence
//! needs no Rust. Pure: the same results yield the same bytes.

mod answers;
mod calibration;
mod capacity;
mod deploy;
pub mod findings;
mod first;
#[cfg(test)]
mod fixture;
mod fleet;
pub mod format;
mod html;
mod inputs;
mod load_generator;
#[cfg(test)]
mod outcomes;
pub mod plots;
mod provenance;
mod speculation;
mod starts;
mod sweeps;
mod tables;
mod targets;
pub mod terminal;
#[cfg(test)]
mod tests;
mod tuning;
mod verdicts;
mod view;
pub mod words;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bench_core::canonical::Digest;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};

pub use answers::{AnswersPage, refusal};
pub use calibration::CalibrationPage;
pub use capacity::{CapacityPage, Configuration, CurvePoint};
pub use deploy::{Recommended, recommended, serve_command};
pub use html::{TrialView, page};
pub use inputs::Inputs;
pub use provenance::distinct;
pub use starts::total as engine_time;
pub use tables::reference;
pub use tuning::TuningPage;
pub use verdicts::{Page, Side};
use view::View;
pub use words::causes;

const REPORT: (&str, &str) =
    ("OPTIMIZATION_RESULTS.md.j2", include_str!("OPTIMIZATION_RESULTS.md.j2"));
const RECOMMENDED: (&str, &str) = ("recommended.yaml.j2", include_str!("recommended.yaml.j2"));

/// `OPTIMIZATION_RESULTS.md`.
///
/// # Errors
/// When the template does not match what it is given; a test renders every part of it.
pub fn markdown(inputs: &Inputs<'_>) -> Result<String> {
    Ok(one_blank_line(&render(REPORT, &View::new(inputs))?))
}

/// A page of Markdown as a chapter of the report: its headings one level down.
pub fn chapter(page: &str) -> String {
    let mut out = String::new();
    let mut is_code = false;
    for line in page.lines() {
        is_code ^= line.starts_with("```");
        let mark = if line.starts_with('#') && !is_code { "#" } else { "" };
        out += &format!("\n{mark}{line}");
    }
    out.push('\n');
    out
}

/// `recommended.yaml`, which `vllm serve --config` reads: where it comes from in comments, then
/// the engine's arguments and the chosen ones; `None` where nothing is recommended.
///
/// # Errors
/// As [`markdown`].
pub fn recommended_yaml(inputs: &Inputs<'_>) -> Result<Option<String>> {
    if recommended(inputs.profile, inputs.comparison).is_none() {
        return Ok(None);
    }
    render(RECOMMENDED, &View::new(inputs)).map(Some)
}

/// Digests of the templates, for the key of the stage.
pub fn template_digests() -> BTreeMap<String, Digest> {
    [REPORT, RECOMMENDED]
        .into_iter()
        .map(|(name, source)| (name.to_owned(), Digest::of(source.as_bytes())))
        .chain([("page".to_owned(), html::template_digest())])
        .collect()
}

fn render((name, source): (&str, &str), view: &View) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()?,
    );
    environment.add_filter("list", |items: Vec<String>| format::list(&items));
    environment.add_filter("sentence", |text: &str| format::sentence(text));
    environment.add_filter("table", |rows: Vec<Vec<String>>, header: &str| {
        let header: Vec<_> = header.split('|').map(|title| title.trim().to_owned()).collect();
        format::table(&header, &rows)
    });
    // Columns of settings, to be put behind a table's first ones.
    environment.add_filter("header", |columns: Vec<String>| {
        columns.iter().map(|name| format!(" | >{name}")).collect::<String>()
    });
    environment
        .template_from_named_str(name, source)
        .and_then(|template| template.render(Serde(view)))
        .with_context(|| format!("template {name} does not match the report's model"))
}

/// The text with runs of blank lines made one, so that a template may part its blocks freely.
fn one_blank_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = true;
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && blank) {
            out.push_str(line);
            out.push('\n');
        }
        blank = line.is_empty();
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}
