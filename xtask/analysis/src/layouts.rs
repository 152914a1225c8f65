//! Layouts of several cards: what a user gets against what a card gives.

use std::collections::BTreeSet;

use bench_core::schema::{Args, Estimate, LayoutPoint, Point};
use profile::{Layout, Profile};

use crate::pareto::beaten_by;

const PER_CARD: &str = "output_tokens_per_s_per_card";
const TPOT: &str = "tpot_mean_ms";

/// Every setting under every load whose pace the server sets (a closed loop, a burst), the layouts with fewer
/// cards first; none where settings do not differ in their layout. A given rate of requests would say nothing
/// of what a card can give.
pub fn points<'a>(
    profile: &Profile,
    files: impl Iterator<Item = (&'a str, &'a [Point])>,
) -> Vec<LayoutPoint> {
    let mut known: BTreeSet<(&Args, &str)> = BTreeSet::new();
    let mut found: Vec<(Layout, LayoutPoint)> = Vec::new();
    for point in files.flat_map(|(_, points)| points) {
        let sets_pace = profile
            .loads
            .iter()
            .any(|load| load.name == point.load && !load.spec.arrival.is_open_loop());
        if !sets_pace {
            continue;
        }
        let layout = profile.layout(&point.args);
        if let Some(of_it) = of(point, layout)
            && known.insert((&point.args, &point.load))
        {
            found.push((layout, of_it));
        }
    }
    found.sort_by(|(a_layout, a), (b_layout, b)| {
        let by_user = f64::total_cmp(&a.tokens_per_s_per_user.mean, &b.tokens_per_s_per_user.mean);
        a_layout.cmp(b_layout).then(by_user)
    });
    if found.iter().all(|(layout, _)| *layout == found[0].0) {
        return Vec::new();
    }
    let costs: Vec<[f64; 2]> = found
        .iter()
        .map(|(_, p)| [-p.tokens_per_s_per_user.mean, -p.tokens_per_s_per_card.mean])
        .collect();
    let beaten = beaten_by(&costs);
    let marked = found.into_iter().zip(beaten).map(|((_, mut point), by)| {
        point.is_unbeaten = by.is_none();
        point
    });
    marked.collect()
}

fn of(point: &Point, layout: Layout) -> Option<LayoutPoint> {
    let figure = |id| point.metrics.get(id).filter(|found: &&Estimate| found.mean.is_finite());
    let (tpot, per_card) = (figure(TPOT)?, figure(PER_CARD)?);
    let rate = |ms: f64| 1e3 / ms;
    (tpot.mean > 0.0).then(|| LayoutPoint {
        layout: layout.to_string(),
        cards: layout.cards,
        label: point.label.clone(),
        role: point.role,
        load: point.load.clone(),
        tokens_per_s_per_user: Estimate {
            mean: rate(tpot.mean),
            low: tpot.high.map(rate),
            high: tpot.low.filter(|low| *low > 0.0).map(rate),
            starts: tpot.starts.iter().copied().map(rate).collect(),
            repeats: Vec::new(),
        },
        tokens_per_s_per_card: Estimate { repeats: Vec::new(), ..per_card.clone() },
        is_unbeaten: false,
    })
}

#[cfg(test)]
mod tests {
    use bench_core::schema::Arrival;

    use super::*;
    use crate::fixture;

    fn point(args: &[(&str, i64)], load: &str, tpot_ms: f64, per_card: f64) -> Point {
        let figures: [(&str, &[f64]); 2] =
            [(TPOT, &[tpot_ms, 1.1 * tpot_ms]), (PER_CARD, &[per_card, per_card])];
        fixture::point("some", args, load, &figures)
    }

    #[test]
    fn what_a_user_gets_is_one_over_tpot_and_none_is_beaten_by_less() {
        let mut profile = fixture::profile(None);
        let mut given = profile.loads[0].clone();
        given.name = "given".to_owned();
        given.spec.arrival =
            Arrival::Constant { requests_per_second: "5".parse().expect("a rate") };
        profile.loads.push(given);
        let (two, copies) = (("tensor-parallel-size", 2), ("data-parallel-size", 2));
        let all = [
            point(&[two], "burst", 10.0, 500.0),
            point(&[copies], "burst", 20.0, 400.0),
            point(&[], "burst", 20.0, 900.0),
            point(&[copies], "given", 1.0, 9_000.0),
        ];
        let of = |points: &[Point]| super::points(&profile, [("some", points)].into_iter());
        let found = of(&all);
        let told: Vec<_> =
            found.iter().map(|p| (p.layout.as_str(), p.cards, p.is_unbeaten)).collect();
        assert_eq!(told, [("one card", 1, true), ("DP 2", 2, false), ("TP 2", 2, true)]);
        let user = &found[2].tokens_per_s_per_user;
        assert!((user.mean - 1e3 / 10.5).abs() < 1e-9, "{user:?}");
        assert!(user.low < Some(user.mean) && Some(user.mean) < user.high, "{user:?}");
        assert!(of(&all[2..]).is_empty(), "of one layout there is nothing to compare");
    }
}
