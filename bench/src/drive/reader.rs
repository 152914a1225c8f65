//! A thread that sends requests and reads answers, on connections of its own.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed, mpsc as blocking},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench_core::{
    hist::Latencies,
    schema::{Quantiles, RequestSample, RequestStatus},
    workload::PlannedRequest,
};
use bytes::Bytes;
use tokio::{
    sync::{Mutex as AsyncMutex, SemaphorePermit, mpsc, oneshot},
    task::JoinSet,
};

use super::driver::{Driver, Prepared};
use crate::{
    client::{
        answer::{Answer, Reading},
        connection::{Failure, Target},
    },
    host,
    timer::{self, Timer},
};

/// How often the event loop's lag is sampled.
const LAG_PERIOD: Duration = Duration::from_millis(250);

/// The requests of one reader.
#[derive(Debug)]
pub(super) enum Work {
    /// Each is due as it comes.
    Due(mpsc::Receiver<Prepared>),
    /// So many streams, each of which takes the next as its last has ended, until `end_ns`.
    Next { next: Arc<AsyncMutex<mpsc::Receiver<Prepared>>>, streams: u32, end_ns: u64 },
}

/// What a reader's thread took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Share of a core.
    pub(super) cpu_share: f64,
    /// How late the thread came back to a timer.
    pub(super) event_loop_lag: Quantiles,
}

/// A reader's thread.
#[derive(Debug)]
pub(super) struct Reader {
    ready: blocking::Receiver<()>,
    begin: Option<oneshot::Sender<(u64, Work)>>,
    thread: JoinHandle<anyhow::Result<Taken>>,
}

impl Reader {
    /// Starts the thread, which opens so many connections and waits for its work.
    pub(super) fn start(driver: Arc<Driver>, connections: u32) -> anyhow::Result<Self> {
        let (is_ready, ready) = blocking::channel();
        let (begin, work) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || run(driver, connections, &is_ready, work))
            .context("cannot start a reading thread")?;
        Ok(Self { ready, begin: Some(begin), thread })
    }

    /// Waits until the connections are open, or the thread has failed.
    pub(super) fn wait(&mut self) {
        // A failure is what `join` gives.
        let _ = self.ready.recv();
    }

    /// Gives it its work, whose times count from `start_ns` on the target's clock.
    pub(super) fn begin(&mut self, start_ns: u64, work: Work) {
        // As above.
        let _ = self.begin.take().map(|begin| begin.send((start_ns, work)));
    }

    /// Waits for the end of its last request.
    pub(super) fn join(self) -> anyhow::Result<Taken> {
        self.thread.join().map_err(|_| anyhow::anyhow!("a reading thread failed"))?
    }
}

fn run(
    driver: Arc<Driver>,
    connections: u32,
    is_ready: &blocking::Sender<()>,
    work: oneshot::Receiver<(u64, Work)>,
) -> anyhow::Result<Taken> {
    host::wake_on_time();
    let (start, cpu_before) = (Instant::now(), host::thread_cpu_time());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the client's runtime")?;
    let event_loop_lag = runtime.block_on(async {
        let timer = Timer::new().context("cannot make a timer")?;
        let shard = Arc::new(Shard { target: driver.target.with_own_connections(), timer, driver });
        shard.target.open_ahead(connections as usize).await;
        let _ = is_ready.send(());
        let mut lag = Latencies::default();
        // No work comes where another reader could not start.
        if let Ok((start_ns, work)) = work.await {
            tokio::select! {
                driven = Arc::clone(&shard).drive(start_ns, work) => driven?,
                failed = shard.timer.run() => failed.context("the timer failed")?,
                () = watch_event_loop(&shard.timer, &mut lag) => {}
            }
        }
        anyhow::Ok(lag.quantiles())
    })?;
    let cpu_s = (host::thread_cpu_time() - cpu_before).as_secs_f64();
    Ok(Taken { cpu_share: cpu_s / start.elapsed().as_secs_f64(), event_loop_lag })
}

/// One reader's share of a load.
#[derive(Debug)]
struct Shard {
    driver: Arc<Driver>,
    target: Target,
    /// For later turns: tokio's own timer rounds up to a millisecond.
    timer: Timer,
}

impl Shard {
    /// Serves its work to the end of its last request.
    async fn drive(self: Arc<Self>, start_ns: u64, work: Work) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        match work {
            Work::Due(mut due) => {
                while let Some(prepared) = due.recv().await {
                    while let Some(ended) = running.try_join_next() {
                        ended.context("a request's task failed")?;
                    }
                    let shard = Arc::clone(&self);
                    running.spawn(async move {
                        let intended_ns = prepared.request.at_ns.unwrap_or(0);
                        shard.converse(prepared, start_ns, intended_ns).await;
                    });
                }
            }
            Work::Next { next, streams, end_ns } => {
                for _ in 0..streams {
                    let (shard, next) = (Arc::clone(&self), Arc::clone(&next));
                    running.spawn(async move {
                        loop {
                            let intended_ns = shard.target.now_ns() - start_ns;
                            if intended_ns >= end_ns {
                                return;
                            }
                            let Some(prepared) = next.lock().await.recv().await else { return };
                            shard.converse(prepared, start_ns, intended_ns).await;
                        }
                    });
                }
            }
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a request's task failed")?;
        }
        Ok(())
    }

    /// The turns of a conversation, each a while after the answer to the one before it. What the
    /// server answered makes no difference to what is sent, nor does a failure.
    async fn converse(self: &Arc<Self>, prepared: Prepared, start_ns: u64, mut intended_ns: u64) {
        let Prepared { request, mut body, mut later } = prepared;
        let mut request = Some(request);
        while let Some(turn) = request.take() {
            // The next body is written on another thread while this turn is answered.
            let next = later.next().map(|next| {
                let (driver, planned) = (Arc::clone(&self.driver), next.clone());
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
        self.timer.sleep_until(timer::now_ns() + left_ns).await;
    }

    /// Waits for a permit under the limit in flight; gives it with how long that took.
    async fn permit(&self) -> (Option<SemaphorePermit<'_>>, u64) {
        let Some(permits) = &self.driver.permits else { return (None, 0) };
        if let Ok(permit) = permits.try_acquire() {
            return (Some(permit), 0);
        }
        let from_ns = self.target.now_ns();
        // The semaphore is never closed.
        let permit = permits.acquire().await.ok();
        (permit, self.target.now_ns() - from_ns)
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
        let (_permit, queued_ns) = self.permit().await;
        let Driver { load, options, samples, .. } = &*self.driver;
        self.target.traffic.sent.fetch_add(1, Relaxed);
        let shape = &load.request;
        let mut answer = Answer::new(shape.stream, request.output_tokens, shape.ignore_eos);
        let (times, exchanged) =
            self.target.exchange(body, &mut answer, options.request_timeout).await;
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
        samples.send(sample);
        end_ns
    }
}

/// Samples, for ever, how late this thread comes back to a timer.
async fn watch_event_loop(timer: &Timer, lag: &mut Latencies) {
    loop {
        let due_ns = timer::now_ns() + LAG_PERIOD.as_nanos() as u64;
        timer.sleep_until(due_ns).await;
        lag.record_ns(timer::now_ns().saturating_sub(due_ns));
    }
}
