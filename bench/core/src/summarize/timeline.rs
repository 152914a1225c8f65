//! Requests in flight over time, in a fixed number of bins.

const BINS: usize = 1024;

/// Arrivals and ends by time. The bins double in width when a time falls beyond the last, so any
/// length of trial takes the same memory.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    bin_ns: u64,
    arrivals: Vec<u64>,
    ends: Vec<u64>,
    last_arrival_ns: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { bin_ns: 1_000_000, arrivals: vec![0; BINS], ends: vec![0; BINS], last_arrival_ns: 0 }
    }
}

impl Timeline {
    /// Counts a request that was due at `arrival_ns` and ended at `end_ns`.
    pub(super) fn record(&mut self, arrival_ns: u64, end_ns: u64) {
        self.last_arrival_ns = self.last_arrival_ns.max(arrival_ns);
        while end_ns.max(arrival_ns) / self.bin_ns >= BINS as u64 {
            self.bin_ns *= 2;
            halve(&mut self.arrivals);
            halve(&mut self.ends);
        }
        self.arrivals[(arrival_ns / self.bin_ns) as usize] += 1;
        self.ends[(end_ns / self.bin_ns) as usize] += 1;
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
            timeline.record(at_ms * 1_000_000, (at_ms + latency_ms(i)) * 1_000_000);
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

    #[test]
    fn an_empty_trial_does_not_grow() {
        assert!(!Timeline::default().grows());
    }
}
