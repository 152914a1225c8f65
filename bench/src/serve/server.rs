//! What all connections of a server share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    fault::{Fault, FaultPlan},
    ledger::Ledger,
    simulator::Inbox,
};
use crate::timer::Timer;

/// What is set once.
pub(super) struct Options {
    pub(super) served_model_name: Option<String>,
    pub(super) max_model_len: u32,
    pub(super) ttft_ns: u64,
    pub(super) itl_ns: u64,
    pub(super) is_synchronised: bool,
    pub(super) stream_interval: u32,
    pub(super) events_per_write: usize,
    pub(super) stall: Option<(Duration, Duration)>,
}

/// What all connections share.
pub(super) struct Server {
    pub(super) options: Options,
    pub(super) timer: Arc<Timer>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) faults: Mutex<FaultPlan>,
    pub(super) requests: AtomicU64,
    /// The simulated engine, where there is one.
    pub(super) engine: Option<Inbox>,
}

impl Server {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request that was read whole at `at_ns`: its number, from 0, and its fault.
    pub(super) fn arrived(self: &Arc<Self>, at_ns: u64) -> (u64, Option<Fault>) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if number == 0
            && let Some(stall) = self.options.stall
        {
            tokio::spawn(stand_still(Arc::clone(self), at_ns, stall));
        }
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut ledger = self.ledger();
        ledger.arrived(at_ns);
        if let Some(fault) = fault {
            *ledger.faults.entry(fault.name()).or_default() += 1;
        }
        (number, fault)
    }
}

/// Blocks the only thread: nothing is accepted, read or written, as when a server hangs.
async fn stand_still(server: Arc<Server>, from_ns: u64, (after, length): (Duration, Duration)) {
    server.timer.sleep_until(from_ns + after.as_nanos() as u64).await;
    std::thread::sleep(length);
}
