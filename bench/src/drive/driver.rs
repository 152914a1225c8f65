//! One load on one server, and its requests made ready.

use std::{sync::Arc, time::Duration, vec};

use bench_core::workload::{PlannedRequest, Workload};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    client::{
        body::Bodies,
        connection::{Target, Traffic},
    },
    samples::SampleSender,
};

/// How requests are sent, whatever the load.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A request that takes longer has failed.
    pub(crate) request_timeout: Duration,
}

/// One load on one server: what its reader threads share.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) target: Target,
    pub(super) load: Workload,
    pub(super) bodies: Bodies,
    pub(super) options: Options,
    pub(super) samples: SampleSender,
    /// Permits that the limit in flight leaves, of all threads together.
    pub(super) permits: Option<Semaphore>,
}

/// A request ready to be sent, and the turns that follow its answer.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: PlannedRequest,
    pub(super) body: Bytes,
    pub(super) later: vec::IntoIter<PlannedRequest>,
}

impl Driver {
    /// Samples go to `samples`; `traffic` says how far it is.
    pub(crate) fn new(
        mut target: Target,
        load: Workload,
        bodies: Bodies,
        options: Options,
        samples: SampleSender,
        traffic: Arc<Traffic>,
    ) -> Self {
        target.traffic = traffic;
        let permits = load.max_concurrency.map(|count| Semaphore::new(count as usize));
        Self { target, load, bodies, options, samples, permits }
    }

    /// Makes the first request of a conversation ready.
    pub(super) fn prepare(&self, turns: Vec<PlannedRequest>) -> Option<Prepared> {
        let mut later = turns.into_iter();
        let request = later.next()?;
        Some(Prepared { body: self.bodies.write(&request), request, later })
    }
}
