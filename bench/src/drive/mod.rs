//! Puts a load on a server: open loop, closed loop or all at once, in a thread of its own.

mod driver;
mod pace;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::{
    hist::Latencies,
    schema::{Arrival, Quantiles, RequestSample, RequestStatus, Size},
    workload::PlannedRequest,
};
use bytes::Bytes;
use tokio::{
    sync::{Mutex as AsyncMutex, SemaphorePermit},
    task::JoinSet,
};

use self::{driver::Prepared, pace::Pacer};
use crate::{
    client::{
        answer::{Answer, Reading},
        connection::Failure,
    },
    host,
    timer::{self, Timer},
};

pub(crate) use driver::{Driver, Options};

/// What a load took of the thread on which all requests are sent and answers read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driven {
    /// Share of a core.
    pub(crate) cpu_share: f64,
    /// How late it came back to a timer.
    pub(crate) event_loop_lag: Quantiles,
    /// What the times of samples count from, on the monotonic clock.
    pub(crate) start_ns: u64,
}

/// How often the event loop is looked at.
const LAG_PERIOD: Duration = Duration::from_millis(250);

impl Driver {
    /// Runs the load to the end of its last request.
    pub(crate) fn run(self) -> anyhow::Result<Driven> {
        host::wake_on_time();
        let (start, cpu_before) = (Instant::now(), host::thread_cpu_time());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("cannot start the client's runtime")?;
        let (event_loop_lag, start_ns) = runtime.block_on(self.drive())?;
        let cpu_s = (host::thread_cpu_time() - cpu_before).as_secs_f64();
        let cpu_share = cpu_s / start.elapsed().as_secs_f64();
        Ok(Driven { cpu_share, event_loop_lag, start_ns })
    }

    async fn drive(mut self) -> anyhow::Result<(Quantiles, u64)> {
        let timer = Arc::new(Timer::new().context("cannot make a timer")?);
        self.timer = Some(Arc::clone(&timer));
        self.target.open_ahead(self.connections_ahead()).await;
        let clock_ns = timer::now_ns() - self.target.now_ns();
        let mut lag = Latencies::default();
        let load = async {
            match self.load.arrival {
                Arrival::ClosedLoop { concurrency } => self.closed_loop(concurrency).await,
                _ => self.open_loop().await,
            }
        };
        let start_ns = tokio::select! {
            driven = load => driven?,
            failed = timer.run() => {
                failed.context("the timer failed")?;
                0
            }
            () = watch_event_loop(&timer, &mut lag) => 0,
        };
        Ok((lag.quantiles(), clock_ns + start_ns))
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
    async fn open_loop(self) -> anyhow::Result<u64> {
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
        pacer.join()?;
        Ok(start_ns)
    }

    /// A conversation is due when an earlier one has ended. Bodies are written on a thread of their
    /// own, ahead of their time: this one has answers to read.
    async fn closed_loop(self, concurrency: u32) -> anyhow::Result<u64> {
        let end_ns = match self.load.size {
            Size::Requests(_) => u64::MAX,
            Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
        };
        let driver = Arc::new(self);
        let (writer, next) = pace::write_ahead(Arc::clone(&driver), concurrency)?;
        let next = Arc::new(AsyncMutex::new(next));
        let start_ns = driver.target.now_ns();
        let mut running = JoinSet::new();
        for _ in 0..concurrency {
            let (driver, next) = (Arc::clone(&driver), Arc::clone(&next));
            running.spawn(async move {
                loop {
                    let intended_ns = driver.target.now_ns() - start_ns;
                    if intended_ns >= end_ns {
                        return;
                    }
                    let Some(prepared) = next.lock().await.recv().await else { return };
                    driver.converse(prepared, start_ns, intended_ns).await;
                }
            });
        }
        drop(next);
        while let Some(ended) = running.join_next().await {
            ended.context("a request's task failed")?;
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writing thread failed"))?;
        Ok(start_ns)
    }

    /// The turns of a conversation, each a while after the answer to the one before it. What the
    /// server answered makes no difference to what is sent, nor does a failure.
    async fn converse(self: &Arc<Self>, prepared: Prepared, start_ns: u64, mut intended_ns: u64) {
        let Prepared { request, mut body, mut later } = prepared;
        let mut request = Some(request);
        while let Some(turn) = request.take() {
            // The next body is written on another thread while this turn is answered.
            let next = later.next().map(|next| {
                let (driver, planned) = (Arc::clone(self), next.clone());
                (next, tokio::task::spawn_blocking(move || driver.bodies.write(&planned)))
            });
            let end_ns = self.serve(turn, body, start_ns, intended_ns).await;
            let Some((next, written)) = next else { return };
            intended_ns = end_ns + next.think_ns;
            // It ends early only when the run does.
            let Ok(written) = written.await else { return };
            body = written;
            self.wait_until(start_ns + intended_ns).await;
            request = Some(next);
        }
    }

    /// Waits for a time on the target's clock.
    async fn wait_until(&self, at_ns: u64) {
        let left_ns = at_ns.saturating_sub(self.target.now_ns());
        match &self.timer {
            Some(timer) => timer.sleep_until(timer::now_ns() + left_ns).await,
            None => tokio::time::sleep(Duration::from_nanos(left_ns)).await,
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
        self.target.traffic.sent.fetch_add(1, Relaxed);
        let shape = &self.load.request;
        let mut answer = Answer::new(shape.stream, request.output_tokens, shape.ignore_eos);
        let (times, exchanged) =
            self.target.exchange(body, &mut answer, self.options.request_timeout).await;
        let (reading, read) = answer.finish();
        let fault_text = reading.fault_text.map(|text| self.target.mask(&text));
        let (status, failure_text) = match (exchanged, read) {
            (Err(Failure { kind, text }), _) => (RequestStatus::Failed(kind), text.or(fault_text)),
            (Ok(()), Err(fault)) => (fault.into(), fault_text),
            (Ok(()), Ok(())) => (RequestStatus::Completed, None),
        };
        let since = |ns: u64| ns.saturating_sub(start_ns);
        let Reading { mut tokens, input_tokens, output_tokens, phases, is_spread, .. } = reading;
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
            tokens_spread: is_spread,
            resent: times.is_resent,
            status,
            failure_text,
            phases,
        };
        self.target.traffic.done.fetch_add(1, Relaxed);
        let end_ns = sample.end_ns;
        self.samples.send(sample);
        end_ns
    }
}

/// Notes, for ever, how late this thread comes back to a timer.
async fn watch_event_loop(timer: &Timer, lag: &mut Latencies) {
    loop {
        let due_ns = timer::now_ns() + LAG_PERIOD.as_nanos() as u64;
        timer.sleep_until(due_ns).await;
        lag.record_ns(timer::now_ns().saturating_sub(due_ns));
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
