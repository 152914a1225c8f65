//! What long prompts do to others: TTFT of short and of long prompts apart, and the gaps between
//! tokens of requests that were decoding while a long prompt waited for its first token.

use crate::{
    hist::Latencies,
    schema::{Class, LoadSpec, MixedPrompts, RequestSample},
    workload::{Plan, Workload},
};

/// From so many tokens on a prompt is long: one that takes a step of its own, or several.
pub const LONG_PROMPT_TOKENS: u32 = 1_000;

/// The share of a load's requests whose prompt is long, expected of its classes; `None` where all
/// are short or all are long, so that there is nothing to hold apart.
pub fn long_prompt_share(load: &LoadSpec) -> Option<f64> {
    let total: f64 = load.classes.iter().map(|class| class.share.to_f64()).sum();
    let long = |class: &Class| {
        let shared = class.prefix.map_or(0, |prefix| prefix.tokens);
        let (min, max) = (class.input_tokens.min + shared, class.input_tokens.max + shared);
        let lengths = f64::from(max - min) + 1.0;
        let long = f64::from((max + 1).saturating_sub(LONG_PROMPT_TOKENS.max(min)));
        class.share.to_f64() * long / lengths
    };
    let share = load.classes.iter().map(long).sum::<f64>() / total;
    (share > 0.0 && share < 1.0).then_some(share)
}

/// Takes samples in any order. It keeps every gap until the last sample is in, since only
/// then it is known which of them a long prompt fell into: 24 bytes for each event of tokens.
#[derive(Debug)]
pub(super) struct Mixed {
    /// Says of a failed request how long its prompt was: the server does not.
    plan: Plan<'static>,
    /// Of the requests that the plan has given so far.
    is_long: Vec<bool>,
    short_ttft: Latencies,
    long_ttft: Latencies,
    /// From when a long prompt was sent to its first token.
    waits: Vec<(u64, u64)>,
    /// Between successive events of a request: start, end, and the tokens of the later one.
    gaps: Vec<(u64, u64, u32)>,
}

impl Mixed {
    /// For a load that has both kinds of prompts.
    pub(super) fn of(load: &Workload) -> Option<Self> {
        long_prompt_share(load).map(|_| Self::new(load))
    }

    fn new(load: &Workload) -> Self {
        Self {
            plan: Plan::owned(load.clone()),
            is_long: Vec::new(),
            short_ttft: Latencies::default(),
            long_ttft: Latencies::default(),
            waits: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Takes a request that failed.
    pub(super) fn push_failed(&mut self, sample: &RequestSample) {
        while self.is_long.len() <= sample.id as usize {
            let Some(request) = self.plan.next() else { return };
            self.is_long.push(request.input_tokens >= LONG_PROMPT_TOKENS);
        }
        let is_long = self.is_long[sample.id as usize];
        if is_long { &mut self.long_ttft } else { &mut self.short_ttft }.record_failed();
    }

    /// Takes a request that completed.
    pub(super) fn push(&mut self, sample: &RequestSample, ttft_ns: Option<u64>) {
        let is_long = sample.input_tokens >= LONG_PROMPT_TOKENS;
        if let Some(ttft_ns) = ttft_ns {
            let ttft = if is_long { &mut self.long_ttft } else { &mut self.short_ttft };
            ttft.record_ns(ttft_ns);
        }
        if let Some(first_ns) = sample.first_token_ns().filter(|_| is_long) {
            self.waits.push((sample.sent_ns, first_ns));
        }
        let gaps = sample.tokens.windows(2).map(|pair| (pair[0].0, pair[1].0, pair[1].1));
        self.gaps.extend(gaps);
    }

    pub(super) fn finish(&self) -> MixedPrompts {
        let waits = merged(&mut self.waits.clone());
        let mut stall = Latencies::default();
        for &(start_ns, end_ns, tokens) in &self.gaps {
            // The first wait that ends after the gap has begun is the only one to look at: those
            // before it are over, those after it begin later.
            let next = waits.partition_point(|(_, first_ns)| *first_ns <= start_ns);
            if waits.get(next).is_some_and(|(sent_ns, _)| *sent_ns < end_ns) {
                stall.record_ns(end_ns - start_ns);
                stall.record_many_ns(0, u64::from(tokens.saturating_sub(1)));
            }
        }
        MixedPrompts {
            short_ttft: self.short_ttft.quantiles(),
            long_ttft: self.long_ttft.quantiles(),
            stall: stall.quantiles(),
        }
    }
}

/// The union of some intervals, in order.
fn merged(intervals: &mut [(u64, u64)]) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut union: Vec<(u64, u64)> = Vec::new();
    for &(start, end) in intervals.iter() {
        match union.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => union.push((start, end)),
        }
    }
    union
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Arrival, RequestStatus, Size, TokenRange};
    use proptest::prelude::*;

    fn load(ranges: &[(u32, u32)]) -> LoadSpec {
        let class = |&(min, max): &(u32, u32)| Class {
            name: "class".into(),
            share: "1".parse().expect("a decimal"),
            input_tokens: TokenRange { min, max },
            output_tokens: TokenRange { min: 1, max: 1 },
            prefix: None,
        };
        let classes = ranges.iter().map(class).collect();
        LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), classes, 1)
    }

    /// A request sent at the first time, with one token at each of the others.
    fn sample(input_tokens: u32, times: &[u64]) -> RequestSample {
        RequestSample {
            id: 0,
            class: 0,
            intended_ns: times[0],
            queued_ns: 0,
            sent_ns: times[0],
            first_byte_ns: None,
            end_ns: times[times.len() - 1],
            tokens: times[1..].iter().map(|at| (*at, 1)).collect(),
            input_tokens,
            output_tokens: (times.len() - 1) as u32,
            status: RequestStatus::Completed,
            phases: None,
            ..RequestSample::default()
        }
    }

    fn measured(samples: &[RequestSample]) -> MixedPrompts {
        let mut mixed = Mixed::new(&load(&[(100, 100), (4_000, 4_000)]).into());
        for sample in samples {
            mixed.push(sample, sample.first_token_ns().map(|at| at - sample.intended_ns));
        }
        mixed.finish()
    }

    #[test]
    fn only_loads_with_both_kinds_of_prompts_have_such_figures() {
        assert_eq!(long_prompt_share(&load(&[(1, 999)])), None);
        assert_eq!(long_prompt_share(&load(&[(1_000, 2_000)])), None);
        assert_eq!(long_prompt_share(&load(&[(100, 100), (4_000, 4_000)])), Some(0.5));
        assert_eq!(long_prompt_share(&load(&[(501, 1_500)])), Some(0.501));
    }

    #[test]
    fn a_stall_is_a_gap_into_which_a_long_prompt_fell() {
        const MS: u64 = 1_000_000;
        let decoding = sample(100, &[0, 10 * MS, 20 * MS, 95 * MS, 105 * MS]);
        let long = sample(4_000, &[30 * MS, 100 * MS, 110 * MS]);
        let found = measured(&[long.clone(), decoding.clone()]);
        // From 20 to 95 and from 95 to 105 while the prompt waited; its own gap is after that.
        assert_eq!(found.stall.count, 2);
        assert_eq!(found.stall.max_ms, 75.0);
        assert_eq!((found.short_ttft.mean_ms, found.long_ttft.mean_ms), (10.0, 70.0));
        assert_eq!(measured(&[decoding]).stall.count, 0);
        // A token in the very moment in which the long one is sent or answered is not stalled.
        assert_eq!(measured(&[sample(100, &[0, 10, 30 * MS]), long]).stall.count, 0);
    }

    #[test]
    fn a_failed_request_ranks_last_among_prompts_of_its_length() {
        let mut spec = load(&[(100, 100), (4_000, 4_000)]);
        spec.size = Size::Requests(20);
        let load = Workload::from(spec);
        let long = Plan::new(&load).find(|request| request.input_tokens == 4_000);
        let mut mixed = Mixed::of(&load).expect("it has both kinds");
        mixed.push(&sample(100, &[0, 10]), Some(10));
        mixed.push(&sample(4_000, &[0, 70]), Some(70));
        let id = long.expect("half of them are long").id;
        mixed.push_failed(&RequestSample { id, ..RequestSample::default() });
        let found = mixed.finish();
        assert_eq!((found.short_ttft.failed, found.long_ttft.failed), (0, 1));
        assert_eq!(found.long_ttft.p95_ms, f64::INFINITY, "not reached");
        assert!(found.short_ttft.p95_ms.is_finite());
    }

    proptest! {
        /// Against every gap held to every wait.
        #[test]
        fn gaps_are_those_that_overlap_a_wait(
            waits in prop::collection::vec((0_u64..500, 1_u64..100), 0..20),
            times in prop::collection::vec(0_u64..600, 2..40),
        ) {
            let mut times: Vec<u64> = times.iter().map(|ms| ms * 1_000_000).collect();
            times.sort_unstable();
            times.dedup();
            prop_assume!(times.len() > 1);
            let of_wait = |(sent, wait): &(u64, u64)| {
                sample(2_000, &[sent * 1_000_000, (sent + wait) * 1_000_000])
            };
            let mut samples: Vec<_> = waits.iter().map(of_wait).collect();
            let expected = times[1..].windows(2).filter(|gap| {
                samples.iter().any(|long| {
                    long.sent_ns < gap[1] && long.first_token_ns().expect("one") > gap[0]
                })
            });
            let expected = expected.count() as u64;
            samples.push(sample(10, &times));
            prop_assert_eq!(measured(&samples).stall.count, expected);
        }
    }
}
