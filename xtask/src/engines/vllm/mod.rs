//! vLLM: installed, started, watched and stopped.

mod classify;
mod engine;
mod gpu;
mod model;
mod provision;
mod server;

pub(crate) use classify::{Failure, classify};
pub(crate) use engine::Vllm;
pub(crate) use model::{Model, Shape, shapes};
pub(crate) use provision::{Device, Identity, Provisioned, known, provision};
pub(crate) use server::{GRACE, Server};

#[cfg(test)]
mod tests;
