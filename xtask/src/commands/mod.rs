//! The commands, one a file.

pub mod baseline;
pub mod bundle;
pub mod compare;
pub mod doctor;
pub mod explain;
pub mod gc;
pub mod graph;
pub mod launch;
pub mod reference;
pub mod status;
pub mod suite;
pub mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bench_core::schema::{FORMAT, ResultFile};

use crate::{
    calibration,
    config::Profile,
    dag::{Dag, State},
    engines::{Engine, Recorded},
    stages::{self, Trial},
    store::{Kind, Store},
    usage::UsageError,
};

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
            None => bail!(
                "no bench/profiles here or above {}: run this inside the project",
                here.display()
            ),
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

    /// The seed's own figures.
    pub fn week2(&self) -> Result<ResultFile> {
        read_result(&self.given.join("baselines/week2.json"))
    }
}

/// Reads a result file, refusing versions that this program does not know.
pub fn read_result(path: &Path) -> Result<ResultFile> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let result: ResultFile = serde_json::from_slice(&text)
        .with_context(|| format!("reading {}: not a result file", path.display()))?;
    if result.format != FORMAT {
        bail!("{} has format {}, this program reads {FORMAT}", path.display(), result.format);
    }
    Ok(result)
}

/// A profile opened for planning.
pub struct Session {
    pub root: Root,
    pub profile: Profile,
    pub store: Store,
    pub week2: ResultFile,
}

impl Session {
    pub fn open(profile: &str) -> Result<Self> {
        let root = Root::find()?;
        let profile = crate::config::load(profile, root.given())?;
        let store = Store::open_read_only(&root.artifacts())?;
        let week2 = root.week2()?;
        Ok(Self { root, profile, store, week2 })
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
        let unknown = matches!(dag.state(stages::PROVISION), Some(State::Runnable(..)));
        if unknown && context.engine.witness().is_some() {
            dag.run_next()?;
        }
        Ok(dag)
    }

    /// The engine as it was recorded last: by a run here, or by the bundle that was imported.
    pub fn recorded_engine(&self) -> Result<Recorded> {
        let name = &self.profile.name;
        let found = self.store.latest(name, stages::PROVISION);
        let action = found.map(|key| self.store.action(Kind::Stage, &key)).transpose()?.flatten();
        let Some(action) = action else {
            let message = format!(
                "the store knows no engine of profile {name}: cargo xtask bundle import FILE, or \
                 cargo xtask suite --profile {name} where the engine is"
            );
            return Err(UsageError::new(message).into());
        };
        let digest = action.outputs.get(stages::IDENTITY_FILE);
        let result = digest.map(|digest| self.store.get(digest)).transpose()?.flatten();
        Recorded::new(&action.preimage, &result.context("the engine's identity is gone")?)
    }

    /// What the stages read.
    pub fn context<'a>(&'a self, engine: &'a dyn Engine) -> stages::Context<'a> {
        let over_http = !engine.is_simulated();
        stages::Context {
            profile: &self.profile,
            engine,
            week2: &self.week2,
            calibration: over_http.then(|| calibration::stored(&self.root.artifacts())).flatten(),
        }
    }
}
