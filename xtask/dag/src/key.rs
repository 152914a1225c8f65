//! Keys and the explanation of why they changed: made of the same key inputs, so that they cannot
//! drift apart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bench_core::canonical::Digest;
use serde::Serialize;
use serde_json::Value;

/// Version of the key inputs.
const FORMAT: u32 = 1;

/// What a stage's key is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageKey {
    /// Name of the stage.
    pub stage: String,
    /// Number of what it does.
    pub epoch: u32,
    /// The part of the configuration that it reads.
    pub config: Value,
    /// Digests of what it reads, by role.
    pub inputs: BTreeMap<String, Digest>,
    /// Digests of its templates, by name.
    pub templates: BTreeMap<String, Digest>,
}

impl StageKey {
    /// The inputs of the key.
    pub fn key_inputs(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a stage key is plain JSON");
        value["format"] = FORMAT.into();
        value
    }

    /// The key.
    ///
    /// # Errors
    /// When the configuration holds a float.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Digest::of_json(&self.key_inputs())?)
    }
}

/// A field that differs between the inputs of two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path of the field, such as `args.max-num-seqs`.
    pub path: String,
    /// Its value before; `None` when it was not there.
    pub before: Option<String>,
    /// Its value now; `None` when it is gone.
    pub after: Option<String>,
}

/// The fields that differ, in order of path.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let (before, after) = (leaves(before), leaves(after));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| Change {
            path: path.clone(),
            before: before.get(path).cloned(),
            after: after.get(path).cloned(),
        })
        .collect()
}

/// Scalar fields by path.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
        let join =
            |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| walk(value, &join(key), out));
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{path}[{i}]"), out));
            }
            Value::String(text) => drop(out.insert(path.to_owned(), text.clone())),
            other => drop(out.insert(path.to_owned(), other.to_string())),
        }
    }
    let mut out = BTreeMap::new();
    walk(value, "", &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn changes_name_the_fields() {
        let before = json!({"args": {"max-num-seqs": 256, "old": true}, "list": [1, 2]});
        let after = json!({"args": {"max-num-seqs": 512}, "list": [1, 3], "new": "x"});
        let change = |path: &str, before: Option<&str>, after: Option<&str>| Change {
            path: path.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        };
        assert_eq!(
            changes(&before, &after),
            [
                change("args.max-num-seqs", Some("256"), Some("512")),
                change("args.old", Some("true"), None),
                change("list[1]", Some("2"), Some("3")),
                change("new", None, Some("x")),
            ]
        );
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// A key changes exactly when the explanation has something to say. (Texts are compared
        /// as printed, so `1` and `"1"` in one place are kept out.)
        #[test]
        fn keys_and_explanations_agree(a in arbitrary_json(), b in arbitrary_json()) {
            prop_assert!(changes(&a, &a).is_empty());
            if !changes(&a, &b).is_empty() {
                prop_assert_ne!(Digest::of_json(&a).expect("no floats"), Digest::of_json(&b).expect("no floats"));
            }
        }
    }
}
