//! Failures on purpose, for tests of clients.

use std::str::FromStr;

use bench_core::{decimal::Decimal, rng::Random};

/// A way to fail a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is reset in the middle of the answer.
    Reset,
    /// Status 429.
    Http429,
    /// Status 500.
    Http500,
    /// Status 503.
    Http503,
    /// An event that is cut off within its JSON; the stream goes on.
    MalformedEvent,
    /// An event with half a UTF-8 character; the stream goes on.
    HalfUtf8,
    /// A line without an end, for as long as the client reads.
    EndlessLine,
    /// A stream labelled `text/html`.
    WrongContentType,
    /// A stream that stops in the middle and stays open.
    StalledStream,
    /// An `error` event as vLLM sends when generation fails, then `[DONE]`.
    ErrorEvent,
    /// The answer ends in the middle without its last chunk.
    Truncated,
    /// A whole answer with half of its tokens.
    Short,
    /// A whole answer that ends in the middle with `finish_reason` of `abort`.
    Abort,
}

const NAMES: [(&str, Fault); 13] = [
    ("reset", Fault::Reset),
    ("http-429", Fault::Http429),
    ("http-500", Fault::Http500),
    ("http-503", Fault::Http503),
    ("malformed-event", Fault::MalformedEvent),
    ("half-utf8", Fault::HalfUtf8),
    ("endless-line", Fault::EndlessLine),
    ("wrong-content-type", Fault::WrongContentType),
    ("stalled-stream", Fault::StalledStream),
    ("error-event", Fault::ErrorEvent),
    ("truncated", Fault::Truncated),
    ("short", Fault::Short),
    ("abort", Fault::Abort),
];

impl Fault {
    /// Its name on the command line and in the truth report.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, fault)| *fault == self).expect("every fault has a name").0
    }

    /// The status it answers with, where that is the fault.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Self::Http429 => Some(429),
            Self::Http500 => Some(500),
            Self::Http503 => Some(503),
            _ => None,
        }
    }
}

/// One `--fault KIND:RATE`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultRate {
    fault: Fault,
    /// Share of the requests.
    share: Decimal,
}

impl FromStr for FaultRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, share) = text.split_once(':').ok_or("expected KIND:RATE, such as reset:0.01")?;
        let fault = NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
        let fault = fault.ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("no fault `{name}`; there are {}", known.join(", "))
        })?;
        let share: Decimal = share.parse()?;
        if !(0..=1_000_000).contains(&share.millionths()) {
            return Err(format!("the rate {share} is not between 0 and 1"));
        }
        Ok(Self { fault, share })
    }
}

/// Draws which request fails how: the same sequence for the same seed.
pub(crate) struct FaultPlan {
    rates: Vec<FaultRate>,
    random: Random,
}

impl FaultPlan {
    pub(crate) fn new(rates: Vec<FaultRate>, seed: u64) -> Self {
        Self { rates, random: Random::new(seed, 0) }
    }

    /// The next request's fault, if any.
    pub(crate) fn next(&mut self) -> Option<Fault> {
        if self.rates.is_empty() {
            return None;
        }
        let mut ticket = self.random.below(1_000_000) as i64;
        for rate in &self.rates {
            ticket -= rate.share.millionths();
            if ticket < 0 {
                return Some(rate.fault);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_kept_and_kinds_do_not_overlap() {
        let rates = ["reset:0.1", "http-503:0.3"].map(|text| text.parse().expect("a rate"));
        let mut plan = FaultPlan::new(rates.to_vec(), 1);
        let drawn: Vec<_> = (0..10_000).map(|_| plan.next()).collect();
        let count = |fault| drawn.iter().filter(|drawn| **drawn == fault).count();
        assert!(count(Some(Fault::Reset)).abs_diff(1_000) < 100);
        assert!(count(Some(Fault::Http503)).abs_diff(3_000) < 150);
    }

    #[test]
    fn a_rate_says_what_is_wrong_with_it() {
        for (text, message) in [
            ("reset", "expected KIND:RATE, such as reset:0.01"),
            ("reset:2", "the rate 2 is not between 0 and 1"),
            ("reset:-0.1", "the rate -0.1 is not between 0 and 1"),
        ] {
            assert_eq!(text.parse::<FaultRate>().map(|_| ()), Err(message.to_owned()));
        }
        assert!("rest:1".parse::<FaultRate>().is_err_and(|e| e.starts_with("no fault `rest`")));
    }

    #[test]
    fn every_fault_has_one_name() {
        for (name, fault) in NAMES {
            assert_eq!(fault.name(), name);
        }
    }
}
