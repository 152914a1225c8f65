//! An engine that must be started, as small as one can be: all that a new one takes is in this file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Result;
use bench_core::schema::{Observed, ServerEngine, ServerStart};

use crate::{
    Ended, Group, Program,
    server::{Failure, GRACE, Launcher, NotStarted, Server, StartRequest},
};

/// Starts a program that prints where it answers.
pub struct Tiny(pub PathBuf);

struct TinyServer {
    group: Group,
    log: PathBuf,
    started: Instant,
    ready_s: Option<f64>,
}

impl Launcher for Tiny {
    fn name(&self) -> &'static str {
        "tiny"
    }

    fn start_limit(&self) -> Duration {
        Duration::from_secs(600)
    }

    fn start(&mut self, start: &StartRequest<'_>) -> Result<Box<dyn Server>, NotStarted> {
        let program =
            Program { path: self.0.clone(), args: Vec::new(), env: start.plan.env.clone() };
        fs::create_dir_all(start.log.parent().expect("a folder")).expect("it is writable");
        let output = File::create(&start.log).expect("it is writable");
        let errors = output.try_clone().expect("a handle");
        let group =
            Group::spawn(&program, output.into(), Stdio::from(errors), start.run_dir, GRACE)?;
        let (log, started) = (start.log.clone(), Instant::now());
        Ok(Box::new(TinyServer { group, log, started, ready_s: None }))
    }
}

impl Server for TinyServer {
    fn engine(&self) -> ServerEngine {
        ServerEngine {
            base_url: "http://127.0.0.1:1".to_owned(),
            model: "tiny".to_owned(),
            ..ServerEngine::default()
        }
    }

    fn log_path(&self) -> &Path {
        &self.log
    }

    fn ended(&self) -> Option<Ended> {
        self.group.ended()
    }

    fn wait(&self, limit: Duration) -> Option<Ended> {
        self.group.wait(limit)
    }

    fn watch(&mut self) {}

    fn start(&mut self) -> (f64, ServerStart) {
        let ready_s = *self.ready_s.get_or_insert(self.started.elapsed().as_secs_f64());
        (ready_s, ServerStart::default())
    }

    fn observe(&self) -> Observed {
        Observed { version: Some("1".to_owned()), ..Observed::default() }
    }

    fn failure(&self) -> Failure {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        Failure::Unknown { last_error: text.lines().last().map(str::to_owned) }
    }

    fn stop(mut self: Box<Self>) -> Result<()> {
        self.group.stop();
        Ok(())
    }
}
