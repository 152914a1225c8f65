//! The record of an action: what came of a key.

use std::{borrow::Cow, collections::BTreeMap};

use anyhow::Result;
use bench_core::canonical::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What a key stands for: a word of its owner's, of which the store knows no more.
///
/// It is the name of a folder, so it is of lowercase letters alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Kind(Cow<'static, str>);

impl Kind {
    /// The kind of that name, which is of lowercase letters.
    pub const fn named(name: &'static str) -> Self {
        assert!(is_name(name), "a kind is named in lowercase letters");
        Self(Cow::Borrowed(name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !is_name(&name) {
            return Err(serde::de::Error::custom("a kind is named in lowercase letters"));
        }
        Ok(Self(Cow::Owned(name)))
    }
}

const fn is_name(name: &str) -> bool {
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        if !first.is_ascii_lowercase() {
            return false;
        }
        rest = after;
    }
    !name.is_empty()
}

/// What came of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Version of this record.
    format: u32,
    /// What the key stands for.
    pub kind: Kind,
    /// Digest of the key inputs.
    pub key: Digest,
    /// What the key was made of.
    #[serde(rename = "preimage")]
    pub key_inputs: Value,
    /// Digests of the outputs by name.
    pub outputs: BTreeMap<String, Digest>,
    /// Digests of outputs that the bundle left out in which the record came: they are elsewhere,
    /// and the record is whole without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, Digest>,
    /// Keys of the trials read, by role. Not part of the key, which names their content.
    pub leaves: BTreeMap<String, Digest>,
}

/// The record as stored: with the digest of its own text, so that a flipped bit is found.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    seal: Digest,
    action: Box<serde_json::value::RawValue>,
}

const FORMAT: u32 = 1;

impl Action {
    /// A record of these outputs, under the key that the key inputs make.
    ///
    /// # Errors
    /// When the key inputs hold a float.
    pub fn new(
        kind: Kind,
        key_inputs: Value,
        outputs: BTreeMap<String, Digest>,
        leaves: BTreeMap<String, Digest>,
    ) -> Result<Self> {
        let key = Digest::of_json(&key_inputs)?;
        let left_out = BTreeMap::new();
        Ok(Self { format: FORMAT, kind, key, key_inputs, outputs, left_out, leaves })
    }

    /// The record as it travels: without the outputs that `keep` does not name.
    pub fn leaving_out(mut self, keep: impl Fn(&str) -> bool) -> Self {
        let (kept, left_out): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.outputs.into_iter().partition(|(name, _)| keep(name));
        self.outputs = kept;
        self.left_out.extend(left_out);
        self
    }

    /// The record from its text; `None` when it is damaged or of another version. The seal says
    /// that the key is still that of the key inputs, as it was when both were written.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let sealed: Sealed = serde_json::from_slice(text).ok()?;
        if Digest::of(sealed.action.get().as_bytes()) != sealed.seal {
            return None;
        }
        let action: Self = serde_json::from_str(sealed.action.get()).ok()?;
        (action.format == FORMAT).then_some(action)
    }

    /// The record as stored, with a newline at its end.
    pub fn to_json(&self) -> Vec<u8> {
        let text = serde_json::to_string(self).expect("an action is plain JSON");
        let mut bytes = Self::sealed(text).expect("just serialized");
        bytes.push(b'\n');
        bytes
    }

    /// A text under its seal; `None` when it is no JSON.
    pub fn sealed(text: String) -> Option<Vec<u8>> {
        let seal = Digest::of(text.as_bytes());
        let action = serde_json::value::RawValue::from_string(text).ok()?;
        serde_json::to_vec(&Sealed { seal, action }).ok()
    }
}
