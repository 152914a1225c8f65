//! Means over server starts, their intervals, and verdicts.
