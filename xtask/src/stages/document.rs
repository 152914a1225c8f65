//! `document`: the report, as Markdown and as a page, and the configuration to deploy.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{AnswersResult, ChooseResult, RequestSample},
    summarize::{Series, series},
};
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::{
    Context, Node, answers, capacity, comprehensive, pruning, read, read_if_upstream, tune,
    visualize,
};
use crate::calibration;
use analysis::{answers::KnownAnswers, lead};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    SAMPLES, Trial,
    role::{TrialRole, of_stage, split_stage},
    stage::{ANSWERS, CAPACITY, CHOOSE, COMPREHENSIVE, DOCUMENT, TUNE, VISUALIZE},
};
use report::TrialView;

/// The configuration to deploy, if any.
pub const RECOMMENDED: &str = "recommended.yaml";

/// Stages with a page of their own, which is a chapter at the report's end, and the page's name. Their
/// trials are named in their own results.
const CHAPTERS: [(&str, &str); 3] = [
    (ANSWERS.name, answers::MARKDOWN),
    (TUNE.name, tune::MARKDOWN),
    (CAPACITY.name, capacity::MARKDOWN),
];

/// Steps of a trial's time that the page draws.
const STEPS: usize = 60;

pub struct Document<'a> {
    pub context: &'a Context<'a>,
    /// Every stage of a profile: the report has their trials.
    pub stages: for<'c> fn(&'c Context<'c>) -> Vec<Node<'c>>,
}

impl Task for Document<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        DOCUMENT.name
    }

    fn epoch(&self) -> u32 {
        DOCUMENT.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&DOCUMENT)
    }

    fn config(&self) -> Value {
        let mut config = self.context.profile.hashed();
        if let Some(calibration) = &self.context.calibration {
            config["calibration"] = calibration::digest(calibration).to_string().into();
        }
        config
    }

    fn templates(&self) -> BTreeMap<String, Digest> {
        report::template_digests()
    }

    /// Every trial of the stages that the report tells of, under the first that asks for it.
    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let needs = self.needs();
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for task in (self.stages)(self.context) {
            let has_chapter = CHAPTERS.iter().any(|(stage, _)| *stage == task.name());
            if !has_chapter && needs.iter().any(|need| need == task.name()) {
                let leaves = match task.name() {
                    // Some of its trials are asked for by what others gave.
                    name if name == COMPREHENSIVE.name => {
                        comprehensive::Comprehensive { context: self.context }.shown(inputs)?
                    }
                    name if name == CHOOSE.name => {
                        let tested = read::<ChooseResult>(inputs)?.tested;
                        pruning::shown(self.context, inputs, &tested)?
                    }
                    _ => task.leaves(inputs)?,
                };
                let leaves = leaves.into_iter();
                all.extend(
                    leaves
                        .filter(|leaf| seen.insert(leaf.key))
                        .map(|leaf| Leaf { role: of_stage(task.name(), &leaf.role), ..leaf }),
                );
            }
        }
        Ok(all)
    }

    fn also_reads(&self) -> &[&str] {
        &[SAMPLES]
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let results = visualize::read_all(self.context, inputs)?;
        let (choose, capacity, confirmation) =
            (read_if_upstream(inputs)?, read_if_upstream(inputs)?, read_if_upstream(inputs)?);
        let names = inputs.file_names(VISUALIZE.name);
        let plots: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".svg").map(str::to_owned)).collect();
        let trials = self.trials(inputs)?;
        let answers: Option<AnswersResult> = read_if_upstream(inputs)?;
        let answers = KnownAnswers::from_result(self.context.profile, answers.as_ref());
        let comprehensive = results.comprehensive.iter().flat_map(|file| &file.points);
        let judged: Vec<_> = results.baseline.points.iter().chain(comprehensive).cloned().collect();
        let sweeps: Vec<_> = results.sweeps.iter().map(|sweep| sweep.points.as_slice()).collect();
        let lead = lead::beside(
            &results.comparison,
            &judged,
            &sweeps,
            &results.lenders,
            &answers,
            self.context.profile,
        );
        let report_inputs = report::Inputs {
            profile: self.context.profile,
            profile_digest: &self.context.profile.digest(),
            identity: &read(inputs)?,
            baseline: &results.baseline,
            sweeps: &results.sweeps,
            choose: choose.as_ref(),
            comprehensive: results.comprehensive.as_ref(),
            comparison: &results.comparison,
            lead: lead.as_ref(),
            capacity: capacity.as_ref(),
            confirmation: confirmation.as_ref(),
            reference: self.context.reference,
            calibration: self.context.calibration.as_ref(),
            lenders: &results.lenders,
            trials: &trials,
            plots: &plots,
        };
        let mut markdown = report::markdown(&report_inputs)?;
        let mut drawings: Vec<(String, String)> = Vec::new();
        for name in &plots {
            drawings.push(drawing(inputs, VISUALIZE.name, format!("{name}.svg"))?);
        }
        for (stage, page) in CHAPTERS.iter().filter(|(stage, _)| inputs.has(stage)) {
            let text = String::from_utf8(inputs.file(stage, page)?)?;
            markdown += &report::chapter(&text);
            let own = inputs.file_names(stage).filter(|name| name.ends_with(".svg"));
            for name in own.map(str::to_owned).collect::<Vec<_>>() {
                drawings.push(drawing(inputs, stage, name)?);
            }
        }
        let page = report::page(&markdown, &drawings, &trials)?;
        let mut outputs = Outputs::from([
            ("OPTIMIZATION_RESULTS.md".to_owned(), markdown.into_bytes()),
            ("report.html".to_owned(), page.into_bytes()),
        ]);
        if let Some(yaml) = report::recommended_yaml(&report_inputs)? {
            outputs.insert(RECOMMENDED.to_owned(), yaml.into_bytes());
        }
        Ok(outputs)
    }
}

impl Document<'_> {
    fn trials(&self, inputs: &Inputs<'_>) -> Result<Vec<TrialView>> {
        let view = |leaf: Leaf<Trial>| {
            let (stage, TrialRole { setting, load, .. }) =
                split_stage(&leaf.role).expect("`leaves` gave it this role");
            // The trials of `confirm` are number 0 there, whichever start they stand for.
            let start = leaf.what.replicate;
            let samples = if start == 0 { inputs.leaf_output(&leaf.role, SAMPLES)? } else { None };
            Ok(TrialView {
                key: leaf.key,
                stage: stage.to_owned(),
                settings: setting,
                load,
                start,
                record: inputs.leaf(&leaf.role)?,
                series: samples.map(|bytes| over_time(&bytes)).transpose()?.flatten(),
            })
        };
        self.leaves(inputs)?.into_iter().map(view).collect()
    }
}

/// A plot by its file name, with its text.
fn drawing(inputs: &Inputs<'_>, stage: &str, file: String) -> Result<(String, String)> {
    let text = String::from_utf8(inputs.file(stage, &file)?)?;
    Ok((file, text))
}

fn over_time(samples: &[u8]) -> Result<Option<Series>> {
    let lines = BufReader::new(MultiGzDecoder::new(samples)).lines();
    let read = |line: std::io::Result<String>| {
        serde_json::from_str::<RequestSample>(&line?).context("a raw sample is not one")
    };
    Ok(series(&lines.map(read).collect::<Result<Vec<_>>>()?, STEPS))
}
