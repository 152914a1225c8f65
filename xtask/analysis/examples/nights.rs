//! How soon `watch` finds a slip, and how often it finds one that is not there, on nights drawn from the
//! noise of cards:
//! `cargo run --release -p analysis --example nights -- --seed 1 --runs 1000`.

use analysis::watch::watch;
use bench_core::{metric::Direction, rng::Random};

const NIGHTS: usize = 100;
const SLIP: f64 = 0.05;

/// Standard deviations of logarithms, as `bench/core/examples/verdicts.rs` has them of H100 hosts.
struct Host {
    name: &'static str,
    between: f64,
    within: f64,
    /// Between nights.
    drift: f64,
    /// One start in ten is so many deviations slower.
    outliers: f64,
    starts: u32,
    repeats: u32,
}

const QUIET: Host = Host {
    name: "quiet",
    between: 0.01,
    within: 0.027,
    drift: 0.005,
    outliers: 0.0,
    starts: 3,
    repeats: 3,
};
const LOUD: Host = Host { name: "loud", between: 0.0634, drift: 0.012, repeats: 1, ..QUIET };

impl Host {
    fn night(&self, random: &mut Random) -> Vec<f64> {
        let drift = self.drift * random.normal();
        let start = |_| {
            let slow = if random.uniform() < 0.1 { self.outliers } else { 0.0 };
            let level = drift + self.between * (random.normal() - slow);
            let repeats: f64 = (0..self.repeats).map(|_| random.normal()).sum();
            (level + self.within * repeats / f64::from(self.repeats)).exp()
        };
        (0..self.starts).map(start).collect()
    }

    fn history(&self, seed: u64, slips_from: usize) -> Vec<Vec<f64>> {
        let mut random = Random::new(seed, 1);
        let factor = |night| if night < slips_from { 1.0 } else { 1.0 - SLIP };
        let night = |n| self.night(&mut random).into_iter().map(|v| v * factor(n)).collect();
        (0..NIGHTS).map(night).collect()
    }
}

fn number(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let (seed, runs) = (number("--seed", 1), number("--runs", 1000));
    println!("{runs} times {NIGHTS} nights from seed {seed}; a slip of {:.0} %\n", SLIP * 100.0);
    println!(
        "| Host | starts × repeats | found within 3 nights | false alarms in {NIGHTS} nights |"
    );
    println!("|---|---|---:|---:|");
    let hosts = [
        Host { ..QUIET },
        Host { name: "quiet, one start in ten 4 spreads slower", outliers: 4.0, ..QUIET },
        Host { repeats: 1, ..QUIET },
        Host { ..LOUD },
        Host { starts: 10, ..LOUD },
        Host { starts: 30, ..LOUD },
    ];
    for host in &hosts {
        let (mut in_time, mut alarms) = (0, 0);
        for run in 0..runs {
            let seed = seed * 1_000_000 + 2 * run;
            // After ten nights, so that there is a level to slip from.
            let slip = 10 + Random::new(seed, 2).below(NIGHTS as u64 - 13) as usize;
            let history = host.history(seed, slip);
            let found = watch(&history[..slip + 3], Direction::Higher, 1).expect("figures");
            in_time += u64::from(found.changes.iter().any(|c| c.is_slip && c.found >= slip));
            let steady = watch(&host.history(seed + 1, NIGHTS), Direction::Higher, 1);
            alarms += steady.expect("figures").changes.iter().filter(|c| c.is_slip).count();
        }
        println!(
            "| {} | {} × {} | {:.1} % | {:.2} |",
            host.name,
            host.starts,
            host.repeats,
            100.0 * in_time as f64 / runs as f64,
            alarms as f64 / runs as f64
        );
    }
}
