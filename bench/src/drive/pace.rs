//! Hands requests over when they are due, from a thread that reads no answers: `thread::sleep` is late by
//! some 60 µs, tokio's timer by up to 1 ms.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use bench_core::workload::Plan;
use tokio::sync::mpsc;

use super::driver::{Driver, Prepared};

/// Most bodies made ahead, in bytes.
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// What is due this soon after the start is made before it: a burst is not held up by writing.
const AHEAD_NS: u64 = 10_000_000;
/// Time enough before the next arrival to make another body.
const SLACK: Duration = Duration::from_micros(500);

/// The first requests of the plan's conversations, written.
fn written(driver: &Driver) -> impl Iterator<Item = Prepared> {
    let mut plan = Plan::new(&driver.load);
    std::iter::from_fn(move || plan.conversation().and_then(|turns| driver.prepare(turns)))
}

/// Writes requests in the order of the plan, until nobody takes them.
pub(super) fn write(driver: &Driver, next: &mpsc::Sender<Prepared>) {
    for prepared in written(driver) {
        if next.blocking_send(prepared).is_err() {
            return;
        }
    }
}

/// Requests made ahead of their time.
pub(super) struct Ahead<P> {
    plan: P,
    ready: VecDeque<Prepared>,
    bytes: usize,
}

impl Ahead<()> {
    pub(super) fn of(driver: &Driver) -> Ahead<impl Iterator<Item = Prepared>> {
        Ahead { plan: written(driver), ready: VecDeque::new(), bytes: 0 }
    }
}

impl<P: Iterator<Item = Prepared>> Ahead<P> {
    /// Makes what is due at the start.
    pub(super) fn fill(&mut self) {
        while self.is_due_within(AHEAD_NS) && self.make_one() {}
    }

    /// Whether the last request made is due by then.
    fn is_due_within(&self, ns: u64) -> bool {
        self.ready.back().is_none_or(|last| last.request.at_ns.is_some_and(|at_ns| at_ns <= ns))
    }

    /// Makes one more; false when there is no room or the plan is at its end.
    fn make_one(&mut self) -> bool {
        if self.bytes >= AHEAD_BYTES_MAX {
            return false;
        }
        let Some(prepared) = self.plan.next() else { return false };
        self.bytes += prepared.body.len();
        self.ready.push_back(prepared);
        true
    }

    /// Hands each request over when it is due, to the receivers in turn, and makes others while there is
    /// time.
    pub(super) fn hand_over(&mut self, start: Instant, dues: &[mpsc::Sender<Prepared>]) {
        for due in dues.iter().cycle() {
            if self.ready.is_empty() && !self.make_one() {
                return;
            }
            let Some(next) = self.ready.pop_front() else { return };
            self.bytes -= next.body.len();
            let at = start + Duration::from_nanos(next.request.at_ns.unwrap_or(0));
            while at.saturating_duration_since(Instant::now()) > SLACK && self.make_one() {}
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.blocking_send(next).is_err() {
                return;
            }
        }
    }
}
