//! What must not stand in records, masked in what servers say.

use hyper::HeaderMap;

use super::answer::QUOTED_BYTES_MAX;

const MASK: &str = "***";
/// A secret shorter than this would mask ordinary words.
const SECRET_BYTES_MIN: usize = 4;
/// Headers that hold no secret.
const PLAIN: [&str; 4] = ["host", "content-type", "accept", "user-agent"];

/// What was sent and must not be quoted.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// The values of the headers that may hold some.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.iter().filter(|(name, _)| !PLAIN.contains(&name.as_str()));
        let values = values.filter_map(|(_, value)| value.to_str().ok());
        let mut secrets: Vec<String> = values
            .map(|value| value.strip_prefix("Bearer ").unwrap_or(value).to_owned())
            .filter(|value| value.len() >= SECRET_BYTES_MIN)
            .collect();
        // A longer one may hold a shorter one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The text without them, nor words that look like keys, cut to [`QUOTED_BYTES_MAX`].
    pub(crate) fn mask(&self, text: &str) -> Box<str> {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret, MASK);
        }
        let words =
            text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || "-_*".contains(c)));
        let mut after_bearer = false;
        let mut masked = String::with_capacity(text.len());
        for word in words {
            let key =
                word.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || "-_*".contains(c)));
            let is_key = key.starts_with("sk-") || (after_bearer && !key.is_empty());
            if is_key && key != MASK {
                masked.push_str(MASK);
                masked.push_str(&word[key.len()..]);
            } else {
                masked.push_str(word);
            }
            after_bearer = key.eq_ignore_ascii_case("bearer") || (after_bearer && key.is_empty());
        }
        let mut end = masked.len().min(QUOTED_BYTES_MAX);
        while !masked.is_char_boundary(end) {
            end -= 1;
        }
        masked.truncate(end);
        masked.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

    #[test]
    fn no_secret_is_quoted() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer hunter2-hunter2"));
        headers.insert("x-api-key", HeaderValue::from_static("other-secret"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let secrets = Secrets::of(&headers);
        for (said, quoted) in [
            ("bad key hunter2-hunter2.", "bad key ***."),
            ("x-api-key: other-secret", "x-api-key: ***"),
            ("you sent 'Bearer abc.def', sk-1234abcd!", "you sent 'Bearer ***.def', ***!"),
            ("need application/json", "need application/json"),
            ("the bearer", "the bearer"),
        ] {
            assert_eq!(&*secrets.mask(said), quoted);
        }
        let long = "é".repeat(400);
        assert_eq!(secrets.mask(&long).len(), QUOTED_BYTES_MAX);
    }
}
