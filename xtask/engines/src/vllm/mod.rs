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

pub use engine::Vllm;
pub use files::write_json;
pub use gpu::first as first_gpu;
pub use launcher::is_tried;
pub use model::SHAPES;
pub use provision::{
    Device, Node, Provisioned, device, ensure_device, known, provision, superseded_environments,
};
pub use server::Servers;

#[cfg(test)]
mod tests;
