//! How many servers a traffic takes, and what they cost.
//!
//! Servers are taken to share the traffic evenly and each to sustain what one was measured to. The range is by the
//! ends of [`Capacity`]'s interval.

use bench_core::{
    schema::{Cost, Fleet, Role, Servers},
    stats,
};
use profile::Traffic;

/// What a traffic takes of one configuration.
#[derive(Clone, Debug)]
pub struct Need<'a> {
    /// Label of the configuration.
    pub label: &'a str,
    /// Its role.
    pub role: Role,
    /// What one of its servers costs.
    pub cost: Cost,
    /// Requests a second within the limits that were offered to each start; 0 where none was.
    pub sustained: &'a [f64],
    /// The lowest rate offered to each start that violated a limit, if one did.
    pub violated: &'a [Option<f64>],
    /// Mean over completed requests; `None` where none is known.
    pub output_tokens_per_request: Option<f64>,
}

/// What a server sustains, in requests a second, and the interval of that.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Capacity {
    /// Mean over starts.
    mean: f64,
    /// Lower end of the 95 % prediction interval of one more start: a balancer that spreads requests evenly gives
    /// the weakest server as many as any. Of a single start what it sustained; `None` where it reaches zero.
    low: Option<f64>,
    /// Upper end of the 95 % interval of the mean of the next higher rates, which violate a limit; `None` where
    /// some start had none.
    high: Option<f64>,
}

impl Capacity {
    /// `None` where no start sustained any rate.
    fn of(need: &Need<'_>) -> Option<Self> {
        let found = stats::estimate(need.sustained.to_vec()).filter(|found| found.mean > 0.0)?;
        let violated: Option<Vec<f64>> = need.violated.iter().copied().collect();
        let violated = violated.and_then(stats::estimate);
        let high = violated.map(|violated| violated.high.unwrap_or(violated.mean));
        // The variance of one more start is added to that of the mean, which is a part in n of it.
        let wider = (found.starts.len() as f64 + 1.0).sqrt();
        let low = found.low.map_or(found.mean, |low| found.mean - wider * (found.mean - low));
        Some(Self {
            mean: found.mean,
            low: Some(low).filter(|low| *low > 0.0),
            high: high.map(|high| high.max(found.mean)),
        })
    }
}

/// Servers of the configuration for the traffic; `None` where no start sustained any rate.
pub fn fleet(traffic: &Traffic, need: &Need<'_>) -> Option<Fleet> {
    let capacity = Capacity::of(need)?;
    let of_rate = |rate: f64| of_rate(traffic, need, rate);
    Some(Fleet {
        label: need.label.to_owned(),
        role: need.role,
        cards_per_server: need.cost.cards,
        servers: of_rate(capacity.mean),
        fewest: capacity.high.map(of_rate),
        most: capacity.low.map(of_rate),
    })
}

/// Servers that sustain `rate` each.
fn of_rate(traffic: &Traffic, need: &Need<'_>, rate: f64) -> Servers {
    let requests_per_s = traffic.requests_per_second.to_f64();
    // What a division leaves beyond a whole number is no server.
    let serving = (requests_per_s / rate * (1.0 - 1e-12)).ceil().max(1.0) as u32;
    let servers = serving.saturating_add(traffic.reserve_servers);
    let cards = servers.saturating_mul(need.cost.cards);
    let dollars_per_hour = need.cost.card_dollars_per_hour.map(|price| price * f64::from(cards));
    let tokens_per_hour = need.output_tokens_per_request.map(|n| n * requests_per_s * 3_600.0);
    let of_a_million = |dollars: f64| tokens_per_hour.map(|tokens| 1e6 * dollars / tokens);
    Servers {
        servers,
        cards,
        dollars_per_hour,
        dollars_per_million_output_tokens: dollars_per_hour.and_then(of_a_million),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn traffic(requests_per_second: &str, reserve_servers: u32) -> Traffic {
        let requests_per_second = requests_per_second.parse().expect("a decimal");
        Traffic { requests_per_second, reserve_servers }
    }

    fn need<'a>(sustained: &'a [f64], violated: &'a [Option<f64>]) -> Need<'a> {
        Need {
            label: "tuned",
            role: Role::Tuned,
            cost: Cost { cards: 4, card_dollars_per_hour: Some(2.5) },
            sustained,
            violated,
            output_tokens_per_request: Some(100.0),
        }
    }

    #[test]
    fn servers_are_rounded_up_and_cost_what_their_cards_do() {
        let found = fleet(&traffic("200", 0), &need(&[45.0], &[Some(50.0)])).expect("a rate");
        let servers = |n: u32| Servers {
            servers: n,
            cards: 4 * n,
            dollars_per_hour: Some(f64::from(10 * n)),
            dollars_per_million_output_tokens: Some(f64::from(10 * n) / 72.0),
        };
        assert_eq!(found.servers, servers(5));
        assert_eq!((found.fewest, found.most), (Some(servers(4)), Some(servers(5))));
        let reserve = fleet(&traffic("200", 1), &need(&[45.0], &[Some(50.0)])).expect("a rate");
        assert_eq!((reserve.servers, reserve.fewest), (servers(6), Some(servers(5))));
        // 0.3 / 0.1 is a little less than 3, 0.9 / 0.3 a little more.
        for (peak, rate, n) in [("0.3", 0.1, 3), ("0.9", 0.3, 3), ("0.91", 0.3, 4), ("0.1", 9.0, 1)]
        {
            let found = fleet(&traffic(peak, 0), &need(&[rate], &[None])).expect("a rate");
            assert_eq!(found.servers.servers, n, "{peak} / {rate}");
        }
    }

    #[test]
    fn the_range_is_of_the_interval_and_open_where_that_is() {
        let of = |sustained: &[f64], violated: &[Option<f64>]| {
            let found = fleet(&traffic("1000", 0), &need(sustained, violated))?;
            Some([found.fewest, Some(found.servers), found.most].map(|n| n.map(|n| n.servers)))
        };
        let near = of(&[50.0, 51.0, 52.0], &[Some(53.0), Some(54.0), Some(55.0)]);
        assert_eq!(near, Some([Some(18), Some(20), Some(22)]), "+2.48 of 54, −4.97 of 51");
        let far = of(&[20.0, 60.0], &[Some(22.0), Some(66.0)]);
        assert_eq!(far.map(|range| range[2]), Some(None), "the interval reaches below zero");
        assert_eq!(of(&[50.0], &[None]), Some([None, Some(20), Some(20)]), "no rate was too high");
        assert_eq!(of(&[0.0, 0.0], &[Some(1.0), Some(1.0)]), None);
    }

    proptest! {
        #[test]
        fn more_traffic_never_takes_fewer_and_more_capacity_never_more(
            peak in 1_i64..10_000_000_000,
            more in 0_i64..10_000_000_000,
            starts in prop::collection::vec((0.0..1000.0_f64, 1.0..1.5_f64), 1..5),
            growth in 1.0..3.0_f64,
        ) {
            let of = |peak: i64, growth: f64| {
                let peak = bench_core::decimal::Decimal::from_millionths(peak);
                let sustained: Vec<f64> = starts.iter().map(|(rate, _)| rate * growth).collect();
                let violated: Vec<_> = starts.iter().map(|(rate, wide)| Some(rate * wide * growth)).collect();
                let traffic = Traffic { requests_per_second: peak, reserve_servers: 1 };
                fleet(&traffic, &need(&sustained, &violated))
            };
            let cards = |fleet: &Fleet| {
                let range = [fleet.fewest, Some(fleet.servers), fleet.most];
                range.map(|servers| servers.map_or(u32::MAX, |servers| servers.cards))
            };
            if let (Some(one), Some(busier), Some(faster)) =
                (of(peak, 1.0), of(peak + more, 1.0), of(peak, growth))
            {
                let (one, busier, faster) = (cards(&one), cards(&busier), cards(&faster));
                prop_assert!(one.is_sorted(), "{one:?}");
                for i in 0..3 {
                    prop_assert!(busier[i] >= one[i], "{busier:?} {one:?}");
                    prop_assert!(faster[i] <= one[i], "{faster:?} {one:?}");
                }
            }
        }
    }
}
