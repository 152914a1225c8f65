//! `[cost]`: what the cards of a server cost. It is in no trial's key: a new price is for old trials too.

use bench_core::{
    decimal::Decimal,
    schema::{ArgValue, Args, Cost, Outcome},
};

use super::{
    read::{Table, absent_or_right},
    resolved::{CostConfig, Profile},
};

const DOLLARS_MAX: i64 = 100_000;
const CARDS_MAX: u32 = 100_000;

/// Reads the section.
pub(super) fn read(mut table: Table<'_>) -> Option<CostConfig> {
    let price = table.get("card_dollars_per_hour").map(|item| item.positive_decimal(DOLLARS_MAX));
    let cards = table.get("cards").map(|item| item.integer_u32(1..=CARDS_MAX));
    table.finish(|_| None);
    Some(CostConfig {
        card_dollars_per_hour: absent_or_right(price)?,
        cards: absent_or_right(cards)?,
    })
}

/// Cards that vLLM takes by its flags: one for each worker.
pub(super) fn workers(args: &Args) -> i64 {
    let size = |name: &&str| match args.get(*name) {
        Some(ArgValue::Int(n)) => *n,
        _ => 1,
    };
    PARALLEL.iter().map(size).fold(1, i64::saturating_mul)
}

/// Flags whose product is the number of workers.
pub(super) const PARALLEL: &[&str] =
    &["tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"];

impl Profile {
    /// A trial's outcome with what the server cost that has these arguments on top of the profile's own.
    pub fn priced(&self, args: &Args, mut outcome: Outcome) -> Outcome {
        if let (Some(config), Outcome::Measured(measured)) = (&self.cost, &mut outcome) {
            let workers = || u32::try_from(workers(&self.all_args(args))).unwrap_or(1).max(1);
            measured.observed.cost = Some(Cost {
                cards: config.cards.unwrap_or_else(workers),
                card_dollars_per_hour: config.card_dollars_per_hour.map(Decimal::to_f64),
            });
        }
        outcome
    }
}
