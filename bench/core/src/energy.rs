//! Energy over a stretch of a trial, from readings of the cards' counters and of their power.

use crate::{
    hist::round,
    schema::{Energy, EnergyReading},
};

/// A stretch may stand out over the readings by so much of its length: its rest is taken to be like it.
const SHARE_UNREAD_MAX: f64 = 0.02;

/// What readings in the order of time say of the stretch between two moments; `None` where they do not span it.
pub fn between(readings: &[EnergyReading], from_s: f64, to_s: f64) -> Option<Energy> {
    let (first, last) = (readings.first()?, readings.last()?);
    let read = (from_s.max(first.at_s), to_s.min(last.at_s));
    let read_s = read.1 - read.0;
    if read_s <= 0.0 || read_s < (1.0 - SHARE_UNREAD_MAX) * (to_s - from_s) {
        return None;
    }
    let of = |sums: &[(f64, f64)]| {
        let joules = at(sums, read.1)? - at(sums, read.0)?;
        Some(round(joules * (to_s - from_s) / read_s))
    };
    let counter: Vec<(f64, f64)> = readings.iter().map(|r| (r.at_s, r.counter_j)).collect();
    let integrated_joules = integrated(readings).and_then(|sums| of(&sums));
    Some(Energy { joules: of(&counter)?, integrated_joules })
}

/// Power summed up by trapezoids; `None` where a reading has none.
fn integrated(readings: &[EnergyReading]) -> Option<Vec<(f64, f64)>> {
    let mut sums: Vec<(f64, f64)> = Vec::with_capacity(readings.len());
    let mut before: Option<(f64, f64)> = None;
    let mut joules = 0.0;
    for reading in readings {
        let power_w = reading.power_w?;
        if let Some((at_s, before_w)) = before {
            joules += (reading.at_s - at_s) * (power_w + before_w) / 2.0;
        }
        before = Some((reading.at_s, power_w));
        sums.push((reading.at_s, joules));
    }
    Some(sums)
}

/// The value at a moment, on a line between the points around it.
fn at(points: &[(f64, f64)], moment_s: f64) -> Option<f64> {
    let after = points.iter().position(|(at_s, _)| *at_s >= moment_s)?;
    let (to_s, to) = points[after];
    if to_s == moment_s {
        return Some(to);
    }
    let (from_s, from) = points[after.checked_sub(1)?];
    Some(from + (to - from) * (moment_s - from_s) / (to_s - from_s))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(at_s: f64, counter_j: f64, power_w: f64) -> EnergyReading {
        EnergyReading { at_s, counter_j, power_w: Some(power_w) }
    }

    #[test]
    fn a_stretch_between_readings_has_its_part_of_them() {
        let readings = [
            reading(0.0, 1_000.0, 100.0),
            reading(2.0, 1_300.0, 200.0),
            reading(4.0, 1_700.0, 200.0),
        ];
        let energy = between(&readings, 1.0, 3.0).expect("readings span it");
        assert_eq!(energy.joules, 350.0, "half of 300 and half of 400");
        // Of the first trapezoid, 300 J, half; of the second, 400 J, half.
        assert_eq!(energy.integrated_joules, Some(350.0));
        let to_the_end = between(&readings, 2.0, 4.04).expect("but for a fiftieth");
        assert_eq!(to_the_end.joules, 408.0, "400 J of 2 s");
        assert_eq!(between(&readings, 1.0, 4.5), None, "it ends after the last reading");
        assert_eq!(between(&readings[1..], 1.0, 3.0), None, "it begins before the first");
        assert_eq!(between(&[], 0.0, 1.0), None);
        let mut silent = readings;
        silent[1].power_w = None;
        let energy = between(&silent, 1.0, 3.0).expect("the counter is there");
        assert_eq!(energy.integrated_joules, None);
    }

    proptest! {
        /// Two parts make the whole, and constant power is counted as it is integrated.
        #[test]
        fn parts_add_up(power in 1.0_f64..1_000.0, cut in 0.1_f64..9.9, steps in 2_u32..50) {
            let readings: Vec<_> = (0..=steps)
                .map(|i| 10.0 * f64::from(i) / f64::from(steps))
                .map(|at_s| reading(at_s, 5.0 + power * at_s, power))
                .collect();
            let of = |from, to| between(&readings, from, to).expect("readings span it");
            let whole = of(0.0, 10.0);
            prop_assert!((of(0.0, cut).joules + of(cut, 10.0).joules - whole.joules).abs() < 1e-4);
            let integrated = whole.integrated_joules.expect("power");
            prop_assert!((integrated - whole.joules).abs() < 1e-4 * whole.joules);
        }
    }
}
