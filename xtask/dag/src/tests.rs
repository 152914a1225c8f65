use std::{cell::RefCell, rc::Rc};

use super::*;
use serde_json::json;

/// A task whose output is a function of its configuration and inputs, and that counts its runs.
struct Fake {
    name: &'static str,
    needs: Vec<&'static str>,
    config: Value,
    leaves: Vec<u32>,
    /// A leaf, and one that is asked for once its record is there.
    follow: Vec<(u32, u32)>,
    /// What the output says; the inputs are appended unless it is constant.
    constant: bool,
    fails: bool,
    early: bool,
    asks_early: bool,
    log: Rc<RefCell<Vec<&'static str>>>,
}

impl Task for Fake {
    type Leaf = u32;

    fn name(&self) -> &str {
        self.name
    }
    fn epoch(&self) -> u32 {
        1
    }
    fn needs(&self) -> Vec<String> {
        self.needs.iter().map(|need| (*need).to_owned()).collect()
    }
    fn needs_for_leaves(&self) -> Vec<String> {
        if self.early { Vec::new() } else { self.needs() }
    }
    fn config(&self) -> Value {
        self.config.clone()
    }
    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<u32>>> {
        Ok(self.leaves.iter().map(leaf).collect())
    }
    fn also_reads(&self) -> &[&str] {
        &["samples"]
    }
    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<u32>>> {
        let known = self.follow.iter().filter(|(leaf, _)| inputs.has_leaf(&leaf.to_string()));
        Ok(known.map(|(_, next)| leaf(next)).collect())
    }
    fn asks_early(&self) -> bool {
        self.asks_early
    }
    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        self.log.borrow_mut().push(self.name);
        anyhow::ensure!(!self.fails, "told to fail");
        let mut text = if self.constant { String::new() } else { self.config.to_string() };
        for need in &self.needs {
            if !self.constant {
                text += std::str::from_utf8(&inputs.file(need, "out")?)?;
            }
        }
        for leaf in self.leaves.iter().chain(self.follow.iter().map(|(_, next)| next)) {
            text += &inputs.leaf::<Value>(&leaf.to_string())?.to_string();
        }
        Ok(Outputs::from([("out".to_owned(), text.into_bytes())]))
    }
}

fn leaf(n: &u32) -> Leaf<u32> {
    Leaf { role: n.to_string(), key: leaf_key(*n), what: *n }
}

fn leaf_key(n: u32) -> Digest {
    Digest::of_json(&json!({ "leaf": n })).expect("no floats")
}

struct Bench {
    _folder: tempfile::TempDir,
    store: Store,
    log: Rc<RefCell<Vec<&'static str>>>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open_read_only(folder.path()).expect("opens");
        store.make_writable().expect("is writable");
        Self { _folder: folder, store, log: Rc::default() }
    }

    fn task(&self, name: &'static str, needs: &[&'static str], config: Value) -> Fake {
        Fake {
            name,
            needs: needs.to_vec(),
            config,
            leaves: vec![],
            follow: vec![],
            constant: false,
            fails: false,
            early: false,
            asks_early: false,
            log: Rc::clone(&self.log),
        }
    }

    /// Runs to the end, measuring what is missing; returns which tasks ran and which leaves.
    fn run(&self, tasks: Vec<Fake>) -> (Vec<&'static str>, Vec<u32>) {
        self.log.borrow_mut().clear();
        let mut measured = Vec::new();
        let tasks = tasks.into_iter().map(|task| Box::new(task) as Box<dyn Task<Leaf = u32>>);
        let mut dag = Dag::new(&self.store, tasks.collect(), false).expect("a DAG");
        loop {
            while dag.run_next().expect("runs").is_some() {}
            let missing = dag.missing_leaves();
            if missing.is_empty() {
                break;
            }
            let keys: Vec<Digest> = missing.iter().map(|leaf| leaf.key).collect();
            for leaf in missing {
                measured.push(leaf.what);
                let record =
                    Outputs::from([(RECORD.to_owned(), leaf.what.to_string().into_bytes())]);
                let key_inputs = json!({ "leaf": leaf.what });
                self.store.publish(&LEAF, key_inputs, &record, BTreeMap::new()).expect("stores");
            }
            dag.leaves_stored(&keys).expect("refreshes");
        }
        (self.log.borrow().clone(), measured)
    }
}

#[test]
fn only_what_changed_and_what_lies_below_runs() {
    let bench = Bench::new();
    let chain = |config: Value| {
        let a = Fake { leaves: vec![1, 2], ..bench.task("a", &[], config) };
        vec![a, bench.task("b", &["a"], json!(1)), bench.task("c", &[], json!(1))]
    };
    assert_eq!(bench.run(chain(json!(1))), (vec!["c", "a", "b"], vec![1, 2]));
    assert_eq!(bench.run(chain(json!(1))), (vec![], vec![]));
    assert_eq!(bench.run(chain(json!(2))), (vec!["a", "b"], vec![]));
}

#[test]
fn the_same_bytes_stop_the_rerun() {
    let bench = Bench::new();
    let chain = |config: Value| {
        let a = Fake { constant: true, ..bench.task("a", &[], config) };
        vec![a, bench.task("b", &["a"], json!(1))]
    };
    bench.run(chain(json!(1)));
    assert_eq!(bench.run(chain(json!(2))), (vec!["a"], vec![]));
}

#[test]
fn a_leaf_is_measured_once_for_all_tasks() {
    let bench = Bench::new();
    let a = Fake { leaves: vec![1, 2], ..bench.task("a", &[], json!(1)) };
    let b = Fake { leaves: vec![2, 3], ..bench.task("b", &[], json!(1)) };
    assert_eq!(bench.run(vec![a, b]).1, vec![1, 2, 3]);
}

#[test]
fn leaves_that_hang_on_records_are_asked_for_once_those_are_there() {
    let bench = Bench::new();
    let tasks = || {
        let follow = vec![(1, 3), (3, 4), (2, 5)];
        vec![Fake { leaves: vec![1, 2], follow, ..bench.task("a", &[], json!(1)) }]
    };
    assert_eq!(bench.run(tasks()), (vec!["a"], vec![1, 2, 3, 5, 4]));
    assert_eq!(bench.run(tasks()), (vec![], vec![]), "all of them are found again");

    for asks_early in [false, true] {
        let tasks = tasks().into_iter().map(|task| Fake { asks_early, ..task });
        let tasks = tasks.map(|task| Box::new(task) as Box<dyn Task<Leaf = u32>>);
        let mut dag = Dag::new(&bench.store, tasks.collect(), true).expect("a DAG");
        dag.leaves_stored(&[leaf_key(1)]).expect("refreshes");
        let missing: Vec<u32> = dag.missing_leaves().iter().map(|leaf| leaf.what).collect();
        let expected: &[u32] = if asks_early { &[2, 3] } else { &[2] };
        assert_eq!(missing, expected, "while another leaf is still missing");
    }
}

#[test]
fn a_failure_blocks_only_what_needs_it() {
    let bench = Bench::new();
    let bad = Fake { fails: true, ..bench.task("bad", &[], json!(1)) };
    let tasks = vec![
        bad,
        bench.task("below", &["bad"], json!(1)),
        bench.task("deeper", &["below"], json!(1)),
        bench.task("beside", &[], json!(1)),
    ];
    let tasks = tasks.into_iter().map(|task| Box::new(task) as Box<dyn Task<Leaf = u32>>);
    let mut dag = Dag::new(&bench.store, tasks.collect(), false).expect("a DAG");
    while dag.run_next().expect("runs").is_some() {}
    assert!(matches!(dag.state("bad"), Some(State::Failed(why)) if why == "told to fail"));
    assert!(matches!(dag.state("below"), Some(State::Blocked(need)) if need == "bad"));
    assert!(matches!(dag.state("deeper"), Some(State::Blocked(need)) if need == "below"));
    assert!(matches!(dag.state("beside"), Some(State::Done(_))));
}

#[test]
fn a_graph_that_is_none_is_refused() {
    let bench = Bench::new();
    let error = |tasks: Vec<Fake>| {
        let tasks = tasks.into_iter().map(|task| Box::new(task) as Box<dyn Task<Leaf = u32>>);
        Dag::new(&bench.store, tasks.collect(), false).err().expect("is refused").to_string()
    };
    let task = |name, needs: &[&'static str]| bench.task(name, needs, json!(1));
    assert_eq!(error(vec![task("a", &["b"])]), "stage a needs b, which does not exist");
    assert_eq!(
        error(vec![task("a", &["b"]), task("b", &["a"])]),
        "stage a needs itself in the end"
    );
    assert_eq!(error(vec![task("a", &[]), task("a", &[])]), "two stages have one name");
}

#[test]
fn measuring_afresh_forgets_what_is_stored() {
    let bench = Bench::new();
    let tasks = || {
        let a = Fake { leaves: vec![1, 2], ..bench.task("a", &[], json!(1)) };
        vec![Box::new(a) as Box<dyn Task<Leaf = u32>>]
    };
    for n in [1, 2] {
        let record = Outputs::from([(RECORD.to_owned(), n.to_string().into_bytes())]);
        bench.store.publish(&LEAF, json!({ "leaf": n }), &record, BTreeMap::new()).expect("stores");
    }
    let stored = Dag::new(&bench.store, tasks(), false).expect("a DAG");
    assert_eq!(stored.missing_leaves().len(), 0);
    let mut fresh = Dag::new(&bench.store, tasks(), true).expect("a DAG");
    assert_eq!(fresh.missing_leaves().len(), 2);
    fresh.leaves_stored(&[leaf_key(1)]).expect("refreshes");
    assert_eq!(fresh.missing_leaves().len(), 1);
    fresh.leaves_failed(&[leaf_key(2)], "no server").expect("refreshes");
    assert!(matches!(fresh.state("a"), Some(State::Failed(why)) if why == "no server"));
}

#[test]
fn leaves_that_need_no_upstream_are_known_at_once() {
    let bench = Bench::new();
    let a = Fake { leaves: vec![1], ..bench.task("a", &[], json!(1)) };
    let b = Fake { leaves: vec![2], early: true, ..bench.task("b", &["a"], json!(1)) };
    let c = Fake { leaves: vec![3], ..bench.task("c", &["a"], json!(1)) };
    let tasks = [a, b, c].into_iter().map(|task| Box::new(task) as Box<dyn Task<Leaf = u32>>);
    let dag = Dag::new(&bench.store, tasks.collect(), false).expect("a DAG");
    let missing: Vec<u32> = dag.missing_leaves().iter().map(|leaf| leaf.what).collect();
    assert_eq!(missing, [1, 2]);
    assert!(matches!(dag.state("c"), Some(State::Waiting(needs)) if needs == &["a"]));
}

#[test]
fn what_else_a_leaf_has_is_read_where_it_is_and_is_part_of_the_key() {
    let bench = Bench::new();
    let publish = |n: u32, more: &[(&str, &str)]| {
        let outputs = [(RECORD, "0")].iter().chain(more);
        let outputs = outputs.map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        let outputs: Outputs = outputs.collect();
        bench
            .store
            .publish(&LEAF, json!({ "leaf": n }), &outputs, BTreeMap::new())
            .expect("stores");
    };
    let read = || {
        let task = Fake { leaves: vec![1, 2], ..bench.task("reader", &[], json!(1)) };
        let dag = Dag::new(&bench.store, vec![Box::new(task) as Box<dyn Task<Leaf = u32>>], false)
            .expect("a DAG");
        let records = &dag.asked[0].as_ref().expect("it has no upstream").records;
        let inputs = dag.inputs_of(0);
        let found = [1, 2].map(|n| inputs.leaf_output(&n.to_string(), "samples").expect("reads"));
        (dag.key(0, records).digest().expect("no floats"), found)
    };
    publish(1, &[("samples", "a")]);
    publish(2, &[]);
    let (key, found) = read();
    assert_eq!(found, [Some(b"a".to_vec()), None]);
    publish(2, &[("samples", "b")]);
    let (other, found) = read();
    assert_eq!(found, [Some(b"a".to_vec()), Some(b"b".to_vec())]);
    assert_ne!(key, other);
}
