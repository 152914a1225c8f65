//! The lines at a terminal's end that rewrite themselves while launches run.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use bench_core::schema::Progress;

use super::counts::{duration, number_of};
use report::format;

/// Least time between two drawings; what comes sooner waits for the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Cells of a stage's bar.
const BAR: usize = 20;

/// A stage that waits for trials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub name: String,
    pub done: usize,
    pub all: usize,
}

/// What is shown.
#[derive(Debug, Default)]
pub struct View {
    pub stages: Vec<Waiting>,
    /// The load point that told of itself last.
    pub point: Option<(String, Progress)>,
    /// Launches that are left, and when they are done.
    pub left: Option<(usize, Instant)>,
}

/// The lines, when standard error is a terminal.
pub struct Live {
    pub view: View,
    shown: usize,
    drawn: Option<Instant>,
}

impl Live {
    pub fn new() -> Option<Self> {
        let live = Self { view: View::default(), shown: 0, drawn: None };
        std::io::stderr().is_terminal().then_some(live)
    }

    /// Makes room for a line that stays.
    pub fn clear(&mut self) {
        let up = "\x1b[1A\x1b[2K".repeat(self.shown);
        let _ = write!(std::io::stderr(), "{up}");
        self.shown = 0;
    }

    /// Shows the view as it is now.
    pub fn draw(&mut self) {
        let now = Instant::now();
        if self.drawn.is_some_and(|drawn| now - drawn < PAUSE) {
            return;
        }
        self.drawn = Some(now);
        self.clear();
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let mut lines = self.view.lines(now);
        // What scrolls away cannot be rewritten.
        lines.truncate(usize::from(rows.max(2)) - 1);
        for line in &lines {
            let line: String = line.chars().take(usize::from(columns)).collect();
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        self.shown = lines.len();
    }
}

impl View {
    fn lines(&self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((role, now)) = &self.point {
            let requests = match now.requests_planned {
                0 => String::new(),
                all => format!("  {} of {all} requests", now.requests_done),
            };
            lines.push(format!(
                " ▸ {role}   running {}  waiting {}  KV {:.0} %  {} tok/s{requests}",
                now.running,
                now.waiting,
                now.kv_cache_percent,
                format::number(now.output_tokens_per_s, 0),
            ));
        }
        for Waiting { name, done, all } in &self.stages {
            let full = BAR * done / all.max(&1);
            let bar = "█".repeat(full) + &"░".repeat(BAR - full);
            lines.push(format!(" … {name:<20}  {bar} {done} of {all} trials"));
        }
        if let Some((launches, done_at)) = self.left {
            let seconds = done_at.saturating_duration_since(now).as_secs_f64();
            lines.push(format!(
                "   {} left, about {}; Ctrl-C stops, and the same command goes on",
                number_of(launches, "launch", "launches"),
                duration(seconds),
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_core::canonical::Digest;

    #[test]
    fn the_view_says_what_runs_and_how_long_it_takes() {
        let now = Instant::now();
        let point = Progress {
            key: Digest::of(b""),
            running: 128,
            waiting: 870,
            kv_cache_percent: 44.6,
            output_tokens_per_s: 9120.4,
            requests_done: 412,
            requests_planned: 1000,
        };
        let view = View {
            stages: vec![Waiting { name: "max-num-seqs".to_owned(), done: 4, all: 10 }],
            point: Some(("256/burst/0".to_owned(), point)),
            left: Some((3, now + Duration::from_secs(150))),
        };
        let lines = [
            " ▸ 256/burst/0   running 128  waiting 870  KV 45 %  9,120 tok/s  412 of 1000 requests",
            " … max-num-seqs          ████████░░░░░░░░░░░░ 4 of 10 trials",
            "   3 launches left, about 3 min; Ctrl-C stops, and the same command goes on",
        ];
        assert_eq!(view.lines(now), lines);
        assert!(View::default().lines(now).is_empty());
    }
}
