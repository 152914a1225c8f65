//! Environment variables in profiles: of all servers, of a setting, of jobs.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::read::Item;

/// Variables and their values; `title` names the table in messages.
pub(super) fn environment(item: &Item<'_>, title: &str) -> Option<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    for item in item.table(title)?.rest() {
        let name = item.key.value;
        if check_name(&item, name)
            && let Some(value) = variable_value(&item)
        {
            env.insert(name.to_owned(), value);
        }
    }
    Some(env)
}

/// Whether a variable of that name can be set; reports it where not.
pub(super) fn check_name(item: &Item<'_>, name: &str) -> bool {
    if !is_variable(name) {
        item.report(
            format!("`{name}` is no name of an environment variable"),
            "expected letters, digits and _",
        );
    } else if name == "CUDA_VISIBLE_DEVICES" {
        item.report(format!("`{name}` is set by the bench"), "name devices in `gpus`");
    } else {
        return true;
    }
    false
}

/// A variable's text; an integer is its digits.
pub(super) fn variable_value(item: &Item<'_>) -> Option<String> {
    match item.raw() {
        DeValue::Integer(_) => {
            item.integer(i64::MIN..=i64::MAX).map(|number| number.value.to_string())
        }
        _ => item.text().map(|text| text.value.to_owned()),
    }
}

/// Whether an environment variable can have this name.
pub(super) fn is_variable(name: &str) -> bool {
    name.len() <= 200
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
