//! Raw samples on their way to the thread that writes them.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use bench_core::{schema::RequestSample, summarize::Summarizer};
use bench_trials::Recorder;

/// Samples of one batch, and batches that wait for the writer at most. On a core that the two
/// threads share, what the writer needs for a batch (0.4 ms) is how long a request may be held up.
const BATCH: usize = 16;
const BATCHES_MAX: usize = 256;

/// A recorder in a thread of its own, so that compressing does not delay sending.
#[derive(Debug)]
pub(crate) struct RecorderThread(JoinHandle<io::Result<Recorder>>);

impl RecorderThread {
    /// Starts the thread and gives the end to put samples in.
    pub(crate) fn start(mut recorder: Recorder) -> anyhow::Result<(Self, SampleSender)> {
        let (sender, received) = channel();
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                received.iter().flatten().try_for_each(|sample| recorder.push(&sample))?;
                Ok(recorder)
            })
            .context("cannot start the recording thread")?;
        Ok((Self(thread), sender))
    }

    /// Waits until the sender is gone and all samples are written.
    pub(crate) fn finish(self) -> anyhow::Result<(Summarizer, String)> {
        let recorder = self.0.join().map_err(|_| anyhow::anyhow!("the recording thread failed"))?;
        recorder.context("cannot write samples")?.finish()
    }
}

/// Samples to another thread, in batches: waking it for each would cost more than the rest of a
/// short request.
#[derive(Debug)]
pub(crate) struct SampleSender {
    batches: SyncSender<Vec<RequestSample>>,
    batch: Mutex<Vec<RequestSample>>,
}

/// A sender of samples and what it sends; all has been sent when the sender is dropped.
pub(crate) fn channel() -> (SampleSender, Receiver<Vec<RequestSample>>) {
    let (batches, received) = sync_channel(BATCHES_MAX);
    (SampleSender { batches, batch: Mutex::default() }, received)
}

impl SampleSender {
    /// Sends a sample. When the other thread falls far behind this waits, which shows as send lag.
    pub(crate) fn send(&self, sample: RequestSample) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.push(sample);
        if batch.len() >= BATCH {
            self.flush(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
        }
    }

    fn flush(&self, batch: Vec<RequestSample>) {
        // The other end is gone only when writing failed, which is reported there.
        let _ = self.batches.send(batch);
    }
}

impl Drop for SampleSender {
    fn drop(&mut self) {
        let batch = std::mem::take(self.batch.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.flush(batch);
    }
}
