//! Puts a load on a server: open loop, closed loop or all at once.
//!
//! [`Driver::run`] writes requests and hands each over when it is due. Reader threads send them and read the
//! answers: each has its own connections, and all have one clock, one limit in flight and one recorder.

mod driver;
mod pace;
mod reader;

use std::sync::Arc;

use bench_core::schema::{Arrival, Quantiles, Size};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use self::{
    pace::Ahead,
    reader::{Reader, Taken, Work},
};
use crate::{host, timer};

pub(crate) use driver::{Driver, Options};

/// What a load took of its reader threads: the worst of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driven {
    /// Share of a core.
    pub(crate) cpu_share: f64,
    /// How late a thread came back to a timer.
    pub(crate) event_loop_lag: Quantiles,
    /// Zero of the samples' times, on the monotonic clock.
    pub(crate) start_ns: u64,
}

impl Driven {
    /// Of at least one reader, each figure of the one where it is worst.
    fn worst_of(taken: &[Taken], start_ns: u64) -> Self {
        let lags = taken.iter().map(|taken| taken.event_loop_lag);
        Self {
            cpu_share: taken.iter().map(|taken| taken.cpu_share).fold(0.0, f64::max),
            event_loop_lag: lags
                .max_by(|a, b| a.p95_ms.total_cmp(&b.p95_ms))
                .expect("at least one reader"),
            start_ns,
        }
    }
}

/// Requests handed over and not yet taken. A reader takes them without waiting for answers, so this
/// fills only when the client itself is too slow, which shows as send lag.
const DUE_MAX: usize = 1_024;
/// Conversations of a closed loop that are written ahead, at most.
const CLOSED_AHEAD_MAX: usize = 64;

impl Driver {
    /// Runs the load to the end of its last request; this thread writes and paces.
    pub(crate) fn run(self) -> anyhow::Result<Driven> {
        host::wake_on_time();
        let driver = Arc::new(self);
        let threads = driver.load.reader_threads.unwrap_or(1).max(1);
        let ahead = shares(driver.connections_ahead(), threads);
        let mut readers = ahead
            .map(|connections| Reader::start(Arc::clone(&driver), connections))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let clock_ns = timer::now_ns() - driver.target.now_ns();
        let start_ns = match driver.load.arrival {
            Arrival::ClosedLoop { concurrency } => driver.closed_loop(&mut readers, concurrency),
            _ => driver.open_loop(&mut readers),
        };
        let taken = readers.into_iter().map(Reader::join).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Driven::worst_of(&taken, clock_ns + start_ns))
    }

    /// Connections that the load wants in its first moment.
    fn connections_ahead(&self) -> u32 {
        let wanted = match (&self.load.arrival, self.load.size) {
            (Arrival::ClosedLoop { concurrency }, _) => *concurrency,
            (Arrival::AllAtOnce {}, Size::Requests(count)) => count,
            _ => 1,
        };
        self.load.max_concurrency.map_or(wanted, |max| wanted.min(max))
    }

    /// Every request is sent when it is due, however many are still unanswered. Conversations go to the
    /// readers in turn. Gives the start on the target's clock.
    fn open_loop(&self, readers: &mut [Reader]) -> u64 {
        let mut ahead = Ahead::of(self);
        ahead.fill();
        let (senders, dues): (Vec<_>, Vec<_>) =
            readers.iter().map(|_| mpsc::channel(DUE_MAX)).unzip();
        let start_ns = self.begin(readers, dues.into_iter().map(Work::Due));
        ahead.hand_over(self.target.instant(start_ns), &senders);
        start_ns
    }

    /// A conversation is due when an earlier one has ended. Streams are split over the readers and take
    /// conversations from one queue, so that the plan's order and the concurrency are those of one reader.
    fn closed_loop(&self, readers: &mut [Reader], concurrency: u32) -> u64 {
        let end_ns = match self.load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        let (sender, next) = mpsc::channel((concurrency as usize).clamp(1, CLOSED_AHEAD_MAX));
        let next = Arc::new(AsyncMutex::new(next));
        let streams = shares(concurrency, readers.len() as u32);
        let work = streams.map(|streams| Work::Next { next: Arc::clone(&next), streams, end_ns });
        let start_ns = self.begin(readers, work);
        // From here on only readers take from it.
        drop(next);
        pace::write(self, &sender);
        start_ns
    }

    /// Starts the load's clock once all readers have their connections, and gives each its work.
    fn begin(&self, readers: &mut [Reader], work: impl Iterator<Item = Work>) -> u64 {
        readers.iter_mut().for_each(Reader::wait);
        let start_ns = self.target.now_ns();
        for (reader, work) in readers.iter_mut().zip(work) {
            reader.begin(start_ns, work);
        }
        start_ns
    }
}

/// Splits a whole into parts that differ by one at most.
fn shares(whole: u32, parts: u32) -> impl Iterator<Item = u32> {
    (0..parts).map(move |part| whole / parts + u32::from(part < whole % parts))
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
