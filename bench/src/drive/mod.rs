//! Puts a load on a server: open loop, closed loop or all at once, in a thread of its own.

mod pace;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::{
    schema::{Arrival, LoadSpec, RequestSample, RequestStatus, Size},
    workload::{Plan, PlannedRequest},
};
use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};

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
    /// Most connections at once; more requests than that wait in the client, which counts as
    /// send lag. `None` opens as many as the load wants.
    pub(crate) connections_max: Option<u32>,
    /// A request that takes longer has failed.
    pub(crate) request_timeout: Duration,
}

/// One load on one server.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) target: Target,
    pub(crate) load: LoadSpec,
    pub(crate) bodies: Bodies,
    pub(crate) options: Options,
    /// Where samples go.
    pub(crate) samples: SampleSender,
    /// Requests that have ended.
    pub(crate) done: Arc<AtomicU64>,
}

/// A request ready to be sent.
#[derive(Debug)]
struct Prepared {
    request: PlannedRequest,
    body: Bytes,
}

impl Driver {
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
        self.options.connections_max.map_or(wanted, |max| wanted.min(max)) as usize
    }

    /// Every request is sent when it is due, however many are still unanswered.
    async fn open_loop(self) -> anyhow::Result<()> {
        let permits = self.options.connections_max.map(|n| Arc::new(Semaphore::new(n as usize)));
        let driver = Arc::new(self);
        let (pacer, mut due) = Pacer::start(Arc::clone(&driver))?;
        let start_ns = pacer.start_ns();
        let mut running = JoinSet::new();
        while let Some(prepared) = due.recv().await {
            while let Some(ended) = running.try_join_next() {
                ended.context("a request's task failed")?;
            }
            let (driver, permits) = (Arc::clone(&driver), permits.clone());
            running.spawn(async move {
                // The semaphore is never closed.
                let _permit = match &permits {
                    Some(permits) => permits.acquire().await.ok(),
                    None => None,
                };
                let intended_ns = prepared.request.at_ns.unwrap_or(0);
                driver.serve(prepared, start_ns, intended_ns).await;
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a request's task failed")?;
        }
        pacer.join()
    }

    /// A request is due when an earlier one has ended.
    async fn closed_loop(self, concurrency: u32) -> anyhow::Result<()> {
        let end_ns = match self.load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        let slots = self.options.connections_max.map_or(concurrency, |max| concurrency.min(max));
        let plan = Arc::new(Mutex::new(Plan::owned(self.load.clone())));
        let driver = Arc::new(self);
        let start_ns = driver.target.now_ns();
        let mut running = JoinSet::new();
        for _ in 0..slots {
            let (driver, plan) = (Arc::clone(&driver), Arc::clone(&plan));
            running.spawn(async move {
                loop {
                    let intended_ns = driver.target.now_ns() - start_ns;
                    if intended_ns >= end_ns {
                        return;
                    }
                    let next = plan.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(request) = next else { return };
                    let body = driver.bodies.write(&request);
                    driver.serve(Prepared { request, body }, start_ns, intended_ns).await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a request's task failed")?;
        }
        Ok(())
    }

    /// One request from start to end; its sample's times count from `start_ns`.
    async fn serve(&self, prepared: Prepared, start_ns: u64, intended_ns: u64) {
        let Prepared { request, body } = prepared;
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
        self.samples.send(sample);
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
