//! A trial over its time, from the client's side, for a drawing.

use serde::Serialize;

use crate::schema::{RequestSample, RequestStatus};

/// Means over equal steps of a trial's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Length of a step.
    pub step_ms: f64,
    /// Requests sent that have no token yet, rounded to tenths.
    pub waiting: Vec<f64>,
    /// Requests whose tokens are coming, rounded to tenths.
    pub answering: Vec<f64>,
    /// Output tokens that came, a second.
    pub tokens_per_s: Vec<f64>,
}

/// The trial in so many steps; `None` when nothing was sent.
pub fn series(samples: &[RequestSample], steps: usize) -> Option<Series> {
    let end = samples.iter().map(|sample| sample.end_ns).max().filter(|end| *end > 0)?;
    let step = end.div_ceil(steps.max(1) as u64);
    let count = end.div_ceil(step) as usize;
    let (mut waiting, mut answering) = (vec![0_u64; count], vec![0_u64; count]);
    let mut tokens = vec![0_u64; count];
    for sample in samples {
        let first = sample.first_token_ns().unwrap_or(sample.end_ns);
        cover(&mut waiting, step, sample.sent_ns, first);
        if sample.status == RequestStatus::Completed {
            cover(&mut answering, step, first, sample.end_ns);
        }
        for (at, number) in &sample.tokens {
            tokens[((at / step) as usize).min(count - 1)] += u64::from(*number);
        }
    }
    let share = |ns: u64| libm::round(ns as f64 / step as f64 * 10.0) / 10.0;
    let rate = |number: u64| libm::round(number as f64 / (step as f64 / 1e9));
    Some(Series {
        step_ms: step as f64 / 1e6,
        waiting: waiting.into_iter().map(share).collect(),
        answering: answering.into_iter().map(share).collect(),
        tokens_per_s: tokens.into_iter().map(rate).collect(),
    })
}

/// Adds to each step how long it lies between `from` and `to`.
fn cover(steps: &mut [u64], step: u64, from: u64, to: u64) {
    let first = (from / step) as usize;
    for (i, covered) in steps.iter_mut().enumerate().skip(first) {
        let (start, end) = (i as u64 * step, (i as u64 + 1) * step);
        if start >= to {
            break;
        }
        *covered += to.min(end).saturating_sub(from.max(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sent_ns: u64, tokens: &[(u64, u32)], end_ns: u64) -> RequestSample {
        RequestSample {
            id: 0,
            class: 0,
            intended_ns: 0,
            queued_ns: 0,
            sent_ns,
            first_byte_ns: None,
            end_ns,
            tokens: tokens.to_vec(),
            input_tokens: 1,
            output_tokens: 1,
            status: RequestStatus::Completed,
            phases: None,
            ..RequestSample::default()
        }
    }

    #[test]
    fn a_request_waits_then_answers() {
        const S: u64 = 1_000_000_000;
        let samples =
            [sample(0, &[(5 * S, 1), (10 * S, 2)], 10 * S), sample(5 * S, &[(6 * S, 3)], 9 * S)];
        let series = series(&samples, 2).expect("there are samples");
        assert_eq!(series.step_ms, 5_000.0);
        assert_eq!(series.waiting, [1.0, 0.2]);
        assert_eq!(series.answering, [0.0, 1.6]);
        assert_eq!(series.tokens_per_s, [0.0, 1.0], "6 tokens in 5 s, rounded");
    }

    #[test]
    fn nothing_has_no_series() {
        assert_eq!(series(&[], 60), None);
    }
}
