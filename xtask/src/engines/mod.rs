//! What is started to be measured, and how it is ended again.

mod group;
pub mod vllm;

pub use group::{Ended, Group, Program, end_orphans};

#[cfg(test)]
pub(crate) mod scratch;
