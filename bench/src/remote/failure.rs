//! What a failure of the remote store means, without what the service said: answers quote
//! requests, and requests carry credentials.

use std::error::Error as StdError;

use object_store::Error;

/// What to do where a service refuses.
const REFUSED: &str = "the service refuses these credentials: check AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY, and that they may list the bucket and get (for writing, put) objects";

/// Whether it says that there is no such object, in a bucket that there is.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket"))
}

/// The failure in words of ours.
pub(super) fn describe(error: &Error) -> String {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => REFUSED.to_owned(),
        Error::NotFound { .. } => "there is no such bucket or folder: check the URL".to_owned(),
        error => in_brief(&innermost(error)),
    }
}

fn innermost(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Of an answer its status alone.
fn in_brief(text: &str) -> String {
    if let Some((_, status)) = text.split_once("status code: ") {
        return format!("the service answers {}", status.split(':').next().unwrap_or_default());
    }
    if text.starts_with("Server returned") {
        return "the service answers with an error".to_owned();
    }
    text.to_owned()
}
