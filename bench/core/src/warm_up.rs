//! When a server is warm: its rounds of warming up no longer get faster.

use serde::{Deserialize, Serialize};

/// A round that gains less than this share on the best throughput before it is no faster.
const GAIN_MAX: f64 = 0.05;
/// The same of the tail of gaps between tokens, which varies more.
const ITL_GAIN_MAX: f64 = 0.15;
/// So many rounds in a row must be no faster.
const STEADY_ROUNDS: usize = 2;

/// The rounds of one server start, before its first load point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// In their order.
    pub rounds: Vec<Round>,
    /// Whether the last ones no longer got faster; else the time for it was spent.
    pub settled: bool,
}

/// A burst of requests that are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Requests at once.
    pub requests: u32,
    /// From the first to the end of the last.
    pub duration_s: f64,
    /// Output tokens a second.
    pub output_tokens_per_s: f64,
    /// 99th percentile of the gaps between tokens.
    pub itl_p99_ms: f64,
}

/// Whether the server no longer gets faster: neither of the last two rounds of the largest size gained
/// on the best one before it.
pub fn is_settled(rounds: &[Round]) -> bool {
    let size = rounds.last().map_or(0, |round| round.requests);
    let alike: Vec<&Round> = rounds.iter().filter(|round| round.requests == size).collect();
    if alike.len() <= STEADY_ROUNDS {
        return false;
    }
    (alike.len() - STEADY_ROUNDS..alike.len()).all(|i| {
        let before = &alike[..i];
        let best = |of: fn(&Round) -> f64, better: fn(f64, f64) -> f64| {
            before.iter().map(|round| of(round)).reduce(better).unwrap_or_default()
        };
        let throughput = best(|round| round.output_tokens_per_s, f64::max);
        let itl_ms = best(|round| round.itl_p99_ms, f64::min);
        alike[i].output_tokens_per_s <= throughput * (1.0 + GAIN_MAX)
            && alike[i].itl_p99_ms >= itl_ms * (1.0 - ITL_GAIN_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(tokens_per_s: &[f64], itl_p99_ms: &[f64]) -> Vec<Round> {
        let round = |(output_tokens_per_s, itl_p99_ms): (&f64, &f64)| Round {
            requests: 64,
            duration_s: 1.0,
            output_tokens_per_s: *output_tokens_per_s,
            itl_p99_ms: *itl_p99_ms,
        };
        tokens_per_s.iter().zip(itl_p99_ms).map(round).collect()
    }

    #[test]
    fn a_server_that_gets_faster_is_not_warm() {
        assert!(!is_settled(&[]));
        assert!(!is_settled(&rounds(&[7_000.0, 7_000.0], &[20.0; 2])), "two rounds show no trend");
        assert!(!is_settled(&rounds(&[6_900.0, 7_400.0, 7_900.0, 8_400.0], &[20.0; 4])));
        assert!(
            !is_settled(&rounds(&[8_000.0; 4], &[339.0, 202.0, 150.0, 110.0])),
            "its tail does"
        );
        assert!(is_settled(&rounds(
            &[6_900.0, 8_000.0, 8_200.0, 7_900.0],
            &[339.0, 202.0, 205.0, 190.0]
        )));
        assert!(
            is_settled(&rounds(&[8_000.0, 7_000.0, 6_000.0], &[20.0; 3])),
            "slower is no trend up"
        );
    }

    #[test]
    fn rounds_of_other_sizes_do_not_count() {
        let mut rounds = rounds(&[8_000.0; 4], &[20.0; 4]);
        rounds[0].requests = 4;
        rounds[1].requests = 16;
        assert!(!is_settled(&rounds));
    }
}
