//! Models of the simulator, and what they are fitted to, by name.

use std::path::{Path, PathBuf};

use bench_core::sim;

/// Where the models of the simulator, and what they are fitted to, come from.
pub trait ReadModel {
    /// The model of that name.
    ///
    /// # Errors
    ///
    /// Why it cannot be read; `None` where there is no such model.
    fn read(&self, name: &str) -> Result<sim::Model, Option<String>>;

    /// The names there are.
    fn names(&self) -> Vec<String>;

    /// The text of a file of measured trials.
    ///
    /// # Errors
    ///
    /// Why it cannot be read; `None` where there is no such file.
    fn measured(&self, name: &str) -> Result<String, Option<String>>;

    /// The files of measured trials that there are.
    fn measured_names(&self) -> Vec<String>;
}

/// `bench/models/` of a repository.
pub struct ModelFolder(pub PathBuf);

impl ReadModel for ModelFolder {
    fn read(&self, name: &str) -> Result<sim::Model, Option<String>> {
        if !self.names().iter().any(|other| other == name) {
            return Err(None);
        }
        let text = std::fs::read_to_string(self.0.join(format!("{name}.json")))
            .map_err(|error| Some(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| Some(error.to_string()))
    }

    fn names(&self) -> Vec<String> {
        stems(&self.0, "json")
    }

    fn measured(&self, name: &str) -> Result<String, Option<String>> {
        if !self.measured_names().iter().any(|other| other == name) {
            return Err(None);
        }
        std::fs::read_to_string(self.0.join(format!("measured/{name}.jsonl")))
            .map_err(|error| Some(error.to_string()))
    }

    fn measured_names(&self) -> Vec<String> {
        stems(&self.0.join("measured"), "jsonl")
    }
}

/// Names without their extension of the files in a folder, sorted.
pub(crate) fn stems(folder: &Path, extension: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}
