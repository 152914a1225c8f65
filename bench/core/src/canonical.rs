//! Canonical JSON and the digests made of it: the only way a key comes into being.

use std::fmt;

use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; in text, 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digest of the bytes as they are.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Digest of a value's canonical JSON.
    ///
    /// # Errors
    /// When the value holds a float (see [`canonical_json`]) or cannot be serialized.
    pub fn of_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, NotCanonical> {
        Ok(Self::of(canonical_json(value)?.as_bytes()))
    }

    /// The digest from its text, or `None` when it is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// The first eight bytes as a number: a seed derived from content.
    pub fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are UTF-8"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))
    }
}

/// Why a value has no canonical form.
#[derive(Debug)]
pub struct NotCanonical(String);

impl fmt::Display for NotCanonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no canonical JSON: {}", self.0)
    }
}

impl std::error::Error for NotCanonical {}

/// JSON without white space, keys in byte order, no floats: one text for one value.
///
/// Floats are refused because `0.1 + 0.2` and its printed form differ between programs;
/// write integers in named units or [`crate::decimal::Decimal`].
///
/// # Errors
/// When the value holds a float or cannot be serialized.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<String, NotCanonical> {
    canonical_value(&serde_json::to_value(value).map_err(|e| NotCanonical(e.to_string()))?)
}

/// [`canonical_json`] of what is JSON already.
///
/// # Errors
/// When the value holds a float.
pub fn canonical_value(value: &Value) -> Result<String, NotCanonical> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Number(n) if n.is_f64() => {
            return Err(NotCanonical(format!("{n} is a float; use an integer or a decimal")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_floats_refused() {
        let text = canonical_json(&json!({"b": [1, true, null], "a": "x\n"})).expect("canonical");
        assert_eq!(text, r#"{"a":"x\n","b":[1,true,null]}"#);
        let error = canonical_json(&json!({"rate": 0.5})).expect_err("floats are refused");
        assert_eq!(
            error.to_string(),
            "no canonical JSON: 0.5 is a float; use an integer or a decimal"
        );
    }

    #[test]
    fn digest_is_sha256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        assert_eq!(Digest::parse(expected), Some(Digest::of(b"abc")));
        assert_eq!(Digest::parse(&expected.to_uppercase()), None);
        assert_eq!(Digest::parse("ba78"), None);
    }

    proptest! {
        #[test]
        fn order_of_insertion_does_not_matter(mut keys in prop::collection::vec("[a-z]{1,6}", 1..8)) {
            keys.sort();
            keys.dedup();
            let forward: serde_json::Map<_, _> = keys.iter().map(|k| (k.clone(), json!(1))).collect();
            let backward: serde_json::Map<_, _> = keys.iter().rev().map(|k| (k.clone(), json!(1))).collect();
            prop_assert_eq!(canonical_json(&forward).expect("canonical"), canonical_json(&backward).expect("canonical"));
        }
    }
}
