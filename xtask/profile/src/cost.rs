//! `[cost]`: what the cards of a server cost. It is in no trial's key: a new price is for old trials too.

use std::fmt;

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

/// Flags whose product is the number of workers, each with a card.
pub(super) const PARALLEL: &[&str] =
    &["tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"];

/// How a server's cards share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    /// Cards, one for each worker.
    pub cards: u32,
    /// Cards that share each layer, stages of layers, and copies of the model.
    sizes: [u32; 3],
}

impl Layout {
    /// Of a server with these arguments.
    pub fn of(args: &Args) -> Self {
        let sizes = [0, 1, 2].map(|i| match args.get(PARALLEL[i]) {
            Some(ArgValue::Int(n)) => u32::try_from(*n).unwrap_or(1).max(1),
            _ => 1,
        });
        let cards = sizes.iter().fold(1, |cards: u32, size| cards.saturating_mul(*size));
        Self { cards, sizes }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cards == 1 {
            return f.write_str("one card");
        }
        let parts = ["TP", "PP", "DP"].iter().zip(self.sizes).filter(|(_, size)| *size > 1);
        let parts: Vec<_> = parts.map(|(name, size)| format!("{name} {size}")).collect();
        f.write_str(&parts.join(", "))
    }
}

impl Profile {
    /// The layout of a server with these arguments on top of the profile's own.
    pub fn layout(&self, args: &Args) -> Layout {
        Layout::of(&self.all_args(args))
    }

    /// Whether a server of some setting takes several cards.
    pub(super) fn has_several_cards(&self) -> bool {
        let none = Args::new();
        let swept = self.sweeps.iter().flat_map(|sweep| &sweep.values).map(|value| &value.args);
        let tuned = self.tune.iter().flat_map(|tune| &tune.settings).map(|setting| &setting.args);
        let mut all = [&none, &self.baseline_args].into_iter().chain(swept).chain(tuned);
        all.any(|args| self.layout(args).cards > 1)
    }

    /// A trial's outcome with what the server cost that has these arguments on top of the profile's own.
    pub fn priced(&self, args: &Args, mut outcome: Outcome) -> Outcome {
        if let Outcome::Measured(measured) = &mut outcome {
            measured.observed.cost = self.price(args);
        }
        outcome
    }

    /// What such a server costs, if somebody says.
    pub fn price(&self, args: &Args) -> Option<Cost> {
        let config = self.cost.as_ref()?;
        let card_dollars_per_hour = config.card_dollars_per_hour.map(Decimal::to_f64);
        Some(Cost { cards: self.cards(args), card_dollars_per_hour })
    }

    /// Cards of such a server: as many as `[cost]` says, else its workers.
    pub fn cards(&self, args: &Args) -> u32 {
        let told = self.cost.as_ref().and_then(|cost| cost.cards);
        told.unwrap_or_else(|| self.layout(args).cards)
    }
}
