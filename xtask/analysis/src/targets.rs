//! Targets: what was hoped for against every column and the floor of the load.

use std::collections::BTreeMap;

use bench_core::schema::{
    Column, Comparison, Estimate, Floor, FloorOutcome, Point, TargetOutcome, TargetState,
};

use super::{
    floors::{Alone, Server},
    limits,
};
use profile::{Bound, Gain, Limit, NamedLoad, Part, Profile};

/// The server with the step of one request alone, where a load of the profile tells it; `hardware`
/// is what is known of it besides.
pub fn server(profile: &Profile, points: &[Point], hardware: Server) -> Server {
    let alone = profile.loads.iter().find_map(|load| {
        Alone::of(&load.spec, points.iter().filter(|point| point.load == load.name))
    });
    Server { alone: alone.or(hardware.alone), ..hardware }
}

/// Every target of the profile, its limits first, then its gains; held to them is what is `deployed`.
pub fn outcomes(
    profile: &Profile,
    rows: &[Comparison],
    server: &Server,
    deployed: Option<Column>,
) -> Vec<TargetOutcome> {
    let judge = |wanted: &Wanted<'_>| {
        let load = profile.loads.iter().find(|load| load.name == wanted.load);
        outcome(wanted, rows, load, server, deployed)
    };
    let limits = profile.targets.iter().map(|limit| judge(&Wanted::from(limit)));
    limits.chain(profile.gains.iter().map(|gain| judge(&Wanted::from(gain)))).collect()
}

/// The floor of each load that has one, by the metric that its part is about.
pub fn floors(profile: &Profile, rows: &[Comparison], server: &Server) -> Vec<FloorOutcome> {
    let of_load = |load: &NamedLoad| {
        let metric = match load.part {
            Some(Part::Throughput) => "output_tokens_per_s",
            Some(Part::SequenceLength) => "long_e2e_p95_ms",
            Some(Part::Latency | Part::Production) | None => "e2e_p95_ms",
        };
        let floor = server.floor(metric, &load.spec)?;
        let row = rows.iter().find(|row| row.metric == metric && row.load == load.name)?;
        let (metric, load) = (metric.to_owned(), load.name.clone());
        Some(FloorOutcome { metric, load, floor, columns: row.columns.clone() })
    };
    profile.loads.iter().filter_map(of_load).collect()
}

/// A limit or a gain.
struct Wanted<'a> {
    metric: &'a str,
    load: &'a str,
    bound: Bound,
    limit: f64,
    over_baseline: bool,
}

impl<'a> From<&'a Limit> for Wanted<'a> {
    fn from(limit: &'a Limit) -> Self {
        let Limit { metric, load, bound, limit } = limit;
        Self { metric, load, bound: *bound, limit: limit.to_f64(), over_baseline: false }
    }
}

impl<'a> From<&'a Gain> for Wanted<'a> {
    fn from(gain: &'a Gain) -> Self {
        let Gain { metric, load, percent } = gain;
        Self { metric, load, bound: Bound::Min, limit: percent.to_f64(), over_baseline: true }
    }
}

fn outcome(
    wanted: &Wanted<'_>,
    rows: &[Comparison],
    load: Option<&NamedLoad>,
    server: &Server,
    deployed: Option<Column>,
) -> TargetOutcome {
    let row = rows.iter().find(|row| row.metric == wanted.metric && row.load == wanted.load);
    let columns = row.map(|row| row.columns.clone()).unwrap_or_default();
    let floor = load.and_then(|load| server.floor(wanted.metric, &load.spec));
    let baseline = columns.get(&Column::Baseline).map(|estimate| estimate.mean);
    // In the unit of the limit: of a gain, percent of the baseline's figure.
    let in_unit = |value: f64| match (wanted.over_baseline, baseline) {
        (false, _) => Some(value),
        (true, Some(baseline)) if baseline > 0.0 => Some(100.0 * (value / baseline - 1.0)),
        (true, _) => None,
    };
    let found = judged(&columns, deployed).and_then(|estimate| in_unit(estimate.mean));
    let keeps = |value: f64| limits::within(wanted.bound, wanted.limit, value);
    let reachable = |floor: &Floor| in_unit(floor.value).is_none_or(keeps);
    let state = match found {
        None => TargetState::NotMeasured,
        Some(found) if keeps(found) => TargetState::Met,
        Some(_) if floor.as_ref().is_some_and(|floor| !reachable(floor)) => TargetState::OutOfReach,
        Some(_) => TargetState::Missed,
    };
    TargetOutcome {
        metric: wanted.metric.to_owned(),
        load: wanted.load.to_owned(),
        bound: wanted.bound.name().to_owned(),
        limit: wanted.limit,
        over_baseline: wanted.over_baseline,
        columns,
        found,
        state,
        floor,
    }
}

/// What a target is held to: the figure of what is deployed; where nothing is, the candidate's, or else the
/// defaults'.
fn judged(columns: &BTreeMap<Column, Estimate>, deployed: Option<Column>) -> Option<&Estimate> {
    match deployed {
        Some(deployed) => columns.get(&deployed),
        None => [Column::Tuned, Column::Default].iter().find_map(|column| columns.get(column)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_core::{
        schema::{Arrival, Class, LoadSpec, Size, TokenRange},
        stats,
    };

    fn row(metric: &str, figures: &[(Column, f64)]) -> Comparison {
        let estimate = |value: f64| stats::estimate(vec![value]).expect("a value");
        let columns = figures.iter().map(|(column, value)| (*column, estimate(*value))).collect();
        let (metric, load) = (metric.to_owned(), "load".to_owned());
        Comparison { metric, load, columns, ..Comparison::default() }
    }

    fn state(
        metric: &str,
        bound: Bound,
        limit: f64,
        over_baseline: bool,
        figures: &[(Column, f64)],
    ) -> TargetState {
        let class = Class {
            name: "all".to_owned(),
            share: "1".parse().expect("a decimal"),
            input_tokens: TokenRange { min: 100, max: 100 },
            output_tokens: TokenRange { min: 101, max: 101 },
            prefix: None,
        };
        let arrival = Arrival::ClosedLoop { concurrency: 10 };
        let load = NamedLoad {
            name: "load".to_owned(),
            part: None,
            spec: LoadSpec::drawn(arrival, Size::Requests(100), vec![class], 1),
            repeats: 1,
            data_file: None,
            replay_per_s: None,
        };
        // One request alone takes 1.02 s; ten clients get 9.8 requests a second at most.
        let alone = Alone { step_ms: 10.0, ttft_ms: 20.0, input_tokens: 100.0, api_server_ms: 5.0 };
        let server = Server { hardware: None, alone: Some(alone) };
        let wanted = Wanted { metric, load: "load", bound, limit, over_baseline };
        outcome(&wanted, &[row(metric, figures)], Some(&load), &server, None).state
    }

    #[test]
    fn a_target_beyond_the_floor_is_out_of_reach_and_others_are_missed() {
        use Column::{Baseline, Default, Tuned};
        let e2e = |limit, found| {
            state("e2e_p95_ms", Bound::Max, limit, false, &[(Default, 9e9), (Tuned, found)])
        };
        assert_eq!(e2e(1_500.0, 1_400.0), TargetState::Met);
        assert_eq!(e2e(1_500.0, 1_600.0), TargetState::Missed);
        assert_eq!(e2e(1_000.0, 1_100.0), TargetState::OutOfReach);
        // A figure that is there is worth more than a floor that says it cannot be.
        assert_eq!(e2e(1_000.0, 900.0), TargetState::Met);
        let rate =
            |limit, over, figures: &[_]| state("requests_per_s", Bound::Min, limit, over, figures);
        assert_eq!(rate(20.0, false, &[(Tuned, 8.0)]), TargetState::OutOfReach);
        assert_eq!(rate(9.0, false, &[(Default, 8.0)]), TargetState::Missed, "of the defaults");
        assert_eq!(rate(9.0, false, &[(Baseline, 8.0)]), TargetState::NotMeasured);
        // Twice the baseline's: as a gain of 100 percent.
        let gain = |baseline| rate(100.0, true, &[(Baseline, baseline), (Tuned, 8.0)]);
        assert_eq!(gain(3.0), TargetState::Met);
        assert_eq!(gain(4.5), TargetState::Missed);
        assert_eq!(gain(6.0), TargetState::OutOfReach, "the load allows 9.8 and not 12");
        assert_eq!(rate(100.0, true, &[(Tuned, 8.0)]), TargetState::NotMeasured);
    }
}
