//! A child process with everything that it starts: a process group that is ended and waited
//! for on every way out, and found again after a crash of ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, fs,
    io::{self, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Serialize};

/// How often a state is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// How long a group may take to vanish after SIGKILL: the kernel frees its memory meanwhile.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// What is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment on top of ours.
    pub env: BTreeMap<String, String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        status.signal().map_or_else(|| Self::Code(status.code().unwrap_or(-1)), Self::Signal)
    }
}

/// The first process of a group, as far as its parent knows it.
pub trait Leader: fmt::Debug + Send {
    /// How it ended, if it has. It is not reaped yet, so that nobody else can get the number of its
    /// group while the rest of the group lives.
    fn ended(&self) -> Option<Ended>;

    /// Reaps it, once nothing of its group runs.
    fn reap(&mut self) -> Ended;
}

impl Leader for Child {
    fn ended(&self) -> Option<Ended> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(self)), options).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Ended::Code(code)),
            (None, Some(signal)) => Some(Ended::Signal(signal)),
            (None, None) => None,
        }
    }

    fn reap(&mut self) -> Ended {
        self.wait().map_or(Ended::Code(-1), Ended::from)
    }
}

/// A process group of ours. Dropping it ends it.
#[derive(Debug)]
pub struct Group {
    leader: Box<dyn Leader>,
    id: Pid,
    record: PathBuf,
    grace: Duration,
    ended: Option<Ended>,
    stdout: Option<ChildStdout>,
}

impl Group {
    /// Starts a program in a process group of its own, without input, and notes the group under
    /// `run_dir` before the program runs: [`end_orphans`] finds it even if we are killed now.
    ///
    /// `grace` is the time from SIGTERM to SIGKILL when the group is ended.
    ///
    /// # Errors
    /// When the program cannot be started or the note not be written; then nothing runs.
    pub fn spawn(
        program: &Program,
        stdout: Stdio,
        stderr: Stdio,
        run_dir: &Path,
        grace: Duration,
    ) -> Result<Self> {
        let script = r#"read -r go && exec "$@" </dev/null"#;
        Ok(Self::spawn_by(script, program, stdout, stderr, run_dir, grace)?.0)
    }

    /// Like [`Group::spawn`], with the program's input.
    ///
    /// # Errors
    /// See [`Group::spawn`].
    pub fn spawn_fed(
        program: &Program,
        stdout: Stdio,
        stderr: Stdio,
        run_dir: &Path,
        grace: Duration,
    ) -> Result<(Self, ChildStdin)> {
        let script = r#"read -r go && exec "$@""#;
        Self::spawn_by(script, program, stdout, stderr, run_dir, grace)
    }

    /// The shell's script becomes the program once it has read a line; at the end of its input it exits.
    fn spawn_by(
        script: &str,
        program: &Program,
        stdout: Stdio,
        stderr: Stdio,
        run_dir: &Path,
        grace: Duration,
    ) -> Result<(Self, ChildStdin)> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .arg(&program.path)
            .args(&program.args)
            .envs(&program.env)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.path.display()))?;
        let id = Pid::from_child(&child);
        let mut gate = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take();
        let mut group = Self::adopt(id, Box::new(child), run_dir, grace)?;
        group.stdout = stdout;
        gate.write_all(b"go\n").context("the shell that starts a program has died")?;
        Ok((group, gate))
    }

    /// Takes over a group whose first process waits for a word before it runs, and notes it under
    /// `run_dir`.
    ///
    /// # Errors
    /// When the note cannot be written; then the group is ended.
    pub fn adopt(
        id: Pid,
        leader: Box<dyn Leader>,
        run_dir: &Path,
        grace: Duration,
    ) -> Result<Self> {
        let record = run_dir.join(record_name(id));
        let group = Self { leader, id, record, grace, ended: None, stdout: None };
        fs::create_dir_all(run_dir)
            .with_context(|| format!("cannot make {}", run_dir.display()))?;
        if let Some(record) = Record::of(id) {
            let text = serde_json::to_string(&record)?;
            fs::write(&group.record, text)
                .with_context(|| format!("cannot write {}", group.record.display()))?;
        }
        Ok(group)
    }

    /// The program's output, where it was piped; at most once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The process group's number, which is the program's process id.
    #[cfg(test)]
    pub fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Kills the first process alone.
    #[cfg(test)]
    pub fn kill(&self) {
        rustix::process::kill_process(self.id, Signal::KILL).expect("it is ours");
    }

    /// How the program ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.or_else(|| self.leader.ended())
    }

    /// Waits until the program ends by itself, at most this long.
    pub fn wait(&self, limit: Duration) -> Option<Ended> {
        poll(limit, || self.ended())
    }

    /// Ends the whole group and waits for it: SIGTERM, then SIGKILL after the grace.
    pub fn stop(&mut self) -> Ended {
        if let Some(ended) = self.ended {
            return ended;
        }
        end_group(self.id, self.grace);
        let ended = self.leader.reap();
        self.ended = Some(ended);
        fs::remove_file(&self.record).ok();
        ended
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends SIGTERM, then SIGKILL after the grace, and waits until no process of the group runs. Shared
/// memory that it leaves behind is removed.
fn end_group(id: Pid, grace: Duration) -> bool {
    let mut segments = BTreeSet::new();
    let gone = || running_members(id).is_empty().then_some(());
    let mut end = || {
        for (signal, limit) in [(Signal::TERM, grace), (Signal::KILL, KILL_LIMIT)] {
            for process in running_members(id) {
                segments.extend(segments_of(process.pid));
            }
            if gone().is_some() {
                return true;
            }
            // Fails only when the group has gone meanwhile.
            kill_process_group(id, signal).ok();
            if poll(limit, gone).is_some() {
                return true;
            }
        }
        false
    };
    let has_ended = end();
    // Processes that end in order remove their own.
    segments.retain(|path| path.exists());
    if !segments.is_empty() {
        let others = all_processes().flat_map(segments_of).collect();
        for path in segments.difference(&others) {
            fs::remove_file(path).ok();
        }
    }
    has_ended
}

/// Files of shared memory that a process has in its memory.
fn segments_of(pid: i32) -> BTreeSet<PathBuf> {
    segments_in(&fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default())
}

/// The same, from the text of `/proc/PID/maps`. Those without a name any more are followed by `(deleted)`.
fn segments_in(maps: &str) -> BTreeSet<PathBuf> {
    let names = maps.lines().filter_map(|line| Some(line.split_once("/dev/shm/")?.1));
    names
        .filter(|name| !name.ends_with(" (deleted)"))
        .map(|name| Path::new("/dev/shm").join(name))
        .collect()
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= limit {
            return found;
        }
        thread::sleep(POLL);
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcessStat {
    pid: i32,
    running: bool,
    group: i32,
    session: i32,
    /// Clock ticks from boot to its start: with the pid it names a process for good.
    start_ticks: u64,
}

impl ProcessStat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command's name, second in the line, may itself hold spaces and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let pid = line.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            running: !matches!(*fields.first()?, "Z" | "X"),
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Whether the first process of a group has ended; others of the group may still run.
pub fn has_ended(leader: Pid) -> bool {
    let leader = leader.as_raw_nonzero().get();
    !ProcessStat::read(leader).is_some_and(|process| process.running && process.group == leader)
}

fn running_members(group: Pid) -> Vec<ProcessStat> {
    let group = group.as_raw_nonzero().get();
    all_processes()
        .filter_map(ProcessStat::read)
        .filter(|process| process.group == group && process.running)
        .collect()
}

/// The note about a group of ours, for whoever comes after us.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    group: i32,
    session: i32,
    start_ticks: u64,
    boot_id: String,
    owner: i32,
    owner_start_ticks: u64,
}

impl Record {
    /// `None` where there is no `/proc`.
    fn of(group: Pid) -> Option<Self> {
        let leader = ProcessStat::read(group.as_raw_nonzero().get())?;
        let owner = ProcessStat::read(std::process::id().try_into().ok()?)?;
        Some(Self {
            group: leader.pid,
            session: leader.session,
            start_ticks: leader.start_ticks,
            boot_id: boot_id()?,
            owner: owner.pid,
            owner_start_ticks: owner.start_ticks,
        })
    }

    fn owner_lives(&self) -> bool {
        ProcessStat::read(self.owner)
            .is_some_and(|owner| owner.running && owner.start_ticks == self.owner_start_ticks)
    }

    /// Whether the group that has this number now is the one that was noted. Where its first
    /// process has gone, its number cannot have been given away while others of it live.
    fn is_same_group(&self, members: &[ProcessStat]) -> bool {
        let leader = ProcessStat::read(self.group);
        leader.is_none_or(|leader| leader.start_ticks == self.start_ticks)
            && members.iter().all(|member| {
                member.session == self.session && member.start_ticks >= self.start_ticks
            })
    }
}

fn record_name(group: Pid) -> String {
    format!("group-{}.json", group.as_raw_nonzero())
}

fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Ends the groups noted under `run_dir` whose owner was killed, and gives their numbers.
///
/// A group is known by its number, the start time of its first process and the boot; nothing is
/// ever ended by its name. Groups of a living owner are left alone.
///
/// # Errors
/// When the folder cannot be read, a note is damaged, or a group cannot be ended.
pub fn end_orphans(run_dir: &Path, grace: Duration) -> Result<Vec<i32>> {
    let entries = match fs::read_dir(run_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", run_dir.display())),
    };
    let mut ended = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with("group-") && name.ends_with(".json")) {
            continue;
        }
        // Its owner may have removed it since.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        // Torn by a crash while it was written, which is before the program runs.
        let Ok(record) = serde_json::from_str::<Record>(&text) else {
            fs::remove_file(&path).ok();
            continue;
        };
        if record.owner_lives() {
            continue;
        }
        if end_orphan(&record, grace)? {
            ended.push(record.group);
        }
        fs::remove_file(&path).ok();
    }
    Ok(ended)
}

/// Whether there was something to end.
fn end_orphan(record: &Record, grace: Duration) -> Result<bool> {
    let same_boot = boot_id().is_some_and(|id| id == record.boot_id);
    let Some(id) = Pid::from_raw(record.group).filter(|_| same_boot) else { return Ok(false) };
    let members = running_members(id);
    if members.is_empty() || !record.is_same_group(&members) {
        return Ok(false);
    }
    anyhow::ensure!(
        end_group(id, grace),
        "cannot end process group {}, left behind by an earlier run; look at `ps -g {0}`",
        record.group
    );
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    const GRACE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Program {
        Program {
            path: PathBuf::from("/bin/sh"),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::new(),
        }
    }

    fn start(script: &str, run_dir: &Path, grace: Duration) -> Group {
        Group::spawn(&shell(script), Stdio::piped(), Stdio::null(), run_dir, grace)
            .expect("the shell starts")
    }

    fn first_line(group: &mut Group) -> String {
        let mut line = String::new();
        let stdout = group.take_stdout().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it writes a line");
        line.trim().to_owned()
    }

    fn notes(run_dir: &Path) -> usize {
        fs::read_dir(run_dir).expect("it exists").count()
    }

    #[test]
    fn the_whole_group_ends_even_if_it_ignores_sigterm() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let script = "trap '' TERM; sh -c \"trap '' TERM; echo up; while :; do sleep 1; done\"";
        let mut group = start(script, scratch.path(), Duration::ZERO);
        assert_eq!(first_line(&mut group), "up");
        assert_eq!(notes(scratch.path()), 1);
        assert_eq!(group.ended(), None);
        assert!(!has_ended(group.id));
        assert_eq!(group.stop(), Ended::Signal(9));
        assert!(running_members(group.id).is_empty());
        assert_eq!(notes(scratch.path()), 0);
    }

    #[test]
    fn dropping_ends_and_the_exit_code_is_told() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut group = start("echo up; exec sleep 1000", scratch.path(), GRACE);
        first_line(&mut group);
        let id = group.id;
        drop(group);
        assert!(running_members(id).is_empty());

        let mut group = start("exit 3", scratch.path(), GRACE);
        assert_eq!(group.wait(GRACE), Some(Ended::Code(3)));
        assert_eq!(group.stop(), Ended::Code(3));
    }

    #[test]
    fn descendants_of_a_dead_leader_end_too() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut group = start("sleep 1000 & exit 7", scratch.path(), GRACE);
        assert_eq!(group.wait(GRACE), Some(Ended::Code(7)));
        assert_eq!(running_members(group.id).len(), 1);
        assert!(has_ended(group.id));
        assert_eq!(group.stop(), Ended::Code(7));
        assert!(running_members(group.id).is_empty());
    }

    fn rewrite(path: &Path, change: impl FnOnce(&mut Record)) {
        let text = fs::read_to_string(path).expect("the note is there");
        let mut record: Record = serde_json::from_str(&text).expect("it is ours");
        change(&mut record);
        fs::write(path, serde_json::to_string(&record).expect("it serializes")).expect("written");
    }

    #[test]
    fn only_the_noted_group_of_a_dead_owner_is_an_orphan() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut group = start("echo up; exec sleep 1000", scratch.path(), GRACE);
        first_line(&mut group);
        let note = scratch.path().join(record_name(group.id));
        let original = fs::read_to_string(&note).expect("the note is there");
        let orphans = || end_orphans(scratch.path(), GRACE).expect("the folder is readable");

        assert!(orphans().is_empty(), "its owner lives");
        assert!(note.exists());

        type Change = fn(&mut Record);
        let strangers: [Change; 3] =
            [|r| r.start_ticks += 1, |r| r.boot_id = "another boot".to_owned(), |r| r.session += 1];
        for change in strangers {
            fs::write(&note, &original).expect("written");
            rewrite(&note, |r| {
                r.owner_start_ticks += 1;
                change(r);
            });
            assert!(orphans().is_empty(), "it is another's");
            assert_eq!(group.ended(), None);
            assert!(!note.exists());
        }

        fs::write(&note, &original).expect("written");
        rewrite(&note, |r| r.owner_start_ticks += 1);
        assert_eq!(orphans(), [group.id()]);
        assert_eq!(group.stop(), Ended::Signal(15));
    }

    #[test]
    fn what_a_killed_run_leaves_behind_is_found_and_ended() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut owner = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "group::tests::owner_that_is_killed"])
            .args(["--ignored", "--nocapture"])
            .env("XTASK_TEST_RUN_DIR", scratch.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(owner.stdout.take().expect("it is piped"));
        let group: i32 = output
            .lines()
            .find_map(|line| line.ok()?.split_once("group=")?.1.trim().parse().ok())
            .expect("it starts a group");
        owner.kill().expect("it lives");
        owner.wait().expect("it is our child");
        let id = Pid::from_raw(group).expect("it is a number");
        assert_eq!(running_members(id).len(), 1, "SIGKILL leaves no time to end it");
        assert_eq!(end_orphans(scratch.path(), GRACE).expect("readable"), [group]);
        assert!(running_members(id).is_empty());
        assert_eq!(notes(scratch.path()), 0);
    }

    #[test]
    #[ignore = "a process of its own for the test above"]
    fn owner_that_is_killed() {
        let Some(run_dir) = std::env::var_os("XTASK_TEST_RUN_DIR") else { return };
        let mut group = start("echo up; exec sleep 1000", Path::new(&run_dir), GRACE);
        first_line(&mut group);
        println!("group={}", group.id());
        group.wait(Duration::from_secs(1_000));
    }

    #[test]
    fn shared_memory_of_a_killed_group_is_removed_unless_others_have_it() {
        const SCRIPT: &str = "import mmap, os, signal, sys, time\n\
            signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
            maps = []\n\
            for path in sys.argv[1:]:\n    \
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)\n    \
                os.ftruncate(fd, 4096)\n    \
                maps.append(mmap.mmap(fd, 4096))\n\
            print('up', flush=True)\n\
            time.sleep(1000)";
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let name = scratch.path().file_name().expect("it has one").to_string_lossy();
        let [own, shared] = ["own", "shared"].map(|kind| format!("/dev/shm/{name}-{kind}"));
        let start = |paths: &[&str]| {
            let args = ["-c", SCRIPT].iter().chain(paths).map(Into::into).collect();
            let program = Program { path: "python3".into(), args, env: BTreeMap::new() };
            let run_dir = scratch.path();
            let mut group =
                Group::spawn(&program, Stdio::piped(), Stdio::null(), run_dir, Duration::ZERO)
                    .expect("it starts");
            assert_eq!(first_line(&mut group), "up");
            group
        };
        let mut group = start(&[&own, &shared]);
        let mut other = start(&[&shared]);
        assert_eq!(group.stop(), Ended::Signal(9));
        assert!(!Path::new(&own).exists() && Path::new(&shared).exists());
        other.stop();
        assert!(!Path::new(&shared).exists());
    }

    #[test]
    fn a_segment_without_a_name_is_no_file() {
        let maps = "7f0 rw-s 0 00:1b 3 /dev/shm/psm_1\n\
                    7f1 rw-s 0 00:1b 4 /dev/shm/sem.a (deleted)\n7f2 r-xp 0 0:1 5 /lib/c.so";
        assert_eq!(segments_in(maps), BTreeSet::from([PathBuf::from("/dev/shm/psm_1")]));
    }

    #[test]
    fn a_command_name_may_hold_anything() {
        let line = "42 (a) b ( c) S 1 40 39 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let expected =
            ProcessStat { pid: 42, running: true, group: 40, session: 39, start_ticks: 777 };
        assert_eq!(ProcessStat::parse(line), Some(expected));
    }
}
