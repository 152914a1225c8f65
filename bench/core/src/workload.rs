//! The requests of a load point, drawn from its seed: the same plan, byte for byte, everywhere.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::{
    arrival::Arrivals,
    canonical::Digest,
    rng::Random,
    schema::{Arrival, LoadSpec, Size},
};

/// Streams of the load's seed.
mod stream {
    pub(crate) const ARRIVALS: u64 = 0;
    pub(crate) const LENGTHS: u64 = 1;
}

/// One request of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// Number in the plan, from 0.
    pub id: u32,
    /// When it is to be sent, in nanoseconds since the start; `None` in a closed loop, where
    /// that is when an earlier one ends.
    pub at_ns: Option<u64>,
    /// Index into [`LoadSpec::classes`].
    pub class: u16,
    /// Prompt length, the shared prefix included.
    pub input_tokens: u32,
    /// Output length.
    pub output_tokens: u32,
    /// Shared prefix: which one, and how many of the prompt's first tokens it is.
    pub prefix: Option<(u32, u32)>,
}

/// Draws a load's requests one after the other, so that a million need no memory.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    load: Cow<'a, LoadSpec>,
    arrivals: Arrivals,
    lengths: Random,
    shares_total: u64,
    next_id: u32,
}

impl<'a> Plan<'a> {
    /// The plan of a load, whose classes must not be empty.
    pub fn new(load: &'a LoadSpec) -> Self {
        Self::of(Cow::Borrowed(load))
    }

    /// The same for a load of its own, so that the plan may outlive the caller.
    pub fn owned(load: LoadSpec) -> Plan<'static> {
        Plan::of(Cow::Owned(load))
    }

    fn of(load: Cow<'a, LoadSpec>) -> Self {
        Self {
            arrivals: Arrivals::new(&load, Random::new(load.seed, stream::ARRIVALS)),
            lengths: Random::new(load.seed, stream::LENGTHS),
            shares_total: load.classes.iter().map(|c| c.share.millionths().unsigned_abs()).sum(),
            next_id: 0,
            load,
        }
    }

    fn draw(&mut self, at_ns: Option<u64>) -> PlannedRequest {
        let random = &mut self.lengths;
        let mut ticket = random.below(self.shares_total.max(1));
        let mut class = 0;
        for (i, candidate) in self.load.classes.iter().enumerate() {
            class = i;
            let share = candidate.share.millionths().unsigned_abs();
            if ticket < share {
                break;
            }
            ticket -= share;
        }
        let spec = &self.load.classes[class];
        let own_tokens = random.between(spec.input_tokens.min, spec.input_tokens.max);
        let output_tokens = random.between(spec.output_tokens.min, spec.output_tokens.max);
        let prefix = spec.prefix.map(|p| (random.below(u64::from(p.groups)) as u32, p.tokens));
        let id = self.next_id;
        self.next_id += 1;
        PlannedRequest {
            id,
            at_ns,
            class: class as u16,
            input_tokens: own_tokens + prefix.map_or(0, |(_, tokens)| tokens),
            output_tokens,
            prefix,
        }
    }
}

impl Iterator for Plan<'_> {
    type Item = PlannedRequest;

    /// The next request. A closed loop with a duration never ends by itself: its driver stops.
    fn next(&mut self) -> Option<PlannedRequest> {
        if let Size::Requests(count) = self.load.size
            && self.next_id >= count
        {
            return None;
        }
        let at_ns = match self.load.arrival {
            Arrival::ClosedLoop { .. } => None,
            _ => Some(self.arrivals.next()?),
        };
        Some(self.draw(at_ns))
    }
}

/// Digest of the requests of a load; of the first 1,000 where a closed loop has no end.
pub fn plan_digest(load: &LoadSpec) -> Digest {
    let endless =
        matches!((&load.arrival, load.size), (Arrival::ClosedLoop { .. }, Size::DurationMs(_)));
    let mut hash = Sha256::new();
    for request in Plan::new(load).take(if endless { 1_000 } else { usize::MAX }) {
        let (group, prefix_tokens) = request.prefix.unwrap_or((u32::MAX, 0));
        for field in [
            u64::from(request.id),
            request.at_ns.unwrap_or(u64::MAX),
            u64::from(request.class),
            u64::from(request.input_tokens),
            u64::from(request.output_tokens),
            u64::from(group),
            u64::from(prefix_tokens),
        ] {
            hash.update(field.to_le_bytes());
        }
    }
    Digest::from_bytes(hash.finalize().into())
}
