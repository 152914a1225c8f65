//! What a person sees while a suite runs, and at its end.

mod table;

use std::{
    collections::BTreeSet,
    io::{IsTerminal as _, Write as _},
    sync::Mutex,
    time::Duration,
};

use bench_core::{
    canonical::Digest,
    schema::{Progress, ResultFile},
};

use crate::{
    config::Profile,
    dag::{Dag, Leaf, State},
    engines::Engine,
    history::History,
    measure,
    stages::Trial,
};
pub use table::{closing_table, verdicts};

/// Where lines go. Only a terminal gets the line that rewrites itself.
pub struct Ui {
    live: bool,
    /// Load point shown now, so that its line can be cleared.
    shown: Mutex<bool>,
}

impl Ui {
    pub fn new() -> Self {
        Self { live: std::io::stderr().is_terminal(), shown: Mutex::new(false) }
    }

    /// Prints a line that stays. A reader that went away does not stop the run.
    fn line(&self, text: &str) {
        self.clear();
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn clear(&self) {
        let mut shown = self.shown.lock().expect("no thread panics with the lock");
        if *shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
            *shown = false;
        }
    }

    pub fn header(&self, engine: &str, plan: &str) {
        self.line(&format!(" engine   {engine}"));
        self.line(&format!(" plan     {plan}"));
    }

    /// A step of provisioning that takes long.
    pub fn step(&self, text: &str) {
        self.line(&format!(" …        {text}"));
    }

    /// What `--dry-run` shows: each stage and what it lacks.
    pub fn dry_run(&self, dag: &Dag<'_, Trial>) {
        for (task, state) in dag.iter() {
            let (mark, what) = match state {
                State::Done(_) => ("✓", "cached".to_owned()),
                State::Runnable(..) => ("→", "run".to_owned()),
                State::Wanting(leaves) => {
                    let launches = measure::launches(leaves.clone());
                    ("→", format!("measure {} and run", counts(leaves.len(), launches.len())))
                }
                State::Waiting(needs) => ("…", format!("after {}", needs.join(", "))),
                State::Failed(why) => ("✗", why.clone()),
                State::Blocked(need) => ("✗", format!("needs {need}")),
            };
            self.line(&stage_line(mark, task.name(), &what, ""));
        }
        self.line(" dry run: nothing was changed");
    }

    pub fn cached(&self, name: &str, state: &State<Trial>) {
        if matches!(state, State::Done(_)) {
            self.line(&stage_line("✓", name, "cached", ""));
        }
    }

    pub fn ran(&self, name: &str, state: &State<Trial>, summary: &str) {
        match state {
            State::Done(action) => {
                let what = match action.leaves.len() {
                    0 => "done".to_owned(),
                    n => counts(n, launch_count(action.leaves.keys())),
                };
                self.line(&stage_line("✓", name, &what, summary));
            }
            state => self.not_done(name, state),
        }
    }

    pub fn not_done(&self, name: &str, state: &State<Trial>) {
        match state {
            State::Failed(why) => self.line(&stage_line("✗", name, "failed", why)),
            State::Blocked(need) => {
                self.line(&stage_line("✗", name, "not run", &format!("needs {need}")));
            }
            State::Done(_) => {}
            State::Waiting(_) | State::Wanting(_) | State::Runnable(..) => {
                self.line(&stage_line("✗", name, "not run", ""));
            }
        }
    }

    /// Says on the live line how far the stage is that waits for these trials.
    pub fn stored(&self, dag: &Dag<'_, Trial>, keys: &[Digest]) {
        if let Some((name, role, done, all)) = keys.first().and_then(|key| find(dag, key)) {
            self.live(&format!(" {name:<20}  {done} of {all}   {role}"));
        }
    }

    pub fn progress(&self, dag: &Dag<'_, Trial>, progress: &Progress) {
        if let Some((name, role, done, all)) = find(dag, &progress.key) {
            self.live(&format!(
                " {name:<20}  {done} of {all}   {role}   running {}  waiting {}  KV {:.0} %  {:.0} tok/s",
                progress.running,
                progress.waiting,
                progress.kv_cache_percent,
                progress.output_tokens_per_s,
            ));
        }
    }

    /// Lists trials that a run without an engine would need.
    pub fn absent(&self, trials: &[&Leaf<Trial>]) {
        self.line(&format!(
            " missing  {} that the store does not have:",
            number_of(trials.len(), "trial", "trials")
        ));
        for leaf in trials {
            self.line(&format!("   {}  {}", leaf.key.short(), leaf.role));
        }
    }

    fn live(&self, text: &str) {
        if self.live {
            let mut shown = self.shown.lock().expect("no thread panics with the lock");
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
            *shown = true;
        }
    }

    pub fn closing_table(&self, profile: &Profile, comparison: &ResultFile) {
        self.line("");
        self.line(closing_table(profile, comparison).trim_end());
    }

    pub fn ending(&self, profile: &Profile, elapsed: Duration, simulated: bool) {
        let name = &profile.name;
        if profile.stages.iter().any(|stage| stage == crate::stages::DOCUMENT) {
            self.line(&format!(
                " report   results/{name}/OPTIMIZATION_RESULTS.md   recommended  results/{name}/recommended.yaml"
            ));
        }
        if simulated {
            self.line(" simulated. With an NVIDIA GPU here: cargo xtask suite --profile vllm-cuda");
        }
        self.line(&format!(" took     {:.2} s", elapsed.as_secs_f64()));
    }

    pub fn orphans(&self, count: usize) {
        let them = if count == 1 { "a process group" } else { "process groups" };
        self.line(&format!(" ended    {them} left behind by a run that was killed ({count})"));
    }

    pub fn interrupted(&self) {
        self.line(" interrupted: finished trials are kept; the same command goes on from there");
    }
}

/// Number of launches behind roles such as `256/burst/0`: distinct label and replicate.
fn launch_count<'a>(roles: impl Iterator<Item = &'a String>) -> usize {
    let launches: BTreeSet<(&str, &str)> = roles
        .filter_map(|role| {
            let (rest, replicate) = role.rsplit_once('/')?;
            Some((rest.rsplit_once('/')?.0, replicate))
        })
        .collect();
    launches.len()
}

fn counts(trials: usize, launches: usize) -> String {
    format!(
        "{}, {}",
        number_of(trials, "trial", "trials"),
        number_of(launches, "launch", "launches")
    )
}

fn number_of(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn stage_line(mark: &str, name: &str, what: &str, note: &str) -> String {
    format!(" {mark} {name:<20}  {what:<28} {note}").trim_end().to_owned()
}

/// The stage that waits for a trial: its name, the trial's role, trials there and in all.
fn find<'d>(dag: &'d Dag<'_, Trial>, key: &Digest) -> Option<(&'d str, String, usize, usize)> {
    dag.iter().find_map(|(task, state)| {
        let State::Wanting(missing) = state else { return None };
        let leaf = missing.iter().find(|leaf| leaf.key == *key)?;
        let all = dag.leaves(task.name())?.len();
        Some((task.name(), leaf.role.clone(), all - missing.len(), all))
    })
}

/// `12 stages, 74 trials on 13 launches: 4 stages cached, 52 trials on 9 launches to run, about 14 s`
pub fn plan_line(dag: &Dag<'_, Trial>, engine: &dyn Engine, history: &History) -> String {
    let (mut stages, mut cached) = (0, 0);
    let mut known: std::collections::BTreeMap<Digest, _> = std::collections::BTreeMap::new();
    for (task, state) in dag.iter() {
        stages += 1;
        cached += usize::from(matches!(state, State::Done(_)));
        let leaves = dag.leaves(task.name()).unwrap_or_default();
        known.extend(leaves.iter().map(|leaf| (leaf.key, leaf.clone())));
    }
    let trials = known.len();
    let launches = measure::launches(known.into_values().collect()).len();
    let mut line = format!("{stages} stages, {}", counts(trials, launches).replace(',', " on"));
    let missing = dag.missing_leaves();
    if cached == stages {
        return line + ": all cached";
    }
    let to_run = measure::launches(missing.clone());
    let seconds: f64 = to_run.iter().map(|launch| engine.estimate_s(launch, history)).sum();
    line += &format!(
        ": {cached} cached, {} to run, about {}",
        counts(missing.len(), to_run.len()).replace(',', " on"),
        duration(seconds),
    );
    let later = measure::later(dag);
    if !later.is_empty() {
        let seconds: f64 = later.iter().map(|launch| engine.estimate_s(launch, history)).sum();
        line += &format!(", then {} at the chosen settings", duration(seconds));
    }
    line
}

fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{:.0} s", seconds.ceil().max(1.0))
    } else {
        format!("{:.0} min", (seconds / 60.0).ceil())
    }
}

/// `best 256; 4096: KV cache memory`
pub fn stage_summary(result: &ResultFile) -> String {
    let mut parts = Vec::new();
    if let Some(choice) = &result.choice {
        parts.push(format!("best {}", choice.label));
    }
    let mut seen = BTreeSet::new();
    for point in &result.points {
        if let Some(failure) = &point.failure
            && seen.insert(&point.label)
        {
            parts.push(format!("{}: {}", point.label, failure.title()));
        }
    }
    let invalid =
        result.points.iter().flat_map(|p| &p.trials).filter(|t| t.invalid.is_some()).count();
    if invalid > 0 {
        parts.push(format!("{invalid} invalid"));
    }
    parts.join("; ")
}
