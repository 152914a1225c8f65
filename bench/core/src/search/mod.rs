//! The joint search over several flags: which setting to measure next, within a budget of engine
//! time, and which to measure again before anything is said of it.
//!
//! Pure: [`Problem::next`] is a function of what was measured, so that a search that was killed
//! goes on where it stood. It is Bayesian optimization on the grid of the flags' values:
//!
//! - A simulator's predictions are the mean of a Gaussian process; what is measured corrects them,
//!   in logarithms, since a model is off by factors: everywhere, by value of a flag, by setting.
//! - The next start has the largest expected improvement (Jones, Schonlau and Welch 1998) times
//!   the probability that it keeps the limits (Gardner et al. 2014) and starts, per second that
//!   its start and loads take (Snoek, Larochelle and Adams 2012). A setting that was measured may be
//!   started again: what another start would tell of it has the same measure (Frazier, Powell and
//!   Dayanik 2009). So close settings are repeated, and how much starts vary is learned.
//! - The load of the objective comes first, and a setting that is believed to be behind gets no
//!   other load: successive halving (Jamieson and Talwalkar 2016) with one rung.
//! - How cards share the work (the layout) comes first, since no other flag does as much: once a setting keeps
//!   the limits, the setting of each layout that is believed to be best is started, the best layout before the
//!   others, unless it is believed behind even with every guess about the layout at its best. Then the rest is
//!   searched.
//! - The best of many noisy figures is too good, and so is one that just keeps a limit. So the
//!   winner, another and the defaults are measured again, on fresh starts and with fresh seeds, and
//!   that alone is reported.

mod problem;
mod process;
mod view;

use self::view::View;

pub use problem::{
    Candidate, DEFAULTS, Evaluation, Failure, Goal, Over, Predicted, Problem, STARTS_MAX, Seen,
    Step, Trial, Want, predict,
};

impl Problem {
    /// The next step after these evaluations, in the order in which they were made.
    pub fn next(&self, evaluations: &[Evaluation]) -> Step {
        let Some(last) = evaluations.last() else {
            return Step::Measure(Trial { candidate: DEFAULTS, start: 0, load: 0, repeat: 0 });
        };
        let on_last = |load: usize| {
            let Evaluation { candidate, start, ref served, .. } = *last;
            Step::Measure(Trial { candidate, start, load, repeat: served[load] })
        };
        let view = View::new(self, evaluations);
        let next = last.served.iter().position(|times| *times == 0);
        if let Some(load) = next.filter(|_| last.failure.is_none() && view.goes_on(last)) {
            return on_last(load);
        }
        if last.failure.is_none() && last.is_whole() && view.wants_repeat(last) {
            return on_last(0);
        }
        if let Some(trial) = view.next_layout() {
            return Step::Measure(trial);
        }
        let (best, fits) = view.best_trial();
        match best {
            Some(trial) => Step::Measure(trial),
            None => Step::Confirm {
                candidates: view.finalists(),
                reason: if fits { Over::NothingPromises } else { Over::Budget },
            },
        }
    }

    /// Of the finalists those that may be recommended as far as the limits go, and whether the
    /// defaults keep them: by all starts, those of the confirmation among the evaluations.
    ///
    /// A setting must keep the limits with a probability of [`SURE`] where the defaults keep them,
    /// of [`SURE_ENOUGH`] where they do not.
    pub fn acceptable(
        &self,
        evaluations: &[Evaluation],
        finalists: &[usize],
    ) -> (Vec<usize>, bool) {
        let view = View::new(self, evaluations);
        (view.acceptable(finalists), view.default_keeps())
    }
}

#[cfg(test)]
mod tests;
