//! The server's own account before, after and during a load, and what a load takes of the machine.

mod contact;
mod machine;
mod prometheus;
mod said;
mod server;
mod watch;

pub(crate) use machine::Machine;
pub(crate) use prometheus::Scrape;
pub(crate) use server::ControlPlane;
pub(crate) use watch::{Gauges, Watch};
