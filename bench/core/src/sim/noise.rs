//! Noise of the host's processor: between server starts of one setting, and between loads that one start
//! serves.
//!
//! A GPU repeats its steps to about 1 %; what varies is the host: its kernel launches, its API servers, the
//! network path to its clients. A burst, which one API server limits, varies by 7 % between starts, tokens/s of a
//! rate that is sustained by 0.3 %, TTFT of single requests by 16 %. So the noise is in the times that
//! depend on the processor (`Model::on_host`), and reaches a metric as far as these limit it. `Model` draws
//! it: once a server start, once a load.

use serde::{Deserialize, Serialize};

use crate::rng::Random;

/// Deviations in the tail are this many times as large as others.
const TAIL: f64 = 3.0;

/// Standard deviations of logarithms, in millionths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostNoise {
    /// Of the processor's times between server starts.
    pub start_ppm: u64,
    /// Of the same between loads, or repeats of a load, on one start.
    pub load_ppm: u64,
    /// Of the way between client, API server and engine, between loads on one start.
    pub latency_ppm: u64,
    /// Share of starts and of loads that lie three times as far off: the tails seen on hosts.
    pub tail_ppm: u64,
}

impl HostNoise {
    /// The factor, in millionths, of a start's times on the processor.
    pub(super) fn of_start(&self, seed: u64) -> u64 {
        self.pace(&mut Random::new(seed, 2), self.start_ppm)
    }

    /// One draw of such a factor.
    pub(super) fn pace(&self, random: &mut Random, deviation_ppm: u64) -> u64 {
        if deviation_ppm == 0 {
            return 1_000_000;
        }
        let is_far = random.uniform() < self.tail_ppm as f64 / 1e6;
        let deviation = deviation_ppm as f64 / 1e6 * if is_far { TAIL } else { 1.0 };
        libm::round(1e6 * libm::exp((deviation * random.normal()).clamp(-0.7, 0.7))) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Model, *};

    fn deviation(noise: &HostNoise) -> (f64, f64) {
        let logs: Vec<f64> =
            (0..20_000).map(|seed| (noise.of_start(seed) as f64 / 1e6).ln()).collect();
        let square = |of: i32| logs.iter().map(|log| log.powi(of)).sum::<f64>() / 20_000.0;
        (square(2).sqrt(), square(4) / square(2).powi(2))
    }

    #[test]
    fn a_tail_makes_far_starts_more_frequent() {
        let noise = HostNoise { start_ppm: 50_000, ..HostNoise::default() };
        let (normal, flat) = deviation(&noise);
        let (wide, heavy) = deviation(&HostNoise { tail_ppm: 100_000, ..noise });
        assert!((normal - 0.05).abs() < 0.001 && (flat - 3.0).abs() < 0.1, "{normal} {flat}");
        assert!((wide - 0.05 * 1.8_f64.sqrt()).abs() < 0.002 && heavy > 6.0, "{wide} {heavy}");
    }

    #[test]
    fn without_noise_nothing_is_drawn() {
        let model: Model =
            serde_json::from_str(include_str!("../../../models/tiny.json")).expect("a model");
        assert_eq!(model.without_noise().on_load(1_000_000, 7), model.without_noise());
    }
}
