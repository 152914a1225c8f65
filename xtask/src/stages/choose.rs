//! `choose`: the settings worth being judged, from the sweeps; of the first one only flags that do something
//! beside the others ([`pruning`]).

use anyhow::{Result, anyhow};
use bench_core::schema::{
    AnswerRefusal, AnswersResult, Args, Candidate, Choice, ChooseResult, Point, SweepResult,
    TuneResult,
};
use serde_json::{Value, json};

use super::{
    Context, StageResult, goals,
    pruning::{Pruned, Stored, fits, pruned},
    read_if_upstream,
    swept::swept,
    tune, written,
};
use analysis::{
    answers::KnownAnswers,
    choice::{self, Swept},
    lenders::Lenders,
    pruning,
};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    Profile, Stage, Trial, role,
    stage::{CHOOSE, COMPREHENSIVE},
};
use report::words;

impl StageResult for ChooseResult {
    const STAGE: &'static Stage = &CHOOSE;
}

pub struct Choose<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Choose<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        CHOOSE.name
    }

    fn epoch(&self) -> u32 {
        CHOOSE.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&CHOOSE)
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        let mut config = goals(profile);
        config["spread"] = profile.spreads.hashed();
        if self.tests() {
            config["tested_starts"] = pruning::starts(profile).into();
            config["margins_percent"] = json!(profile.margins_percent);
            config["loads"] = json!(tune::loads(self.context));
        }
        config
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        self.further_leaves(inputs)
    }

    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let files = Files::read(self.context, inputs)?;
        let (candidates, _) = self.named(&files);
        Ok(self.tested(inputs, candidates)?.err().unwrap_or_default())
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let files = Files::read(self.context, inputs)?;
        let sweeps = files.sweeps(profile);
        let (named, refused) = self.named(&files);
        let tested = self.tested(inputs, named)?;
        let (candidates, tested) = tested.map_err(|_| anyhow!("trials of the test are missing"))?;
        let Files { sweeps: files, searched, .. } = &files;
        let proposed = files.iter().filter_map(|(name, file)| Some((*name, file.choice.as_ref()?)));
        let proposed = searched.iter().map(|file| (choice::TUNE, &file.choice)).chain(proposed);
        let mut findings: Vec<String> =
            proposed.map(|(name, choice)| format!("{name}: {}", choice.reason)).collect();
        findings.extend(refused.iter().map(|refused| report::refusal(refused, profile)));
        let dropped = candidates.first().into_iter().flat_map(|first| &first.dropped);
        findings.extend(dropped.map(|reason| words::dropped(reason, profile)));
        let is_well = |swept: &Swept<'_>| {
            swept.default.as_ref().is_none_or(|default| choice::is_default_well(Some(default)))
        };
        let first = candidates.first();
        let first = first.filter(|first| first.for_objective || !sweeps.iter().all(is_well));
        let choice = match first {
            None => Choice {
                label: role::DEFAULT.to_owned(),
                args: Args::new(),
                reason: "no value promises more than vLLM's defaults".to_owned(),
            },
            Some(first) => Choice {
                label: role::TUNED.to_owned(),
                args: first.args.clone(),
                reason: words::flags(&first.flags, profile),
            },
        };
        let header = self.context.header(CHOOSE.name, inputs)?;
        written(&ChooseResult { header, choice, candidates, tested, refused, findings })
    }
}

impl Choose<'_> {
    /// Whether the candidate is judged afterwards, so that what its flags do is asked.
    fn tests(&self) -> bool {
        self.context.has(&COMPREHENSIVE) && pruning::starts(self.context.profile) > 0
    }

    /// The candidates as the sweeps name them, and what they do not name for its answers.
    fn named(&self, files: &Files<'_>) -> (Vec<Candidate>, Vec<AnswerRefusal>) {
        let profile = self.context.profile;
        let answers = files.answers(profile);
        let searched = files.searched.as_ref();
        let tuned = searched.map(|file| swept(choice::TUNE, &file.points, &files.lenders, profile));
        let mut all = files.sweeps(profile);
        all.extend(tuned);
        let refused = answers.withhold(&mut all);
        let tuned = searched.is_some().then(|| all.pop()).flatten();
        let fits = |args: &Args| fits(args, &answers);
        (choice::candidates(&all, tuned.as_ref(), profile, &fits), refused)
    }

    /// The candidates, of the first one the flags that do something, and the points that show it; or the
    /// trials that it takes next.
    fn tested(
        &self,
        inputs: &Inputs<'_>,
        mut candidates: Vec<Candidate>,
    ) -> Result<Stored<(Vec<Candidate>, Vec<Point>)>> {
        let Some(first) = candidates.first().filter(|_| self.tests()) else {
            return Ok(Ok((candidates, Vec::new())));
        };
        Ok(pruned(self.context, inputs, first)?.map(|Pruned { candidate, tested }| {
            candidates.remove(0);
            candidates.retain(|other| other.args != candidate.args);
            candidates.insert(0, candidate);
            (candidates, tested)
        }))
    }
}

/// What `choose` reads.
struct Files<'a> {
    sweeps: Vec<(&'a str, SweepResult)>,
    searched: Option<TuneResult>,
    answers: Option<AnswersResult>,
    /// What was swept and searched, and `[spread]`: nothing by which a setting is judged afterwards.
    lenders: Lenders,
}

impl<'a> Files<'a> {
    fn read(context: &'a Context<'_>, inputs: &Inputs<'_>) -> Result<Self> {
        let mut sweeps: Vec<(&str, SweepResult)> = Vec::new();
        for sweep in &context.profile.sweeps {
            sweeps.push((&sweep.name, inputs.json(&sweep.name, &sweep.file)?));
        }
        let mut searched: Option<TuneResult> = read_if_upstream(inputs)?;
        let lenders = context.lenders(inputs)?;
        let lenders = lenders.and(searched.iter().flat_map(|file| &file.points));
        let swept = sweeps.iter_mut().map(|(_, file)| &mut file.points);
        for points in swept.chain(searched.as_mut().map(|file| &mut file.points)) {
            *points = lenders.figures(points);
        }
        Ok(Self { sweeps, searched, answers: read_if_upstream(inputs)?, lenders })
    }

    /// What is known of the settings' answers.
    fn answers<'k>(&'k self, profile: &'k Profile) -> KnownAnswers<'k> {
        KnownAnswers::from_result(profile, self.answers.as_ref())
    }

    fn sweeps(&self, profile: &Profile) -> Vec<Swept<'_>> {
        self.sweeps
            .iter()
            .map(|(name, file)| swept(name, &file.points, &self.lenders, profile))
            .collect()
    }
}
