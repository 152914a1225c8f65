//! The energy counters of a simulated server's cards, read as those of real cards are.

use std::collections::VecDeque;

use super::{engine::Work, model::Power, settings::Settings};
use crate::schema::EnergyReading;

/// How far readings are apart.
const PERIOD_NS: u64 = 100_000_000;

/// The sum of all cards' counters. [`Meter::read_until`] the time at which a step is launched, then put it into
/// `steps`: whatever the order in which engines launch them, what they do by some time is known by then.
pub(super) struct Meter<'a> {
    power: &'a Power,
    cards: f64,
    /// Cards that compute a step together.
    shards: f64,
    /// Steps that are not finished at the last reading.
    pub(super) steps: VecDeque<Work>,
    /// Of the steps before: time of all cards on the device, and tokens.
    finished: (f64, f64),
    pub(super) readings: Vec<EnergyReading>,
    next_ns: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(power: &'a Power, settings: &Settings) -> Self {
        let shards = f64::from(settings.tensor_parallel_size);
        Self {
            power,
            cards: shards * f64::from(settings.data_parallel_size),
            shards,
            steps: VecDeque::new(),
            finished: (0.0, 0.0),
            readings: Vec::new(),
            next_ns: 0,
        }
    }

    /// Every reading that is due by now.
    pub(super) fn read_until(&mut self, now_ns: u64) {
        while self.next_ns <= now_ns {
            self.read(self.next_ns);
            self.next_ns += PERIOD_NS;
        }
    }

    /// A reading now: every card draws its floor, and more in steps as far as they are computed.
    pub(super) fn read(&mut self, now_ns: u64) {
        let mut done = self.finished;
        self.steps.retain(|step| {
            let spent_ns = now_ns.saturating_sub(step.from_ns).min(step.device_ns);
            let share = spent_ns as f64 / step.device_ns.max(1) as f64;
            let part = (spent_ns as f64 / 1e9 * self.shards, share * step.tokens as f64);
            done = (done.0 + part.0, done.1 + part.1);
            let is_over = spent_ns == step.device_ns;
            if is_over {
                self.finished = (self.finished.0 + part.0, self.finished.1 + part.1);
            }
            !is_over
        });
        let Power { idle_mw, step_mw, token_uj } = *self.power;
        let at_s = now_ns as f64 / 1e9;
        let floor_j = idle_mw as f64 / 1e3 * at_s * self.cards;
        let (busy_s, tokens) = done;
        let counter_j = floor_j + step_mw as f64 / 1e3 * busy_s + token_uj as f64 / 1e6 * tokens;
        self.readings.push(EnergyReading { at_s, counter_j, power_w: None });
    }
}
