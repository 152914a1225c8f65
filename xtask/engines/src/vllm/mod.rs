//! vLLM: installed, started, watched and stopped.

mod classify;
mod engine;
mod gpu;
mod launcher;
mod model;
mod parts;
mod provision;
mod server;

pub use classify::Failure;
pub use engine::Vllm;
pub use launcher::{Forks, NoFork, is_tried};
pub use model::SHAPES;
pub use parts::Parts;
pub use provision::{
    Device, Node, Provisioned, device, ensure_device, known, provision, superseded_environments,
    write_json,
};
pub use server::{GRACE, NoServer, Server};

#[cfg(test)]
mod tests;
