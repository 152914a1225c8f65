use std::{collections::BTreeMap, path::Path};

use bench_core::{canonical::Digest, schema::EngineLabel, sim::predict::predict};
use serde_json::json;

use super::*;
use crate::stages;
use dag::{Dag, LEAF, RECORD, State};
use engines::Recorded;
use profile::{ModelFolder, Profile, stage::PROVISION};
use store::Store;

const PROFILE: &str = r#"
stages = ["provision"]
[engine]
kind = "vllm"
version = "0.22.1"
model = "dummy:qwen2.5-7b"
[[load]]
name = "settle"
requests = 4
arrival = "all-at-once"
input_tokens = 16
output_tokens = 4
[[load]]
name = "burst"
requests = 24
arrival = "all-at-once"
input_tokens = [8, 40]
output_tokens = [4, 24]
[sweep.max-num-seqs]
values = [2, 4]
loads = ["settle", "burst"]
[objective]
maximize = "output_tokens_per_s"
on = "burst"
[calibrate]
model = "tiny"
leave_out = ["settle"]
"#;

fn profile() -> Profile {
    let models = ModelFolder(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/models"));
    profile::parse("test", Path::new("test.toml"), PROFILE, &models).expect("the profile is right")
}

/// An engine elsewhere, known by name.
fn engine() -> Recorded {
    let identity = json!({ "kind": "card" });
    let result = json!({
        "format": 1, "profile": "test", "stage": "provision", "identity": identity,
        "engine": EngineLabel {
            title: "card".to_owned(),
            simulated: false,
            identity: Digest::of_json(&identity).expect("no floats"),
        },
    });
    let text = serde_json::to_vec(&result).expect("plain JSON");
    Recorded::new(&json!({ "config": { "witness": 1 } }), &text).expect("a result")
}

/// Trials that are what the model says of them: the page must say that it errs nowhere.
#[test]
fn a_model_predicts_itself_on_the_profiles_own_sweeps() {
    let (profile, engine) = (profile(), engine());
    let context =
        Context { profile: &profile, engine: &engine, reference: None, calibration: None };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open_read_only(folder.path()).expect("opens");
    let tasks = stages::tasks(&context).into_iter();
    let wanted = tasks.filter(|task| [PROVISION.name, CALIBRATE.name].contains(&task.name()));
    let mut dag = Dag::new(&store, wanted.collect(), false).expect("a DAG");
    dag.run_next().expect("provision runs");

    let model = &profile.calibrate.as_ref().expect("is there").model;
    let missing = dag.missing_leaves();
    let roles: Vec<&str> = missing.iter().map(|leaf| leaf.role.as_str()).collect();
    assert_eq!(roles, ["max-num-seqs/2/burst/0", "max-num-seqs/4/burst/0"]);
    let measured = MeasuredTrial::read_all(
        include_str!("../../../../bench/models/measured/h100-qwen2.5-7b-a.jsonl"),
        0,
    );
    let any = measured.expect("a trial a line").swap_remove(0).measured;
    for leaf in &missing {
        let (args, load) = (leaf.what.args.clone(), leaf.what.load.clone());
        let trial = MeasuredTrial {
            args,
            load,
            measured: any.clone(),
            host: 0,
            engine: Digest::of(b"engine"),
            key: leaf.key,
        };
        let outcome = Outcome::Measured(predict(model, &trial).expect("it starts"));
        let record = serde_json::to_vec(&outcome).expect("plain JSON");
        let outputs = BTreeMap::from([(RECORD.to_owned(), record)]);
        let key_inputs = leaf.what.key_inputs();
        store.publish(&LEAF, key_inputs, &outputs, BTreeMap::new()).expect("publishes");
    }
    let keys: Vec<Digest> = missing.iter().map(|leaf| leaf.key).collect();
    dag.leaves_stored(&keys).expect("stores");
    dag.run_next().expect("calibrates");
    let Some(State::Done(action)) = dag.state(CALIBRATE.name) else {
        panic!("{:?}", dag.state(CALIBRATE.name))
    };
    let text = |name: &str| {
        let bytes = store.get(&action.outputs[name]).expect("reads").expect("is there");
        String::from_utf8(bytes).expect("UTF-8")
    };
    insta::assert_snapshot!("page", text("calibration.md"));
    let table = text("calibration.csv");
    let lines: Vec<&str> = table.lines().collect();
    let (head, rows) = lines.split_first().expect("a table has a head");
    let errors = || head.split(',').enumerate().filter(|(_, title)| title.ends_with("_error"));
    assert_eq!((rows.len(), errors().count()), (2, 6));
    for row in rows {
        let cells: Vec<&str> = row.split(',').collect();
        assert!(errors().all(|(column, _)| cells[column] == "0.000000"), "{row}");
    }
    let found = text("calibrated_model.json");
    assert_eq!(found, serde_json::to_string_pretty(model).expect("plain JSON") + "\n");
}
