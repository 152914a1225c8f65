//! The pipeline: a content-hashed DAG of stages over a store of trials.

mod config;
mod dag;
mod report;
mod store;

fn main() {}
