//! `[remote]`: where trials are shared. It is in no key: the same trials are the same wherever they
//! come from.

use super::{read::Table, resolved::Remote};

/// Reads the section.
pub(super) fn read(mut table: Table<'_>) -> Option<Remote> {
    let url = table.require("url", "url = \"s3://BUCKET/PREFIX\" or \"file:///FOLDER\"");
    let url = url.and_then(|item| {
        let text = item.text()?.value;
        match check_remote_url(text) {
            Ok(()) => Some(text.to_owned()),
            Err(expected) => {
                item.report("`url` is no URL of a remote store", expected);
                None
            }
        }
    });
    let write = table.get("write").map(|item| item.boolean().map(|at| at.value));
    table.finish(|_| None);
    Some(Remote { url: url?, write: super::read::absent_or_right(write)? })
}

/// Whether a remote store can be there: a bucket or a folder.
///
/// # Errors
///
/// What is expected; it does not quote the URL, which may hold a password.
pub fn check_remote_url(text: &str) -> Result<(), &'static str> {
    if text.len() > 1000 || text.contains(|c: char| !c.is_ascii_graphic()) {
        return Err("expected no spaces and nothing but ASCII");
    }
    if text.contains(['@', '?', '#', '%']) {
        return Err(
            "expected no user, query, fragment or escape; credentials come from the environment",
        );
    }
    if let Some(folder) = text.strip_prefix("file://") {
        return if folder.starts_with('/') {
            Ok(())
        } else {
            Err("expected file:///FOLDER, from the root")
        };
    }
    let rest = text.strip_prefix("s3://").ok_or("expected s3://BUCKET/PREFIX or file:///FOLDER")?;
    let bucket = rest.split('/').next().unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if bucket.is_empty() || !bucket.bytes().all(is_plain) {
        return Err("expected the name of a bucket after s3://");
    }
    Ok(())
}
