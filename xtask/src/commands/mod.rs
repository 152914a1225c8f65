//! The commands, one a file.

pub mod baseline;
pub mod bundle;
pub mod compare;
pub mod doctor;
pub mod explain;
mod failures;
pub mod gc;
pub mod graph;
pub mod init;
pub mod launch;
pub mod reference;
mod repeats;
pub mod status;
pub mod suite;
pub mod verify;
pub mod watch;

use std::{
    collections::BTreeSet,
    io::{BufRead, IsTerminal as _},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{Calibration, FORMAT, Figures, Header, SavedResult},
    wrap,
};
use serde::de::DeserializeOwned;

use crate::{
    calibration,
    cli::{MessageFormat, RemoteArgs},
    error::Code,
    output,
    remote::{self, Remote},
    stages::{self},
};
use dag::{Dag, State, TASK};
use engines::{Engine, Recorded};
use profile::{Profile, Trial, stage};
use store::Store;

/// Under which name, beside those of a profile's stages, the store finds the calibration that the
/// profile's bundle brought.
const CALIBRATION: &str = "calibration.json";

/// The project's folders, found from where the command runs.
pub struct Root {
    /// What is written lies below: the store, results, baselines.
    path: PathBuf,
    /// Profiles, models and the seed's figures: the project's own, or those installed with the
    /// program.
    given: PathBuf,
}

/// Where an installation keeps them, from the folder of the program.
const INSTALLED: &str = "../share/vllm-tuning-bench";

impl Root {
    /// Looks for `bench/profiles` here and upward. An installed program brings its own, and then
    /// works in the current folder.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir().context("finding the current folder")?;
        let program = std::env::current_exe().context("finding this program")?;
        let has_profiles = |folder: &&Path| folder.join("bench/profiles").is_dir();
        if let Some(root) = here.ancestors().find(has_profiles) {
            return Ok(Self { path: root.to_owned(), given: root.to_owned() });
        }
        let installed = program.parent().map(|folder| folder.join(INSTALLED));
        match installed.filter(|folder| has_profiles(&&**folder)) {
            Some(given) => Ok(Self { path: here, given }),
            None => Err(Code::NoProject.error(format!(
                "no bench/profiles here or above {}: run this in a checkout, or `cargo xtask init` first, which \
                 writes those that came with the program",
                here.display()
            ))),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `bench/profiles` and `bench/models` are; nothing is written there.
    pub fn given(&self) -> &Path {
        &self.given
    }

    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    pub fn results(&self, profile: &Profile) -> PathBuf {
        self.path.join("results").join(&profile.name)
    }

    pub fn baselines(&self) -> PathBuf {
        self.path.join("baselines")
    }

    /// The figures that a profile wants shown beside its own: a saved baseline.
    fn reference(&self, profile: &Profile) -> Result<Option<SavedResult>> {
        let Some(name) = &profile.reference else { return Ok(None) };
        let file = format!("baselines/{name}.json");
        let found = [&self.path, &self.given].map(|folder| folder.join(&file));
        let Some(path) = found.iter().find(|path| path.is_file()) else {
            let message = format!(
                "reference = \"{name}\": no {file}; `cargo xtask baseline save {name}`, or take \
                 the key out of {}",
                profile.path.display()
            );
            return Err(Code::NoResults.error(message));
        };
        read_result(path, |saved: &SavedResult| &saved.header).map(Some)
    }
}

/// Whether a person at the terminal says yes; nobody there does not, and a program is not asked.
fn agreed(question: &str, format: MessageFormat) -> Result<bool> {
    if format == MessageFormat::Json || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    answered(question, &mut std::io::stdin().lock(), &mut |text| output::print(text))
}

/// Asks on lines of their own, also where the answer is the end of the input.
fn answered(
    question: &str,
    input: &mut dyn BufRead,
    say: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<bool> {
    say(wrap::fold(&format!("{question} [y/N]")).trim_end())?;
    say(" ")?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    if !answer.ends_with('\n') {
        say("\n")?;
    }
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// Reads a result file, refusing versions that this program does not know.
fn read_result<R: DeserializeOwned>(path: &Path, header: fn(&R) -> &Header) -> Result<R> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let result: R = serde_json::from_slice(&text).map_err(|error| unread(path, &text, &error))?;
    let format = header(&result).format;
    if format != FORMAT {
        return Err(other_format(path, format.into()));
    }
    Ok(result)
}

/// Why a file is not read: another kind of file is a mistake of who named it, half of one is damage.
fn unread(path: &Path, text: &[u8], error: &serde_json::Error) -> anyhow::Error {
    let name = path.display();
    let parsed: Option<serde_json::Value> = serde_json::from_slice(text).ok();
    let is_ours = match &parsed {
        Some(value) => value.get("format").is_some(),
        None => text.trim_ascii_start().first().is_none_or(|byte| *byte == b'{'),
    };
    if !is_ours {
        return Code::FileRefused.error(format!(
            "{name} is no baseline and no result: expected what `cargo xtask baseline save` wrote, or a \
             result file of a profile"
        ));
    }
    let format = parsed.as_ref().and_then(|value| value["format"].as_u64());
    if let Some(format) = format.filter(|format| *format != u64::from(FORMAT)) {
        return other_format(path, format);
    }
    Code::FileDamaged.error(format!(
        "{name} is damaged ({error}): write it again (a baseline with `cargo xtask baseline save`, results \
         with `cargo xtask suite`), or take it from git with `git checkout -- {name}`"
    ))
}

fn other_format(path: &Path, format: u64) -> anyhow::Error {
    let file = path.display();
    Code::FormatUnknown.error(format!("{file} has format {format}, this program reads {FORMAT}"))
}

/// Reads the configurations of a result file of any stage.
fn read_figures(path: &Path) -> Result<Figures> {
    read_result(path, |figures: &Figures| &figures.header)
}

/// A profile opened for planning.
pub struct Session {
    pub root: Root,
    pub profile: Profile,
    pub store: Store,
    reference: Option<SavedResult>,
    /// Whether nothing of this machine may show in the results.
    offline: bool,
}

impl Session {
    pub fn open(profile: &str) -> Result<Self> {
        let root = Root::find()?;
        let profile = profile::load(profile, root.given())?;
        let store = Store::open_read_only(&root.artifacts())?;
        let reference = root.reference(&profile)?;
        Ok(Self { root, profile, store, reference, offline: false })
    }

    /// The engine here, or offline what was recorded of it elsewhere.
    pub fn engine(&self) -> Result<Box<dyn Engine + '_>> {
        match self.offline {
            true => Ok(Box::new(self.recorded_engine()?)),
            false => engines::of(&self.profile, self.root.path()),
        }
    }

    /// The DAG of those stages, so far as it can be known without measuring.
    pub fn plan<'a>(
        &'a self,
        context: &'a stages::Context<'a>,
        wanted: &dyn Fn(&str) -> bool,
        fresh: bool,
    ) -> Result<Dag<'a, Trial>> {
        let tasks = stages::tasks(context).into_iter().filter(|task| wanted(task.name()));
        let mut dag = Dag::new(&self.store, tasks.collect(), fresh)?;
        // Nothing is known of trials before the engine is. Where it is there already, that costs
        // nothing; in a read-only store it leaves no trace.
        let unknown = matches!(dag.state(stage::PROVISION.name), Some(State::Runnable(..)));
        if unknown && context.engine.fingerprint().is_some() {
            dag.run_next()?;
        }
        Ok(dag)
    }

    /// Which of the trials that are missing are in the remote store, if there is one. Offline none
    /// is asked.
    fn in_remote(&self, args: &RemoteArgs, dag: &Dag<'_, Trial>) -> Result<BTreeSet<Digest>> {
        if self.offline {
            return Ok(BTreeSet::new());
        }
        let never = AtomicBool::new(false);
        let warn = |text: &str| output::complain(&format!("warning: {text}"));
        let url = remote::url(&self.profile, args)?;
        let keys: Vec<Digest> = dag.missing_leaves().iter().map(|leaf| leaf.key).collect();
        Ok(url.map(|url| Remote::new(url, &never, warn).find(&keys)).unwrap_or_default())
    }

    /// The engine as it was recorded last: by a run here, or by the bundle that was imported.
    pub fn recorded_engine(&self) -> Result<Recorded> {
        let name = &self.profile.name;
        let found = self.store.latest(name, stage::PROVISION.name);
        let action = found.map(|key| self.store.action(&TASK, &key)).transpose()?.flatten();
        let Some(action) = action else {
            let message = format!(
                "the store knows no engine of profile {name}: `cargo xtask bundle import FILE`, or \
                 `cargo xtask suite --profile {name}` where the engine is"
            );
            return Err(Code::NoResults.error(message));
        };
        let digest = action.outputs.get(stage::PROVISION.file());
        let result = digest.map(|digest| self.store.get(digest)).transpose()?.flatten();
        Recorded::new(&action.key_inputs, &result.context("the engine's identity is gone")?)
    }

    /// What the profile's bundle says of the load generator; the outer `None` without a bundle.
    fn carried_calibration(&self) -> Option<Option<Calibration>> {
        let digest = self.store.latest(&self.profile.name, CALIBRATION)?;
        serde_json::from_slice(&self.store.get(&digest).ok()??).ok()
    }

    /// The calibration that the profile's latest report quotes.
    fn quoted_calibration(&self) -> Option<Calibration> {
        let key = self.store.latest(&self.profile.name, stage::DOCUMENT.name)?;
        let action = self.store.action(&TASK, &key).ok()??;
        let quoted = Digest::parse(action.key_inputs["config"]["calibration"].as_str()?)?;
        let known = [self.carried_calibration().flatten(), self.measured_calibration()];
        known.into_iter().flatten().find(|found| calibration::digest(found) == quoted)
    }

    /// That of this machine.
    fn measured_calibration(&self) -> Option<Calibration> {
        calibration::stored(&self.root.artifacts())
    }

    /// What the stages read.
    pub fn context<'a>(&'a self, engine: &'a dyn Engine) -> stages::Context<'a> {
        let calibration = match self.offline {
            _ if engine.is_simulated() => None,
            false => self.measured_calibration(),
            true => self.carried_calibration().unwrap_or_else(|| self.quoted_calibration()),
        };
        let reference = self.reference.as_ref();
        stages::Context { profile: &self.profile, engine, reference, calibration }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_ends_its_line_also_where_nobody_answers() {
        let long = format!("replace /a/folder/{}/before.json?", "of/many/names/".repeat(5));
        for (input, expected) in [("y\n", true), ("n\n", false), ("", false), ("y", true)] {
            let mut shown = String::new();
            let mut say = |text: &str| {
                shown += text;
                Ok(())
            };
            let found = answered(&long, &mut input.as_bytes(), &mut say);
            assert_eq!(found.expect("it answers"), expected, "{input:?}");
            // A terminal shows the end of a line that was typed.
            assert_eq!(shown.ends_with('\n'), !input.ends_with('\n'), "{input:?}: {shown:?}");
            assert_eq!(shown.lines().count(), 3, "the path is a line of its own: {shown}");
        }
    }
}
