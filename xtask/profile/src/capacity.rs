//! `[capacity]`: the load whose rate is raised until it breaks the limits.

use bench_core::schema::{Arrival, Size};

use super::{load::Loads, read::Table, resolved::Capacity};

const PRECISION_PERCENT: u32 = 5;
/// With one start a capacity has no interval.
const STARTS: u32 = 2;
const STARTS_MAX: u32 = 100;

/// Reads the section.
pub(super) fn read(mut table: Table<'_>, loads: &Loads) -> Option<Capacity> {
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
    table.finish(|_| None);
    Some(Capacity { load: load?, precision_percent: precision_percent?, starts: starts? })
}
