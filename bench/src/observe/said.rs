//! A server's own words.

use serde_json::Value;

/// Characters of them that are quoted.
const QUOTED_CHARS: usize = 200;

/// The server's own words about an error, in quotes after a colon; nothing where there are none.
pub(super) fn said(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.get("message").unwrap_or(error).as_str()
    });
    let words = message.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let quoted = words.map(|text| text.chars().take(QUOTED_CHARS).collect::<String>());
    quoted.map_or_else(String::new, |text| format!(": \"{text}\""))
}
