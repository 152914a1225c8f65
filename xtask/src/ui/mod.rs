//! What a person sees while a suite runs, and at its end.

mod counts;
mod live;
mod message;

use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::Mutex,
    time::{Duration, Instant},
};

use bench_core::{
    canonical::Digest,
    schema::{CompareResult, Figures, Point, Progress},
    wrap,
};

use crate::{
    cli::MessageFormat,
    measure, output,
    remote::Moved,
    stages::{self},
};
use analysis::{ending::Ending, repeats::Proposal};
use counts::{duration, number_of};
use dag::{Dag, Leaf, State};
use engines::{Engine, History};
use live::{Live, Waiting};
use message::{FORMAT, Message};
use profile::{Profile, Trial, role::TrialRole, stage};
use report::terminal::{self, Beside};
use store::Action;

/// Says what happens: to people in lines, below which a terminal shows what runs; to programs in
/// JSON.
pub struct Ui {
    format: MessageFormat,
    live: Mutex<Option<Live>>,
    /// Stages whose end was said.
    told: Mutex<BTreeSet<String>>,
}

impl Ui {
    pub fn new(format: MessageFormat) -> Self {
        let live = (format == MessageFormat::Human).then(Live::new);
        Self { format, live: Mutex::new(live), told: Mutex::default() }
    }

    /// A line that stays, or the message in its place. A reader that went away does not stop the
    /// run.
    fn say(&self, message: &Message<'_>, text: &str) {
        match self.format {
            MessageFormat::Human => self.line(text),
            MessageFormat::Json => self.json(message),
        }
    }

    /// A line for people alone.
    fn line(&self, text: &str) {
        if self.format == MessageFormat::Human {
            self.with_live(Live::clear);
            let _ = write!(std::io::stdout(), "{}", wrap::fold(&output::typed(text)));
            if text.is_empty() {
                let _ = writeln!(std::io::stdout());
            }
        }
    }

    /// A line for programs alone.
    fn json(&self, message: &Message<'_>) {
        if self.format == MessageFormat::Json {
            let line = serde_json::to_string(message).expect("a message is plain JSON");
            let _ = writeln!(std::io::stdout(), "{}", output::typed(&line));
        }
    }

    fn with_live(&self, act: impl FnOnce(&mut Live)) {
        if let Some(live) = &mut *self.live.lock().expect("no thread panics with the lock") {
            act(live);
        }
    }

    fn note(&self, text: &str, line: &str) {
        self.say(&Message::Note { text }, line);
    }

    pub fn header(&self, engine: &str, plan: &str) {
        let message = Message::Plan { format: FORMAT, engine, plan };
        self.say(&message, &format!(" engine   {engine}\n plan     {plan}"));
    }

    /// A step of provisioning that takes long.
    pub fn step(&self, text: &str) {
        self.note(text, &format!(" …        {text}"));
    }

    /// Something went wrong that does not stop the run.
    pub fn warn(&self, text: &str) {
        let text = format!("warning: {text}");
        self.noted(&text);
    }

    /// What has gone from and to the remote store.
    pub fn moved(&self, url: &str, moved: Moved) {
        let fetched = number_of(moved.fetched, "trial", "trials");
        let text = format!("remote   {fetched} fetched from {url}, {} written", moved.made);
        self.noted(&text);
    }

    /// What `--dry-run` shows: each stage and what it lacks.
    /// `engine_is_missing`: what stands for it passes for provisioned, and is not. `in_remote`: how
    /// many of the missing trials the remote store has, and where it is.
    pub fn dry_run(
        &self,
        dag: &Dag<'_, Trial>,
        engine_is_missing: bool,
        installation: Option<&str>,
        in_remote: Option<(usize, &str)>,
    ) {
        for (task, state) in dag.iter() {
            let (mark, state, trials, what) = match state {
                State::Done(_) if engine_is_missing => {
                    let what = installation.unwrap_or("find the engine");
                    let what = format!("{what}; until then nothing counts as measured");
                    ("→", "run", 0, what)
                }
                State::Done(action) => ("✓", "cached", action.leaves.len(), "cached".to_owned()),
                State::Runnable(..) => ("→", "run", 0, "run".to_owned()),
                State::Wanting(leaves) => {
                    let launches = measure::launches(leaves.clone());
                    let what = format!("measure {} and run", counts(leaves.len(), launches.len()));
                    ("→", "measure", leaves.len(), what)
                }
                State::Waiting(needs) => ("…", "after", 0, format!("after {}", needs.join(", "))),
                State::Failed(why) => ("✗", "failed", 0, why.clone()),
                State::Blocked(need) => ("✗", "not-run", 0, format!("needs {need}")),
            };
            let message = Message::Stage { name: task.name(), state, trials, note: &what };
            self.say(&message, &stage_line(mark, task.name(), &what, ""));
        }
        if let Some((n, url)) = in_remote {
            let missing = number_of(dag.missing_leaves().len(), "trial", "trials");
            let text = format!("remote   {n} of {missing} need not be measured: they are in {url}");
            self.noted(&text);
        }
    }

    /// What the test of a candidate's flags takes, at least and at most.
    pub fn tests(&self, (least, most): (u32, u32)) {
        let starts = if least == most { least.to_string() } else { format!("{least} to {most}") };
        self.noted(&format!(
            "flags    of a candidate of several are tested one by one: {starts} server starts more \
             ([choose] starts = 0: none)"
        ));
    }

    /// How often the objective's load is worth repeating within a start.
    pub fn repeats(&self, profile: &Profile, proposal: Option<Proposal>) {
        let load = &profile.objective.load;
        let own = profile.loads.iter().find(|other| other.name == *load).map_or(1, |l| l.repeats);
        let text = match proposal {
            None => format!(
                "repeats  of {load}: {own}. How its figures spread within a server start is not known; \
                 `repeats = 2` shows it"
            ),
            Some(Proposal { repeats, between, within, costs }) => format!(
                "repeats  of {load}: {repeats} a server start decide soonest (the profile has {own}): starts \
                 differ by {:.1} %, repeats on one by {:.1} %, a start takes {:.0} s, a repeat {:.0} s",
                100.0 * between.sqrt(),
                100.0 * within.sqrt(),
                costs.start_s,
                costs.repeat_s
            ),
        };
        self.noted(&text);
    }

    /// Says of each stage that is done without having run that it is cached: from the beginning,
    /// or since what was measured again turned out the same.
    pub fn cached(&self, dag: &Dag<'_, Trial>) {
        for (task, state) in dag.iter() {
            if let State::Done(action) = state
                && self.is_news(task.name())
            {
                let (state, what, note) = cached_words(task.name(), dag, action);
                let trials = action.leaves.len();
                let message = Message::Stage { name: task.name(), state, trials, note };
                self.say(&message, &stage_line("✓", task.name(), &what, note));
            }
        }
    }

    /// Whether a stage's end was not said before.
    fn is_news(&self, name: &str) -> bool {
        self.told.lock().expect("no thread panics with the lock").insert(name.to_owned())
    }

    pub fn ran(&self, name: &str, state: &State<Trial>, note: &str) {
        let State::Done(action) = state else { return self.not_done(name, state) };
        if !self.is_news(name) {
            return;
        }
        let trials = action.leaves.len();
        let what = done_words(name, action);
        let message = Message::Stage { name, state: "done", trials, note };
        self.say(&message, &stage_line("✓", name, &what, note));
    }

    pub fn not_done(&self, name: &str, state: &State<Trial>) {
        let (state, what, note) = match state {
            State::Done(_) => return,
            State::Failed(why) => ("failed", "failed", why.clone()),
            State::Blocked(need) => ("not-run", "not run", format!("needs {need}")),
            State::Waiting(_) | State::Wanting(_) | State::Runnable(..) => {
                ("not-run", "not run", String::new())
            }
        };
        if !self.is_news(name) {
            return;
        }
        let message = Message::Stage { name, state, trials: 0, note: &note };
        self.say(&message, &stage_line("✗", name, what, &note));
    }

    /// Shows how far the stages are that wait for trials.
    pub fn stored(&self, dag: &Dag<'_, Trial>, keys: &[Digest]) {
        for key in keys {
            if let Some((stage, trial_name, done, all)) = find(dag, key) {
                // Not counted yet.
                let done = done + 1;
                self.json(&Message::Stored { stage, trial_name, trial: *key, done, all });
            }
        }
        self.with_live(|live| {
            let waiting = |name: &str| {
                let Some(State::Wanting(missing)) = dag.state(name) else { return None };
                let missing = missing.iter().filter(|leaf| !keys.contains(&leaf.key)).count();
                let all = dag.leaves(name)?.len();
                Some(Waiting { name: name.to_owned(), done: all - missing, all })
            };
            live.view.stages = dag.iter().filter_map(|(task, _)| waiting(task.name())).collect();
            live.view.point.take_if(|(_, now)| keys.contains(&now.key));
            live.draw();
        });
    }

    pub fn progress(&self, dag: &Dag<'_, Trial>, now: &Progress) {
        let Some((stage, trial_name, ..)) = find(dag, &now.key) else { return };
        self.json(&Message::Progress { stage, trial_name, now });
        self.with_live(|live| {
            live.view.point = Some((trial_name.to_owned(), *now));
            live.draw();
        });
    }

    /// What is left to measure, and about how long that takes.
    pub fn left(&self, launches: usize, seconds: f64) {
        self.json(&Message::Left { launches, seconds });
        self.with_live(|live| {
            let done_at = Instant::now() + Duration::from_secs_f64(seconds);
            live.view.left = (launches > 0).then_some((launches, done_at));
            live.draw();
        });
    }

    /// Time goes by, and nothing happens.
    pub fn wait(&self) {
        self.with_live(Live::draw);
    }

    /// Nothing runs any more.
    pub fn idle(&self) {
        self.with_live(|live| {
            live.view = live::View::default();
            live.clear();
        });
    }

    /// Lists trials that a run without an engine would need.
    pub fn absent(&self, trials: &[&Leaf<Trial>]) {
        let many = number_of(trials.len(), "trial", "trials");
        let mut text = format!("missing  {many} that the store does not have:");
        for leaf in trials {
            text += &format!("\n   {}  {}", leaf.key.short(), leaf.role);
        }
        self.noted(&text);
    }

    /// What came of the suite: the last screen, or the decision for programs.
    pub fn closing(&self, profile: &Profile, comparison: &CompareResult, beside: &Beside<'_>) {
        let command = report::serve_command(profile, comparison).map(|words| words.join(" "));
        let (decision, command) = (&comparison.decision, command.as_deref());
        self.json(&Message::Decision { decision, command, problems: beside.problems });
        for failed in beside.failed_requests {
            self.json(&Message::Note { text: &format!("failed requests: {failed}") });
        }
        self.line("");
        self.line(terminal::closing(profile, comparison, beside).trim_end());
    }

    /// What is known where no comparison came of the suite.
    pub fn failed(&self, profile: &Profile, points: &[Point], problems: &[String]) {
        self.line("");
        self.line(terminal::failed(profile, points, problems).trim_end());
    }

    /// `has_file`: whether there is a configuration to deploy.
    pub fn ending(
        &self,
        profile: &Profile,
        cost: Cost,
        simulated: bool,
        ending: Ending,
        has_file: bool,
    ) {
        let results = &format!("results/{}", profile.name);
        let seconds = cost.elapsed.as_secs_f64();
        let mut recommended = None;
        if profile.stages.iter().any(|stage| stage == stage::DOCUMENT.name)
            && matches!(ending, Ending::Done | Ending::NoneMeets)
        {
            self.line(&format!(" report   {results}/report.html"));
            recommended = has_file.then(|| format!("{results}/{}", stages::RECOMMENDED));
            if let Some(file) = &recommended {
                self.line(&format!(" deploy   {file}"));
            }
        }
        if ending == Ending::Failed {
            self.line(" Nothing is recommended: a stage failed (✗ above says which, and why).");
            self.line(&format!(" results  {results}/ has what was measured"));
        }
        if simulated {
            self.line(
                " simulated. With an NVIDIA GPU here: `cargo xtask suite --profile vllm-cuda`",
            );
        }
        let (outcome, exit_code) = (ending.name(), ending.exit_code());
        let message = Message::End {
            outcome,
            exit_code,
            results,
            recommended: recommended.as_deref(),
            seconds,
        };
        self.say(&message, &format!(" took     {seconds:.2} s{}", cost.trials()));
        if ending == Ending::Interrupted {
            self.line(
                " interrupted: finished trials are kept; the same command goes on from there",
            );
        }
    }

    /// Something that a person should know.
    pub fn noted(&self, text: &str) {
        self.note(text, &format!(" {text}"));
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From its first moment on.
    pub elapsed: Duration,
    /// Trials that it measured.
    pub measured: usize,
    /// Trials that its results are made of.
    pub all: usize,
}

impl Cost {
    /// `: 52 trials measured, 22 reused`
    fn trials(self) -> String {
        match (self.measured, self.all.saturating_sub(self.measured)) {
            (0, 0) => String::new(),
            (0, reused) => {
                format!(": {} reused, none measured", number_of(reused, "trial", "trials"))
            }
            (measured, reused) => {
                format!(": {} measured, {reused} reused", number_of(measured, "trial", "trials"))
            }
        }
    }
}

/// What a stage that ran has done.
fn done_words(name: &str, action: &Action) -> String {
    match action.leaves.len() {
        0 => "done".to_owned(),
        // Those that it shows, not those that it measured.
        _ if !stages::bears_on_trials(name) => "done".to_owned(),
        n => counts(n, launch_count(action.leaves.keys())),
    }
}

/// State, words and note of a stage that is done without having run: its result was in the store, or
/// what was measured in this run gave the same.
fn cached_words(
    name: &str,
    dag: &Dag<'_, Trial>,
    action: &Action,
) -> (&'static str, String, &'static str) {
    match dag.stored_now(name) {
        0 if dag.has_stored() => ("cached", "unchanged".to_owned(), "what it reads is the same"),
        0 => ("cached", "cached".to_owned(), ""),
        _ => ("done", done_words(name, action), "the same as before"),
    }
}

/// Number of launches behind roles: distinct setting and start.
fn launch_count<'a>(roles: impl Iterator<Item = &'a String>) -> usize {
    let roles = roles.filter_map(|role| TrialRole::parse(role));
    roles.map(|role| (role.setting, role.start)).collect::<BTreeSet<_>>().len()
}

fn counts(trials: usize, launches: usize) -> String {
    format!(
        "{}, {}",
        number_of(trials, "trial", "trials"),
        number_of(launches, "launch", "launches")
    )
}

fn stage_line(mark: &str, name: &str, what: &str, note: &str) -> String {
    format!(" {mark} {name:<20}  {what:<28} {note}").trim_end().to_owned()
}

/// The stage that waits for a trial: its name, the trial's name there, trials there and in all.
fn find<'d>(dag: &'d Dag<'_, Trial>, key: &Digest) -> Option<(&'d str, &'d str, usize, usize)> {
    dag.iter().find_map(|(task, state)| {
        let State::Wanting(missing) = state else { return None };
        let leaf = missing.iter().find(|leaf| leaf.key == *key)?;
        let all = dag.leaves(task.name())?.len();
        Some((task.name(), &*leaf.role, all - missing.len(), all))
    })
}

/// `12 stages, 74 trials on 13 launches: 4 stages cached, 52 trials on 9 launches to run, about 14 s`
pub fn plan_line(
    dag: &Dag<'_, Trial>,
    profile: &Profile,
    engine: &dyn Engine,
    history: &History,
    engine_is_missing: bool,
) -> String {
    let (mut stages, mut cached) = (0, 0);
    let mut known: std::collections::BTreeMap<Digest, _> = std::collections::BTreeMap::new();
    for (task, state) in dag.iter() {
        stages += 1;
        cached += usize::from(matches!(state, State::Done(_)) && !engine_is_missing);
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
    let seconds: f64 = to_run.iter().map(|launch| launch.estimate_s(engine, history)).sum();
    line += &format!(
        ": {cached} cached, {} to run, about {}",
        counts(missing.len(), to_run.len()).replace(',', " on"),
        duration(seconds),
    );
    let later = measure::later(dag);
    if !later.is_empty() {
        let seconds: f64 = later.iter().map(|launch| launch.estimate_s(engine, history)).sum();
        line += &format!(", then {} at the chosen settings", duration(seconds));
    }
    let seconds = measure::further_s(dag, profile, engine, history);
    if seconds > 0.0 {
        let most = duration(seconds);
        line += &format!("; tests of single flags and further starts may add up to {most}");
    }
    line
}

/// What is left of the engine's time, by starts and loads: `7 starts about 11 min, loads 4 min; a start
/// for each of 14 trials, the ordinary way, 21 min`. Nothing where no server is started.
pub fn engine_line(dag: &Dag<'_, Trial>, engine: &dyn Engine, history: &History) -> Option<String> {
    let estimate = engine.start_estimate(history)?;
    let launches = measure::left(dag);
    let seconds = |launch: &measure::Launch| launch.estimate_s(engine, history);
    // One that is bound to fail is not made.
    let made: Vec<_> = launches.iter().filter(|launch| seconds(launch) > 0.0).collect();
    let starts_s = made.len() as f64 * estimate.start_s;
    let loads_s = made.iter().map(|launch| seconds(launch)).sum::<f64>() - starts_s;
    let trials = made.iter().map(|launch| launch.trials.len()).sum::<usize>();
    (!made.is_empty()).then(|| {
        format!(
            "time     {} about {}, loads {}; a start for each of {}, the ordinary way, {}",
            number_of(made.len(), "start", "starts"),
            duration(starts_s),
            duration(loads_s),
            number_of(trials, "trial", "trials"),
            duration(trials as f64 * estimate.ordinary_s)
        )
    })
}

/// `best 256; max-num-seqs 4096: KV cache memory`
pub fn stage_summary(result: &Figures) -> String {
    let mut parts = Vec::new();
    if let Some(choice) = &result.choice {
        parts.push(format!("best {}", choice.label));
    }
    let mut seen = BTreeSet::new();
    for point in &result.points {
        if let Some(failure) = &point.failure
            && seen.insert(&point.label)
        {
            let setting = report::format::setting(point).replace('`', "");
            parts.push(format!("{setting}: {}", failure.title()));
        }
    }
    let invalid =
        result.points.iter().flat_map(|p| &p.trials).filter(|t| t.invalid.is_some()).count();
    if invalid > 0 {
        parts.push(format!("{invalid} invalid"));
    }
    parts.join("; ")
}
