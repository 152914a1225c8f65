//! The values of a sweep as settings, and the best of them.

use bench_core::schema::{Args, Choice, Point, Role};

use analysis::{
    Configuration,
    choice::{self, Swept},
    lenders::Lenders,
};
use profile::{Profile, role};
use report::{format, words};

/// The points of a sweep as configurations.
pub fn swept<'a>(
    name: &'a str,
    points: &'a [Point],
    lenders: &'a Lenders,
    profile: &Profile,
) -> Swept<'a> {
    let is_value = |point: &Point| matches!(point.role, Role::Sweep | Role::Tuned);
    Swept {
        name,
        values: Configuration::all(points, profile, is_value),
        default: Configuration::of(points, profile, |point| point.role == Role::Default),
        lenders,
    }
}

/// The best value of a sweep in words, or why the defaults do as well; by its own points alone.
pub fn best(name: &str, points: &[Point], profile: &Profile) -> Choice {
    let lenders = Lenders::of(points);
    let points = lenders.figures(points);
    let swept = swept(name, &points, &lenders, profile);
    if let Some((value, reason)) = choice::best(&swept, profile) {
        return Choice {
            label: value.label.to_owned(),
            args: value.args.clone(),
            reason: words::flag(&reason, profile),
        };
    }
    let measured = swept.values.iter().any(Configuration::is_measured);
    let objective =
        format!("{} on `{}`", format::name(&profile.objective.metric), profile.objective.load);
    let reason = if measured {
        format!("no value is worth a change by {objective} within the limits")
    } else {
        format!("no value gave a valid {objective}")
    };
    Choice { label: role::DEFAULT.to_owned(), args: Args::new(), reason }
}
