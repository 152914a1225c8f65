//! The files that a profile names, without reading them.

use toml::{Table, Value};

/// Names of the files that a profile reads, as written: `file` of the `data` of its loads, `prompts` of `[answers]`.
///
/// # Errors
/// When the text is no TOML.
pub fn files_named(source: &str) -> Result<Vec<String>, toml::de::Error> {
    let profile: Table = source.parse()?;
    let loads = profile.get("load").and_then(Value::as_array).into_iter().flatten();
    let data = loads.filter_map(|load| load.get("data")?.get("file"));
    let prompts = profile.get("answers").and_then(|answers| answers.get("prompts"));
    Ok(data.chain(prompts).filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_prompts_are_named_however_they_are_written() {
        let source = "[answers]\nprompts = 'p.jsonl'\n[[load]]\ndata = { file = 'a.jsonl' }\n[[load]]\n[load.data]\n\
                      file = '../b.jsonl'\n[[load]]\nname = 'drawn'\n[other]\nfile = 'c'\n";
        assert_eq!(files_named(source).expect("is TOML"), ["a.jsonl", "../b.jsonl", "p.jsonl"]);
        assert!(files_named("= ").is_err());
    }
}
