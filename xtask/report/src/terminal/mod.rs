//! Results as text for a terminal of 80 columns.

mod closing;
mod table;

pub use closing::{Beside, closing, failed};
pub use table::compared;
