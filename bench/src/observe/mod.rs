//! The server's own account: its metrics before, after and during a load.

mod prometheus;
mod server;
mod watch;

pub(crate) use server::ControlPlane;
pub(crate) use watch::Watch;
