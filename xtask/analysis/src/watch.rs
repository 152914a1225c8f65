//! Whether a figure that is measured night after night has slipped: change points in its history.
//!
//! Each night is one version of the engine, and its value the mean over its starts of the figure's logarithm.
//! For every night of the last [`NIGHTS_SINCE_MAX`] the evidence that the level changed with it is a ratio
//! of likelihoods: Student's t of the difference between the means of the nights since and before, around changes
//! by [`FACTORS`] up and down, over the same around none. The noise of a night is taken from the nights
//! themselves, on both sides of the change: what starts of one night do not show, such as the room's
//! temperature, is in it. The ratios are added (Shiryaev 1963, Roberts 1966), so that a change is found
//! however long ago it began; from [`EVIDENCE`] on it is called one, and the level begins anew.

use bench_core::metric::Direction;

/// Changes that are looked for, as factors of the figure, up and down.
const FACTORS: [f64; 5] = [1.05, 1.1, 1.2, 1.5, 3.0];
/// Nights before a change without which nothing is said.
pub const NIGHTS_BEFORE_MIN: usize = 4;
/// How long ago a change may have begun.
const NIGHTS_SINCE_MAX: usize = 10;
/// How much likelier a change must be than none; `cargo run --release -p analysis --example nights` shows what
/// follows from it.
pub const EVIDENCE: f64 = 20.0;
/// Nights that differ by less are alike: the variance of a thousandth.
const VARIANCE_MIN: f64 = 1e-6;

/// A night from which on the figure has another level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// The first night of the new level.
    pub from: usize,
    /// The night that showed it.
    pub found: usize,
    /// The change when it was found, as a share of the level before.
    pub change: f64,
    /// Whether it is one for the worse.
    pub is_slip: bool,
}

/// What is known of a figure after its last night.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// Every change of level, in their order.
    pub changes: Vec<ChangePoint>,
    /// Nights of the present level.
    pub nights: usize,
    /// Its mean.
    pub level: f64,
    /// Standard deviation of a night around its level, as a share of it; `None` of a single night.
    pub noise: Option<f64>,
}

impl Watched {
    /// Whether the level is known well enough for a change to be told from it.
    pub fn is_learning(&self) -> bool {
        self.nights <= NIGHTS_BEFORE_MIN
    }

    /// The change that the last of so many nights showed.
    pub fn tonight(&self, nights: usize) -> Option<&ChangePoint> {
        self.changes.last().filter(|change| change.found + 1 == nights)
    }
}

/// Looks at the nights in their order, each the values of its starts; `None` where there is none, or a value
/// is no positive number. `figures` that are watched together share the false alarms.
pub fn watch(nights: &[Vec<f64>], direction: Direction, figures: usize) -> Option<Watched> {
    let is_good = |value: &f64| value.is_finite() && *value > 0.0;
    if nights.is_empty() || !nights.iter().all(|n| !n.is_empty() && n.iter().all(is_good)) {
        return None;
    }
    let of_night =
        |starts: &Vec<f64>| starts.iter().map(|v| v.ln()).sum::<f64>() / starts.len() as f64;
    let values: Vec<f64> = nights.iter().map(of_night).collect();
    let enough = EVIDENCE * figures.max(1) as f64;
    let mut changes = Vec::new();
    let mut begin = 0;
    for found in 0..values.len() {
        let level = &values[begin..=found];
        let first = NIGHTS_BEFORE_MIN.max(level.len().saturating_sub(NIGHTS_SINCE_MAX));
        let possible = || (first..level.len()).map(|at| (at, evidence(level, at)));
        if possible().map(|(_, evidence)| evidence).sum::<f64>() < enough {
            continue;
        }
        let Some((at, _)) = possible().max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let change = (mean(&level[at..]) - mean(&level[..at])).exp_m1();
        let is_slip = match direction {
            Direction::Higher => change < 0.0,
            Direction::Lower => change > 0.0,
            Direction::Neither => false,
        };
        begin += at;
        changes.push(ChangePoint { from: begin, found, change, is_slip });
    }
    let level = &values[begin..];
    let noise = (level.len() > 1)
        .then(|| (squares(level) / (level.len() - 1) as f64).max(VARIANCE_MIN).sqrt());
    Some(Watched { changes, nights: level.len(), level: mean(level).exp(), noise })
}

/// How much likelier it is that the level changed with the night `at` than that it did not.
fn evidence(values: &[f64], at: usize) -> f64 {
    let (before, since) = values.split_at(at);
    let freedom = (values.len() - 2) as f64;
    let variance = ((squares(before) + squares(since)) / freedom).max(VARIANCE_MIN);
    let of_difference = variance * (1.0 / before.len() as f64 + 1.0 / since.len() as f64);
    let difference = mean(since) - mean(before);
    // Student's density but for what all have in common.
    let density = |change: f64| {
        let distance = difference - change;
        (1.0 + distance * distance / (freedom * of_difference)).ln() * -(freedom + 1.0) / 2.0
    };
    let none = density(0.0);
    let changes = FACTORS.into_iter().flat_map(|factor| [factor.ln(), -factor.ln()]);
    changes.map(|change| (density(change) - none).exp()).sum::<f64>() / (2 * FACTORS.len()) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sum of squared distances from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean) * (value - mean)).sum()
}

#[cfg(test)]
mod tests {
    use bench_core::rng::Random;
    use proptest::prelude::*;

    use super::*;

    /// Nights of three starts around 1,000, each start off by the noise.
    fn nights(seed: u64, count: usize, noise: f64, factor: impl Fn(usize) -> f64) -> Vec<Vec<f64>> {
        let mut random = Random::new(seed, 1);
        let mut start = |night| 1_000.0 * factor(night) * (noise * random.normal()).exp();
        (0..count).map(|night| (0..3).map(|_| start(night)).collect()).collect()
    }

    #[test]
    fn a_slip_is_found_and_where_it_began() {
        let history = nights(1, 30, 0.01, |night| if night < 20 { 1.0 } else { 0.95 });
        let found = watch(&history, Direction::Higher, 1).expect("figures");
        let [slip] = found.changes[..] else { panic!("{found:?}") };
        assert_eq!((slip.from, slip.is_slip), (20, true));
        assert!((20..23).contains(&slip.found) && (slip.change + 0.05).abs() < 0.02, "{slip:?}");
        assert_eq!(found.nights, 10);
        assert!((found.level - 950.0).abs() < 10.0, "{}", found.level);
        assert_eq!(found.tonight(history.len()), None, "it was found before the last night");
        let then = watch(&history[..=slip.found], Direction::Higher, 1).expect("figures");
        assert_eq!(then.tonight(slip.found + 1), Some(&slip));
        let latency = watch(&history, Direction::Lower, 1).expect("figures");
        assert!(!latency.changes[0].is_slip, "less of a latency is better");
    }

    #[test]
    fn few_nights_say_nothing_and_equal_nights_stay() {
        let fallen = nights(2, 5, 0.001, |night| if night < 3 { 1.0 } else { 0.5 });
        let found = watch(&fallen, Direction::Higher, 1).expect("figures");
        assert!(found.changes.is_empty(), "three nights are no level: {found:?}");
        let equal = vec![vec![5.0]; 40];
        let found = watch(&equal, Direction::Higher, 1).expect("figures");
        assert!(found.changes.is_empty() && !found.is_learning());
        assert!(watch(&equal[..4], Direction::Higher, 1).expect("figures").is_learning());
        for bad in [vec![], vec![vec![]], vec![vec![0.0]], vec![vec![f64::INFINITY]]] {
            assert_eq!(watch(&bad, Direction::Higher, 1), None);
        }
    }

    /// A hundred nights of three starts and three repeats on a quiet host; the example has more seeds and
    /// hosts.
    #[test]
    fn a_twentieth_is_found_in_three_nights_and_alarms_are_rare() {
        let noise = (0.01_f64.powi(2) + 0.027_f64.powi(2) / 3.0).sqrt();
        let (mut in_time, mut alarms) = (0, 0);
        for seed in 100..160 {
            let slip = 10 + seed as usize % 87;
            let history = nights(seed, 100, noise, |night| if night < slip { 1.0 } else { 0.95 });
            let found = watch(&history[..slip + 3], Direction::Higher, 1).expect("figures");
            in_time += u32::from(found.changes.iter().any(|c| c.is_slip && c.found >= slip));
            let steady = watch(&nights(seed + 1_000, 100, noise, |_| 1.0), Direction::Higher, 1);
            alarms += steady.expect("figures").changes.len();
        }
        assert!(in_time >= 57, "{in_time} of 60 slips");
        assert!(alarms <= 60, "{alarms} false alarms in 60 times 100 nights");
    }

    proptest! {
        /// Units and the order of a night's starts change nothing; a future night changes no past one.
        #[test]
        fn scale_order_and_the_future_do_not_matter(
            history in prop::collection::vec(prop::collection::vec(0.5_f64..2.0, 1..4), 1..40),
            scale in 0.01_f64..100.0,
        ) {
            let found = watch(&history, Direction::Higher, 1).expect("figures");
            let scaled: Vec<Vec<f64>> = history
                .iter()
                .map(|night| night.iter().rev().map(|value| value * scale).collect())
                .collect();
            let other = watch(&scaled, Direction::Higher, 1).expect("figures");
            let places = |w: &Watched| -> Vec<_> {
                w.changes.iter().map(|c| (c.from, c.found, c.is_slip)).collect()
            };
            prop_assert_eq!(places(&found), places(&other));
            prop_assert!((other.level / found.level / scale - 1.0).abs() < 1e-9);
            let shorter = watch(&history[..history.len().div_ceil(2)], Direction::Higher, 1);
            let past = places(&shorter.expect("figures"));
            prop_assert_eq!(&places(&found)[..past.len()], &past[..]);
        }

        /// A change's nights lie in order, and no two share a level.
        #[test]
        fn levels_follow_each_other(
            history in prop::collection::vec(prop::collection::vec(0.1_f64..10.0, 1..3), 1..60),
        ) {
            let found = watch(&history, Direction::Lower, 1).expect("figures");
            let mut begin = 0;
            for change in &found.changes {
                prop_assert!(change.from >= begin + NIGHTS_BEFORE_MIN && change.from <= change.found);
                begin = change.from;
            }
            prop_assert_eq!(found.nights, history.len() - begin);
        }
    }
}
