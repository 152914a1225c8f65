//! What is measured: the simulator, a vLLM started here, a running endpoint.

mod endpoint;
pub mod executor;
pub mod finding;
mod foreseen;
mod group;
mod history;
mod host;
pub mod launch;
pub mod launchers;
mod recorded;
mod registry;
pub mod server;
mod simulator;
pub mod vllm;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, atomic::AtomicBool},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::schema::{self, Arrival, LoadSpec, Size};
use serde_json::Value;

use crate::finding::Finding;
use profile::Trial;

pub use foreseen::Foreseen;
pub use group::{Ended, Group, Leader, Program, end_orphans, has_ended};
pub use history::History;
pub use host::LaunchHost;
pub use recorded::Recorded;
pub use registry::of;

/// Folder of the store with notes of running process groups.
pub const RUN_DIR: &str = "run";

/// About how long a server start takes.
#[derive(Clone, Copy, Debug)]
pub struct StartEstimate {
    /// As it is made.
    pub start_s: f64,
    /// Made the ordinary way.
    pub ordinary_s: f64,
}

/// An engine of a profile, from identity to launch.
pub trait Engine: Sync {
    /// Stands for the identity while planning: cheap, and changes whenever the identity might. `None`
    /// before the engine is provisioned.
    fn fingerprint(&self) -> Option<Value>;
    /// Installs what is missing, at once when nothing is, and says what the engine is, without
    /// floats. `say` gets a line before each step that takes long.
    fn provision(&self, say: &mut dyn FnMut(&str)) -> Result<Value>;
    /// Name in titles.
    fn title(&self) -> String;
    /// Whether figures are simulated.
    fn is_simulated(&self) -> bool;
    /// What a launch plan says of the engine. Provisioned engines only.
    fn to_launch(&self) -> Result<schema::Engine>;
    /// What a run says of the engine before it measures, if there is anything.
    fn remark(&self) -> Option<String> {
        None
    }
    /// Notes that servers cannot be started as forks: from the next look on they are not.
    ///
    /// # Errors
    /// When the note cannot be written.
    fn refuse_forks(&self, why: &str) -> Result<()> {
        bail!("{} starts no forks, but was refused them: {why}", self.title())
    }
    /// Whether several launches may run at once without disturbing each other.
    fn runs_side_by_side(&self) -> bool;
    /// About how long a launch takes that serves these trials, by what was seen of others.
    fn estimate_s(&self, trials: &[&Trial], history: &History) -> f64;
    /// About how long starts take, by what was seen of others; `None` where no server is started.
    fn start_estimate(&self, _history: &History) -> Option<StartEstimate> {
        None
    }
    /// What `provision` installs, in words; `None` where it installs nothing, or has.
    fn installation(&self) -> Option<String> {
        None
    }
    /// Asks a server that runs already for a token, and waits for it where the profile says that it is
    /// starting. `warn` gets what a person should know meanwhile.
    fn reach(&self, _interrupted: &AtomicBool, _warn: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
    /// What this machine has and lacks for it.
    fn doctor(&self) -> Vec<Finding>;
}

/// Load points of fixed size: a guess, until some are measured.
const FIXED_SIZE_S: f64 = 30.0;

/// About how long a start and then the loads take.
fn launch_s(trials: &[&Trial], start_s: f64, history: &History) -> f64 {
    let planned_s = |load: &LoadSpec| match (load.size, &load.arrival) {
        (Size::DurationMs(ms), _) => ms as f64 / 1e3,
        (Size::Requests(n), Arrival::Poisson { requests_per_second }) => {
            f64::from(n) / requests_per_second.to_f64()
        }
        (Size::Requests(_), _) => FIXED_SIZE_S,
    };
    let load_s = |load: &LoadSpec| history.load_s(load).unwrap_or_else(|| planned_s(load));
    start_s + trials.iter().map(|trial| load_s(&trial.load)).sum::<f64>()
}

/// The program that runs the load points of a launch: `bench`, or this one where cargo runs it and the
/// engine is the simulator, which is in both, so that a first suite compiles nothing else.
pub fn driver(engine: &schema::Engine) -> Result<PathBuf> {
    match engine {
        schema::Engine::Simulator { .. } if std::env::var_os("CARGO").is_some() => {
            std::env::current_exe().context("finding this program")
        }
        _ => bench_binary(),
    }
}

/// `bench`: beside this program; where cargo runs this program, its release build, which is built first
/// so that the two are of one source.
pub fn bench_binary() -> Result<PathBuf> {
    /// Once is enough.
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);

    let here = std::env::current_exe().context("finding this program")?;
    let Some(cargo) = std::env::var_os("CARGO") else {
        let beside = here.with_file_name("bench");
        ensure!(
            beside.is_file(),
            "no `bench` beside {}: build it with `cargo build --release`",
            here.display()
        );
        return Ok(beside);
    };
    let mut built = BUILT.lock().expect("no panic with the lock");
    if let Some(bench) = &*built {
        return Ok(bench.clone());
    }
    eprintln!("building `bench`, which measures over HTTP, optimised");
    duct::cmd(&cargo, ["build", "--release", "--package", "bench"])
        .run()
        .context("building `bench`")?;
    // `cargo run` puts us into target/<profile>/.
    let target = here.parent().and_then(Path::parent).context("finding the target folder")?;
    Ok(built.insert(target.join("release/bench")).clone())
}
