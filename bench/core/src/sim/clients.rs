//! The clients of a simulated load point: when they send which request.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    vec,
};

use crate::{
    schema::{Arrival, Size},
    workload::{Plan, PlannedRequest, Workload},
};

/// A request to send, and the turns that follow its answer.
pub(super) struct Send {
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) planned: PlannedRequest,
    pub(super) later: Turns,
}

pub(super) type Turns = vec::IntoIter<PlannedRequest>;

/// When requests are sent.
pub(super) struct Sends<'a> {
    plan: Plan<'a>,
    /// The conversation that begins next.
    next: Option<Turns>,
    /// In a closed loop, when an earlier conversation ends.
    free_at_ns: Option<BinaryHeap<Reverse<u64>>>,
    end_ns: u64,
    /// Later turns whose answers before them have ended: by when they are due, then by number.
    turns: BTreeMap<(u64, u32), Turns>,
    /// Under a limit in flight, when its places come free.
    places: Option<BinaryHeap<Reverse<u64>>>,
}

impl<'a> Sends<'a> {
    pub(super) fn new(load: &'a Workload) -> Self {
        let at_start = |count| (0..count).map(|_| Reverse(0)).collect();
        let free_at_ns = match load.arrival {
            Arrival::ClosedLoop { concurrency } => Some(at_start(concurrency)),
            _ => None,
        };
        let end_ns = match load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        let mut plan = Plan::new(load);
        let next = plan.conversation().map(Vec::into_iter);
        let places = load.max_concurrency.map(at_start);
        Self { plan, next, free_at_ns, end_ns, turns: BTreeMap::new(), places }
    }

    /// When the next conversation is to begin, as far as that is known.
    fn next_beginning_ns(&self) -> Option<u64> {
        let first = self.next.as_ref()?.as_slice().first()?;
        match &self.free_at_ns {
            None => first.at_ns,
            Some(times) => times.peek().map(|time| time.0).filter(|at_ns| *at_ns < self.end_ns),
        }
    }

    fn next_turn_ns(&self) -> Option<u64> {
        self.turns.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    /// When the next request is sent: once it is due and has a place.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let due_ns = [self.next_turn_ns(), self.next_beginning_ns()].into_iter().flatten().min()?;
        match &self.places {
            None => Some(due_ns),
            Some(places) => places.peek().map(|place| place.0.max(due_ns)),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Send> {
        let sent_ns = self.next_ns()?;
        let turn_ns = self.next_turn_ns();
        let beginning_ns = self.next_beginning_ns();
        let is_turn = turn_ns.is_some_and(|at| beginning_ns.is_none_or(|other| at <= other));
        let (intended_ns, mut turns) = if is_turn {
            let ((at_ns, _), turns) = self.turns.pop_first()?;
            (at_ns, turns)
        } else {
            self.free_at_ns.as_mut().and_then(BinaryHeap::pop);
            let following = self.plan.conversation().map(Vec::into_iter);
            (beginning_ns?, std::mem::replace(&mut self.next, following)?)
        };
        self.places.as_mut().and_then(BinaryHeap::pop);
        let planned = turns.next()?;
        Some(Send { intended_ns, sent_ns, planned, later: turns })
    }

    /// A request has ended: its place is free, and what follows it has a time.
    pub(super) fn ended(&mut self, at_ns: u64, later: Turns) {
        if let Some(places) = &mut self.places {
            places.push(Reverse(at_ns));
        }
        if let Some(next) = later.as_slice().first() {
            self.turns.insert((at_ns + next.think_ns, next.id), later);
        } else if let Some(times) = &mut self.free_at_ns {
            times.push(Reverse(at_ns));
        }
    }
}
