//! Which launcher starts the servers of a plan's engine.

use bench_core::schema::Engine;

use crate::{server::Launcher, vllm};

/// The launcher of an engine; `None` where nothing is started.
pub fn of(engine: &Engine) -> Option<Box<dyn Launcher>> {
    match engine {
        Engine::Simulator { .. } | Engine::Server(_) => None,
        Engine::Vllm(engine) => Some(Box::new(vllm::Servers::new(engine.clone()))),
    }
}
