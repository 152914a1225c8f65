//! What is shown while launches run: lines at a terminal's end that rewrite themselves, and for any other
//! reader a line now and then.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use bench_core::{schema::Progress, wrap::fold};

use super::counts::{duration, number_of};
use report::format;

/// Least time between two drawings; what comes sooner waits for the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Least time between a line and one about a change, where no terminal is.
const LINES_MIN: Duration = Duration::from_secs(30);
/// The same where nothing changes: a reader sees that the run goes on.
const UNCHANGED_MAX: Duration = Duration::from_secs(300);
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

/// The view, and where it is shown.
pub struct Live {
    pub view: View,
    shown: Shown,
}

enum Shown {
    /// Below the lines that stay, on standard error.
    Terminal(Terminal),
    /// Among them, on standard output.
    Lines(Lines),
}

impl Live {
    pub fn new() -> Self {
        let shown = match std::io::stderr().is_terminal() {
            true => Shown::Terminal(Terminal::default()),
            false => Shown::Lines(Lines::new(Instant::now())),
        };
        Self { view: View::default(), shown }
    }

    /// Makes room for a line that stays.
    pub fn clear(&mut self) {
        match &mut self.shown {
            Shown::Terminal(terminal) => terminal.clear(),
            Shown::Lines(lines) => lines.said_at = Instant::now(),
        }
    }

    /// Shows the view as it is now.
    pub fn draw(&mut self) {
        let now = Instant::now();
        match &mut self.shown {
            Shown::Terminal(terminal) => terminal.draw(&self.view, now),
            Shown::Lines(lines) => {
                if let Some(line) = lines.due(&self.view, now) {
                    let _ = write!(std::io::stdout(), "{}", fold(&line));
                }
            }
        }
    }
}

/// What was said of the view to a reader that is no terminal.
#[derive(Debug)]
struct Lines {
    /// When any line was said.
    said_at: Instant,
    /// The last one of the view, without how long it takes.
    said: String,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self { said_at: now, said: String::new() }
    }

    /// The line to say now, if one is due.
    fn due(&mut self, view: &View, now: Instant) -> Option<String> {
        let state = view.state();
        let pause = if state == self.said { UNCHANGED_MAX } else { LINES_MIN };
        if view.left.is_none() || now.saturating_duration_since(self.said_at) < pause {
            return None;
        }
        (self.said_at, self.said) = (now, state);
        let left = view.left.map(|left| View::words_left(left, now)).unwrap_or_default();
        Some(format!(" running  {}; {left}", self.said))
    }
}

#[derive(Default)]
struct Terminal {
    shown: usize,
    drawn: Option<Instant>,
}

impl Terminal {
    fn clear(&mut self) {
        let up = "\x1b[1A\x1b[2K".repeat(self.shown);
        let _ = write!(std::io::stderr(), "{up}");
        self.shown = 0;
    }

    fn draw(&mut self, view: &View, now: Instant) {
        if self.drawn.is_some_and(|drawn| now - drawn < PAUSE) {
            return;
        }
        self.drawn = Some(now);
        self.clear();
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let mut lines = view.lines(now);
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
    /// What runs and how far the stages are.
    fn state(&self) -> String {
        let stages = self.stages.iter();
        let stages = stages.map(|Waiting { name, done, all }| format!("{name} {done} of {all}"));
        let stages: Vec<String> = stages.collect();
        let now = match &self.point {
            Some((role, _)) => format!("{role} under load"),
            None => "a server starts or stops".to_owned(),
        };
        if stages.is_empty() { now } else { format!("{now}; trials of {}", stages.join(", ")) }
    }

    fn words_left((launches, done_at): (usize, Instant), now: Instant) -> String {
        let seconds = done_at.saturating_duration_since(now).as_secs_f64();
        let launches = number_of(launches, "launch", "launches");
        format!("{launches} left, about {}", duration(seconds))
    }

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
        if let Some(left) = self.left {
            let left = Self::words_left(left, now);
            lines.push(format!("   {left}; Ctrl-C stops, and the same command goes on"));
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
        let view = View {
            stages: vec![Waiting { name: "max-num-seqs".to_owned(), done: 4, all: 10 }],
            point: Some(("256/burst/0".to_owned(), point())),
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

    /// Seconds after the beginning at which lines are said, looking every ten seconds, and the lines.
    fn said(view: impl Fn(u64) -> View, until_s: u64) -> Vec<(u64, String)> {
        let begin = Instant::now();
        let mut lines = Lines::new(begin);
        let look = |s| {
            let line = lines.due(&view(s), begin + Duration::from_secs(s))?;
            Some((s, line))
        };
        (0..=until_s).step_by(10).filter_map(look).collect()
    }

    fn point() -> Progress {
        Progress {
            key: Digest::of(b""),
            running: 128,
            waiting: 870,
            kv_cache_percent: 44.6,
            output_tokens_per_s: 9120.4,
            requests_done: 412,
            requests_planned: 1000,
        }
    }

    #[test]
    fn a_reader_that_is_no_terminal_has_a_line_for_changes_and_seldom_another() {
        let done_at = Instant::now() + Duration::from_secs(3_000);
        let stages =
            |done| vec![Waiting { name: "max-num-seqs".to_owned(), done: done as usize, all: 10 }];
        // It starts for a minute; then a load runs.
        let view = |s| View {
            stages: stages(0),
            point: (s >= 60).then(|| ("256/burst/0".to_owned(), point())),
            left: Some((3, done_at)),
        };
        let lines = said(view, 700);
        let at: Vec<u64> = lines.iter().map(|(s, _)| *s).collect();
        assert_eq!(at, [30, 60, 360, 660]);
        assert_eq!(
            lines[0].1,
            " running  a server starts or stops; trials of max-num-seqs 0 of 10; 3 launches left, about 50 min"
        );
        assert!(lines[1].1.starts_with(" running  256/burst/0 under load; "), "{}", lines[1].1);
        assert!(lines.iter().all(|(_, line)| !line.contains('\x1b')));
        // Changes come every ten seconds, lines every thirty.
        let busy = |s| View { stages: stages(s / 10), point: None, left: Some((3, done_at)) };
        assert_eq!(said(busy, 90).iter().map(|(s, _)| *s).collect::<Vec<_>>(), [30, 60, 90]);
        assert_eq!(said(|_| View::default(), 900), [], "nothing is launched");
    }
}
