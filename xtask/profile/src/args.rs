//! Arguments of the engine: `[engine.args]`, `[baseline.args]`, and what a sweep sets.

use bench_core::{
    schema::{ArgValue, Args},
    sim::KNOWN_FLAGS,
};
use toml::de::DeValue;

use super::{
    diagnostic::{Diagnostic, nearest, suggest},
    environment::{environment, variable_value},
    read::{Item, Problems, Span, Table, decimal},
};
use crate::flags::{self, Kind};

/// Longest text or list of one argument.
const TEXT_BYTES_MAX: usize = 4096;
const ITEMS_MAX: usize = 1000;

/// What an engine accepts.
pub(super) enum Accepted {
    /// Flags that the simulator models, these of its model included.
    Simulated {
        /// Flags of which the model says what their values do.
        planted: Vec<String>,
    },
    /// Any flag, these included although they look like slips.
    Any {
        /// `allow_unknown_flags` of the profile.
        insisted: Vec<String>,
    },
    /// None: the server runs already.
    Nothing,
}

/// Arguments with their places.
#[derive(Clone, Default)]
pub(super) struct PlacedArgs {
    pub(super) args: Args,
    spans: Vec<(String, Span)>,
}

impl PlacedArgs {
    pub(super) fn insert(&mut self, name: &str, value: ArgValue, span: Span) {
        self.args.insert(name.to_owned(), value);
        self.spans.push((name.to_owned(), span));
    }

    /// Where one of these flags is set, the first that is.
    pub(super) fn span_of(&self, flags: &[&str]) -> Option<Span> {
        flags.iter().find_map(|flag| {
            let (_, span) = self.spans.iter().find(|(name, _)| name == flag)?;
            Some(span.clone())
        })
    }
}

/// These arguments with others on top.
pub(super) fn overlay(below: &Args, above: &Args) -> Args {
    let mut args = below.clone();
    args.extend(above.iter().map(|(name, value)| (name.clone(), value.clone())));
    args
}

impl Accepted {
    /// Reads a table of arguments whole.
    pub(super) fn read(&self, problems: &Problems, mut table: Table<'_>) -> PlacedArgs {
        let mut args = PlacedArgs::default();
        for item in table.rest() {
            let name = item.key.value;
            // What all servers have is [engine.env].
            let takes_env = matches!(self, Self::Any { .. }) && table.title != "[engine.args]";
            if name == "env" && takes_env {
                let title = format!("`env` of {}", table.title);
                for (variable, value) in environment(&item, &title).unwrap_or_default() {
                    args.insert(&flags::argument(&variable), ArgValue::Text(value), item.span());
                }
                continue;
            }
            let unknown = format!("unknown key `{name}` in {}", table.title);
            if self.check_name(problems, unknown, name, &item.key.span)
                && let Some(value) = self.read_value(&item, name)
            {
                args.insert(name, value, item.span());
            }
        }
        args
    }

    /// The value of a flag, or of the argument that stands for a variable, in canonical form; checked
    /// where the flag is known.
    pub(super) fn read_value(&self, item: &Item<'_>, flag: &str) -> Option<ArgValue> {
        if flags::variable(flag).is_some() {
            return Some(ArgValue::Text(variable_value(item)?));
        }
        let value = match item.raw() {
            DeValue::Boolean(b) => ArgValue::Bool(*b),
            DeValue::Integer(_) => ArgValue::Int(item.integer(i64::MIN..=i64::MAX)?.value),
            DeValue::Float(_) => ArgValue::Text(item.decimal()?.value.to_string()),
            DeValue::String(_) => ArgValue::Text(short(item, item.text()?.value.to_owned())?),
            DeValue::Array(_) => ArgValue::List(
                item.list(ITEMS_MAX)?.iter().map(list_element).collect::<Option<_>>()?,
            ),
            DeValue::Table(_) => match json(item.raw()) {
                Ok(value) => ArgValue::Text(short(item, value.to_string())?),
                Err(what) => {
                    item.report(format!("`{flag}` holds {what}"), "take it out");
                    return None;
                }
            },
            DeValue::Datetime(_) => {
                item.report(format!("`{flag}` is a date"), "no flag takes one");
                return None;
            }
        };
        let Some(known) = flags::find(flag) else {
            return Some(value);
        };
        let expected = match known.kind.normalize(value.clone()) {
            Ok(value) => return Some(value),
            Err(expected) => expected,
        };
        let message = format!("`{flag}` does not take this value");
        let mut problem = Diagnostic::new(message, item.span(), expected);
        if let Kind::Named(_) = known.kind {
            if self.insists(flag) {
                return Some(value);
            }
            problem = problem.note(format!(
                "if your vLLM takes it: allow_unknown_flags = [\"{flag}\"] in [engine]"
            ));
        }
        item.tell(problem);
        None
    }

    /// Whether the profile says of a flag that its vLLM knows more of it than this program.
    fn insists(&self, flag: &str) -> bool {
        matches!(self, Self::Any { insisted } if insisted.iter().any(|name| name == flag))
    }

    /// Whether a flag may be set; reports it where not, an unknown one with this message.
    pub(super) fn check_name(
        &self,
        problems: &Problems,
        unknown: String,
        name: &str,
        span: &Span,
    ) -> bool {
        let problem =
            |message: String, label: String| Some(Diagnostic::new(message, span.clone(), label));
        let objection = if let Self::Nothing = self {
            problem(
                format!("`{name}` cannot be set on a server that runs already"),
                "flags take kind = \"vllm\" or \"simulator\"".to_owned(),
            )
        } else if name == "env" {
            problem(
                "`env` is no flag of `vllm serve`".to_owned(),
                match self {
                    Self::Any { .. } => {
                        "a sweep names its variable as env = \"NAME\", a value sets env = { NAME = \"1\" }, \
                         and every start has [engine.env]"
                    }
                    _ => "the simulator reads no environment; measure it with kind = \"vllm\"",
                }
                .to_owned(),
            )
        } else if let Some(why) = flags::reserved(name) {
            problem(format!("`{name}` is set by the bench"), why.to_owned())
        } else if let Some(flag) = name.strip_prefix("no-").filter(|flag| flags::exists(flag)) {
            problem(unknown, format!("write `{flag} = false`"))
        } else {
            match self {
                Self::Any { insisted } if is_flag_name(name) => {
                    let slip = flags::slip(name).filter(|_| !insisted.iter().any(|i| i == name));
                    slip.and_then(|meant| problem(unknown, format!("did you mean `{meant}`?"))).map(
                        |problem| {
                            problem.note(format!(
                                "if vLLM has such a flag: allow_unknown_flags = [\"{name}\"] in \
                                 [engine]"
                            ))
                        },
                    )
                }
                Self::Any { .. } => problem(unknown, suggest(name, flags::names()))
                    .map(|problem| problem.note("a flag is lower case with dashes")),
                _ if KNOWN_FLAGS.contains(&name) => None,
                Self::Simulated { planted } if planted.iter().any(|flag| flag == name) => None,
                _ if flags::exists(name)
                    || nearest(name, KNOWN_FLAGS.iter().copied()).is_none() =>
                {
                    problem(
                        format!("the simulator does not model `{name}`"),
                        "measure it with kind = \"vllm\"".to_owned(),
                    )
                    .map(|problem| problem.note(format!("it models {}", KNOWN_FLAGS.join(", "))))
                }
                _ => problem(unknown, suggest(name, KNOWN_FLAGS.iter().copied())),
            }
        };
        match objection {
            Some(problem) => {
                problems.report(problem);
                false
            }
            None => true,
        }
    }
}

fn list_element(item: &Item<'_>) -> Option<String> {
    match item.raw() {
        DeValue::Integer(_) => item.integer(i64::MIN..=i64::MAX).map(|n| n.value.to_string()),
        DeValue::Float(_) => item.decimal().map(|n| n.value.to_string()),
        _ => short(item, item.text()?.value.to_owned()),
    }
}

fn short(item: &Item<'_>, text: String) -> Option<String> {
    if text.len() <= TEXT_BYTES_MAX {
        return Some(text);
    }
    item.report(
        format!("`{}` has {} bytes", item.key.value, text.len()),
        format!("expected at most {TEXT_BYTES_MAX}"),
    );
    None
}

/// A table as the JSON that vLLM takes for it; numbers stay as they are written.
fn json(value: &DeValue<'_>) -> Result<serde_json::Value, &'static str> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(b) => (*b).into(),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_err(|_| "an integer that is too large")?
            .into(),
        DeValue::Float(_) => {
            let exact = decimal(value).and_then(Result::ok);
            exact.ok_or("a number that cannot be kept exactly")?.to_f64().into()
        }
        DeValue::Datetime(_) => return Err("a date"),
        DeValue::Array(items) => {
            items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?
        }
        DeValue::Table(table) => {
            let mut object = serde_json::Map::new();
            for (key, value) in table {
                object.insert(key.get_ref().to_string(), json(value.get_ref())?);
            }
            object.into()
        }
    })
}

/// Whether a name can be a flag's at all; what is no word must not reach a command line.
fn is_flag_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
