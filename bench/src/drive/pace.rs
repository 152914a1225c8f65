//! Hands requests over when they are due, from a thread that does nothing else: `thread::sleep`
//! is late by some 60 µs, tokio's timer by up to 1 ms, and neither waits for answers.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::workload::Plan;
use tokio::sync::mpsc;

use super::driver::{Driver, Prepared};
use crate::host;

/// Most bodies made ahead, in bytes.
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// What is due this soon after the start is made before it: a burst is not held up by writing.
const AHEAD_NS: u64 = 10_000_000;
/// Time enough before the next arrival to make another body.
const SLACK: Duration = Duration::from_micros(500);
/// Requests handed over and not yet taken. The driver takes them without waiting for answers, so
/// this fills only when the client itself is too slow, which shows as send lag.
const DUE_MAX: usize = 1_024;

/// The thread that waits for due times.
#[derive(Debug)]
pub(super) struct Pacer {
    start_ns: u64,
    thread: JoinHandle<()>,
}

impl Pacer {
    /// Makes the first bodies, then starts the load's clock.
    pub(super) fn start(driver: Arc<Driver>) -> anyhow::Result<(Self, mpsc::Receiver<Prepared>)> {
        let (sender, due) = mpsc::channel(DUE_MAX);
        let (started, start) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || {
                host::wake_on_time();
                let mut plan = Plan::new(&driver.load);
                let plan =
                    std::iter::from_fn(|| plan.conversation().and_then(|t| driver.prepare(t)));
                let mut ahead = Ahead { plan, ready: VecDeque::new(), bytes: 0 };
                while ahead.is_due_within(AHEAD_NS) && ahead.make_one() {}
                let start_ns = driver.target.now_ns();
                // The driver waits for this before it takes a request.
                let _ = started.send(start_ns);
                ahead.hand_over(driver.target.instant(start_ns), &sender);
            })
            .context("cannot start the pacing thread")?;
        let start_ns = start.recv().context("the pacing thread ended early")?;
        Ok((Self { start_ns, thread }, due))
    }

    /// The load's start on the target's clock.
    pub(super) fn start_ns(&self) -> u64 {
        self.start_ns
    }

    pub(super) fn join(self) -> anyhow::Result<()> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the pacing thread failed"))
    }
}

/// Conversations of a closed loop that are written ahead, at most.
const CLOSED_AHEAD_MAX: usize = 64;

/// Writes the first requests of conversations, in the order of the plan, until nobody takes them.
pub(super) fn write_ahead(
    driver: Arc<Driver>,
    concurrency: u32,
) -> anyhow::Result<(JoinHandle<()>, mpsc::Receiver<Prepared>)> {
    let (sender, next) = mpsc::channel((concurrency as usize).clamp(1, CLOSED_AHEAD_MAX));
    let thread = thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || {
            let mut plan = Plan::new(&driver.load);
            let plan = std::iter::from_fn(|| plan.conversation().and_then(|t| driver.prepare(t)));
            for prepared in plan {
                if sender.blocking_send(prepared).is_err() {
                    return;
                }
            }
        })
        .context("cannot start the writing thread")?;
    Ok((thread, next))
}

/// Requests made ahead of their time.
struct Ahead<P> {
    plan: P,
    ready: VecDeque<Prepared>,
    bytes: usize,
}

impl<P: Iterator<Item = Prepared>> Ahead<P> {
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

    /// Hands each request over when it is due, and makes others while there is time.
    fn hand_over(&mut self, start: Instant, due: &mpsc::Sender<Prepared>) {
        while !self.ready.is_empty() || self.make_one() {
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
