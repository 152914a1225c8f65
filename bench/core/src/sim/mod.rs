//! The simulator: vLLM v1's scheduler and KV block pool on a virtual clock.
//!
//! [`scheduler`] and [`blocks`] decide and know no time; [`engine`] adds how long a step takes;
//! [`server`] adds the front end, the clients and the start. The engine and the front end take
//! the time as a parameter, so that they serve real clients too. [`predict`](mod@predict) and
//! [`fit`](mod@fit) hold all of it to trials that were measured.

pub mod blocks;
pub mod engine;
pub mod fit;
pub mod memory;
pub mod model;
pub mod predict;
pub mod scheduler;
pub mod server;
pub mod settings;

pub use model::Model;
pub use server::{Progress, Server, launch};
pub use settings::{KNOWN_FLAGS, Settings};
