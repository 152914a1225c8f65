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
    let mut words = Vec::new();
    for (name, value) in args {
        match value {
            ArgValue::Bool(true) => words.push(format!("--{name}")),
            ArgValue::Bool(false) if SWITCHES.contains(&name.as_str()) => {}
            ArgValue::Bool(false) => words.push(format!("--no-{name}")),
            ArgValue::List(items) => {
                words.push(format!("--{name}"));
                words.extend(items.iter().cloned());
            }
            // argparse takes a word that begins with a dash for the next flag.
            ArgValue::Int(_) | ArgValue::Text(_) if value.to_string().starts_with('-') => {
                words.push(format!("--{name}={value}"));
            }
            ArgValue::Int(_) | ArgValue::Text(_) => {
                words.push(format!("--{name}"));
                words.push(value.to_string());
            }
        }
    }
    words
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
