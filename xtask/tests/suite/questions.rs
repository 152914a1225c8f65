//! Ten questions of a user, answered by the terminal's last screen of 80 columns where no settings are
//! compared: an endpoint, and suites that fail. Those that compare are in the tests of
//! `report/src/terminal/closing.rs`.

use std::fs;

use super::{
    Project, calibrate,
    mistakes::{MODELS, Manner, completions, endpoint, serving, write},
};

/// Two limits and a target.
const GOALS: &str = "[slo]\ntpot_p95_ms = 2000\nttft_p95_ms = 5000\n\
                     [targets]\nrequests_per_s = { min = 0.001, on = \"burst\" }\n";

/// Whether each question has its answer: the beginning of a line, folded lines in one.
fn is_answered(screen: &str, answers: &[(&str, &str)]) {
    for line in screen.lines() {
        assert!(line.chars().count() <= 80, "too wide: {line}");
    }
    let whole = super::common::unfolded(screen);
    for (question, answer) in answers {
        assert!(whole.lines().any(|line| line.starts_with(answer)), "{question}\n{screen}");
    }
}

/// The suite fails, and this is its screen.
fn failed(project: &Project, profile: &str) -> String {
    let output = project.run(&["suite", "--profile", profile]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!project.path(&format!("results/{profile}/recommended.yaml")).exists());
    text
}

#[test]
fn ten_questions_about_an_endpoint() {
    let project = Project::new();
    calibrate(&project.path(""));
    write(&project, "rack", &(endpoint(&completions(MODELS), "identity = \"a\"\n") + GOALS));
    let screen = project.measured_suite("rack");
    let none = " It runs already: its settings are its owner's, and nothing is recommended.";
    is_answered(
        &screen,
        &[
            ("what do I deploy?", none),
            ("with which command?", none),
            ("why?", " rack is not known to meet its limits."),
            (
                "does it keep my first limit, how surely?",
                " Limit: TPOT P95 ≤ 2 s on burst is unknown from one start†: ",
            ),
            ("and the other?", " Limit: TTFT P95 ≤ 5 s on burst is unknown from one start†: "),
            ("how much does it do?", " Output throughput, tokens/s on burst (objective)"),
            ("against what?", " Nothing was compared with it"),
            ("are my targets met?", " Targets: 1 of 1 met."),
            (
                "what got worse?",
                " Nothing was compared with it, so nothing is known to be better or",
            ),
            ("what failed, and why?", " Every setting ran, and every trial counts."),
            ("what next?", " Next: one start cannot tell: restart the server, set start = 2 in"),
        ],
    );
}

/// Half of the requests: what a server does with the others is no figure of it.
#[test]
fn ten_questions_where_half_of_the_requests_fail() {
    let project = Project::new();
    calibrate(&project.path(""));
    write(
        &project,
        "rack",
        &(endpoint(&serving(MODELS, Manner::FailsHalf), "identity = \"a\"\n") + GOALS),
    );
    let screen = failed(&project, "rack");
    let none = " Nothing is recommended: a stage failed (✗ above says which, and why).";
    is_answered(
        &screen,
        &[
            ("what do I deploy?", none),
            ("with which command?", none),
            ("why?", " ✗ compare               failed"),
            ("does it keep my first limit, how surely?", " Limit: TPOT P95 ≤ 2 s on burst was not"),
            ("and the other?", " Limit: TTFT P95 ≤ 5 s on burst was not measured."),
            (
                "how much does it do?",
                " Output throughput, tokens/s on burst (objective) was not measured.",
            ),
            ("against what?", " Nothing was compared"),
            ("are my targets met?", " Targets: none of 1 was judged."),
            (
                "what got worse?",
                " Nothing was compared, so nothing is known to be better or worse, nor what limits",
            ),
            ("what failed, and why?", " Does not count: rack: "),
        ],
    );
}

#[test]
fn ten_questions_where_no_server_starts() {
    let project = Project::new();
    let case = include_str!("../cases/no-memory.toml");
    let model = include_str!("../../../bench/models/h100-qwen2.5-7b.json");
    fs::write(project.path("bench/models/h100-qwen2.5-7b.json"), model).expect("writes");
    write(&project, "test", &(case.to_owned() + GOALS));
    let screen = failed(&project, "test");
    let none = " Nothing is recommended: a stage failed (✗ above says which, and why).";
    is_answered(
        &screen,
        &[
            ("what do I deploy?", none),
            ("with which command?", none),
            ("why?", " ✗ compare               failed                       no valid figure for"),
            ("does it keep my first limit, how surely?", " Limit: TPOT P95 ≤ 2 s on burst was not"),
            ("and the other?", " Limit: TTFT P95 ≤ 5 s on burst was not measured."),
            (
                "what did the objective do?",
                " Output throughput, tokens/s on burst (objective) was not",
            ),
            ("against what?", " Nothing was compared"),
            ("are my targets met?", " Targets: none of 1 was judged."),
            (
                "what got worse?",
                " Nothing was compared, so nothing is known to be better or worse, nor what limits",
            ),
            (
                "what failed, and why?",
                " Does not count: default: KV cache memory (Available KV cache memory: -16.45",
            ),
        ],
    );
}
