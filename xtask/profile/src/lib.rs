//! Profiles: as written, then as used.
//!
//! A profile says everything that a run depends on. It is read with the place of every value
//! ([`read`]), checked whole, so that one run shows all mistakes, and resolved into a
//! [`Profile`] with every default filled in. What cannot work is refused here, before anything
//! is started or written.

mod answers;
mod args;
mod arrival;
mod calibrate;
mod capacity;
mod cost;
mod data;
mod diagnostic;
mod engine;
mod environment;
mod executor;
pub mod feasibility;
mod files;
pub mod flags;
mod goals;
mod load;
mod models;
mod parse;
mod read;
mod remote;
mod request;
mod resolved;
pub mod role;
pub mod stage;
mod sweep;
#[cfg(test)]
mod tests;
mod trial;
mod tune;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use models::stems;

pub use answers::AnswersConfig;
pub use cost::Layout;
pub use diagnostic::{ConfigError, Diagnostic, Mistake, nearest};
pub use files::files_named;
pub use models::{ModelFolder, ReadModel};
pub use parse::parse;
pub use remote::check_remote_url;
pub use resolved::{
    Bound, Calibrate, Capacity, CostConfig, EndpointConfig, EngineConfig, ExecutorConfig, Gain,
    Guard, Limit, NamedLoad, Objective, Part, Profile, SlurmConfig, Sweep, Traffic, Tune,
    TuneSetting, VllmConfig,
};
pub use stage::Stage;
pub use trial::{SAMPLES, Trial};

/// Largest profile that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Loads the profile of that name under `bench/profiles/`, or a file.
///
/// # Errors
///
/// Every mistake in it, or why it cannot be read.
pub fn load(name_or_path: &str, root: &Path) -> Result<Profile, ConfigError> {
    let folder = root.join("bench/profiles");
    let is_path = name_or_path.ends_with(".toml") || name_or_path.contains(['/', '\\']);
    let path = match is_path {
        true => PathBuf::from(name_or_path),
        false => folder.join(format!("{name_or_path}.toml")),
    };
    let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if !is_profile_name(name) {
        return Err(ConfigError::Unreadable {
            message: format!("`{name_or_path}` is no name of a profile"),
            advice: "expected letters, digits, dashes, dots and underscores: results/NAME is \
                     named after it"
                .to_owned(),
        });
    }
    let bytes = read_bytes(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(&shown, name, &folder),
        _ => ConfigError::Unreadable {
            message: format!("cannot read {shown}: {error}"),
            advice: "name another profile, or make it readable".to_owned(),
        },
    })?;
    let source = decode(bytes, &shown)?;
    parse(name, &path, &source, &ModelFolder(root.join("bench/models"))).map_err(|problems| {
        ConfigError::Invalid { file: shown.clone(), source: source.clone(), problems }
    })
}

/// At most one byte more than is allowed, so that a wrong path cannot fill the memory.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(bytes: Vec<u8>, shown: &str) -> Result<String, ConfigError> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err(ConfigError::Unreadable {
            message: format!("{shown} is larger than {BYTES_MAX} bytes"),
            advice: "a profile is a page of TOML: is it the right file?".to_owned(),
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let source = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
        let problem = Diagnostic::new("the profile is not UTF-8", span, "save it as UTF-8");
        ConfigError::Invalid { file: shown.to_owned(), source, problems: vec![problem] }
    })
}

fn missing(shown: &str, name: &str, folder: &Path) -> ConfigError {
    let names = stems(folder, "toml");
    let all = names.join(", ");
    let advice = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? profiles: {all}"),
        None if names.is_empty() => "bench/profiles has none".to_owned(),
        None => format!("profiles: {all}"),
    };
    ConfigError::Unreadable { message: format!("no profile {shown}"), advice }
}

/// Whether a name is one that a profile, its results and its part of the store may have.
pub fn is_profile_name(name: &str) -> bool {
    (1..=60).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
