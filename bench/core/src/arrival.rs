//! Arrival times of the open-loop processes.

use crate::{
    decimal::Decimal,
    rng::Random,
    schema::{Arrival, LoadSpec, Size},
};

const NS_PER_S: f64 = 1e9;

/// Draws arrival times in nanoseconds since the start, in order.
#[derive(Clone, Debug)]
pub struct Arrivals {
    arrival: Arrival,
    random: Random,
    /// Arrivals after this are not part of the load.
    end_ns: u64,
    elapsed_s: f64,
    drawn: u64,
}

impl Arrivals {
    /// The arrivals of a load. A closed loop has none, and those of a replay are its file's.
    pub fn new(load: &LoadSpec, random: Random) -> Self {
        let end_ns = match load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        Self { arrival: load.arrival.clone(), random, end_ns, elapsed_s: 0.0, drawn: 0 }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match &self.arrival {
            // With a duration instead of a count, a burst has no size: nothing arrives.
            Arrival::AllAtOnce {} => return (self.end_ns == u64::MAX).then_some(0),
            // Times of a file are in its rows.
            Arrival::ClosedLoop { .. } | Arrival::Replay { .. } => return None,
            Arrival::Poisson { requests_per_second } => {
                self.elapsed_s += self.random.exponential() / requests_per_second.to_f64();
            }
            Arrival::Gamma { requests_per_second, burstiness } => {
                self.elapsed_s +=
                    self.random.gamma(burstiness.to_f64()) / requests_per_second.to_f64();
            }
            Arrival::Constant { requests_per_second } => {
                // From the count, so that rounding errors do not add up.
                self.elapsed_s = self.drawn as f64 / requests_per_second.to_f64();
            }
            Arrival::Ramp { requests_per_second_start, requests_per_second_end } => {
                // Invert the integrated rate: the next arrival is one exponential further along
                // the expected count (Çinlar's method for non-homogeneous Poisson processes).
                let start = requests_per_second_start.to_f64();
                let duration_s = self.end_ns as f64 / NS_PER_S;
                let slope = (requests_per_second_end.to_f64() - start) / duration_s;
                let now = self.elapsed_s;
                let expected = start * now + 0.5 * slope * now * now + self.random.exponential();
                self.elapsed_s = if slope == 0.0 {
                    expected / start
                } else {
                    // Past its vertex a falling rate is zero: no more arrivals.
                    let discriminant = start * start + 2.0 * slope * expected;
                    if discriminant < 0.0 {
                        return None;
                    }
                    (libm::sqrt(discriminant) - start) / slope
                };
            }
        }
        self.drawn += 1;
        let at_ns = (self.elapsed_s * NS_PER_S) as u64;
        (at_ns < self.end_ns).then_some(at_ns)
    }
}

/// When a request is due in a replay that came so long after the first one; rounded down.
pub fn replayed_ns(after_first_ns: u64, speed_up: Decimal) -> u64 {
    let speed_up = u128::from(speed_up.millionths().unsigned_abs().max(1));
    u64::try_from(u128::from(after_first_ns) * 1_000_000 / speed_up).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Class, TokenRange};
    use proptest::prelude::*;

    fn load(arrival: Arrival, size: Size) -> LoadSpec {
        let class = Class {
            name: "only".into(),
            share: "1".parse().expect("decimal"),
            input_tokens: TokenRange { min: 1, max: 1 },
            output_tokens: TokenRange { min: 1, max: 1 },
            prefix: None,
        };
        LoadSpec::drawn(arrival, size, vec![class], 1)
    }

    fn arrivals(arrival: Arrival, size: Size) -> Vec<u64> {
        Arrivals::new(&load(arrival, size), Random::new(1, 0)).collect()
    }

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("decimal")
    }

    #[test]
    fn rates_are_kept() {
        let hour = Size::DurationMs(3_600_000);
        let rate = decimal("20");
        for arrival in [
            Arrival::Poisson { requests_per_second: rate },
            Arrival::Gamma { requests_per_second: rate, burstiness: decimal("0.5") },
            Arrival::Constant { requests_per_second: rate },
            Arrival::Ramp {
                requests_per_second_start: decimal("10"),
                requests_per_second_end: decimal("30"),
            },
        ] {
            let count = arrivals(arrival.clone(), hour).len() as f64;
            assert!((count / 72_000.0 - 1.0).abs() < 0.02, "{arrival:?}: {count}");
        }
    }

    #[test]
    fn constant_gaps_do_not_drift() {
        let at = arrivals(
            Arrival::Constant { requests_per_second: decimal("3") },
            Size::DurationMs(1_000_000),
        );
        assert_eq!(at.len(), 3000);
        assert_eq!(at[2997], 999_000_000_000);
    }

    #[test]
    fn a_replay_twice_as_fast_takes_half_the_time() {
        assert_eq!(replayed_ns(3_000_000_001, decimal("2")), 1_500_000_000);
        assert_eq!(replayed_ns(3_000_000_000, decimal("0.5")), 6_000_000_000);
        assert_eq!(replayed_ns(u64::MAX, decimal("0.000001")), u64::MAX);
    }

    #[test]
    fn a_ramp_is_denser_at_its_end() {
        let at = arrivals(
            Arrival::Ramp {
                requests_per_second_start: decimal("0"),
                requests_per_second_end: decimal("40"),
            },
            Size::DurationMs(1_000_000),
        );
        let first_half = at.iter().filter(|ns| **ns < 500_000_000_000).count() as f64;
        assert!((first_half / at.len() as f64 - 0.25).abs() < 0.02);
    }

    #[test]
    fn a_ramp_down_to_nothing_ends() {
        let at = arrivals(
            Arrival::Ramp {
                requests_per_second_start: decimal("5"),
                requests_per_second_end: decimal("0"),
            },
            Size::DurationMs(10_000),
        );
        assert!(!at.is_empty() && at.len() < 60);
    }

    proptest! {
        #[test]
        fn times_are_in_order_and_within_the_duration(rate in 1_i64..500_000_000, shape in 100_000_i64..8_000_000) {
            let arrival = Arrival::Gamma {
                requests_per_second: Decimal::from_millionths(rate),
                burstiness: Decimal::from_millionths(shape),
            };
            let at = arrivals(arrival, Size::DurationMs(2_000));
            prop_assert!(at.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(at.iter().all(|ns| *ns < 2_000_000_000));
        }
    }
}
