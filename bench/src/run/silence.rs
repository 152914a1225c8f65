//! Notices that nothing comes any more of requests that were sent.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use bench_core::schema::{Event, LoadSpec};

use crate::client::connection::Traffic;

/// How long streams may be silent until it is told: a person knows within about five seconds.
const STREAMS_MAX: Duration = Duration::from_secs(5);
/// An answer that is not streamed comes at its end, and says nothing before.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// How long a stream that has begun may be silent while others go on: a server preempts requests when its KV
/// cache is full, and goes on with them when others have ended.
const STREAM_MAX: Duration = Duration::from_secs(30);
/// How often streams are looked at one by one.
const LOOK: Duration = Duration::from_secs(1);

/// Watches one load.
#[derive(Debug)]
pub(super) struct Silence {
    patience: Duration,
    begin: Instant,
    /// When an answer went on last, and how many requests had ended, by the last look.
    heard: (u64, u64),
    /// When something came last, or nothing was under way.
    moved_at: Duration,
    is_told: bool,
    looked_at: Duration,
    /// Streams that were told of, until none is silent.
    stalled: u64,
}

impl Silence {
    /// Of a load that begins now.
    pub(super) fn of(load: &LoadSpec) -> Self {
        let patience = if load.request.stream { STREAMS_MAX } else { WHOLE_MAX };
        let (begin, moved_at) = (Instant::now(), Duration::ZERO);
        let looked_at = Duration::ZERO;
        Self { patience, begin, heard: (0, 0), moved_at, is_told: false, looked_at, stalled: 0 }
    }

    /// What is to be told now. `generates`: the server says that it generates tokens.
    pub(super) fn look(&mut self, traffic: &Traffic, generates: bool) -> Option<Event> {
        let now = self.begin.elapsed();
        let is_due = now.saturating_sub(self.looked_at) >= LOOK;
        let stalled = is_due.then(|| {
            self.looked_at = now;
            traffic.streams.stalled(Instant::now(), STREAM_MAX)
        });
        let silence = self.look_at(now, traffic, generates);
        silence.or_else(|| self.stalled(stalled?, traffic))
    }

    /// Tells of streams that stopped among others that go on: at the first one, and when they are twice as
    /// many.
    fn stalled(&mut self, stalled: u64, traffic: &Traffic) -> Option<Event> {
        if stalled == 0 {
            self.stalled = 0;
        }
        if self.is_told || stalled == 0 || stalled < 2 * self.stalled {
            return None;
        }
        self.stalled = stalled;
        let done = traffic.done.load(Relaxed);
        let under_way = traffic.sent.load(Relaxed).saturating_sub(done);
        Some(Event::Stalled { requests: stalled, under_way, seconds: STREAM_MAX.as_secs() })
    }

    fn look_at(&mut self, now: Duration, traffic: &Traffic, generates: bool) -> Option<Event> {
        // In this order, so that a request that ends meanwhile is not under way for ever.
        let done = traffic.done.load(Relaxed);
        let under_way = traffic.sent.load(Relaxed).saturating_sub(done);
        let heard = (traffic.heard_ns.load(Relaxed), done);
        if heard != self.heard || under_way == 0 || generates {
            (self.heard, self.moved_at, self.is_told) = (heard, now, false);
        }
        let silent = now.saturating_sub(self.moved_at);
        if silent < self.patience || self.is_told {
            return None;
        }
        self.is_told = true;
        Some(Event::Silent { requests: under_way, seconds: silent.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::{Arrival, Size};

    use super::*;

    /// A load by a clock of its own: milliseconds, requests sent, ended, when an answer went on.
    fn told(stream: bool, looks: &[(u64, u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
        let mut load = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(4), Vec::new(), 1);
        load.request.stream = stream;
        let mut silence = Silence::of(&load);
        let mut told = Vec::new();
        for (ms, sent, done, heard) in looks {
            let traffic = Traffic {
                sent: (*sent).into(),
                done: (*done).into(),
                heard_ns: (*heard).into(),
                ..Traffic::default()
            };
            let event = silence.look_at(Duration::from_millis(*ms), &traffic, false);
            if let Some(Event::Silent { requests, seconds }) = event {
                told.push((*ms, requests, seconds));
            }
        }
        told
    }

    #[test]
    fn silence_on_all_streams_is_told_after_five_seconds_and_once() {
        let looks = [
            (250, 4, 0, 3),
            (5_000, 4, 0, 3),
            (5_250, 4, 0, 3),
            (5_500, 4, 0, 3),
            (60_000, 4, 0, 3),
            // It went on, and stalls again.
            (61_000, 4, 0, 9),
            (65_000, 4, 1, 9),
            (70_000, 5, 1, 9),
        ];
        assert_eq!(told(true, &looks), [(5_250, 4, 5), (70_000, 4, 5)]);
    }

    #[test]
    fn requests_that_go_on_being_sent_are_no_answer() {
        let looks: Vec<_> = (0..40).map(|i| (250 * i, 1 + i, 0, 0)).collect();
        assert_eq!(told(true, &looks), [(5_000, 21, 5)]);
    }

    #[test]
    fn a_pause_between_requests_is_no_silence() {
        assert_eq!(told(true, &[(0, 1, 0, 5), (250, 1, 1, 8), (30_000, 1, 1, 8)]), []);
        // It counts from when the next request is under way.
        assert_eq!(told(true, &[(30_000, 1, 1, 8), (30_250, 2, 1, 8), (34_900, 2, 1, 8)]), []);
    }

    #[test]
    fn an_answer_that_is_not_streamed_has_longer() {
        let looks = [(250, 4, 0, 0), (30_000, 4, 0, 0), (60_000, 4, 0, 0)];
        assert_eq!(told(false, &looks), [(60_000, 4, 60)]);
    }

    #[test]
    fn streams_that_stop_among_others_are_told_of_and_when_they_are_twice_as_many() {
        let load = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(9), Vec::new(), 1);
        let traffic = Traffic { sent: 9.into(), done: 1.into(), ..Traffic::default() };
        let mut silence = Silence::of(&load);
        let told = [0, 1, 1, 2, 3, 4, 0, 1].map(|stalled| silence.stalled(stalled, &traffic));
        let told = told.map(|event| match event {
            Some(Event::Stalled { requests, under_way: 8, seconds: 30 }) => requests,
            _ => 0,
        });
        assert_eq!(told, [0, 1, 0, 2, 0, 4, 0, 1]);
        // Where all are silent, that was told.
        silence.is_told = true;
        assert!(silence.stalled(8, &traffic).is_none());
    }

    #[test]
    fn tokens_that_the_server_counts_are_no_silence() {
        let load = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(4), Vec::new(), 1);
        let traffic = Traffic { sent: 4.into(), ..Traffic::default() };
        let mut silence = Silence::of(&load);
        let mut look = |seconds, generates| {
            silence.look_at(Duration::from_secs(seconds), &traffic, generates).is_some()
        };
        assert!(!look(4, true) && !look(8, true) && !look(12, false) && look(13, false));
    }
}
