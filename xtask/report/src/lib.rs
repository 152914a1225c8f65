//! From results to `OPTIMIZATION_RESULTS.md`, `report.html` and `recommended.yaml`.
//!
//! Rust counts and formats, the templates beside this file hold the words: changing a sentence
//! needs no Rust. Pure: the same results yield the same bytes.

mod calibration;
mod capacity;
mod deploy;
pub mod findings;
mod first;
#[cfg(test)]
mod fixture;
pub mod format;
mod html;
mod load_generator;
#[cfg(test)]
mod outcomes;
pub mod plots;
mod provenance;
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
use bench_core::{
    canonical::Digest,
    schema::{Calibration, ResultFile},
};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};

pub use calibration::CalibrationPage;
pub use capacity::{CapacityPage, Configuration, CurvePoint};
pub use deploy::{Recommended, recommended, serve_command};
pub use html::{TrialView, page};
use profile::Profile;
pub use provenance::distinct;
pub use starts::total as engine_time;
pub use tuning::TuningPage;
pub use verdicts::{Page, Side};
use view::View;
pub use words::causes;

const REPORT: (&str, &str) =
    ("OPTIMIZATION_RESULTS.md.j2", include_str!("OPTIMIZATION_RESULTS.md.j2"));
const RECOMMENDED: (&str, &str) = ("recommended.yaml.j2", include_str!("recommended.yaml.j2"));

/// What the report is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The profile: objective, limits, loads, the engine's arguments.
    pub profile: &'a Profile,
    /// Digest of the profile as it is used.
    pub profile_digest: &'a Digest,
    /// `identity.json`, by `provision`.
    pub identity: &'a ResultFile,
    /// Baseline and defaults on all loads.
    pub baseline: &'a ResultFile,
    /// One a sweep, in the order of the profile.
    pub sweeps: &'a [ResultFile],
    /// The combined choice, if that stage ran.
    pub choose: Option<&'a ResultFile>,
    /// The chosen settings on all loads, if that stage ran.
    pub comprehensive: Option<&'a ResultFile>,
    /// Metrics side by side, and the targets.
    pub comparison: &'a ResultFile,
    /// What rates the settings sustain within the limits, if that stage ran.
    pub capacity: Option<&'a ResultFile>,
    /// The start from `recommended.yaml`, if that stage ran.
    pub confirmation: Option<&'a ResultFile>,
    /// Figures of another system, of other hardware and load, where the profile names some.
    pub reference: Option<&'a ResultFile>,
    /// The load generator on the host that measured, where it measured over HTTP.
    pub calibration: Option<&'a Calibration>,
    /// Every trial of the stages above.
    pub trials: &'a [TrialView],
    /// Names of the plots that were drawn, without ending; they lie beside the report.
    pub plots: &'a [String],
}

/// `OPTIMIZATION_RESULTS.md`.
///
/// # Errors
/// When the template does not match what it is given; a test renders every part of it.
pub fn markdown(inputs: &Inputs<'_>) -> Result<String> {
    Ok(one_blank_line(&render(REPORT, &View::new(inputs))?))
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
