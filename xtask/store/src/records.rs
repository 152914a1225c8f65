//! All records of a kind, to look for what no key is known of.

use anyhow::Result;

use super::{Action, Kind, Store, garbage::files};

impl Store {
    /// Every whole record of a kind; damaged ones are left to whoever needs them.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn records(&self, kind: &Kind) -> Result<Vec<Action>> {
        let mut records = Vec::new();
        for path in files(&self.root.join("actions").join(kind.name()))? {
            let text = self.read(&path)?;
            records.extend(text.and_then(|text| Action::from_json(&text)));
        }
        Ok(records)
    }
}
