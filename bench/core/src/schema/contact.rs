use serde::{Deserialize, Serialize};

/// What came of asking a server for one token: what `bench probe` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "contact", rename_all = "snake_case", deny_unknown_fields)]
pub enum Contact {
    /// It sent one.
    Ready {
        /// Its version, where it says one.
        version: Option<String>,
        /// Why another model than the profile's may have answered.
        doubt: Option<Fault>,
    },
    /// It took the request and has sent nothing yet.
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Something is wrong.
    Fault(Fault),
}

/// What is wrong with a server, or with what a profile says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What is wrong, after the server's address.
    pub what: String,
    /// What to do.
    pub fix: String,
    /// Whether a server that is still starting looks like this.
    pub passes: bool,
}
