//! `compare`: baseline, defaults and candidate side by side, with verdicts, limits and targets, and
//! what to deploy.

use anyhow::{Result, anyhow};
use bench_core::{
    schema::{
        AnswersResult, BaselineResult, Candidate, ChooseResult, CompareResult, Comparison,
        ComprehensiveResult, Decision, Point, Role, Stopping,
    },
    stats::LEVEL,
};
use serde_json::{Value, json};

use super::{
    Context, StageResult, comprehensive, goals, hardware, read, read_if_upstream, written,
};
use analysis::{
    Configuration,
    answers::KnownAnswers,
    comparison,
    decision::{self, Judged},
    speculation, targets,
};
use dag::{Inputs, Outputs, Task};
use profile::{Stage, Trial, stage::COMPARE};
use report::{causes, findings};

impl StageResult for CompareResult {
    const STAGE: &'static Stage = &COMPARE;
}

pub struct Compare<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Compare<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        COMPARE.name
    }

    fn epoch(&self) -> u32 {
        COMPARE.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&COMPARE)
    }

    fn config(&self) -> Value {
        let loads = &self.context.profile.loads;
        let loads: Vec<_> = loads.iter().map(|load| json!([load.name, load.digest()])).collect();
        let reference = self.context.reference.map(serde_json::to_string);
        json!({
            "goals": goals(self.context.profile),
            "loads": loads,
            "spread": self.context.profile.spreads.hashed(),
            "margins_percent": self.context.profile.margins_percent,
            "reference": reference.map(|text| super::digest_of(&text.unwrap_or_default())),
        })
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let mut points = read::<BaselineResult>(inputs)?.points;
        let (mut judges, mut candidate, mut stopping) = (false, None, None);
        if let Some(mut judged) = read_if_upstream::<ComprehensiveResult>(inputs)? {
            comprehensive::with_all_starts(&mut points, &mut judged.points);
            points.extend(judged.points);
            (judges, candidate, stopping) = (true, judged.candidate, judged.stopping);
        }
        let reference = self.context.reference.map_or(&[][..], |file| &file.points);
        let lenders = self.context.lenders(inputs)?.and(&points);
        // Verdicts, limits and what is shown have one interval.
        let points = lenders.figures(&points);
        let level = stopping.as_ref().map_or(LEVEL, |stopping: &Stopping| stopping.level);
        let comparisons = comparison::comparisons(&points, &lenders, reference, profile, level);
        let hardware = hardware::hardware(profile, &self.context.identity(inputs)?);
        let server = targets::server(profile, &points, hardware);
        let rows = [&*comparisons, &comparison::baseline_goals(&points, &lenders, profile)];
        let decision = self.decide(inputs, &points, judges, candidate.as_ref(), rows)?;
        let targets = targets::outcomes(profile, &comparisons, &server, decision.deployed);
        let floors = targets::floors(profile, &comparisons, &server);
        let sweeps = self.context.sweep_points(inputs)?;
        let speculation = speculation::by_load(sweeps.iter().map(Vec::as_slice), &lenders, profile);
        let mut findings = Vec::new();
        let told =
            |role| points.iter().find(|p| p.role == role && p.load == profile.objective.load);
        if let (Some(before), Some(after)) = (told(Role::Default), told(Role::Tuned)) {
            let went = findings::where_time_went(before, after);
            findings.extend((!went.is_empty()).then_some(went));
        }
        let header = self.context.header(COMPARE.name, inputs)?;
        written(&CompareResult {
            header,
            decision,
            comparisons,
            targets,
            floors,
            speculation,
            findings,
            stopping,
        })
    }
}

impl Compare<'_> {
    fn decide(
        &self,
        inputs: &Inputs<'_>,
        points: &[Point],
        judges: bool,
        candidate: Option<&Candidate>,
        [rows, baseline_rows]: [&[Comparison]; 2],
    ) -> Result<Decision> {
        let profile = self.context.profile;
        let of = |role| Configuration::of(points, profile, |point: &Point| point.role == role);
        let (default, baseline, tuned) = (of(Role::Default), of(Role::Baseline), of(Role::Tuned));
        let refused =
            read_if_upstream::<ChooseResult>(inputs)?.map(|file| file.refused).unwrap_or_default();
        let answers: Option<AnswersResult> = read_if_upstream(inputs)?;
        let answers = KnownAnswers::from_result(profile, answers.as_ref());
        let candidate = candidate.filter(|candidate| answers.permits(&candidate.args));
        let judged = Judged {
            default: default.as_ref(),
            // Its figures stand beside; whether it may be deployed, its answers say too.
            baseline: baseline.as_ref().filter(|baseline| answers.permits(baseline.args)),
            candidate: candidate.zip(tuned.as_ref()),
            rows,
            baseline_rows,
            judges,
        };
        let decided = decision::decide(profile, &judged).map(|decision| Decision {
            unchecked: answers.unchecked(&decision.args),
            refused,
            ..decision
        });
        decided.ok_or_else(|| {
            let causes = causes(points);
            let of = if profile.endpoint().is_some() { "" } else { " at vLLM's defaults" };
            anyhow!(
                "no valid figure for {} on {}{of}, so nothing is compared or recommended: {}",
                profile.objective.metric,
                profile.objective.load,
                if causes.is_empty() {
                    "no trial tells the metric".to_owned()
                } else {
                    causes.join("; ")
                }
            )
        })
    }
}
