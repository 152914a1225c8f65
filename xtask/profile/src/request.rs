//! How a load's requests are put: route, headers, more fields of the body.

use std::collections::BTreeMap;

use bench_core::schema::{Api, RequestShape};
use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::{
    diagnostic::Diagnostic,
    read::{Item, Problems, Span, Table},
};

pub(super) const APIS: [(&str, Api); 3] = [
    ("completions", Api::Completions),
    ("completions-text", Api::CompletionsText),
    ("chat", Api::Chat),
];

/// Fields of the body that the load sets itself, and what sets them.
const OWN_FIELDS: [(&str, &str); 9] = [
    ("model", "`model` in [engine]"),
    ("prompt", "the load's lengths or `data`"),
    ("messages", "the load's lengths or `data`"),
    ("max_tokens", "`output_tokens`"),
    ("max_completion_tokens", "`output_tokens`"),
    ("ignore_eos", "`ignore_eos` of the load"),
    ("stream", "`stream` of the load"),
    ("stream_options", "`stream` of the load"),
    ("n", "the bench: one answer a request"),
];

/// Headers that a connection sets itself.
const OWN_HEADERS: [&str; 5] =
    ["host", "content-type", "content-length", "transfer-encoding", "connection"];
/// What the name of a header with a secret has in it.
const SECRETS: [&str; 6] = ["authorization", "cookie", "api-key", "apikey", "token", "secret"];

/// Reads it. `of_texts` is whether the prompts are texts of a file, which have no token ids.
pub(super) fn read(
    problems: &Problems,
    table: &mut Table<'_>,
    of_texts: bool,
) -> Option<RequestShape> {
    let default = RequestShape::default();
    let api = match table.get("api") {
        Some(item) => api(&item, of_texts),
        None if of_texts => Some(Api::CompletionsText),
        None => Some(default.api),
    };
    let mut boolean = |key, default| match table.get(key) {
        Some(item) => item.boolean().map(|b| b.value),
        None => Some(default),
    };
    let stream = boolean("stream", default.stream);
    let ignore_eos = boolean("ignore_eos", default.ignore_eos);
    let extra_body = match table.get("extra_body") {
        Some(item) => extra_body(&item),
        None => Some(BTreeMap::new()),
    };
    let headers = match table.get("headers") {
        Some(item) => headers(problems, &table.span, &item),
        None => Some(BTreeMap::new()),
    };
    Some(RequestShape {
        api: api?,
        stream: stream?,
        ignore_eos: ignore_eos?,
        extra_body: extra_body?,
        headers: headers?,
    })
}

fn api(item: &Item<'_>, of_texts: bool) -> Option<Api> {
    let api = item.choice(&APIS)?.value;
    if of_texts && api == Api::Completions {
        item.report(
            "texts of a file have no token ids",
            "expected \"completions-text\" or \"chat\"",
        );
        return None;
    }
    Some(api)
}

fn extra_body(item: &Item<'_>) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    let mut complete = true;
    for field in item.table("`extra_body`")?.rest() {
        let name = field.key.value;
        if let Some((_, setter)) = OWN_FIELDS.iter().find(|(own, _)| *own == name) {
            field.report(format!("`{name}` in extra_body"), format!("it is set by {setter}"));
            complete = false;
        } else if let Some(value) = json(field.raw()) {
            fields.insert(name.to_owned(), value.to_string());
        } else {
            field.report(
                format!("`{name}` has a value that JSON has not"),
                "expected text, finite numbers, true, false, lists and tables",
            );
            complete = false;
        }
    }
    complete.then_some(fields)
}

/// The value in JSON; dates and numbers without end have none.
fn json(value: &DeValue<'_>) -> Option<Value> {
    let object = |table: &DeTable<'_>| {
        let fields = table
            .iter()
            .map(|(key, value)| Some((key.get_ref().as_ref().to_owned(), json(value.get_ref())?)));
        fields.collect::<Option<Map<_, _>>>().map(Value::Object)
    };
    match value {
        DeValue::String(text) => Some(Value::from(text.as_ref())),
        DeValue::Boolean(b) => Some(Value::from(*b)),
        DeValue::Integer(digits) => {
            i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(Value::from)
        }
        DeValue::Float(digits) => {
            Number::from_f64(digits.as_str().parse().ok()?).map(Value::Number)
        }
        DeValue::Array(items) => {
            items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>().map(Value::Array)
        }
        DeValue::Table(table) => object(table),
        DeValue::Datetime(_) => None,
    }
}

/// `load` is where the load begins: a message must not show a line with a secret.
fn headers(problems: &Problems, load: &Span, item: &Item<'_>) -> Option<BTreeMap<String, String>> {
    let given = item.table("`headers`")?.rest();
    let named = |header: &Item<'_>| header.key.value.to_ascii_lowercase();
    let is_secret = |name: &String| SECRETS.iter().any(|secret| name.contains(secret));
    if let Some(name) = given.iter().map(named).find(is_secret) {
        problems.report(Diagnostic::new(
            format!("`{name}` in headers"),
            load.start..load.start,
            "a secret would be in keys and records: name its variable in `api_key_env`",
        ));
        return None;
    }
    let mut headers = BTreeMap::new();
    let mut complete = true;
    for header in given {
        let name = named(&header);
        let objection = if OWN_HEADERS.contains(&name.as_str()) {
            Some("every request has it already")
        } else if name.is_empty() || !name.bytes().all(is_token) {
            Some("expected letters, digits and dashes")
        } else {
            None
        };
        if let Some(objection) = objection {
            header.report(format!("`{name}` in headers"), objection);
            complete = false;
            continue;
        }
        match header.text() {
            Some(text) if text.value.is_ascii() => {
                headers.insert(name, text.value.to_owned());
            }
            Some(_) => {
                header.report(format!("`{name}` is not ASCII"), "headers hold nothing else");
                complete = false;
            }
            None => complete = false,
        }
    }
    complete.then_some(headers)
}

/// A character of a header's name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
