use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(super) static TRIAL: Kind = Kind::named("trial");
static STAGE: Kind = Kind::named("stage");

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    (folder, store)
}

fn open(path: &Path) -> Store {
    let mut store = Store::open_read_only(path).expect("opens");
    store.make_writable().expect("is writable");
    store
}

fn outputs(text: &str) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("record".to_owned(), text.as_bytes().to_vec())])
}

#[test]
fn what_is_published_is_found() {
    let (_folder, store) = store();
    let key_inputs = json!({"stage": "a", "n": 1});
    let action = store
        .publish(&STAGE, key_inputs.clone(), &outputs("hello"), BTreeMap::new())
        .expect("publishes");
    let found = store.action(&STAGE, &action.key).expect("reads").expect("is there");
    assert_eq!(found.key_inputs, key_inputs);
    let bytes = store.get(&found.outputs["record"]).expect("reads");
    assert_eq!(bytes.as_deref(), Some(b"hello".as_slice()));
    assert_eq!(store.action(&TRIAL, &action.key).expect("reads"), None);
}

#[test]
fn verify_reads_every_byte_and_sets_aside_what_is_damaged() {
    let (_folder, store) = store();
    let publish = |n: u32, text: &str| {
        let key_inputs = json!({ "n": n });
        store.publish(&TRIAL, key_inputs, &outputs(text), BTreeMap::new()).expect("publishes")
    };
    let (first, second, _third) = (publish(1, "one"), publish(2, "two"), publish(3, "three"));
    let found = store.verify().expect("verifies");
    assert_eq!((found.records, found.contents, found.bytes), (3, 3, 11));
    assert!(found.damaged.is_empty() && found.incomplete == 0);

    let blob = store.blob_path(&first.outputs["record"]);
    let record = store.action_path(&TRIAL, &second.key);
    fs::write(&blob, b"onf").expect("writes");
    fs::write(&record, b"{}").expect("writes");
    let found = store.verify().expect("verifies");
    assert_eq!(found.damaged, [blob, record]);
    assert_eq!((found.records, found.contents, found.incomplete), (1, 2, 1));
    publish(1, "one");
    publish(2, "two");
    let found = store.verify().expect("verifies");
    assert_eq!((found.records, found.contents, found.incomplete), (3, 3, 0));
}

#[test]
fn a_flipped_bit_is_a_miss_and_is_set_aside() {
    let (_folder, store) = store();
    let action = store
        .publish(&TRIAL, json!({"n": 1}), &outputs("hello"), BTreeMap::new())
        .expect("publishes");
    let blob = store.blob_path(&action.outputs["record"]);
    fs::write(&blob, b"hellp").expect("writes");
    assert_eq!(store.get(&action.outputs["record"]).expect("reads"), None);
    assert!(!blob.exists());
    assert_eq!(store.action(&TRIAL, &action.key).expect("reads"), None, "its output is gone");

    store.publish(&TRIAL, json!({"n": 1}), &outputs("hello"), BTreeMap::new()).expect("heals");
    assert!(store.action(&TRIAL, &action.key).expect("reads").is_some());

    let record = store.action_path(&TRIAL, &action.key);
    let text = fs::read(&record).expect("reads");
    for i in (0..text.len()).step_by(7) {
        let mut damaged = text.clone();
        damaged[i] ^= 1;
        fs::write(&record, &damaged).expect("writes");
        // A changed newline or the like may still be the same record; anything else is a miss.
        let found = store.action(&TRIAL, &action.key).expect("reads");
        assert!(found.is_none_or(|found| found == action), "byte {i}");
    }
}

#[test]
fn a_damaged_blob_is_healed_by_storing_it_again() {
    let (_folder, store) = store();
    let digest = store.put(b"content").expect("stores");
    fs::write(store.blob_path(&digest), b"c0ntent").expect("writes");
    assert_eq!(store.put(b"content").expect("stores"), digest);
    assert_eq!(store.get(&digest).expect("reads").as_deref(), Some(b"content".as_slice()));
}

#[test]
fn dead_runs_are_cleared_and_living_ones_are_not() {
    let (folder, living) = store();
    let work = living.tmp_folder().expect("a folder");
    let dead = folder.path().join("tmp/1-0");
    fs::create_dir(&dead).expect("creates");
    fs::write(dead.join("lock"), b"").expect("writes");
    let _second = open(folder.path());
    assert!(work.exists() && !dead.exists());
}

#[test]
fn another_format_is_refused() {
    for format in ["0", "2", "99", "", "1 1", "one"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("format"), format).expect("writes");
        let error = Store::open_read_only(folder.path()).expect_err("is refused").to_string();
        let expected = format!("has format {format}, this program reads 1: move it away");
        assert!(error.contains(&expected), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 1);
    }
}

/// The text of a record around this text of an action, under a right seal.
fn sealed(action: &str) -> String {
    format!("{{\"seal\":\"{}\",\"action\":{action}}}\n", Digest::of(action.as_bytes()))
}

#[test]
fn a_record_of_another_format_is_set_aside_and_made_again() {
    let (_folder, store) = store();
    let publish = || {
        let published = store.publish(&TRIAL, json!({"n": 1}), &outputs("hello"), BTreeMap::new());
        published.expect("publishes")
    };
    let action = publish();
    let path = store.action_path(&TRIAL, &action.key);
    let record: Value = serde_json::from_slice(&fs::read(&path).expect("reads")).expect("JSON");
    for format in [0, 2, 99] {
        let mut other = record["action"].clone();
        other["format"] = format.into();
        fs::write(&path, sealed(&other.to_string())).expect("writes");
        assert_eq!(store.action(&TRIAL, &action.key).expect("reads"), None, "{format}");
        assert!(!path.exists() && files_below(&store, "quarantine") == 1);
        publish();
        fs::write(&path, sealed(&other.to_string())).expect("writes");
        assert_eq!(store.verify().expect("verifies").damaged, std::slice::from_ref(&path));
        assert_eq!(publish(), action);
    }
    let same = sealed(&record["action"].to_string());
    fs::write(&path, same).expect("writes");
    assert_eq!(store.action(&TRIAL, &action.key).expect("reads"), Some(action));
}

fn files_below(store: &Store, folder: &str) -> usize {
    garbage::files(&store.root.join(folder)).expect("reads").len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever a record is made to say, it is a miss or a record of that key.
    #[test]
    fn no_record_under_a_right_seal_is_misread(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..9_usize, "[\\PC\"{}\\[\\]:,0-9]{0,6}"), 1..4),
    ) {
        let action = Action::new(
            STAGE.clone(),
            json!({"stage": "a"}),
            BTreeMap::from([("record".to_owned(), Digest::of(b"x"))]),
            BTreeMap::from([("a/b/0".to_owned(), Digest::of(b"y"))]),
        );
        let mut text = serde_json::to_string(&action.expect("no floats")).expect("JSON");
        for (at, len, piece) in edits {
            let places: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = at.index(places.len());
            let end = places[(start + len).min(places.len() - 1)];
            text.replace_range(places[start]..end, &piece);
        }
        if let Some(found) = Action::from_json(sealed(&text).as_bytes()) {
            prop_assert_eq!(Action::from_json(&found.to_json()), Some(found));
        }
    }
}

#[test]
fn the_latest_key_is_remembered() {
    let (_folder, store) = store();
    let key = Digest::of(b"x");
    assert_eq!(store.latest("sim", "compare"), None);
    store.set_latest("sim", "compare", &key).expect("writes");
    assert_eq!(store.latest("sim", "compare"), Some(key));
}

#[test]
fn a_read_only_store_changes_nothing_on_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open_read_only(&folder.path().join("artifacts")).expect("opens");
    let action = store
        .publish(&STAGE, json!({"n": 1}), &outputs("hello"), BTreeMap::new())
        .expect("publishes");
    assert_eq!(store.action(&STAGE, &action.key).expect("reads"), Some(action));
    assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 0);
}

#[test]
fn garbage_is_what_nothing_leads_to() {
    let (_folder, store) = store();
    let publish = |kind, name: &str, leaves: &[(&str, Digest)]| {
        let leaves = leaves.iter().map(|(role, key)| ((*role).to_owned(), *key)).collect();
        store.publish(kind, json!({ "name": name }), &outputs(name), leaves).expect("publishes").key
    };
    let [read, named, alone] = ["read", "named", "alone"].map(|n| publish(&TRIAL, n, &[]));
    let latest = publish(&STAGE, "latest", &[("a/b/0", read)]);
    let former = publish(&STAGE, "former", &[("a/b/0", alone)]);
    store.set_latest("sim", "a", &latest).expect("is written");
    let roots = BTreeSet::from([named]);
    let day = Duration::from_secs(86_400);
    let garbage = |before| store.garbage(&roots, before).expect("reads");

    let young = garbage(SystemTime::now() - day);
    assert!(young.iter().all(|garbage| garbage.paths.is_empty()), "{young:?}");
    let old = garbage(SystemTime::now() + day);
    assert_eq!(old.iter().map(|garbage| garbage.paths.len()).collect::<Vec<_>>(), [2, 2, 0, 0]);
    assert!(old.iter().all(|garbage| garbage.paths.is_empty() || garbage.bytes() > 0));
    old.iter().try_for_each(Garbage::remove).expect("removes");
    let is_there = |kind, key| store.action(kind, key).expect("reads").is_some();
    assert!(is_there(&TRIAL, &read) && is_there(&TRIAL, &named));
    assert!(is_there(&STAGE, &latest));
    assert!(!is_there(&TRIAL, &alone) && !is_there(&STAGE, &former));
}

#[test]
fn there_is_no_garbage_while_another_run_writes() {
    let (folder, store) = store();
    let other = open(folder.path());
    let error = store.garbage(&BTreeSet::new(), SystemTime::now()).expect_err("it lives");
    assert!(error.to_string().starts_with("a run uses "), "{error}");
    drop(other);
    store.garbage(&BTreeSet::new(), SystemTime::now()).expect("alone again");
}
