//! Fits to trials that a known model made.

use bench_core::{
    canonical::Digest,
    metric,
    schema::{Arrival, LoadSpec, Size},
    sim::{
        Model,
        fit::fit,
        predict::{JUDGED, MeasuredTrial, Predictions, error, predict, simulate},
    },
    stats::median,
};

use super::common::{args, class, tiny};

/// Trials on two hosts, as a model says.
fn measured_by(model: &Model) -> Vec<MeasuredTrial> {
    let mut trials = Vec::new();
    for (seqs, host) in [("2", 0), ("4", 0), ("8", 0), ("8", 1), ("16", 1)] {
        for arrival in [
            Arrival::AllAtOnce {},
            Arrival::ClosedLoop { concurrency: 3 },
            Arrival::Poisson { requests_per_second: "20".parse().expect("decimal") },
        ] {
            let args = args(&[("max-num-seqs", seqs)]);
            let classes = vec![class((4, 40), (4, 40), None)];
            let load = LoadSpec::drawn(arrival, Size::Requests(60), classes, 5);
            let host_model = model.on_host([1_000_000, 1_300_000][host]);
            let simulated = simulate(&host_model, &args, 0, &[load.clone().into()]);
            let measured = simulated.expect("starts").1.remove(0);
            let (engine, key) = (Digest::of(b"tiny"), Digest::of(b"trial"));
            trials.push(MeasuredTrial { args, load, measured, host, engine, key });
        }
    }
    trials
}

/// The median error of each figure that predictions are judged by: percent, of shares points.
fn median_errors(predictions: &Predictions, trials: &[MeasuredTrial]) -> [f64; JUDGED.len()] {
    JUDGED.map(|id| {
        let metric = metric::find(id).expect("a known metric");
        let pairs = predictions.iter().flatten().zip(trials.iter().map(|trial| &trial.measured));
        let errors = pairs.filter_map(|(p, m)| Some(error(metric, p, m)?.abs()));
        median(errors.collect()).expect("all tell")
    })
}

#[test]
fn a_planted_model_is_found_and_predicts_what_it_never_saw() {
    let mut planted = tiny();
    planted.step.weights_ns = 1_600_000;
    planted.step.host_graph_ns = 900_000;
    planted.front_end.output_token_ns = 45_000;
    planted.front_end.request_ns = 500_000;
    let trials = measured_by(&planted);
    let unfitted = trials.iter().map(|trial| predict(&tiny(), trial)).collect();
    let start = median_errors(&unfitted, &trials);
    let found = fit(&tiny(), &trials);
    assert!(start[0] > 15.0 && start[1] > 15.0, "{start:?}");
    let seen = median_errors(&found.predictions, &trials);
    let unseen = median_errors(&found.held_out.expect("five differ"), &trials);
    assert!(seen.iter().take(4).all(|median| *median < 3.0), "{seen:?}");
    assert!(unseen.iter().take(4).all(|median| *median < 5.0), "{unseen:?}");
    let ratio = found.host_paces[1] as f64 / found.host_paces[0] as f64;
    assert!((1.1..1.5).contains(&ratio), "{:?}", found.host_paces);
}

#[test]
fn few_configurations_teach_nothing() {
    let trials: Vec<_> = measured_by(&tiny()).into_iter().take(6).collect();
    let found = fit(&tiny(), &trials);
    assert_eq!((found.model, found.held_out), (tiny(), None));
}
