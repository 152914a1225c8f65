//! vLLM: installed, started, watched and stopped.

mod classify;
mod engine;
mod gpu;
mod model;
mod provision;
mod server;

pub use classify::Failure;
pub use engine::Vllm;
pub use provision::{
    Device, Node, Provisioned, device, ensure_device, known, provision, superseded_environments,
    write_json,
};
pub use server::{GRACE, Server};

#[cfg(test)]
mod tests;
