//! `init`: makes a folder one of the project, from what the program was built with.

use anyhow::{Context as _, Result};
use serde_json::json;
use store::disk::write_whole;

use crate::{cli::MessageFormat, error::Code, output};

/// Files that come with the program: name from the project's root, and content.
pub type Given = [(&'static str, &'static [u8])];

/// Writes profiles, models and the seed's figures into the current folder.
pub fn run(given: &Given, format: MessageFormat) -> Result<()> {
    let here = std::env::current_dir().context("finding the current folder")?;
    if here.join("bench/profiles").exists() {
        let message = format!("{} has bench/profiles already", here.display());
        return Err(Code::Exists.error(message));
    }
    for (name, bytes) in given {
        let path = here.join(name);
        write_whole(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    let (folder, files, next) = (here.display(), given.len(), "cargo xtask doctor");
    match format {
        MessageFormat::Human => {
            outln!(
                "wrote {files} files into {folder}: bench/profiles has the profiles\nnext: {next}"
            )
        }
        MessageFormat::Json => {
            let wrote = json!({ "folder": folder.to_string(), "files": files, "next": next });
            output::answer("init", &wrote)
        }
    }
}
