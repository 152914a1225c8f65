//! The proof that a trial carries with it. A trial that fails a check never wins.

use crate::schema::{Check, ServerObservation, Summary};

/// Above this share of failed requests a trial is no measurement of its load. Below it failures rank
/// behind all others in every percentile.
const FAILED_SHARE_MAX: f64 = 0.10;
/// The server's mean E2E is inside the client's, but for clocks that tick apart.
const E2E_SHARE_MAX: f64 = 1.02;
const E2E_MS_MAX: f64 = 1.0;
/// Send lag is harmless below this, whatever is measured.
const SEND_LAG_P99_MS_MAX: f64 = 2.0;
/// Above that, it must be small against the median TTFT.
const SEND_LAG_SHARE_MAX: f64 = 0.10;
/// Little's law holds within this share: gauges are sampled.
const LITTLE_SHARE_MAX: f64 = 0.15;
/// … or within this many requests.
const LITTLE_REQUESTS_MAX: f64 = 1.0;
/// Trials shorter than this give the gauges too few samples.
const LITTLE_DURATION_S_MIN: f64 = 5.0;
/// Looks at the gauges during a load from which their mean says something.
pub const POLLS_MIN: u64 = 20;

/// Every check that the server's account allows.
pub(super) fn run(
    summary: &Summary,
    server: &ServerObservation,
    planned_input_tokens: Option<u64>,
) -> Vec<Check> {
    let mut checks = vec![all_sent(summary), errors(summary), send_lag(summary)];
    checks.extend(server.generation_tokens.map(|found| tokens_match(summary, found)));
    checks.extend(server.requests_succeeded.map(|found| completions_match(summary, found)));
    checks.extend(prompt_tokens_match(summary, server.prompt_tokens, planned_input_tokens));
    checks.extend(server.e2e_mean_ms.and_then(|found| latency_match(summary, found)));
    checks.extend(littles_law(summary, server));
    checks
}

fn check(name: &str, passed: bool, found: String, advice: &str) -> Check {
    let detail = if passed { found } else { format!("{found}: {advice}") };
    Check { name: name.to_owned(), passed, detail }
}

fn all_sent(summary: &Summary) -> Check {
    let (planned, sent) = (summary.counts.planned, summary.counts.sent);
    check(
        "all-sent",
        planned == sent,
        format!("{sent} of {planned} planned requests sent"),
        "the load ended early; run it again",
    )
}

fn errors(summary: &Summary) -> Check {
    let failed = summary.counts.failed_total();
    let kind = |(kind, count): (&String, &u64)| match summary.failure_texts.get(kind) {
        Some(text) => format!("{kind} {count}: {text}"),
        None => format!("{kind} {count}"),
    };
    let kinds: Vec<_> = summary.counts.failed.iter().map(kind).collect();
    let found = if failed == 0 {
        format!("none of {} requests failed", summary.counts.sent)
    } else {
        format!("{failed} of {} requests failed ({})", summary.counts.sent, kinds.join(", "))
    };
    let found = match summary.counts.resent {
        0 => found,
        resent => format!("{found}; {resent} found a pooled connection closed and were sent again"),
    };
    check(
        "errors",
        summary.counts.completed > 0
            && failed as f64 <= FAILED_SHARE_MAX * summary.counts.sent as f64,
        found,
        failure_advice(summary.counts.failed.keys().map(String::as_str)),
    )
}

/// What to do about failures of these kinds.
pub fn failure_advice<'a>(kinds: impl IntoIterator<Item = &'a str>) -> &'static str {
    let is_limited = |kind: &str| kind == "http_429";
    if kinds.into_iter().any(is_limited) {
        "the server limits the rate: send less (`requests_per_second` or `max_concurrency` of the load), or \
         use a key with a higher limit (`api_key_env` in [engine])"
    } else {
        "see the server's log"
    }
}

fn send_lag(summary: &Summary) -> Check {
    let lag_ms = summary.send_lag.p99_ms;
    let limit_ms = f64::max(SEND_LAG_P99_MS_MAX, SEND_LAG_SHARE_MAX * summary.ttft.p50_ms);
    check(
        "send-lag",
        lag_ms <= limit_ms,
        format!("send lag P99 {lag_ms:.3} ms, at most {limit_ms:.3} ms allowed"),
        "the client is too slow for this load; give it a core of its own or lower the rate",
    )
}

fn tokens_match(summary: &Summary, server: u64) -> Check {
    let client = summary.output_tokens;
    // The server also counts what it generated for requests that then failed.
    let passed = if summary.counts.failed.is_empty() { client == server } else { client <= server };
    check(
        "tokens-match",
        passed,
        format!("client counted {client} output tokens, server {server}"),
        "another client uses this server, or an answer was cut; stop the other client and run again",
    )
}

/// Prompt tokens by the plan, by the answers and by the server's counter.
fn prompt_tokens_match(
    summary: &Summary,
    server: Option<u64>,
    planned: Option<u64>,
) -> Option<Check> {
    let client = summary.input_tokens;
    // A server that counts no prompt tokens in its answers has nothing to compare.
    if client == 0 || (server.is_none() && planned.is_none()) {
        return None;
    }
    let mut found = format!("answers count {client} prompt tokens");
    let mut passed = true;
    if let Some(planned) = planned {
        found += &format!(", the plan {planned}");
        passed &= client == planned;
    }
    if let Some(server) = server {
        found += &format!(", the server {server}");
        let is_whole = summary.counts.failed.is_empty();
        passed &= if is_whole { client == server } else { client <= server };
    }
    Some(check(
        "prompt-tokens-match",
        passed,
        found,
        "the server cuts prompts or adds to them, or another client uses it; the load is not the planned one",
    ))
}

/// The time that the server counts for a request lies within the time that the client counts.
fn latency_match(summary: &Summary, server_ms: f64) -> Option<Check> {
    let client_ms = summary.e2e.mean_ms;
    // Of failed requests the server may count those that took longest.
    if !summary.counts.failed.is_empty() || summary.e2e.count == 0 {
        return None;
    }
    Some(check(
        "latency-match",
        server_ms <= client_ms * E2E_SHARE_MAX + E2E_MS_MAX,
        format!("mean E2E {client_ms:.3} ms by the client, {server_ms:.3} ms by the server"),
        "the client's clock is wrong, or another client uses this server",
    ))
}

fn completions_match(summary: &Summary, server: u64) -> Check {
    let client = summary.counts.completed;
    let passed = if summary.counts.failed.is_empty() { client == server } else { client <= server };
    check(
        "completions-match",
        passed,
        format!("client saw {client} requests complete, server {server}"),
        "another client uses this server; stop it and run again",
    )
}

/// Little (1961): the mean number in the engine is the rate of completion times the mean time
/// there. It ties the server's gauges to the client's clock.
///
/// vLLM's gauges are set by its front end: when that lags, requests that the engine has finished
/// still count as running. So the time in the front end may count or not. And a server that is
/// saturated answers few polls, so what it held between them is known less well.
fn littles_law(summary: &Summary, server: &ServerObservation) -> Option<Check> {
    let anatomy = summary.anatomy.as_ref()?;
    let found = server.running_mean? + server.waiting_mean?;
    let is_seldom_read = server.polls.is_some_and(|polls| polls < POLLS_MIN);
    if is_seldom_read || summary.duration_s < LITTLE_DURATION_S_MIN {
        return None;
    }
    let engine_s = (anatomy.queue_ms + anatomy.prefill_ms + anatomy.decode_ms) / 1e3;
    let least = summary.requests_per_s * engine_s;
    let most = least + summary.requests_per_s * anatomy.front_end_ms.max(0.0) / 1e3;
    let sampling = server.held_error.unwrap_or(0.0);
    let slack =
        |expected: f64| f64::max(LITTLE_REQUESTS_MAX, LITTLE_SHARE_MAX * expected) + sampling;
    Some(check(
        "littles-law",
        found >= least - slack(least) && found <= most + slack(most),
        format!(
            "server held {found:.2} requests on average, rate × time says {least:.2} to {most:.2}"
        ),
        "the server's and the client's accounts disagree; look for another client or a stalled poll",
    ))
}
