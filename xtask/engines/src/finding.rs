//! What `doctor` finds of one thing that a profile needs.

/// One thing that a profile needs.
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What was found when it is fine, or what is missing.
    pub found: Result<String, Missing>,
}

/// Something missing.
pub struct Missing {
    /// What is wrong.
    pub what: String,
    /// The command, or the step, that mends it.
    pub fix: String,
}
