//! Results as text for a terminal of 80 columns.

mod closing;
mod table;

pub use closing::closing;
pub use table::compared;
