//! What cards cost.

use super::*;

const OBJECTIVE: &str = "maximize = \"output_tokens_per_s\"";
const DOLLARS: &str = "minimize = \"dollars_per_million_output_tokens\"";

/// A goal in dollars needs a price, and one of a card needs the table.
#[test]
fn a_goal_in_money_needs_a_price() {
    let of_card = "maximize = \"requests_per_s_per_card\"";
    for (goal, cost, is_right) in [
        (DOLLARS, "", false),
        (DOLLARS, "[cost]\ncards = 2\n", false),
        (DOLLARS, "[cost]\ncard_dollars_per_hour = 2.5\n", true),
        (of_card, "", false),
        (of_card, "[cost]\ncards = 2\n", true),
    ] {
        let source = edited(OBJECTIVE, goal) + cost;
        match read(&source) {
            Ok(profile) => assert!(is_right && profile.cost.is_some(), "{goal} {cost}"),
            Err(mistake) => {
                let text = mistake.to_string();
                assert!(!is_right && text.contains("add [cost]"), "{goal} {cost}: {text}");
            }
        }
    }
}

/// The price bears on results and on no trial.
#[test]
fn a_price_is_in_the_profile_and_not_in_its_loads() {
    let with = |price: &str| {
        read(&format!("{EXAMPLE}[cost]\ncard_dollars_per_hour = {price}\n")).expect("a profile")
    };
    let (cheap, dear) = (with("2.5"), with("5"));
    assert_ne!(cheap.hashed(), dear.hashed());
    assert_eq!(cheap.loads, dear.loads);
}

/// Without `cards` they are the workers that vLLM starts.
#[test]
fn cards_are_the_workers_of_the_flags() {
    let size = |name: &str, n| (name.to_owned(), bench_core::schema::ArgValue::Int(n));
    let args = [size("tensor-parallel-size", 4), size("data-parallel-size", 2)];
    let layout = Layout::of(&args.into());
    assert_eq!((layout.cards, layout.to_string()), (8, "TP 4, DP 2".to_owned()));
    let one = Layout::of(&[size("max-num-seqs", 4)].into());
    assert_eq!((one.cards, one.to_string()), (1, "one card".to_owned()));
}

/// Where a setting takes several cards, figures of one card are of use without `[cost]`.
#[test]
fn cards_count_where_settings_differ_in_them() {
    assert_eq!(read(EXAMPLE).expect("a profile").cost, None);
    let two = edited("version = \"0.22.1\"", "version = \"0.22.1\"\ngpus = [0, 1]")
        + "[sweep.layout]\nvalues = [{ label = \"two\", data-parallel-size = 2 }]\n";
    let profile = read(&two).expect("a profile");
    assert_eq!(profile.cost, Some(CostConfig::default()));
}
