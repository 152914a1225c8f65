//! Deadlines to the microsecond: tokio's own timer rounds up to a millisecond.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Wakes tasks at their deadlines.
#[derive(Debug)]
pub(crate) struct Timer {
    alarm: alarm::Alarm,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    sleepers: BinaryHeap<Reverse<Sleeper>>,
    /// When the alarm rings next; `u64::MAX` when it is off.
    armed_ns: u64,
}

#[derive(Debug)]
struct Sleeper {
    due_ns: u64,
    waker: Waker,
}

impl Timer {
    /// A timer; wakes nobody until [`Timer::run`] is polled. Must be made within a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let queue = Queue { sleepers: BinaryHeap::new(), armed_ns: u64::MAX };
        Ok(Self { alarm: alarm::Alarm::new()?, queue: Mutex::new(queue) })
    }

    /// Ready once the clock has reached `due_ns`. `asked_ns` is the caller's note of the deadline
    /// for which it is in the queue already: start it with 0.
    pub(crate) fn poll_until(
        &self,
        due_ns: u64,
        asked_ns: &mut u64,
        context: &Context<'_>,
    ) -> Poll<()> {
        if now_ns() >= due_ns {
            return Poll::Ready(());
        }
        if *asked_ns != due_ns {
            *asked_ns = due_ns;
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.sleepers.push(Reverse(Sleeper { due_ns, waker: context.waker().clone() }));
            if due_ns < queue.armed_ns {
                queue.armed_ns = due_ns;
                self.alarm.set(due_ns);
            }
        }
        Poll::Pending
    }

    /// Waits until the clock has reached `due_ns`.
    pub(crate) async fn sleep_until(&self, due_ns: u64) {
        let mut asked_ns = 0;
        std::future::poll_fn(|context| self.poll_until(due_ns, &mut asked_ns, context)).await;
    }

    /// Wakes sleepers, for ever.
    pub(crate) async fn run(&self) -> io::Result<()> {
        loop {
            self.alarm.rings().await?;
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let now_ns = now_ns();
            while let Some(Reverse(first)) = queue.sleepers.peek()
                && first.due_ns <= now_ns
            {
                if let Some(Reverse(sleeper)) = queue.sleepers.pop() {
                    sleeper.waker.wake();
                }
            }
            queue.armed_ns = match queue.sleepers.peek() {
                Some(Reverse(next)) => next.due_ns,
                None => u64::MAX,
            };
            self.alarm.set(queue.armed_ns);
        }
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due_ns.cmp(&other.due_ns)
    }
}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due_ns == other.due_ns
    }
}

impl Eq for Sleeper {}

#[cfg(target_os = "linux")]
mod alarm {
    use std::{io, os::fd::OwnedFd};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    /// One kernel timer.
    #[derive(Debug)]
    pub(super) struct Alarm(AsyncFd<OwnedFd>);

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "sound for a descriptor that is owned and never replaced"
            )]
            let timer = AsyncFd::new(timer)?;
            Ok(Self(timer))
        }

        pub(super) fn set(&self, at_ns: u64) {
            let at = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: (at_ns / 1_000_000_000) as i64,
                    tv_nsec: (at_ns % 1_000_000_000) as i64,
                },
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &at)
                .expect("the descriptor is a timer and the time is in range");
        }

        pub(super) async fn rings(&self) -> io::Result<()> {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut [0; 8]) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
            Ok(())
        }
    }
}

/// Elsewhere the runtime's timer has to do: late by up to a millisecond.
#[cfg(not(target_os = "linux"))]
mod alarm {
    use std::{io, time::Duration};

    use tokio::sync::watch;

    #[derive(Debug)]
    pub(super) struct Alarm(watch::Sender<u64>);

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self(watch::Sender::new(u64::MAX)))
        }

        pub(super) fn set(&self, at_ns: u64) {
            self.0.send_replace(at_ns);
        }

        pub(super) async fn rings(&self) -> io::Result<()> {
            let mut changes = self.0.subscribe();
            loop {
                let at_ns = *changes.borrow_and_update();
                let left = Duration::from_nanos(at_ns.saturating_sub(crate::timer::now_ns()));
                if tokio::time::timeout(left, changes.changed()).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn sleepers_wake_in_order_and_never_early() {
        let timer = Arc::new(Timer::new().expect("timer"));
        let (start_ns, order) = (now_ns(), Arc::new(Mutex::new(Vec::new())));
        // Tasks run as they are woken, however late all of them are. Their first look is long before they are due.
        let mut tasks = tokio::task::JoinSet::new();
        for after_ms in [60, 20, 40, 0] {
            let (timer, order) = (Arc::clone(&timer), Arc::clone(&order));
            tasks.spawn(async move {
                let due_ns = start_ns + after_ms * 1_000_000;
                timer.sleep_until(due_ns).await;
                assert!(now_ns() >= due_ns);
                order.lock().expect("lock").push(after_ms);
            });
        }
        tokio::select! {
            ended = timer.run() => ended.expect("the timer runs for ever"),
            _ = tasks.join_all() => {}
        }
        assert_eq!(*order.lock().expect("lock"), [0, 20, 40, 60]);
    }
}
