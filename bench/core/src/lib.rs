//! The pure half of the bench: data in, data out.
//!
//! Nothing here opens a socket, reads a clock or touches a file, and nothing depends on the
//! machine: transcendental functions come from `libm`, time is integer nanoseconds, and no
//! output depends on the iteration order of a hash map. That is what lets a simulated suite
//! yield the same bytes everywhere.

pub mod answers;
pub mod arrival;
pub mod canonical;
pub mod capacity;
mod cholesky;
pub mod dataset;
pub mod decimal;
pub mod energy;
pub mod hist;
pub mod metric;
pub mod parallel;
pub mod prompt;
pub mod rng;
pub mod schema;
pub mod search;
pub mod sim;
pub mod stats;
pub mod summarize;
pub mod warm_up;
pub mod workload;
pub mod wrap;

/// Number of the way we measure. It is part of every trial's key.
///
/// Raise it by hand whenever a change makes the same trial yield other bytes on every engine; see
/// [`sim::EPOCH`] for the simulator's. Records of an older number stay readable: `--offline` asks for
/// trials of the epoch that a bundle was measured with.
///
/// 1: failed requests left the percentiles; streams asked for the number of tokens in every event, and
/// `/metrics` was read four times a second. 2: failures rank behind all others, an answer that is
/// shorter than asked for has failed, and the server is observed as its users observe it.
pub const INSTRUMENT_EPOCH: u32 = 2;
