//! The simulator: vLLM v1's scheduler and KV block pool on a virtual clock.
//!
//! [`scheduler`] and [`blocks`] decide and know no time; [`engine`] adds how long a step takes;
//! [`machine`] puts the API servers before it; [`server`] adds the clients and the start. The
//! machine takes the time as a parameter, so that it serves real clients too.
//! [`predict`](mod@predict) and [`fit`](mod@fit) hold all of it to trials that were measured.

/// Number of the way the simulator works: part of its identity, and so of the key of every trial
/// that is simulated, of no other.
///
/// Raise it by hand whenever a change makes the same trial yield other bytes; `tests/simulator.rs`
/// compares the digest of fixed trials with the one recorded for this number.
pub const EPOCH: u32 = 5;

pub mod accuracy;
mod answers;
mod assumptions;
pub mod blocks;
mod clients;
pub mod engine;
pub mod fit;
mod front_end;
pub mod machine;
pub mod memory;
mod meter;
pub mod model;
mod noise;
pub mod predict;
pub mod scheduler;
pub mod server;
pub mod settings;

pub use answers::answers;
pub use assumptions::{ASSUMPTIONS, Assumption};
pub use model::{Cards, Effect, KNOWN_FLAGS, LAYOUT_FLAGS, Model};
pub use noise::HostNoise;
pub use server::{Progress, Server, launch};
pub use settings::Settings;
