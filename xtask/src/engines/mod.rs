//! What is started to be measured, and how it is ended again.

mod group;
pub(crate) mod vllm;

pub(crate) use group::{Ended, Group, Program, end_orphans};

#[cfg(test)]
pub(crate) mod scratch;
