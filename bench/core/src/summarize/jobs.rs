//! Conversations as units: a job is done when its last turn is.

use crate::{
    hist::Latencies,
    schema::{ConversationTotals, RequestSample, RequestStatus},
    workload::{Plan, Workload},
};

/// Conversations of a trial, by the plan. Samples come in any order.
#[derive(Debug)]
pub(super) struct Jobs {
    plan: Plan<'static>,
    /// The conversation of each request that the plan has given so far.
    of_request: Vec<u32>,
    jobs: Vec<Job>,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    turns: u32,
    ended: u32,
    start_ns: u64,
    end_ns: u64,
    is_completed: bool,
    is_good: bool,
}

impl Jobs {
    /// `None` of a load without conversations.
    pub(super) fn new(load: &Workload) -> Option<Self> {
        let is_recorded = load.data.as_ref().is_some_and(|data| data.format.has_conversations());
        (load.conversation.is_some() || is_recorded).then(|| Self {
            plan: Plan::owned(load.clone()),
            of_request: Vec::new(),
            jobs: Vec::new(),
        })
    }

    /// Takes a request, good or not.
    pub(super) fn push(&mut self, sample: &RequestSample, is_good: bool) {
        while self.of_request.len() <= sample.id as usize {
            let Some(turns) = self.plan.conversation() else { return };
            let number = self.jobs.len() as u32;
            self.of_request.extend(turns.iter().map(|_| number));
            self.jobs.push(Job {
                turns: turns.len() as u32,
                ended: 0,
                start_ns: u64::MAX,
                end_ns: 0,
                is_completed: true,
                is_good: true,
            });
        }
        let job = &mut self.jobs[self.of_request[sample.id as usize] as usize];
        job.ended += 1;
        job.start_ns = job.start_ns.min(sample.intended_ns);
        job.end_ns = job.end_ns.max(sample.end_ns);
        job.is_completed &= sample.status == RequestStatus::Completed;
        job.is_good &= is_good;
    }

    /// What became of those that were begun. `has_limits` is whether there is anything to be good by.
    pub(super) fn totals(&self, has_limits: bool) -> ConversationTotals {
        let begun = || self.jobs.iter().filter(|job| job.ended > 0);
        let mut latency = Latencies::default();
        for job in begun() {
            if job.is_completed && job.ended == job.turns {
                latency.record_ns(job.end_ns.saturating_sub(job.start_ns));
            } else {
                latency.record_failed();
            }
        }
        let is_good = |job: &&Job| job.is_good && job.is_completed && job.ended == job.turns;
        ConversationTotals {
            begun: begun().count() as u64,
            good: has_limits.then(|| begun().filter(is_good).count() as u64),
            latency: latency.quantiles(),
        }
    }
}
