//! What of the store travels as objects, each under the name that it has here.

use anyhow::Result;
use bench_core::{canonical::Digest, schema::RemoteObject};

use super::{Action, Kind, Store, blob_name, record_name};

impl Action {
    /// A record that came from elsewhere; `None` when it is damaged, of another key, or not whole.
    pub fn arrived(text: &[u8], kind: &Kind, key: &Digest) -> Option<Self> {
        let action = Self::from_json(text)?;
        let is_it = action.kind == *kind && action.key == *key && action.left_out.is_empty();
        let is_made_of_it = Digest::of_json(&action.key_inputs).is_ok_and(|made| made == *key);
        (is_it && is_made_of_it).then_some(action)
    }
}

impl Store {
    /// The files of a record and its outputs, the record last; `None` when it is not here, or not
    /// whole. Every digest is checked.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn objects(&self, kind: &Kind, key: &Digest) -> Result<Option<Vec<RemoteObject>>> {
        let Some(action) = self.action(kind, key)?.filter(|action| action.left_out.is_empty())
        else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for digest in action.outputs.values() {
            if self.get(digest)?.is_none() {
                return Ok(None);
            }
            names.push(blob_name(digest));
        }
        names.push(record_name(kind, key));
        let object = |name: String| RemoteObject { from: self.root.join(&name), name };
        Ok(Some(names.into_iter().map(object).collect()))
    }
}
