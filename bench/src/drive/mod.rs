//! Puts a load on a server: open loop, closed loop or all at once, in a thread of its own.

mod pace;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
    vec,
};

use anyhow::Context as _;
use bench_core::{
    schema::{Arrival, RequestSample, RequestStatus, Size},
    workload::{Plan, PlannedRequest, Workload},
};
use bytes::Bytes;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};

use self::pace::Pacer;
use crate::{
    client::{
        answer::{Answer, Reading},
        body::Bodies,
        connection::{Failure, Target},
    },
    host,
    samples::SampleSender,
};

/// How requests are sent, whatever the load.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A request that takes longer has failed.
    pub(crate) request_timeout: Duration,
}

/// One load on one server.
#[derive(Debug)]
pub(crate) struct Driver {
    target: Target,
    load: Workload,
    bodies: Bodies,
    options: Options,
    samples: SampleSender,
    done: Arc<AtomicU64>,
    /// What a limit in flight leaves for others.
    places: Option<Semaphore>,
}

/// A request ready to be sent, and the turns that follow its answer.
#[derive(Debug)]
struct Prepared {
    request: PlannedRequest,
    body: Bytes,
    later: vec::IntoIter<PlannedRequest>,
}

impl Driver {
    /// Samples go to `samples`; `done` counts the requests that have ended.
    pub(crate) fn new(
        target: Target,
        load: Workload,
        bodies: Bodies,
        options: Options,
        samples: SampleSender,
        done: Arc<AtomicU64>,
    ) -> Self {
        let places = load.max_concurrency.map(|count| Semaphore::new(count as usize));
        Self { target, load, bodies, options, samples, done, places }
    }

    /// Runs the load to the end of its last request; gives the share of a core that this thread
    /// took, on which all requests are sent and answers read.
    pub(crate) fn run(self) -> anyhow::Result<f64> {
        let (start, cpu_before) = (Instant::now(), host::thread_cpu_time());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("cannot start the client's runtime")?;
        runtime.block_on(self.drive())?;
        let cpu_s = (host::thread_cpu_time() - cpu_before).as_secs_f64();
        Ok(cpu_s / start.elapsed().as_secs_f64())
    }

    async fn drive(self) -> anyhow::Result<()> {
        self.target.open_ahead(self.connections_ahead()).await;
        match self.load.arrival {
            Arrival::ClosedLoop { concurrency } => self.closed_loop(concurrency).await,
            _ => self.open_loop().await,
        }
    }

    /// Connections that the load wants in its first moment.
    fn connections_ahead(&self) -> usize {
        let wanted = match (&self.load.arrival, self.load.size) {
            (Arrival::ClosedLoop { concurrency }, _) => *concurrency,
            (Arrival::AllAtOnce {}, Size::Requests(count)) => count,
            _ => 1,
        };
        self.load.max_concurrency.map_or(wanted, |max| wanted.min(max)) as usize
    }

    /// Every request is sent when it is due, however many are still unanswered.
    async fn open_loop(self) -> anyhow::Result<()> {
        let driver = Arc::new(self);
        let (pacer, mut due) = Pacer::start(Arc::clone(&driver))?;
        let start_ns = pacer.start_ns();
        let mut running = JoinSet::new();
        while let Some(prepared) = due.recv().await {
            while let Some(ended) = running.try_join_next() {
                ended.context("a request's task failed")?;
            }
            let driver = Arc::clone(&driver);
            running.spawn(async move {
                let intended_ns = prepared.request.at_ns.unwrap_or(0);
                driver.converse(prepared, start_ns, intended_ns).await;
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a request's task failed")?;
        }
        pacer.join()
    }

    /// A conversation is due when an earlier one has ended.
    async fn closed_loop(self, concurrency: u32) -> anyhow::Result<()> {
        let end_ns = match self.load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        let plan = Arc::new(Mutex::new(Plan::owned(self.load.clone())));
        let driver = Arc::new(self);
        let start_ns = driver.target.now_ns();
        let mut running = JoinSet::new();
        for _ in 0..concurrency {
            let (driver, plan) = (Arc::clone(&driver), Arc::clone(&plan));
            running.spawn(async move {
                loop {
                    let intended_ns = driver.target.now_ns() - start_ns;
                    if intended_ns >= end_ns {
                        return;
                    }
                    let next = plan.lock().unwrap_or_else(PoisonError::into_inner).conversation();
                    let Some(prepared) = next.and_then(|turns| driver.prepare(turns)) else {
                        return;
                    };
                    driver.converse(prepared, start_ns, intended_ns).await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a request's task failed")?;
        }
        Ok(())
    }

    /// Makes the first request of a conversation ready.
    fn prepare(&self, turns: Vec<PlannedRequest>) -> Option<Prepared> {
        let mut later = turns.into_iter();
        let request = later.next()?;
        Some(Prepared { body: self.bodies.write(&request), request, later })
    }

    /// The turns of a conversation, each a while after the answer to the one before it. What the
    /// server answered makes no difference to what is sent, nor does a failure.
    async fn converse(&self, prepared: Prepared, start_ns: u64, mut intended_ns: u64) {
        let Prepared { request, body, later } = prepared;
        let mut end_ns = self.serve(request, body, start_ns, intended_ns).await;
        for request in later {
            intended_ns = end_ns + request.think_ns;
            let body = self.bodies.write(&request);
            let due = self.target.instant(start_ns + intended_ns);
            tokio::time::sleep_until(due.into()).await;
            end_ns = self.serve(request, body, start_ns, intended_ns).await;
        }
    }

    /// Waits for a place under the limit in flight; gives it with how long that took.
    async fn place(&self) -> (Option<SemaphorePermit<'_>>, u64) {
        let Some(places) = &self.places else { return (None, 0) };
        if let Ok(place) = places.try_acquire() {
            return (Some(place), 0);
        }
        let from_ns = self.target.now_ns();
        // The semaphore is never closed.
        let place = places.acquire().await.ok();
        (place, self.target.now_ns() - from_ns)
    }

    /// One request from start to end; its sample's times count from `start_ns`, as does the end
    /// that it gives.
    async fn serve(
        &self,
        request: PlannedRequest,
        body: Bytes,
        start_ns: u64,
        intended_ns: u64,
    ) -> u64 {
        let (_place, queued_ns) = self.place().await;
        let mut answer = Answer::new(self.load.request.stream, request.output_tokens);
        let (times, exchanged) =
            self.target.exchange(body, &mut answer, self.options.request_timeout).await;
        let (reading, read) = answer.finish();
        let status = match (exchanged, read) {
            (Err(Failure(kind)), _) => RequestStatus::Failed(kind),
            (Ok(()), Err(fault)) => fault.into(),
            (Ok(()), Ok(())) => RequestStatus::Completed,
        };
        let since = |ns: u64| ns.saturating_sub(start_ns);
        let Reading { mut tokens, input_tokens, output_tokens, phases } = reading;
        tokens.iter_mut().for_each(|(at_ns, _)| *at_ns = since(*at_ns));
        let sample = RequestSample {
            id: request.id,
            class: request.class,
            intended_ns,
            queued_ns,
            sent_ns: since(times.sent_ns).max(intended_ns),
            first_byte_ns: times.first_byte_ns.map(since),
            end_ns: since(times.end_ns).max(intended_ns),
            tokens,
            input_tokens,
            output_tokens,
            status,
            phases,
        };
        self.done.fetch_add(1, Relaxed);
        let end_ns = sample.end_ns;
        self.samples.send(sample);
        end_ns
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
