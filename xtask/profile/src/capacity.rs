//! `[capacity]`: the load whose rate is raised until it breaks the limits.

use bench_core::schema::{Arrival, Size};

use super::{
    load::Loads,
    read::{Table, absent_or_right},
    resolved::{Capacity, Traffic},
};

const PRECISION_PERCENT: u32 = 5;
/// With one start a capacity has no interval.
const STARTS: u32 = 2;
const STARTS_MAX: u32 = 100;
const TRAFFIC_MAX: i64 = 1_000_000;
const RESERVE_SERVERS_MAX: u32 = 1_000;

/// Reads the section; `tells_cards`: whether the profile says how many cards a server has.
pub(super) fn read(mut table: Table<'_>, loads: &Loads, tells_cards: bool) -> Option<Capacity> {
    let load = table.require("load", "load = NAME of an open-loop load").and_then(|item| {
        let name = loads.name(&item)?;
        let placed = loads.placed.iter().find(|placed| placed.load.name == name)?;
        let has_rate = placed.load.rate().is_some();
        if !has_rate {
            item.report(
                format!("load `{name}` has no rate to raise"),
                "name one whose arrivals are poisson, gamma, constant, or a replay of a file with times",
            );
        }
        // Replayed faster, other requests would come within it.
        let spec = &placed.load.spec;
        let is_cut = matches!(spec.arrival, Arrival::Replay { .. })
            && matches!(spec.size, Size::DurationMs(_));
        if is_cut {
            item.report(
                format!("load `{name}` replays what comes within duration_s"),
                "say requests = N in the load, so that the same ones come at every rate",
            );
        }
        (has_rate && !is_cut).then_some(name)
    });
    let precision_percent = match table.get("precision_percent") {
        Some(item) => item.integer_u32(1..=50),
        None => Some(PRECISION_PERCENT),
    };
    let starts = match table.get("starts") {
        Some(item) => item.integer_u32(1..=STARTS_MAX),
        None => Some(STARTS),
    };
    let traffic = read_traffic(&mut table, tells_cards);
    table.finish(|_| None);
    Some(Capacity {
        load: load?,
        precision_percent: precision_percent?,
        starts: starts?,
        traffic: traffic?,
    })
}

/// The traffic for which servers are counted, if any.
fn read_traffic(table: &mut Table<'_>, tells_cards: bool) -> Option<Option<Traffic>> {
    let rate = table.get("traffic_requests_per_second");
    let reserve = table.get("reserve_servers");
    if let (None, Some(reserve)) = (&rate, &reserve) {
        reserve.report(
            "`reserve_servers` without a traffic",
            "add traffic_requests_per_second = N, the peak of the traffic to serve",
        );
        return None;
    }
    if let Some(rate) = rate.as_ref().filter(|_| !tells_cards) {
        rate.report(
            "nobody says how many cards this server has",
            "add [cost] with cards = N, since its flags are not known",
        );
        return None;
    }
    let reserve = reserve.map(|item| item.integer_u32(0..=RESERVE_SERVERS_MAX));
    let reserve_servers = absent_or_right(reserve)?.unwrap_or(0);
    let rate = rate.map(|item| item.positive_decimal(TRAFFIC_MAX));
    Some(
        absent_or_right(rate)?
            .map(|requests_per_second| Traffic { requests_per_second, reserve_servers }),
    )
}
