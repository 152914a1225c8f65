//! Arguments as vLLM reads them: on its command line and in a file for `vllm serve --config`.

use std::fmt::Write as _;

use bench_core::{
    decimal::Decimal,
    schema::{ArgValue, Args},
};

/// Flags that 0.32 takes without a `--no-` form.
const SWITCHES: [&str; 2] = ["aggregate-engine-logging", "data-parallel-multi-port-external-lb"];

/// The words after `vllm serve MODEL`, in the order of the names.
pub fn to_command_line(args: &Args) -> Vec<String> {
    args.iter().flat_map(|(name, value)| words(name, value)).collect()
}

/// The same for a POSIX shell, one string a flag.
pub fn to_shell(args: &Args) -> Vec<String> {
    let flags = args.iter().map(|(name, value)| words(name, value));
    let flags = flags.filter(|words| !words.is_empty());
    flags.map(|words| words.iter().map(|w| shell_word(w)).collect::<Vec<_>>().join(" ")).collect()
}

/// A word that a POSIX shell reads as itself.
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The words of one flag; none of a switch that is off.
fn words(name: &str, value: &ArgValue) -> Vec<String> {
    match value {
        ArgValue::Bool(true) => vec![format!("--{name}")],
        ArgValue::Bool(false) if SWITCHES.contains(&name) => Vec::new(),
        ArgValue::Bool(false) => vec![format!("--no-{name}")],
        ArgValue::List(items) => {
            std::iter::once(format!("--{name}")).chain(items.iter().cloned()).collect()
        }
        // argparse takes a word that begins with a dash for the next flag.
        ArgValue::Int(_) | ArgValue::Text(_) if value.to_string().starts_with('-') => {
            vec![format!("--{name}={value}")]
        }
        ArgValue::Int(_) | ArgValue::Text(_) => vec![format!("--{name}"), value.to_string()],
    }
}

/// The same as a YAML document for `vllm serve --config FILE.yaml`.
///
/// vLLM's reader (`FlexibleArgumentParser.load_config_file`) turns `true` into `--flag`, `false`
/// into `--no-flag` where there is one, a list into `--flag A B`, and any other value into
/// `--flag VALUE` by way of Python's `str`; so a text that YAML would read as something else is
/// quoted.
pub fn to_yaml(args: &Args) -> String {
    let mut yaml = String::new();
    for (name, value) in args {
        let value = match value {
            ArgValue::Bool(b) => b.to_string(),
            ArgValue::Int(n) => n.to_string(),
            ArgValue::Text(text) => scalar(text),
            ArgValue::List(items) => {
                let items: Vec<_> = items.iter().map(|item| scalar(item)).collect();
                format!("[{}]", items.join(", "))
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(yaml, "{name}: {value}");
    }
    yaml
}

/// A YAML scalar that Python reads back as this text.
fn scalar(text: &str) -> String {
    let plain_number = text.parse::<Decimal>().is_ok_and(|decimal| {
        // Python writes smaller floats with an exponent.
        decimal.to_string() == text && !(1..100).contains(&decimal.millionths().unsigned_abs())
    });
    if plain_number || is_plain_word(text) {
        return text.to_owned();
    }
    // A JSON string is a double-quoted YAML scalar.
    serde_json::Value::from(text).to_string()
}

fn is_plain_word(text: &str) -> bool {
    const NOT_TEXT: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "null", "y"];
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && !NOT_TEXT.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Args {
        let text = |text: &str| ArgValue::Text(text.into());
        [
            ("aggregate-engine-logging", ArgValue::Bool(false)),
            ("compilation-config", text(r#"{"mode":3}"#)),
            ("cudagraph-capture-sizes", ArgValue::List(vec!["1".into(), "8".into()])),
            ("enable-chunked-prefill", ArgValue::Bool(false)),
            ("enforce-eager", ArgValue::Bool(true)),
            ("generation-config", text("vllm")),
            ("gpu-memory-utilization", text("0.92")),
            ("max-num-seqs", ArgValue::Int(256)),
            ("quantization", text("off")),
            ("tokenizer", text("./a folder: \"x\"")),
            ("x-offset", ArgValue::Int(-1)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    #[test]
    fn command_line() {
        insta::assert_snapshot!(to_command_line(&example()).join("\n"));
    }

    /// A flag is one string, whatever vLLM lacks or a shell would take apart.
    #[test]
    fn words_survive_a_shell() {
        let args = Args::from([
            ("aggregate-engine-logging".to_owned(), ArgValue::Bool(false)),
            ("async-scheduling".to_owned(), ArgValue::Bool(false)),
            ("compilation-config".to_owned(), ArgValue::Text(r#"{"mode": "it's"}"#.to_owned())),
            ("cudagraph-capture-sizes".to_owned(), ArgValue::List(vec!["1".into(), "8".into()])),
            ("max-num-seqs".to_owned(), ArgValue::Int(256)),
            ("x-offset".to_owned(), ArgValue::Int(-1)),
        ]);
        assert_eq!(
            to_shell(&args),
            [
                "--no-async-scheduling",
                r#"--compilation-config '{"mode": "it'\''s"}'"#,
                "--cudagraph-capture-sizes 1 8",
                "--max-num-seqs 256",
                "--x-offset=-1",
            ]
        );
    }

    #[test]
    fn yaml() {
        insta::assert_snapshot!(to_yaml(&example()));
    }

    #[test]
    fn what_yaml_reads_as_something_else_is_quoted() {
        for text in ["on", "No", "null", "~", "1_000", "007", "1e5", "0x10", "a: b", "", "y", "#"] {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
        for text in ["bfloat16", "0.92", "-3", "0", "org/model-7b"] {
            assert_eq!(scalar(text), text);
        }
    }
}
