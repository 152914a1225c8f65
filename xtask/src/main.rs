//! The pipeline: a content-hashed DAG of stages over a store of trials.

mod config;
mod plots;

fn main() {}
