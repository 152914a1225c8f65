//! The traffic for which servers are counted.

use super::*;

/// The example with `[capacity]` of its open-loop load, and this beside it.
fn with(more: &str) -> String {
    format!("{EXAMPLE}[capacity]\nload = \"production\"\n{more}\n")
}

#[test]
fn a_traffic_is_read_and_without_one_keys_are_as_before() {
    let traffic = |more: &str| read(&with(more)).expect("a profile").capacity.expect("one").traffic;
    let peak = "250.5".parse().expect("a decimal");
    let expected = |reserve_servers| Some(Traffic { requests_per_second: peak, reserve_servers });
    assert_eq!(traffic("traffic_requests_per_second = 250.5"), expected(0));
    assert_eq!(traffic("traffic_requests_per_second = 250.5\nreserve_servers = 2"), expected(2));
    assert_eq!(traffic(""), None);
    let hashed = read(&with("")).expect("a profile").hashed();
    assert!(hashed["capacity"].get("traffic").is_none(), "{hashed}");
}

#[test]
fn a_reserve_needs_a_traffic_and_a_traffic_is_above_zero() {
    for (more, expected) in [
        ("reserve_servers = 1", "add traffic_requests_per_second = N"),
        ("traffic_requests_per_second = 0", "expected a number above 0"),
        ("traffic_requests_per_second = 9\nreserve_servers = -1", "reserve_servers"),
    ] {
        let mistake = read(&with(more)).expect_err("a mistake").to_string();
        assert!(mistake.contains(expected), "{more}: {mistake}");
    }
}

/// Nobody knows how many cards a server that runs already has.
#[test]
fn a_traffic_of_a_running_server_needs_its_cards() {
    let endpoint = "[engine]\nkind = \"endpoint\"\nurl = \"http://localhost:1\"\nmodel = \"m\"\nvocab_size = 1000\n\
                    [[load]]\nname = \"production\"\nduration_s = 9\ninput_tokens = 4\noutput_tokens = 4\n\
                    arrival = { process = \"poisson\", requests_per_second = 4 }\n\
                    [objective]\nminimize = \"e2e_p95_ms\"\non = \"production\"\n\
                    [capacity]\nload = \"production\"\ntraffic_requests_per_second = 9\n";
    let mistake = read(endpoint).expect_err("no cards are told").to_string();
    assert!(mistake.contains("add [cost] with cards = N"), "{mistake}");
    let told = read(&format!("{endpoint}[cost]\ncards = 8\n")).expect("a profile");
    assert_eq!(told.cards(&bench_core::schema::Args::new()), 8);
}
