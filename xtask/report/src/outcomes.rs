//! One fixture for each outcome of a suite.

use bench_core::{
    schema::{Column, FailureClass, Role, SettingFailure, Verdict},
    stats,
};

use super::fixture::{Fixture, STARTS};

/// Each outcome with its name.
pub fn outcomes() -> Vec<(&'static str, Fixture)> {
    let with = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::full();
        change(&mut fixture);
        fixture.decide();
        fixture
    };
    let slow = |fixture: &mut Fixture, role, ms: f64| {
        let found = stats::estimate(STARTS.map(|s| ms * (1.0 + s)).to_vec()).expect("starts");
        let column = match role {
            Role::Baseline => Column::Baseline,
            Role::Default => Column::Default,
            _ => Column::Tuned,
        };
        let mut rows = fixture.comparison.comparisons.iter_mut();
        let row = rows.find(|row| row.metric == "tpot_p95_ms" && row.load == "production");
        row.expect("it is compared").columns.insert(column, found.clone());
        let metrics = &mut fixture.point_mut(role, "production").metrics;
        metrics.insert("tpot_p95_ms".to_owned(), found);
    };
    vec![
        ("a change is proven better", with(&|_| {})),
        (
            "the candidate is not proven better",
            with(&|fixture| {
                fixture.objective().verdict = Some(Verdict::Inconclusive);
            }),
        ),
        (
            "no value promises anything",
            with(&|fixture| {
                fixture.choose.as_mut().expect("choose ran").candidates.clear();
                for row in &mut fixture.comparison.comparisons {
                    row.columns.remove(&Column::Tuned);
                    (row.change, row.verdict) = (None, None);
                }
            }),
        ),
        (
            "the limits carry a change",
            with(&|fixture| {
                slow(fixture, Role::Default, 130.0);
                fixture.objective().verdict = Some(Verdict::Worse);
            }),
        ),
        (
            "no setting meets the limits",
            with(&|fixture| {
                slow(fixture, Role::Baseline, 150.0);
                slow(fixture, Role::Default, 130.0);
                slow(fixture, Role::Tuned, 70.0);
            }),
        ),
        (
            "the defaults do not run",
            with(&|fixture| {
                for load in ["burst", "production"] {
                    let point = fixture.point_mut(Role::Default, load);
                    point.metrics.clear();
                    point.failure = Some(SettingFailure {
                        class: FailureClass::KvCacheMemory,
                        evidence: Vec::new(),
                        foreseen: None,
                    });
                }
                for row in &mut fixture.comparison.comparisons {
                    row.columns.remove(&Column::Default);
                    (row.change, row.verdict) = (None, None);
                }
            }),
        ),
    ]
}
