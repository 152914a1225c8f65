//! Histograms that merge: latencies of any number of requests in a few kilobytes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::schema::Quantiles;

/// Microseconds a millisecond.
const US_PER_MS: f64 = 1e3;
/// Three significant digits: a quantile is off by at most 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of latencies with an exact mean.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Microseconds.
    histogram: Histogram<u64>,
    sum_ns: u128,
    max_ns: u64,
    failed: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are within 0..=5");
        Self { histogram, sum_ns: 0, max_ns: 0, failed: 0 }
    }
}

impl Latencies {
    /// Counts one latency.
    pub fn record_ns(&mut self, ns: u64) {
        self.record_many_ns(ns, 1);
    }

    /// Counts `count` equal latencies.
    pub fn record_many_ns(&mut self, ns: u64, count: u64) {
        // An auto-resizing histogram holds any microsecond count that 64 bits of nanoseconds can make.
        self.histogram.record_n((ns + 500) / 1_000, count).expect("the histogram resizes itself");
        self.sum_ns += u128::from(ns) * u128::from(count);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Counts a request that failed: it ranks behind every latency.
    pub fn record_failed(&mut self) {
        self.failed += 1;
    }

    /// Number of latencies.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Mean and quantiles, rounded to nanoseconds.
    pub fn quantiles(&self) -> Quantiles {
        let (count, failed) = (self.count(), self.failed);
        if count == 0 && failed == 0 {
            return Quantiles::default();
        }
        if count == 0 {
            let none = f64::INFINITY;
            let quantiles =
                Quantiles { failed, p50_ms: none, p90_ms: none, ..Quantiles::default() };
            return Quantiles { p95_ms: none, p99_ms: none, max_ms: none, ..quantiles };
        }
        // The value of a bucket is its upper end; no quantile is above the largest value.
        let largest_ms = round(self.max_ns as f64 / 1e6);
        let at = |q: f64| {
            let all = (count + failed) as f64;
            // As the histogram ranks: the first value is at the lowest quantile.
            let rank = libm::ceil(q * all).max(1.0);
            if rank > count as f64 {
                return f64::INFINITY;
            }
            // Half a rank below, so that no rounding makes it the next one.
            let q = if failed == 0 { q } else { (rank - 0.5) / count as f64 };
            f64::min(self.histogram.value_at_quantile(q) as f64 / US_PER_MS, largest_ms)
        };
        let max_ms = if failed == 0 { largest_ms } else { f64::INFINITY };
        Quantiles {
            count,
            failed,
            mean_ms: round(self.sum_ns as f64 / count as f64 / 1e6),
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms,
        }
    }

    /// The form that is stored and merged.
    pub fn to_stored(&self) -> StoredHistogram {
        StoredHistogram {
            unit: "us".to_owned(),
            counts: self
                .histogram
                .iter_recorded()
                .map(|v| (v.value_iterated_to(), v.count_at_value()))
                .collect(),
        }
    }
}

/// A histogram at rest: `(value, count)` in ascending order of value. Two of one unit merge by
/// adding counts of equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredHistogram {
    /// Unit of the values: `us`.
    pub unit: String,
    /// Upper end of each bucket that is not empty, and how many values it holds.
    pub counts: Vec<(u64, u64)>,
}

/// Rounds to six digits after the point, so that records stay readable.
pub fn round(value: f64) -> f64 {
    libm::round(value * 1e6) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_within_a_thousandth(mut values in prop::collection::vec(1_000_u64..100_000_000_000, 1..300)) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|ns| latencies.record_ns(*ns));
            values.sort_unstable();
            let found = latencies.quantiles();
            for (q, ms) in [(0.5, found.p50_ms), (0.9, found.p90_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)] {
                let rank = (q * values.len() as f64).ceil() as usize - 1;
                let exact = values[rank] as f64 / 1e6;
                prop_assert!((ms / exact - 1.0).abs() < 0.001 || (ms - exact).abs() < 0.001, "{q}: {ms} for {exact}");
            }
            let mean = values.iter().map(|ns| *ns as f64).sum::<f64>() / values.len() as f64 / 1e6;
            prop_assert!((found.mean_ms - mean).abs() < 1e-5);
        }

        #[test]
        fn failures_rank_behind_every_value(
            mut values in prop::collection::vec(1_000_000_u64..100_000_000_000, 1..200), failed in 0_usize..200,
        ) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|ns| latencies.record_ns(*ns));
            (0..failed).for_each(|_| latencies.record_failed());
            values.sort_unstable();
            let found = latencies.quantiles();
            for (q, ms) in [(0.5, found.p50_ms), (0.9, found.p90_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)] {
                let rank = (q * (values.len() + failed) as f64).ceil() as usize - 1;
                let exact = values.get(rank).map_or(f64::INFINITY, |ns| *ns as f64 / 1e6);
                prop_assert!(ms == exact || (ms / exact - 1.0).abs() < 0.001, "{q}: {ms} for {exact}");
            }
        }

        #[test]
        fn merged_counts_are_those_of_all_values(a in prop::collection::vec(1_u64..10_000_000_000, 0..50), b in prop::collection::vec(1_u64..10_000_000_000, 0..50)) {
            let of = |values: &[u64]| {
                let mut latencies = Latencies::default();
                values.iter().for_each(|ns| latencies.record_ns(*ns));
                latencies.to_stored()
            };
            let mut merged = std::collections::BTreeMap::new();
            for (value, count) in of(&a).counts.into_iter().chain(of(&b).counts) {
                *merged.entry(value).or_insert(0) += count;
            }
            let both: Vec<u64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(of(&both).counts, merged.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Latencies::default().quantiles(), Quantiles::default());
    }
}
