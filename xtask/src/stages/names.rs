//! Names of stages that know each other by name, and of what they write.

/// The stage that all others start from.
pub const PROVISION: &str = "provision";
/// What it writes.
pub const IDENTITY_FILE: &str = "identity.json";
/// What the simulator says of every setting of a search.
pub const PREDICT: &str = "predict";
/// What it writes.
pub const PREDICT_FILE: &str = "predictions.json";
/// The search.
pub const TUNE: &str = "tune";
/// What it writes.
pub const TUNE_FILE: &str = "tune.json";
