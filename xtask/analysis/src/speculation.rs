//! Where speculative decoding pays. Drafts save steps while the card waits for its memory, and cost work once
//! it computes, so that whether they pay hangs on how many requests are in flight.

use bench_core::{
    hist::round,
    metric,
    schema::{Arrival, Point, Role, Speculation, SpeculationAdvice, SpeculationOnLoad, Verdict},
    stats::{Judgement, QuestionRole},
};

use super::{comparison, lenders::Lenders, shared::Pair};
use profile::Profile;

/// The flag that turns it on.
const FLAG: &str = "speculative-config";

/// By which it pays: a mean that every load has, which no rate offered fixes.
const METRIC: &str = "e2e_mean_ms";

/// What each value of the sweeps with speculative decoding does, load by load, against the defaults of the same
/// sweep.
pub fn by_load<'a>(
    sweeps: impl IntoIterator<Item = &'a [Point]>,
    lenders: &Lenders,
    profile: &Profile,
) -> Vec<Speculation> {
    let mut found: Vec<Speculation> = Vec::new();
    for points in sweeps {
        let default: Vec<&Point> = points.iter().filter(|p| p.role == Role::Default).collect();
        let drafting = |point: &&Point| {
            // Of a value that sets more nobody could say what the drafts do.
            matches!(point.role, Role::Sweep | Role::Tuned) && point.args.keys().eq([FLAG])
        };
        for first in points.iter().filter(drafting) {
            if found.iter().any(|other| other.args == first.args) {
                continue;
            }
            let value: Vec<&Point> =
                points.iter().filter(drafting).filter(|p| p.args == first.args).collect();
            let loads = loads(&default, &value, lenders, profile);
            found.push(Speculation {
                label: first.label.clone(),
                args: first.args.clone(),
                advice: advice(&loads),
                loads,
            });
        }
    }
    found
}

fn loads(
    default: &[&Point],
    value: &[&Point],
    lenders: &Lenders,
    profile: &Profile,
) -> Vec<SpeculationOnLoad> {
    let metric = metric::find(METRIC).expect("a metric");
    let pairs = value.iter().filter_map(|after| {
        let before = default.iter().find(|before| before.load == after.load)?;
        (!Pair::of(before, after).shared.is_all()).then_some((*before, *after))
    });
    let pairs: Vec<(&Point, &Point)> = pairs.collect();
    let role = QuestionRole::Guardrail;
    let judged = comparison::judged_together(
        pairs.iter().map(|(before, after)| (*before, *after, metric)),
        role,
        lenders,
        profile,
    );
    let of = |((before, after), judged): ((&Point, &Point), Judgement)| {
        let in_flight = before.mean("requests_per_s")? * before.mean(METRIC)? / 1e3;
        judged.change.as_ref()?;
        Some(SpeculationOnLoad {
            load: after.load.clone(),
            offered_per_s: offered_per_s(profile, &after.load),
            in_flight: round(in_flight),
            change: judged.change,
            verdict: judged.verdict,
            reason: judged.reason,
        })
    };
    let mut loads: Vec<_> = pairs.iter().copied().zip(judged).filter_map(of).collect();
    loads.sort_by(|a, b| a.in_flight.total_cmp(&b.in_flight));
    loads
}

/// The one rate that a load asks for.
fn offered_per_s(profile: &Profile, load: &str) -> Option<f64> {
    match &profile.loads.iter().find(|named| named.name == load)?.spec.arrival {
        Arrival::Poisson { requests_per_second }
        | Arrival::Gamma { requests_per_second, .. }
        | Arrival::Constant { requests_per_second } => Some(requests_per_second.to_f64()),
        _ => None,
    }
}

/// What the loads come to, which are in the order of their requests in flight.
fn advice(loads: &[SpeculationOnLoad]) -> SpeculationAdvice {
    let is = |verdict| move |load: &SpeculationOnLoad| load.verdict == Some(verdict);
    let pays = loads.iter().rposition(is(Verdict::Better));
    let costs = loads.iter().position(is(Verdict::Worse));
    let name = |at: usize| loads[at].load.clone();
    let all = |verdict| {
        loads.iter().filter(|load| is(verdict)(load)).map(|load| load.load.clone()).collect()
    };
    match (pays, costs) {
        (None, None) => SpeculationAdvice::Undecided {},
        (Some(_), None) => SpeculationAdvice::Pays { on: all(Verdict::Better) },
        (None, Some(_)) => SpeculationAdvice::Costs { on: all(Verdict::Worse) },
        (Some(pays), Some(costs)) if pays < costs => {
            SpeculationAdvice::StopsBetween { pays_up_to: name(pays), costs_from: name(costs) }
        }
        (Some(_), Some(_)) => SpeculationAdvice::Mixed {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use bench_core::schema::ArgValue;

    /// Loads of 2, 8 and 24 requests/s, and one that keeps a request in flight.
    fn profile() -> Profile {
        let mut profile = fixture::profile(None);
        let burst = profile.loads[0].clone();
        let load = |name: &str, arrival| {
            let mut load = burst.clone();
            load.name = name.to_owned();
            load.spec.arrival = arrival;
            load
        };
        let poisson = |rate: i64| Arrival::Poisson {
            requests_per_second: bench_core::decimal::Decimal::from_int(rate).expect("a decimal"),
        };
        profile.loads = vec![
            load("at-24", poisson(24)),
            load("at-2", poisson(2)),
            load("at-8", poisson(8)),
            load("one", Arrival::ClosedLoop { concurrency: 1 }),
        ];
        profile
    }

    /// Three starts of a setting on a load, its mean E2E in ms.
    fn point(role: Role, load: &str, rate: f64, e2e_ms: f64) -> Point {
        let starts = |mean: f64| [mean * 0.99, mean * 1.002, mean * 1.008];
        let label = if role == Role::Default { "default" } else { "n-gram 3" };
        let figures: [(&str, &[f64]); 2] =
            [("requests_per_s", &starts(rate)), ("e2e_mean_ms", &starts(e2e_ms))];
        let mut point = Point { role, ..fixture::point(label, &[], load, &figures) };
        if role == Role::Sweep {
            let config = ArgValue::Text(r#"{"method":"ngram"}"#.to_owned());
            point.args.insert(FLAG.to_owned(), config);
        }
        point
    }

    /// What the changes in percent on `one`, `at-2`, `at-8` and `at-24` come to.
    fn told(percent: [f64; 4]) -> Speculation {
        let loads = [("one", 1.0, 900.0), ("at-2", 2.0, 1_000.0), ("at-8", 8.0, 1_500.0)];
        let loads = loads.into_iter().chain([("at-24", 24.0, 4_000.0)]);
        let mut points = Vec::new();
        for ((load, rate, e2e_ms), percent) in
            loads.zip(percent).collect::<Vec<_>>().into_iter().rev()
        {
            points.push(point(Role::Default, load, rate, e2e_ms));
            points.push(point(Role::Sweep, load, rate, e2e_ms * (1.0 + percent / 100.0)));
        }
        let mut found = by_load([points.as_slice()], &Lenders::default(), &profile());
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn the_loads_between_which_it_stops_to_pay_are_found() {
        let found = told([-40.0, -35.0, 0.4, 30.0]);
        let order: Vec<_> = found.loads.iter().map(|load| load.load.as_str()).collect();
        assert_eq!(order, ["one", "at-2", "at-8", "at-24"], "by requests in flight");
        let rates: Vec<_> = found.loads.iter().map(|load| load.offered_per_s).collect();
        assert_eq!(rates, [None, Some(2.0), Some(8.0), Some(24.0)]);
        assert_eq!(found.loads[3].in_flight, 96.0);
        let (pays_up_to, costs_from) = ("at-2".to_owned(), "at-24".to_owned());
        assert_eq!(found.advice, SpeculationAdvice::StopsBetween { pays_up_to, costs_from });
        let change = found.loads[0].change.as_ref().expect("a change");
        assert!((change.mean + 40.0).abs() < 0.1 && change.high < Some(0.0), "{change:?}");
    }

    #[test]
    fn what_no_load_decides_is_not_advised() {
        use SpeculationAdvice::{Costs, Mixed, Pays, Undecided};
        assert_eq!(told([0.4, 0.2, -0.3, 0.1]).advice, Undecided {});
        assert_eq!(told([-40.0, 0.3, 0.1, -0.2]).advice, Pays { on: vec!["one".to_owned()] });
        assert_eq!(
            told([0.2, 0.3, 30.0, 40.0]).advice,
            Costs { on: vec!["at-8".to_owned(), "at-24".to_owned()] }
        );
        // What no lighter load decides is not said of it.
        assert_eq!(told([0.2, 0.3, 0.1, -40.0]).advice, Pays { on: vec!["at-24".to_owned()] });
        assert_eq!(told([20.0, 0.3, 0.1, -20.0]).advice, Mixed {});
    }

    /// One start shows no spread, so nothing is decided; other flags are no speculation.
    #[test]
    fn one_start_decides_nothing() {
        let single = |role, e2e_ms| {
            let mut point = point(role, "at-2", 2.0, e2e_ms);
            for figure in point.metrics.values_mut() {
                *figure = bench_core::stats::estimate(vec![figure.mean]).expect("a start");
            }
            point
        };
        let points = [single(Role::Default, 1_000.0), single(Role::Sweep, 500.0)];
        let found = by_load([points.as_slice()], &Lenders::default(), &profile());
        assert_eq!(found[0].advice, SpeculationAdvice::Undecided {});
        assert!(by_load([&points[..1]], &Lenders::default(), &profile()).is_empty());
    }
}
