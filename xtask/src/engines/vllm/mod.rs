//! vLLM: installed, started, watched and stopped.

mod classify;
mod engine;
mod gpu;
mod model;
mod provision;
mod server;

pub use classify::{Failure, classify};
pub use engine::Vllm;
pub use model::{Model, Shape, shapes};
pub use provision::{Device, Identity, Provisioned, known, provision};
pub use server::{GRACE, Server};
