use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What `bench remote` is asked, one JSON object a line of its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteRequest {
    /// Names the request in its reply.
    pub id: u64,
    /// What is asked.
    pub ask: RemoteAsk,
}

/// What may be asked of a remote store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RemoteAsk {
    /// Bring an object here.
    Fetch {
        /// Name of the object.
        name: String,
        /// The file that takes its content; in a folder that is there.
        to: PathBuf,
    },
    /// Is there such an object?
    Find {
        /// Name of the object.
        name: String,
    },
    /// Make these objects, in this order, each unless it is there; none of them if the last is.
    Push {
        /// The objects.
        objects: Vec<RemoteObject>,
    },
}

/// An object to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteObject {
    /// Its name.
    pub name: String,
    /// The file with its content.
    pub from: PathBuf,
}

/// What `bench remote` answers, one JSON object a line; in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteReply {
    /// [`RemoteRequest::id`].
    pub id: u64,
    /// What came of it.
    pub outcome: RemoteOutcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RemoteOutcome {
    /// It is there: the object was brought, found, or need not be made.
    There,
    /// The objects were made.
    Made,
    /// There is no such object.
    Absent,
    /// The remote store failed.
    Failed {
        /// What failed and what to do; holds no credential.
        why: String,
    },
}
