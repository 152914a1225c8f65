//! Where content and records lie, from the store's root: here and in a remote store.

use bench_core::canonical::Digest;

use super::Kind;

/// Name of content, from the store's root.
pub fn blob_name(digest: &Digest) -> String {
    let name = digest.to_string();
    format!("blobs/{}/{}", &name[..2], &name[2..])
}

/// Name of an action record, from the store's root.
pub fn record_name(kind: &Kind, key: &Digest) -> String {
    let name = key.to_string();
    format!("actions/{}/{}/{}.json", kind.name(), &name[..2], &name[2..])
}
