//! The difference between two sides of server starts, and how far it may be off.

use super::{
    spread::{Prior, Spread, Start, exact_mean, mean, pooled_within},
    student,
};
use crate::schema::Estimate;

/// On what a change is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Logarithms: effects are multiplicative, and a change is a ratio.
    Ratio,
    /// Differences, shown in percent of this value; of shares in points.
    Linear { hundred_percent: f64 },
}

impl Scale {
    pub(super) fn of(before: &[Start], after: &[Start], is_share: bool) -> Self {
        if is_share {
            return Self::Linear { hundred_percent: 1.0 };
        }
        let all = || before.iter().chain(after).flat_map(|start| &start.repeats);
        if all().all(|value| *value > 0.0) {
            return Self::Ratio;
        }
        Self::Linear { hundred_percent: mean(&means(before)) }
    }

    fn apply(self, value: f64) -> f64 {
        if self == Self::Ratio { libm::log(value) } else { value }
    }

    /// Whether spreads on it mean the same in every setting, so that they can be lent.
    fn is_shared(self, is_share: bool) -> bool {
        is_share || self == Self::Ratio
    }

    /// The spread of starts on it; `None` of a single start, and where none can be lent.
    pub(super) fn spread(self, starts: &[Start], is_share: bool) -> Option<Spread> {
        Spread::of(&self.of_starts(starts)).filter(|_| self.is_shared(is_share))
    }

    /// The values of starts on it.
    pub(super) fn of_starts(self, starts: &[Start]) -> Vec<Vec<f64>> {
        let repeats = |start: &Start| start.repeats.iter().map(|v| self.apply(*v)).collect();
        starts.iter().map(repeats).collect()
    }

    /// A difference on this scale in percent or points; not finite where nothing was before.
    pub(super) fn shown(self, difference: f64) -> f64 {
        match self {
            Self::Ratio => 100.0 * libm::expm1(difference),
            Self::Linear { hundred_percent } => 100.0 * difference / hundred_percent,
        }
    }
}

fn means(starts: &[Start]) -> Vec<f64> {
    starts.iter().map(|start| mean(&start.repeats)).collect()
}

/// A change on its scale.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) scale: Scale,
    pub(super) mean: f64,
    /// `None` where a side has a single start.
    pub(super) error: Option<Error>,
}

/// How far a difference may be off: a mixture of Student's t, one for each answer to how much the
/// spread of other settings says.
#[derive(Clone, Debug)]
pub(super) struct Error {
    /// Empty where no start of a side differs from another.
    parts: Vec<Part>,
    /// Degrees of freedom that are the sides' own.
    pub(super) own_freedom: f64,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    weight: f64,
    standard_error: f64,
    freedom: f64,
}

impl Difference {
    /// `None` when a side has no start.
    ///
    /// Where both sides have one start in each of the same blocks, starts are compared within blocks:
    /// what changes between blocks, such as a host that drifts, cancels out, and sides may spread
    /// unequally.
    pub(super) fn between(
        before: &[Start],
        after: &[Start],
        is_share: bool,
        lent: &[Spread],
    ) -> Option<Self> {
        let is_empty =
            |side: &[Start]| side.is_empty() || side.iter().any(|start| start.repeats.is_empty());
        if is_empty(before) || is_empty(after) {
            return None;
        }
        let scale = Scale::of(before, after, is_share);
        let sides = [before, after].map(|side| scale.of_starts(side));
        let [a, b] =
            [0, 1].map(|i| sides[i].iter().map(|start| exact_mean(start)).collect::<Vec<_>>());
        let mean = exact_mean(&b) - exact_mean(&a);
        let prior = |repeats, within| {
            let prior = || Prior::new(lent, sides.len(), repeats, within);
            scale.is_shared(is_share).then(prior)?
        };
        let error = error(&sides, pairs(before, after), prior);
        Some(Self { scale, mean, error })
    }

    /// As it is shown, with the interval that misses the true change with this probability; `None`
    /// where nothing was before.
    pub(super) fn estimate(&self, two_sided: f64) -> Option<Estimate> {
        let shown = |difference| Some(self.scale.shown(difference)).filter(|d| d.is_finite());
        let half = self.error.as_ref().map(|error| error.half_interval(two_sided));
        Some(Estimate {
            mean: shown(self.mean)?,
            low: half.and_then(|half| shown(self.mean - half)),
            high: half.and_then(|half| shown(self.mean + half)),
            ..Estimate::default()
        })
    }
}

/// How far the mean of one setting's starts may be off, on the scale on which changes are judged; `None` where
/// nothing is borrowed, or no start differs from another.
pub(super) fn error_of_one(
    starts: &[Start],
    scale: Scale,
    is_share: bool,
    lent: &[Spread],
) -> Option<Error> {
    let spread = scale.spread(starts, is_share).filter(|spread| spread.variance > 0.0)?;
    let n = starts.len() as f64;
    let parts = Prior::new(lent, 1, spread.repeats, spread.within)?
        .moderate(&[(spread.variance, spread.freedom)])
        .into_iter()
        .filter(|m| m.weight > 1e-6)
        .map(|m| Part {
            weight: m.weight,
            standard_error: libm::sqrt(m.variances[0].max(spread.within / spread.repeats) / n),
            freedom: m.freedoms[0],
        })
        .collect();
    Some(Error { parts, own_freedom: spread.freedom })
}

/// For each start before the one after in its block; `None` unless both sides have one start in each
/// of the same blocks.
fn pairs(before: &[Start], after: &[Start]) -> Option<Vec<usize>> {
    let find = |start: &Start| {
        let mut found = (0..after.len()).filter(|i| after[*i].block == start.block);
        start.block.and(found.next().filter(|_| found.next().is_none()))
    };
    let pairs: Vec<usize> = before.iter().map(find).collect::<Option<_>>()?;
    let mut distinct = pairs.clone();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() == after.len() && pairs.len() == after.len()).then_some(pairs)
}

fn error(
    sides: &[Vec<Vec<f64>>; 2],
    pairs: Option<Vec<usize>>,
    prior: impl Fn(f64, f64) -> Option<Prior>,
) -> Option<Error> {
    let spreads = [Spread::of(&sides[0])?, Spread::of(&sides[1])?];
    let own_within = pooled_within(spreads.iter());
    let repeats = f64::midpoint(spreads[0].repeats, spreads[1].repeats);
    let n = [sides[0].len() as f64, sides[1].len() as f64];
    // A pair's difference varies as two starts do.
    let paired = pairs.map(|pairs| {
        let difference = |(a, b): (&Vec<f64>, usize)| mean(&sides[1][b]) - mean(a);
        let differences: Vec<_> =
            sides[0].iter().zip(pairs).map(difference).map(|d| vec![d]).collect();
        let spread = Spread::of(&differences).expect("as many pairs as starts");
        vec![(spread.variance / 2.0, spread.freedom)]
    });
    let own = paired.unwrap_or_else(|| spreads.iter().map(|s| (s.variance, s.freedom)).collect());
    let own_freedom = own.iter().map(|(_, freedom)| freedom).sum();
    if own.iter().all(|(variance, _)| *variance == 0.0) {
        return Some(Error { parts: Vec::new(), own_freedom });
    }
    let is_paired = own.len() == 1;
    let part = |weight: f64, variances: [f64; 2], freedoms: [f64; 2], freedom_max: f64| {
        // Starts whose repeats differ cannot agree but by chance.
        let [a, b] = [0, 1].map(|i| variances[i].max(own_within / repeats) / n[i]);
        let satterthwaite = (a + b) * (a + b) / (a * a / freedoms[0] + b * b / freedoms[1]);
        let freedom = if is_paired { freedoms[0] } else { satterthwaite.min(freedom_max) };
        Part { weight, standard_error: libm::sqrt(a + b), freedom }
    };
    let parts = match prior(repeats, own_within) {
        Some(prior) => prior
            .moderate(&own)
            .into_iter()
            .filter(|m| m.weight > 1e-6)
            .map(|m| part(m.weight, m.variances, m.freedoms, m.freedom_max))
            .collect(),
        None => {
            let (a, b) = (own[0], own[own.len() - 1]);
            let mut part = part(1.0, [a.0, b.0], [a.1, b.1], own_freedom);
            // With three to five starts and sides that spread unequally, the fraction makes far
            // tails too thin.
            part.freedom = libm::floor(part.freedom).max(1.0);
            vec![part]
        }
    };
    Some(Error { parts, own_freedom })
}

impl Error {
    /// Whether there is any.
    pub(super) fn is_none(&self) -> bool {
        self.parts.is_empty()
    }

    /// Probability of a difference at least as large, on either side, if nothing differed.
    pub(super) fn two_sided_p(&self, difference: f64) -> f64 {
        let p = |part: &Part| {
            part.weight * student::two_sided_p(difference / part.standard_error, part.freedom)
        };
        self.parts.iter().map(p).sum()
    }

    /// Half the interval that misses the true difference with this probability.
    pub(super) fn half_interval(&self, two_sided: f64) -> f64 {
        if self.is_none() {
            return 0.0;
        }
        let unit = self.standard_error();
        unit * student::root_of_falling(|t| self.two_sided_p(t * unit) - two_sided)
    }

    /// Over all answers.
    pub(super) fn standard_error(&self) -> f64 {
        let variance = |part: &Part| part.weight * part.standard_error * part.standard_error;
        libm::sqrt(self.parts.iter().map(variance).sum())
    }

    /// Degrees of freedom of one t in the mixture's place.
    pub(super) fn freedom(&self) -> f64 {
        1.0 / self.parts.iter().map(|part| part.weight / part.freedom).sum::<f64>()
    }
}
