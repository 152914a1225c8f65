//! What a launch needs of an engine that it must start: an engine is one file or folder behind these
//! two traits, and `launch.rs` knows no other thing of it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use bench_core::schema::{LaunchPlan, Observed, ServerEngine, ServerStart, SettingFailure};

use crate::Ended;

/// From SIGTERM to SIGKILL of a server. vLLM drops its requests at once and ends within some 5 s.
pub const GRACE: Duration = Duration::from_secs(15);

/// Starts servers of one engine. It outlives a launch: what it keeps for the next one, such as a process
/// that has imported the engine, ends with it.
pub trait Launcher: Send {
    /// The engine's name in messages.
    fn name(&self) -> &'static str;

    /// How long a server may take to its first token.
    fn start_limit(&self) -> Duration;

    /// Starts a server on this machine; it is not ready yet.
    ///
    /// # Errors
    /// See [`NotStarted`].
    fn start(&mut self, start: &StartRequest<'_>) -> Result<Box<dyn Server>, NotStarted>;

    /// A server ended before it served, for no reason that is known to be its setting's: whose fault
    /// that may be. `again`: it is the second one of this launch.
    fn blame(&mut self, _again: bool) -> Blame {
        Blame::Server
    }
}

/// One start.
pub struct StartRequest<'a> {
    /// Arguments and environment of the server.
    pub plan: &'a LaunchPlan,
    /// Notes of running process groups.
    pub run_dir: &'a Path,
    /// Takes all that the server prints.
    pub log: PathBuf,
    /// Whether the start is to be given up; asked several times a second where it takes long.
    pub is_interrupted: &'a dyn Fn() -> bool,
}

/// Why there is no server.
#[derive(Debug)]
pub enum NotStarted {
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
    /// It was to be a fork, and its launcher could not make one.
    NoFork(String),
    /// A device is missing, locked or used by others, or a program cannot be started.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for NotStarted {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Whose fault it is that a server ended before it served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The server's own, or its surroundings'.
    Server,
    /// The launcher's perhaps: the next server comes from another one.
    Launcher,
    /// The way in which it was started.
    Fork,
}

/// A server that was started. Dropping it ends it with everything that it started.
pub trait Server {
    /// Where it answers, or will, and what it is asked for.
    fn engine(&self) -> ServerEngine;

    /// The file with all that it prints.
    fn log_path(&self) -> &Path;

    /// How it ended, if it has.
    fn ended(&self) -> Option<Ended>;

    /// How it ended, if it does within this time.
    fn wait(&self, limit: Duration) -> Option<Ended>;

    /// Takes note of how far its start is; called several times a second until it is ready.
    fn watch(&mut self);

    /// How many seconds its start took, and what it consisted of. It has ended when this is called for
    /// the first time.
    fn start(&mut self) -> (f64, ServerStart);

    /// What its log says of the resolved settings.
    fn observe(&self) -> Observed;

    /// Why it failed, once it has ended.
    fn failure(&self) -> Failure;

    /// Ends it and waits until its memory is back.
    ///
    /// # Errors
    /// When a device's memory stays in use.
    fn stop(self: Box<Self>) -> Result<()>;
}

/// Why a server did not start, or died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The setting cannot run: a result.
    Setting(SettingFailure),
    /// Something around the server: never stored.
    Environment {
        /// What happened.
        what: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// SIGKILL ended it or its engine: never stored.
    Killed,
    /// Nothing that we know: never stored.
    Unknown {
        /// The last line that looks like an error, if any.
        last_error: Option<String>,
    },
}
