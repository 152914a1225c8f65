//! What is assumed of layouts of several cards that no measurement has told, and how far a prediction may be
//! off for it.

use super::{
    Settings,
    model::{Model, scale},
};
use crate::schema::Args;

/// A guess, and its two ends. The model itself is the guess.
#[derive(Clone, Copy, Debug)]
pub struct Assumption {
    /// What it is about.
    pub about: &'static str,
    /// What the model takes for true.
    pub guess: &'static str,
    /// At best.
    pub best: &'static str,
    /// At worst.
    pub worst: &'static str,
    /// Takes a model to one of the ends.
    apply: fn(&mut Model, Layout, End),
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Best,
    Worst,
}

/// Cards that share each layer, and engines.
#[derive(Clone, Copy)]
struct Layout {
    shards: u64,
    engines: u64,
}

/// A quarter more, in millionths.
const MORE: u64 = 1_250_000;

/// Every guess. But for the sums, which the model's file says, the ends are round numbers: nobody measured them.
pub const ASSUMPTIONS: [Assumption; 5] = [
    Assumption {
        about: "sums over the cards (TP)",
        guess: "latency and bandwidth of the model's file",
        best: "÷ the file's factor",
        worst: "× that factor",
        apply: |model, _, end| {
            if let Some(cards) = &mut model.cards {
                let within = cards.all_reduce_within_ppm.max(1_000_000);
                let worst = end == End::Worst;
                let factor = if worst { within } else { 1_000_000_000_000 / within };
                for time in [&mut cards.all_reduce_ns, &mut cards.all_reduce_token_ps] {
                    *time = scale(*time, factor);
                }
            }
        },
    },
    Assumption {
        about: "logits and sampling (TP)",
        guess: "divided by the cards",
        best: "the same",
        worst: "whole on each card",
        apply: |model, Layout { shards, .. }, end| {
            if end == End::Worst {
                model.step.sequence_ns *= shards;
            }
        },
    },
    Assumption {
        about: "host's work for the workers of an engine (TP)",
        guess: "as for one",
        best: "the same",
        worst: "× 1.25: a step is sent to several processes, and the slowest counts",
        apply: |model, Layout { shards, .. }, end| {
            if shards > 1 && end == End::Worst {
                slow_host(model);
            }
        },
    },
    Assumption {
        about: "host's work beside other engines (DP)",
        guess: "as alone",
        best: "the same",
        worst: "× 1.25: they share memory and caches",
        apply: |model, Layout { engines, .. }, end| {
            if engines > 1 && end == End::Worst {
                slow_host(model);
            }
        },
    },
    Assumption {
        about: "requests over API servers and engines (DP)",
        guess: "each its share, in turn",
        best: "the same",
        worst: "API servers × 1.25: the busiest has a quarter more than its share",
        apply: |model, Layout { engines, .. }, end| {
            let front_end = &mut model.front_end;
            if engines > 1 && end == End::Worst {
                for time in [
                    &mut front_end.request_ns,
                    &mut front_end.input_token_ns,
                    &mut front_end.output_token_ns,
                ] {
                    *time = scale(*time, MORE);
                }
            }
        },
    },
];

fn slow_host(model: &mut Model) {
    for time in model.times_mut().1 {
        *time = scale(*time, MORE);
    }
}

impl Model {
    /// The model with every guess about the layout of these arguments at its best, and at its worst: what a
    /// prediction is between. `None` of one card, of which nothing is guessed.
    pub fn ends(&self, args: &Args) -> Option<[Self; 2]> {
        let Settings { tensor_parallel_size, data_parallel_size, .. } =
            Settings::from_args(self, args).ok()?;
        let (shards, engines) = (tensor_parallel_size.into(), data_parallel_size.into());
        (shards * engines > 1).then(|| {
            [End::Best, End::Worst].map(|end| {
                let mut model = self.clone();
                for assumption in &ASSUMPTIONS {
                    (assumption.apply)(&mut model, Layout { shards, engines }, end);
                }
                model
            })
        })
    }
}
