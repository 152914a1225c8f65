//! When the tokens of one request come.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bench_core::schema::Phases;

use super::simulator::Job;
use crate::timer::Timer;

/// Where the tokens of one request come from.
pub(crate) enum Source {
    /// A fixed schedule.
    Schedule { first_ns: u64, gap_ns: u64, asked_ns: u64 },
    /// The simulated engine.
    Engine(Job),
}

impl Source {
    /// Ready with the time at which token number `count` was due, counted from 1, once it is out.
    pub(crate) fn poll_token(
        &mut self,
        count: u32,
        timer: &Timer,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        match self {
            Self::Schedule { first_ns, gap_ns, asked_ns } => {
                let due_ns = *first_ns + *gap_ns * u64::from(count - 1);
                timer.poll_until(due_ns, asked_ns, context).map(|()| Ok(due_ns))
            }
            Self::Engine(job) => {
                let due_ns = ready!(job.poll_token(count, context))?;
                timer.poll_until(due_ns, &mut job.asked_ns, context).map(|()| Ok(due_ns))
            }
        }
    }

    /// Where the request's time went, once its last token is out of an engine.
    pub(crate) fn phases(&self) -> Option<Phases> {
        match self {
            Self::Schedule { .. } => None,
            Self::Engine(job) => job.phases,
        }
    }
}
