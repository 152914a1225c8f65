//! Requests in flight and tokens over time, in a fixed number of bins.

use crate::{
    hist::round,
    schema::{SteadyState, SteadyWindow},
};

const BINS: usize = 1024;
/// Batches that a trial is cut into to find its steady state; each is 8 to 16 bins.
const BATCHES: usize = 64;

/// Arrivals, ends, completions and output tokens by time. The bins double in width when a time falls
/// beyond the last, so any length of trial takes the same memory.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    bin_ns: u64,
    arrivals: Vec<u64>,
    ends: Vec<u64>,
    completions: Vec<u64>,
    tokens: Vec<u64>,
    last_arrival_ns: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        let zeros = || vec![0; BINS];
        let (arrivals, ends, completions, tokens) = (zeros(), zeros(), zeros(), zeros());
        Self { bin_ns: 1_000_000, arrivals, ends, completions, tokens, last_arrival_ns: 0 }
    }
}

impl Timeline {
    /// Counts a request that was due at `arrival_ns` and ended at `end_ns`.
    pub(super) fn record(&mut self, arrival_ns: u64, end_ns: u64, is_completed: bool) {
        self.last_arrival_ns = self.last_arrival_ns.max(arrival_ns);
        self.make_room(arrival_ns.max(end_ns));
        self.arrivals[(arrival_ns / self.bin_ns) as usize] += 1;
        self.ends[(end_ns / self.bin_ns) as usize] += 1;
        self.completions[(end_ns / self.bin_ns) as usize] += u64::from(is_completed);
    }

    /// Counts output tokens that came at a time.
    pub(super) fn record_tokens(&mut self, at_ns: u64, count: u32) {
        self.make_room(at_ns);
        self.tokens[(at_ns / self.bin_ns) as usize] += u64::from(count);
    }

    fn make_room(&mut self, at_ns: u64) {
        while at_ns / self.bin_ns >= BINS as u64 {
            self.bin_ns *= 2;
            for bins in
                [&mut self.arrivals, &mut self.ends, &mut self.completions, &mut self.tokens]
            {
                halve(bins);
            }
        }
    }

    /// The window that is left of the trial without warm-up and drain.
    ///
    /// Of all windows of batches, the one whose mean token rate has the smallest standard error: the
    /// truncation rule MSER (White, "An effective truncation heuristic for bias reduction in
    /// simulation output", 1997), at both ends. A window of no more than half of the trial is none, nor
    /// is one whose halves differ: the rate never settled. Nor is there one in a trial with fewer
    /// completed requests than batches.
    pub(super) fn steady_state(&self, end_ns: u64) -> SteadyState {
        let width = (end_ns / self.bin_ns) as usize / BATCHES;
        if width == 0 || self.completions.iter().sum::<u64>() < BATCHES as u64 {
            return SteadyState::NotFound;
        }
        let batch = |bins: &[u64]| -> Vec<f64> {
            bins.chunks(width).take(BATCHES).map(|batch| batch.iter().sum::<u64>() as f64).collect()
        };
        let (tokens, completions) = (batch(&self.tokens), batch(&self.completions));
        // Of two windows as good, the longer: those come first.
        let mut best = (f64::INFINITY, 0..0);
        for length in (BATCHES / 2..=BATCHES).rev() {
            for from in 0..=BATCHES - length {
                let window = from..from + length;
                let error = Spread::of(&tokens[window.clone()]).error_squared();
                if error < best.0 {
                    best = (error, window);
                }
            }
        }
        let window = best.1;
        if window.len() <= BATCHES / 2 || !is_level(&tokens[window.clone()]) {
            return SteadyState::NotFound;
        }
        let at_s = |batch: usize| (batch * width) as f64 * self.bin_ns as f64 / 1e9;
        let (from_s, to_s) = (at_s(window.start), at_s(window.end));
        let per_s =
            |batches: &[f64]| round(batches[window.clone()].iter().sum::<f64>() / (to_s - from_s));
        SteadyState::Found(SteadyWindow {
            from_s: round(from_s),
            to_s: round(to_s),
            output_tokens_per_s: per_s(&tokens),
            requests_per_s: per_s(&completions),
        })
    }

    /// Whether the number in flight still grew over the last third of the arrivals: more was
    /// offered than served.
    ///
    /// In a steady state the number in flight is about Poisson, so growth must also be more than
    /// four of its standard deviations.
    pub(super) fn grows(&self) -> bool {
        let bins = (self.last_arrival_ns / self.bin_ns) as usize;
        let (second, third) = (bins / 3..2 * bins / 3, 2 * bins / 3..bins);
        if second.is_empty() || third.is_empty() {
            return false;
        }
        let mut in_flight = Vec::with_capacity(bins);
        let mut now = 0_i64;
        for (arrivals, ends) in self.arrivals.iter().zip(&self.ends).take(bins) {
            now += *arrivals as i64 - *ends as i64;
            in_flight.push(now as f64);
        }
        let mean = |range: std::ops::Range<usize>| {
            let values = &in_flight[range];
            values.iter().sum::<f64>() / values.len() as f64
        };
        let (before, after) = (mean(second), mean(third));
        after > 1.25 * before && after - before > 4.0 * libm::sqrt(before.max(1.0))
    }
}

/// Mean and sum of squares about it.
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        Self { count, mean, squares }
    }

    /// Of the mean, as if the values were independent.
    fn error_squared(&self) -> f64 {
        self.squares / (self.count * self.count)
    }
}

/// Whether there are tokens and as many in the second half as in the first: within a tenth, or
/// within four standard errors.
fn is_level(tokens: &[f64]) -> bool {
    let (first, second) = tokens.split_at(tokens.len() / 2);
    let (first, second) = (Spread::of(first), Spread::of(second));
    let step = (first.mean - second.mean).abs();
    let error = libm::sqrt(first.error_squared() + second.error_squared());
    first.mean > 0.0 && step <= f64::max(0.1 * first.mean, 4.0 * error)
}

fn halve(bins: &mut [u64]) {
    for i in 0..BINS / 2 {
        bins[i] = bins[2 * i] + bins[2 * i + 1];
    }
    bins[BINS / 2..].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(requests: u64, gap_ms: u64, latency_ms: impl Fn(u64) -> u64) -> Timeline {
        let mut timeline = Timeline::default();
        for i in 0..requests {
            let at_ms = i * gap_ms;
            timeline.record(at_ms * 1_000_000, (at_ms + latency_ms(i)) * 1_000_000, true);
        }
        timeline
    }

    #[test]
    fn a_steady_load_does_not_grow() {
        assert!(!timeline(600, 100, |_| 2_000).grows());
    }

    #[test]
    fn a_backlog_grows() {
        // Served at half the rate of arrival: each request waits for all before it.
        assert!(timeline(600, 100, |i| 100 * i).grows());
    }

    #[test]
    fn no_request_is_lost_when_bins_double() {
        let timeline = timeline(5_000, 1_000, |_| 5);
        assert_eq!(timeline.arrivals.iter().sum::<u64>(), 5_000);
        assert_eq!(timeline.ends.iter().sum::<u64>(), 5_000);
        assert_eq!(timeline.arrivals.len(), BINS);
    }

    /// Tokens by tenth of a second, as a rate over time.
    fn tokens(tenths: impl IntoIterator<Item = u32>) -> SteadyState {
        let mut timeline = Timeline::default();
        let mut end_ns = 0;
        for count in tenths {
            timeline.record_tokens(end_ns + 50_000_000, count);
            timeline.record(end_ns, end_ns + 50_000_000, true);
            end_ns += 100_000_000;
        }
        timeline.steady_state(end_ns)
    }

    fn window(state: SteadyState) -> SteadyWindow {
        match state {
            SteadyState::Found(window) => window,
            SteadyState::NotFound => panic!("there is a steady state"),
        }
    }

    #[test]
    fn warm_up_and_drain_are_left_out() {
        let noisy = |i: u32| 100 + (i * 7919) % 11;
        let trial = (0..100).chain((0..600).map(noisy)).chain((0..100).rev());
        let window = window(tokens(trial));
        assert!((9.0..12.5).contains(&window.from_s), "{window:?}");
        assert!((67.5..71.0).contains(&window.to_s), "{window:?}");
        assert!((1045.0..1055.0).contains(&window.output_tokens_per_s), "{window:?}");
        assert!((9.9..10.1).contains(&window.requests_per_s), "{window:?}");
    }

    #[test]
    fn what_is_steady_throughout_is_taken_whole() {
        let window = window(tokens(std::iter::repeat_n(100, 640)));
        assert!(window.to_s - window.from_s > 60.0, "{window:?}");
        assert!((999.0..1001.0).contains(&window.output_tokens_per_s), "{window:?}");
    }

    #[test]
    fn what_never_settles_has_no_steady_state() {
        assert_eq!(tokens(0..800), SteadyState::NotFound, "a ramp");
        assert_eq!(tokens((0..800).rev()), SteadyState::NotFound, "a drain");
        let thirds = (0..900).map(|i| [100, 500, 900][i / 300]);
        assert_eq!(tokens(thirds), SteadyState::NotFound, "three levels");
        assert_eq!(tokens([5; 30]), SteadyState::NotFound, "too few requests");
        assert_eq!(tokens([0; 800]), SteadyState::NotFound, "no token");
    }

    #[test]
    fn an_empty_trial_does_not_grow() {
        assert!(!Timeline::default().grows());
    }
}
