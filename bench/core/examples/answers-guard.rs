//! How often the check of answers catches planted faults, and how often it holds equals to be worse, from
//! the records that scripts/answers-guard.py leaves in a folder.
//!
//!     cargo run --example answers-guard -- FOLDER

use std::{fs, path::Path};

use bench_core::{
    answers::{Margins, judge},
    rng::Random,
    schema::{AnswerState, AnswerVerdict, Answers},
};

const TRIES: u64 = 40;
/// Share of the prompts that a try asks.
const SUBSET: f64 = 0.6;
const MARGINS: Margins = Margins { nll_increase_percent_max: 1.0, right_change_points_min: -5.0 };

fn read(path: &Path) -> Answers {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A random part of the prompts, the same of every setting in a try.
fn subset(all: &Answers, seed: u64) -> Answers {
    let mut random = Random::new(seed, 0);
    let prompts = all.prompts.iter().filter(|_| random.uniform() < SUBSET).cloned().collect();
    Answers { prompts }
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder of records");
    let folder = Path::new(&folder);
    let reference =
        ["reference-0", "reference-1"].map(|name| read(&folder.join(format!("{name}.json"))));
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder can be read")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .filter(|name| {
            name.starts_with("equal-") || name.starts_with("fault-") || name == "small-damage"
        })
        .filter(|name| !name.ends_with(".plan"))
        .collect();
    names.sort();
    println!("| Setting | NLL a token | Right | Found | Answers differ | Worse | Open | As good |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (number, name) in (0_u64..).zip(&names) {
        let setting = read(&folder.join(format!("{name}.json")));
        let judged = |reference: &[Answers; 2], setting: &Answers| -> AnswerVerdict {
            judge(&reference.each_ref(), setting, MARGINS, &|_| None).expect("prompts in common")
        };
        let whole = judged(&reference, &setting);
        let tries: Vec<AnswerState> = (0..TRIES)
            .map(|number_of_try| {
                let seed = 1_000 * number + number_of_try;
                let reference = reference.each_ref().map(|start| subset(start, seed));
                judged(&reference, &subset(&setting, seed)).state
            })
            .collect();
        let count = |state| tries.iter().filter(|found| **found == state).count();
        println!(
            "| {name} | {:+.2} ({:+.2} to {:+.2}) % | {:.0} → {:.0} % | {:.0} → {:.0} % | {:.0} % | {} | {} | {} |",
            whole.nll_change_percent.mean,
            whole.nll_change_percent.low.unwrap_or(f64::NAN),
            whole.nll_change_percent.high.unwrap_or(f64::NAN),
            whole.right.reference_percent,
            whole.right.percent,
            whole.found.reference_percent,
            whole.found.percent,
            whole.differing_percent,
            count(AnswerState::Failed),
            count(AnswerState::Open),
            count(AnswerState::Passed),
        );
    }
}
