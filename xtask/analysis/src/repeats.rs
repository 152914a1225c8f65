//! How often a load is worth repeating within a server start, by what was measured.

use bench_core::stats::{self, Costs, Spread};

/// A proposal, with what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// Repeats a start that decide soonest for the time spent.
    pub repeats: u32,
    /// Variance between starts, on the scale on which changes are judged.
    pub between: f64,
    /// Variance between repeats on one start.
    pub within: f64,
    /// What a start and a repeat take.
    pub costs: Costs,
}

/// From the spreads of the settings measured so far; `None` where none of them was repeated.
pub fn propose(spreads: &[Spread], costs: Costs) -> Option<Proposal> {
    let within = pooled(spreads, |s| (s.within, s.within_freedom))?;
    let between = pooled(spreads, |s| (s.variance - within / s.repeats, s.freedom))?.max(0.0);
    let repeats = stats::repeats(between, within, costs);
    Some(Proposal { repeats, between, within, costs })
}

/// Mean by degrees of freedom; `None` without any.
fn pooled(spreads: &[Spread], of: impl Fn(&Spread) -> (f64, f64)) -> Option<f64> {
    let freedom: f64 = spreads.iter().map(|spread| of(spread).1).sum();
    let sum: f64 = spreads.iter().map(&of).map(|(variance, freedom)| variance * freedom).sum();
    (freedom > 0.0).then(|| sum / freedom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variances_are_taken_apart_before_they_are_weighed() {
        let costs = Costs { start_s: 90.0, repeat_s: 15.0 };
        let (between, within) = (0.01_f64.powi(2), 0.027_f64.powi(2));
        let spread = Spread {
            variance: between + within / 2.0,
            freedom: 2.0,
            repeats: 2.0,
            within,
            within_freedom: 2.0,
        };
        let proposal = propose(&[spread; 3], costs).expect("repeated");
        assert_eq!(proposal.repeats, 7);
        assert!((proposal.between / between - 1.0).abs() < 1e-9);
        let once = Spread { within: 0.0, within_freedom: 0.0, repeats: 1.0, ..spread };
        assert_eq!(propose(&[once], costs), None);
        assert_eq!(propose(&[], costs), None);
    }
}
