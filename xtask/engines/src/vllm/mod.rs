//! vLLM: installed, started, watched and stopped.

mod classify;
mod engine;
mod files;
mod gpu;
mod launcher;
mod model;
mod parts;
mod provision;
mod server;

pub use classify::Failure;
pub use engine::Vllm;
pub use files::write_json;
pub use launcher::{Forks, NoFork, is_tried};
pub use model::SHAPES;
pub use parts::Parts;
pub use provision::{
    Device, Node, Provisioned, device, ensure_device, known, provision, superseded_environments,
};
pub use server::{GRACE, NoServer, Server};

#[cfg(test)]
mod tests;
