//! When the tokens of one request come.

use std::{
    io,
    task::{Context, Poll},
};

use super::timer::Timer;

/// Where the tokens of one request come from.
pub(crate) enum Source {
    /// A fixed schedule.
    Schedule { first_ns: u64, gap_ns: u64, asked_ns: u64 },
}

impl Source {
    /// Ready with the time at which token number `count` was due, counted from 1, once it is out.
    pub(crate) fn poll_token(
        &mut self,
        count: u32,
        timer: &Timer,
        context: &Context<'_>,
    ) -> Poll<io::Result<u64>> {
        match self {
            Self::Schedule { first_ns, gap_ns, asked_ns } => {
                let due_ns = *first_ns + *gap_ns * u64::from(count - 1);
                timer.poll_until(due_ns, asked_ns, context).map(|()| Ok(due_ns))
            }
        }
    }

    /// When the request left the queue, where there is one.
    pub(crate) fn scheduled_ns(&self) -> Option<u64> {
        match self {
            Self::Schedule { .. } => None,
        }
    }
}
