//! How many times a load is repeated within a server start.

/// More repeats of a load than these are proposed to nobody: they would tell more of the spread within
/// a start than of that between starts.
pub const REPEATS_MAX: u32 = 10;

/// What measuring takes, in one unit of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// From one server start to the next, without the load that is repeated.
    pub start_s: f64,
    /// One repeat of the load.
    pub repeat_s: f64,
}

/// Repeats a start that make the mean over starts the surest for the time spent, from the variance
/// between starts and that within one: `√(start / repeat · within / between)` (Kalibera and Jones
/// 2013, "Rigorous benchmarking in reasonable time"), at least 1 and at most [`REPEATS_MAX`].
pub fn repeats(between: f64, within: f64, costs: Costs) -> u32 {
    if within <= 0.0 {
        return 1;
    }
    let best = libm::sqrt(costs.start_s / costs.repeat_s * within / between.max(0.0));
    // Whichever of the two whole numbers around it costs less time for the same variance.
    let time =
        |repeats: f64| (between + within / repeats) * (costs.start_s + repeats * costs.repeat_s);
    let below = libm::floor(best).clamp(1.0, f64::from(REPEATS_MAX));
    let above = (below + 1.0).min(f64::from(REPEATS_MAX));
    (if time(above) < time(below) { above } else { below }) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cheap_start_is_worth_more_than_a_repeat() {
        let (between, within) = (0.01 * 0.01, 0.027 * 0.027);
        let of = |start_s| repeats(between, within, Costs { start_s, repeat_s: 15.0 });
        assert_eq!((of(90.0), of(17.0)), (7, 3));
        assert_eq!(repeats(0.07 * 0.07, within, Costs { start_s: 90.0, repeat_s: 15.0 }), 1);
        assert_eq!(repeats(0.0, within, Costs { start_s: 90.0, repeat_s: 15.0 }), REPEATS_MAX);
        assert_eq!(repeats(between, 0.0, Costs { start_s: 90.0, repeat_s: 15.0 }), 1);
    }

    proptest! {
        #[test]
        fn no_other_number_costs_less_time(
            between in 1e-6..1e-2_f64,
            within in 1e-6..1e-2_f64,
            start_s in 1.0..200.0_f64,
            repeat_s in 1.0..200.0_f64,
        ) {
            let time = |r: u32| (between + within / f64::from(r)) * (start_s + f64::from(r) * repeat_s);
            let best = repeats(between, within, Costs { start_s, repeat_s });
            for other in 1..=REPEATS_MAX {
                prop_assert!(time(best) <= time(other) * (1.0 + 1e-12), "{best} {other}");
            }
        }
    }
}
