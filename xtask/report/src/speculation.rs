//! Where speculative decoding pays, load by load.

use bench_core::{
    metric,
    schema::{Speculation, SpeculationAdvice, SpeculationOnLoad, Verdict},
};
use serde::Serialize;

use super::{
    Inputs,
    format::{self, NOTHING},
};

/// A setting's section.
#[derive(Debug, Serialize)]
pub struct SpeculationView {
    name: String,
    /// What it comes to.
    advice: String,
    /// Load, requests/s, requests in flight, change of the mean E2E, verdict, why.
    rows: Vec<Vec<String>>,
}

impl SpeculationView {
    pub fn all(inputs: &Inputs<'_>) -> Vec<Self> {
        let view = |found: &Speculation| Self {
            name: found.label.clone(),
            advice: advice(found),
            rows: found.loads.iter().map(row).collect(),
        };
        inputs.comparison.speculation.iter().map(view).collect()
    }
}

fn row(load: &SpeculationOnLoad) -> Vec<String> {
    vec![
        format!("`{}`", load.load),
        load.offered_per_s.map_or_else(|| NOTHING.to_owned(), |rate| rate.to_string()),
        in_flight(load),
        change(load),
        match load.verdict {
            Some(Verdict::Better) => "pays",
            Some(Verdict::Worse) => "costs",
            Some(Verdict::Equivalent) => "neither",
            Some(Verdict::Inconclusive) => "not decided",
            None => "not judged",
        }
        .to_owned(),
        load.reason.clone(),
    ]
}

fn change(load: &SpeculationOnLoad) -> String {
    let metric = metric::find("e2e_mean_ms");
    load.change.as_ref().map_or_else(|| NOTHING.to_owned(), |change| format::change(metric, change))
}

fn in_flight(load: &SpeculationOnLoad) -> String {
    format::number(load.in_flight, format::decimals(load.in_flight).min(1))
}

/// ``8 requests/s of `production-8` (21.3 in flight; mean E2E −30 ± 2 %)``
fn place(load: &SpeculationOnLoad) -> String {
    let rate = load.offered_per_s.map(|rate| format!("{rate} requests/s of "));
    format!(
        "{}`{}` ({} in flight; mean E2E {})",
        rate.unwrap_or_default(),
        load.load,
        in_flight(load),
        change(load)
    )
}

/// What a setting's loads come to, in sentences.
fn advice(found: &Speculation) -> String {
    let name = format!("`{}`", found.label);
    let at = |load: &str| {
        let position = found.loads.iter().position(|other| other.load == load);
        position.expect("advice names a load of the list")
    };
    let place = |at: usize| place(&found.loads[at]);
    let places =
        |on: &[String]| format::list(&on.iter().map(|load| place(at(load))).collect::<Vec<_>>());
    let neither = |where_: &str, loads: Vec<&SpeculationOnLoad>| {
        let names: Vec<String> = loads.iter().map(|load| format!("`{}`", load.load)).collect();
        match names.len() {
            0 => String::new(),
            1 => format!(" {where_}{} decides neither way.", names[0]),
            _ => format!(" {where_}{} decide neither way.", format::list(&names)),
        }
    };
    let undecided = |decided: &[String]| {
        neither("", found.loads.iter().filter(|load| !decided.contains(&load.load)).collect())
    };
    let open = |between: &[SpeculationOnLoad]| neither("Between them ", between.iter().collect());
    match &found.advice {
        SpeculationAdvice::StopsBetween { pays_up_to, costs_from } => {
            let (pays, costs) = (at(pays_up_to), at(costs_from));
            let rates = found.loads[pays].offered_per_s.zip(found.loads[costs].offered_per_s);
            let stops = match rates {
                Some((low, high)) => format!("between {low} and {high} requests/s"),
                None => format!(
                    "between {} and {} requests in flight",
                    in_flight(&found.loads[pays]),
                    in_flight(&found.loads[costs])
                ),
            };
            format!(
                "{name} stops to pay {stops}: it pays on {} and costs on {}.{}",
                place(pays),
                place(costs),
                open(&found.loads[pays + 1..costs])
            )
        }
        SpeculationAdvice::Pays { on } => {
            let heavier = match found.loads.len() - 1 - on.last().map_or(0, |last| at(last)) {
                0 => "no heavier load was measured",
                _ => "no heavier load decides",
            };
            format!(
                "{name} pays on {}; where it stops to is not known: {heavier}.{}",
                places(on),
                undecided(on)
            )
        }
        SpeculationAdvice::Costs { on } => {
            format!("{name} costs on {}, and is shown to pay nowhere.{}", places(on), undecided(on))
        }
        SpeculationAdvice::Mixed {} => format!(
            "{name} pays on a load that is heavier than one on which it costs: something else than the load \
             decides, such as what is asked."
        ),
        SpeculationAdvice::Undecided {} if found.loads.is_empty() => {
            format!(
                "{name} has no load with figures beside the defaults: nothing is known of where it pays."
            )
        }
        SpeculationAdvice::Undecided {} => format!(
            "Whether {name} pays no load decides ({} measured): more starts, or other rates, may.",
            found.loads.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::{Args, Estimate};

    use super::*;

    fn load(name: &str, rate: Option<f64>, in_flight: f64, verdict: Verdict) -> SpeculationOnLoad {
        let mean = match verdict {
            Verdict::Better => -30.0,
            Verdict::Worse => 20.0,
            _ => 0.5,
        };
        let change =
            Estimate { mean, low: Some(mean - 2.0), high: Some(mean + 2.0), ..Estimate::default() };
        SpeculationOnLoad {
            load: name.to_owned(),
            offered_per_s: rate,
            in_flight,
            change: Some(change),
            verdict: Some(verdict),
            reason: "p = 0.010".to_owned(),
        }
    }

    fn told(verdicts: [Verdict; 4], advice: SpeculationAdvice) -> String {
        let [one, two, eight, many] = verdicts;
        let loads = vec![
            load("one", None, 1.0, one),
            load("at-2", Some(2.0), 4.25, two),
            load("at-8", Some(8.0), 30.0, eight),
            load("at-24", Some(24.0), 152.0, many),
        ];
        let label = "n-gram 3".to_owned();
        super::advice(&Speculation { label, args: Args::new(), loads, advice })
    }

    #[test]
    fn advice_names_the_rates() {
        use Verdict::{Better, Inconclusive, Worse};
        let stops = |a: &str, b: &str| SpeculationAdvice::StopsBetween {
            pays_up_to: a.to_owned(),
            costs_from: b.to_owned(),
        };
        assert_eq!(
            told([Better, Better, Inconclusive, Worse], stops("at-2", "at-24")),
            "`n-gram 3` stops to pay between 2 and 24 requests/s: it pays on 2 requests/s of `at-2` (4.2 in \
             flight; mean E2E −30.0 ± 2.0 %) and costs on 24 requests/s of `at-24` (152 in flight; mean E2E \
             +20.0 ± 2.0 %). Between them `at-8` decides neither way."
        );
        let in_flight = told([Better, Worse, Worse, Worse], stops("one", "at-2"));
        assert!(
            in_flight.contains("stops to pay between 1.0 and 4.2 requests in flight"),
            "{in_flight}"
        );
        assert!(!in_flight.contains("decides"), "{in_flight}");
    }

    #[test]
    fn what_is_not_known_is_said() {
        use Verdict::{Better, Inconclusive, Worse};
        let on = |loads: &[&str]| loads.iter().map(|load| (*load).to_owned()).collect::<Vec<_>>();
        let pays = |loads: &[&str]| SpeculationAdvice::Pays { on: on(loads) };
        let open = told([Better, Better, Inconclusive, Inconclusive], pays(&["one", "at-2"]));
        assert!(
            open.ends_with(
                "where it stops to is not known: no heavier load decides. `at-8` and `at-24` decide neither way."
            ),
            "{open}"
        );
        let heaviest = told([Inconclusive, Inconclusive, Inconclusive, Better], pays(&["at-24"]));
        assert!(heaviest.starts_with("`n-gram 3` pays on 24 requests/s of `at-24`"), "{heaviest}");
        let all = told([Better; 4], pays(&["one", "at-2", "at-8", "at-24"]));
        assert!(all.ends_with("no heavier load was measured."), "{all}");
        let costs = SpeculationAdvice::Costs { on: on(&["one", "at-2", "at-8", "at-24"]) };
        assert!(told([Worse; 4], costs).ends_with("and is shown to pay nowhere."));
        let none = told([Inconclusive; 4], SpeculationAdvice::Undecided {});
        assert!(none.starts_with("Whether `n-gram 3` pays no load decides (4 measured)"), "{none}");
    }
}
