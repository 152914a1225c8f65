//! A suite over a store. Under fire: every call of the file system fails or is the last one in turn, for a suite of
//! three stages and six trials. Whatever happened, the next run ends with the bytes of an undisturbed
//! one, and measures nothing that was finished before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result, bail};
use bench_core::{canonical::Digest, rng::Random};
use dag::{Dag, Inputs, LEAF, Leaf, Outputs, RECORD, State, Task};
use serde_json::{Value, json};
use store::{
    Store,
    disk::{Disk, RealDisk},
};

/// What happens at a call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It fails, and nothing is done.
    Fails(io::ErrorKind),
    /// It fails after a half.
    Tears,
    /// The process ends before it.
    Kills,
    /// The process ends after a half of it.
    TearsAndKills,
}

const FAULTS: [Fault; 5] = [
    Fault::Fails(io::ErrorKind::StorageFull),
    Fault::Fails(io::ErrorKind::Other),
    Fault::Tears,
    Fault::Kills,
    Fault::TearsAndKills,
];

#[derive(Debug, Default)]
struct Calls {
    made: AtomicU64,
    is_dead: AtomicBool,
}

/// The machine's file system, but for one call.
#[derive(Debug)]
struct Faulty {
    calls: Arc<Calls>,
    /// The number of the call, and what happens at it.
    at: Option<(u64, Fault)>,
}

impl Faulty {
    fn call<T>(
        &self,
        whole: impl FnOnce() -> io::Result<T>,
        half: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<T> {
        let number = self.calls.made.fetch_add(1, Relaxed);
        if self.calls.is_dead.load(Relaxed) {
            return Err(io::Error::other("the process is dead"));
        }
        let Some((_, fault)) = self.at.filter(|(at, _)| *at == number) else { return whole() };
        if matches!(fault, Fault::Tears | Fault::TearsAndKills) {
            half()?;
        }
        if matches!(fault, Fault::Kills | Fault::TearsAndKills) {
            self.calls.is_dead.store(true, Relaxed);
        }
        Err(match fault {
            Fault::Fails(kind) => kind.into(),
            _ => io::Error::other("an injected fault"),
        })
    }
}

impl Disk for Faulty {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(|| RealDisk.read(path), || Ok(()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.call(|| RealDisk.write(path, bytes), || RealDisk.write(path, half))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.call(|| RealDisk.sync(path), || Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| RealDisk.rename(from, to), || Ok(()))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(|| RealDisk.create_dir_all(path), || Ok(()))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(|| RealDisk.remove_dir_all(path), || Ok(()))
    }
}

/// A stage that joins its trials and the stage before it.
struct Join {
    name: &'static str,
    needs: Option<&'static str>,
    trials: Vec<u32>,
}

fn key_inputs(trial: u32) -> Value {
    json!({ "trial": trial })
}

impl Task for Join {
    type Leaf = u32;

    fn name(&self) -> &str {
        self.name
    }

    fn epoch(&self) -> u32 {
        1
    }

    fn needs(&self) -> Vec<String> {
        self.needs.map(str::to_owned).into_iter().collect()
    }

    fn config(&self) -> Value {
        json!(null)
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<u32>>> {
        let leaf = |trial: &u32| {
            let key = Digest::of_json(&key_inputs(*trial)).expect("no floats");
            Leaf { role: trial.to_string(), key, what: *trial }
        };
        Ok(self.trials.iter().map(leaf).collect())
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let mut text = String::new();
        for trial in &self.trials {
            text += &inputs.leaf::<Value>(&trial.to_string())?.to_string();
        }
        if let Some(before) = self.needs {
            text += std::str::from_utf8(&inputs.file(before, "out")?)?;
        }
        Ok(Outputs::from([("out".to_owned(), text.into_bytes())]))
    }
}

/// What a run did, up to its end.
#[derive(Debug, Default)]
struct Done {
    measured: BTreeSet<u32>,
    /// Trials whose records were stored.
    finished: BTreeSet<u32>,
    outputs: BTreeMap<String, Vec<u8>>,
}

fn suite(store: &Store, done: &mut Done) -> Result<()> {
    let task = |name, needs, trials: [u32; 3]| -> Box<dyn Task<Leaf = u32>> {
        Box::new(Join { name, needs, trials: Vec::from(trials) })
    };
    let tasks = vec![
        task("baseline", None, [1, 2, 3]),
        task("sweep", Some("baseline"), [3, 4, 5]),
        task("compare", Some("sweep"), [2, 5, 6]),
    ];
    let mut dag = Dag::new(store, tasks, false)?;
    loop {
        while let Some(name) = dag.run_next()? {
            if let Some(State::Failed(why)) = dag.state(&name) {
                bail!("{name}: {why}");
            }
        }
        let missing = dag.missing_leaves();
        if missing.is_empty() {
            break;
        }
        let mut keys = Vec::new();
        for leaf in missing {
            done.measured.insert(leaf.what);
            let record = Outputs::from([(RECORD.to_owned(), leaf.what.to_string().into_bytes())]);
            store.publish(&LEAF, key_inputs(leaf.what), &record, BTreeMap::new())?;
            done.finished.insert(leaf.what);
            keys.push(leaf.key);
        }
        dag.leaves_stored(&keys)?;
    }
    for (task, state) in dag.iter() {
        let State::Done(action) = state else { bail!("{} is not done", task.name()) };
        store.set_latest("test", task.name(), &action.key)?;
        let bytes = store.get(&action.outputs["out"])?.context("an output is gone")?;
        done.outputs.insert(task.name().to_owned(), bytes);
    }
    Ok(())
}

/// A run of the suite in a process of its own, so to say: with a fault or without.
fn run(root: &Path, at: Option<(u64, Fault)>) -> (Result<()>, Done, u64) {
    let calls = Arc::new(Calls::default());
    let disk = Faulty { calls: Arc::clone(&calls), at };
    let mut done = Done::default();
    // A dead process's locks go with its store, and its folder stays: its disk does nothing more.
    let ended = Store::open_on(Box::new(disk), root).and_then(|mut store| {
        store.make_writable()?;
        suite(&store, &mut done)
    });
    (ended, done, calls.made.load(Relaxed))
}

/// A folder in memory where there is one: the disk itself is not what is tried.
fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let found = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    found.expect("a temporary folder")
}

#[test]
fn every_call_may_fail_or_be_the_last() {
    let undisturbed = folder();
    let (ended, expected, calls) = run(undisturbed.path(), None);
    ended.expect("nothing disturbs it");
    assert_eq!(expected.measured.len(), 6);

    let mut random = Random::new(1, 1);
    let mut points = 0;
    for fault in FAULTS {
        for at in 0..calls {
            // Once the next run goes through, then runs that are disturbed in their turn.
            for disturbed in [0, 2] {
                let folder = folder();
                let mut finished = BTreeSet::new();
                let mut check = |run: usize, done: &Done| {
                    let again: Vec<_> = done.measured.intersection(&finished).collect();
                    assert!(again.is_empty(), "{fault:?} at {at}, run {run}: {again:?} again");
                    finished.extend(&done.finished);
                };
                check(0, &run(folder.path(), Some((at, fault))).1);
                points += 1;
                for n in 1..=disturbed {
                    let fault = FAULTS[random.below(FAULTS.len() as u64) as usize];
                    check(n, &run(folder.path(), Some((random.below(calls), fault))).1);
                    points += 1;
                }
                let (ended, done, _) = run(folder.path(), None);
                assert!(ended.is_ok(), "{fault:?} at {at}: {ended:?}");
                check(9, &done);
                assert_eq!(done.outputs, expected.outputs, "{fault:?} at {at}");
                let left = fs::read_dir(folder.path().join("tmp")).expect("is there").count();
                assert_eq!(left, 0, "{fault:?} at {at}: what a dead run left is cleared");
            }
        }
    }
    println!("{points} faults in {calls} places, none of them lost or repeated anything");
}

/// A benchmark, not a test: `cargo test --release -p dag --test suite hundred_thousand -- --ignored
/// --nocapture`, with `TMPDIR` on the disk that is meant.
#[test]
#[ignore = "a benchmark"]
fn hundred_thousand_trials() {
    const TRIALS: u32 = 100_000;
    const PLANNED: u32 = 1_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || {
        let mut store = Store::open_read_only(folder.path()).expect("opens");
        store.make_writable().expect("is writable");
        store
    };
    let store = open();
    let record = "x".repeat(3_000);
    let timed = |what: &str, of: u32, run: &mut dyn FnMut()| {
        let begun = std::time::Instant::now();
        run();
        let s = begun.elapsed().as_secs_f64();
        println!("{what} {of}: {s:.2} s, {:.0} µs each", s * 1e6 / f64::from(of));
    };
    let mut keys = Vec::new();
    timed("adding", TRIALS, &mut || {
        for n in 0..TRIALS {
            let record = format!("{n} {record}").into_bytes();
            let outputs = Outputs::from([(RECORD.to_owned(), record)]);
            let action = store.publish(&LEAF, key_inputs(n), &outputs, BTreeMap::new());
            keys.push(action.expect("publishes").key);
        }
    });
    timed("finding", TRIALS, &mut || {
        let again = open();
        for key in &keys {
            assert!(again.action(&LEAF, key).expect("reads").is_some());
        }
    });
    timed("planning", PLANNED, &mut || {
        let again = Store::open_read_only(folder.path()).expect("opens");
        // The last of them is not stored.
        let trials = (TRIALS + 1 - PLANNED..=TRIALS).collect();
        let task: Box<dyn Task<Leaf = u32>> = Box::new(Join { name: "a", needs: None, trials });
        let dag = Dag::new(&again, vec![task], false).expect("plans");
        assert_eq!(dag.missing_leaves().len(), 1);
        assert_eq!(dag.stored_leaves().expect("reads").len(), PLANNED as usize - 1);
    });
    timed("verifying", TRIALS, &mut || {
        assert_eq!(store.verify().expect("verifies").records, u64::from(TRIALS));
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("no peak known")
    );
}
