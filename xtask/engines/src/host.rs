//! Who a launch works for.

use std::ops::ControlFlow;

use bench_core::schema::{Event, PlannedTrial};

/// The owner of a launch: takes its events, says what else it wants, and may end it.
pub trait LaunchHost {
    /// Takes an event. `Break` ends the launch at once, the server with it.
    fn event(&mut self, event: Event) -> ControlFlow<()>;

    /// All planned trials are measured and the server is still up: the trials that are wanted next,
    /// none to end the launch.
    fn more(&mut self) -> Vec<PlannedTrial>;

    /// Takes what a person should know.
    fn note(&mut self, text: String);

    /// Whether the launch is to end, asked several times a second.
    fn interrupted(&self) -> bool;
}
