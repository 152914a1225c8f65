use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::Error as _};

/// Arguments of `vllm serve` by their own names without the dashes, such as `max-num-seqs`.
pub type Args = BTreeMap<String, ArgValue>;

/// One argument's value.
///
/// In JSON a boolean, an integer, a string or a list of strings. A decimal number is its
/// canonical text ([`crate::decimal::Decimal`]), since keys hold no floats.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArgValue {
    /// `--flag` or `--no-flag`.
    Bool(bool),
    /// `--flag 256`.
    Int(i64),
    /// `--flag TEXT`, decimals included.
    Text(String),
    /// `--flag A B …`.
    List(Vec<String>),
}

impl ArgValue {
    /// The value as a number, where it is one; for plots and order, never for keys.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Text(text) => text.parse::<crate::decimal::Decimal>().ok().map(|d| d.to_f64()),
            Self::Bool(_) | Self::List(_) => None,
        }
    }
}

impl fmt::Display for ArgValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(" ")),
        }
    }
}

impl Serialize for ArgValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ArgValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        match Value::deserialize(deserializer)? {
            Value::Bool(b) => Ok(Self::Bool(b)),
            Value::String(text) => Ok(Self::Text(text)),
            Value::Number(n) => n
                .as_i64()
                .map(Self::Int)
                .ok_or_else(|| D::Error::custom(format!("{n} is not a 64-bit integer"))),
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    other => Err(D::Error::custom(format!("{other} is not a string"))),
                })
                .collect::<Result<_, _>>()
                .map(Self::List),
            other => Err(D::Error::custom(format!("{other} is no argument value"))),
        }
    }
}
