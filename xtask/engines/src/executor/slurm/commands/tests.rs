//! What Slurm's commands are given and what is read of their output.

use std::process::Command;

use proptest::prelude::*;

use super::*;

fn config() -> SlurmConfig {
    SlurmConfig {
        partition: Some("gpu".to_owned()),
        gres: Some("gpu:h100:1".to_owned()),
        time_limit_minutes: Some(90),
        exclusive: true,
        options: vec!["--account=tuning".to_owned(), "--mem=0".to_owned()],
        env: [("HF_HOME", "/scratch/it's here"), ("OMP_NUM_THREADS", "8")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn batch<'a>(command: &'a [&'a OsStr]) -> Batch<'a> {
    Batch {
        command,
        counts_attempts: true,
        here: Path::new("/shared"),
        comment: Path::new("/shared/artifacts/tmp/7-0/3"),
        log: Path::new("/shared/100%/logs/abc-job.log"),
    }
}

#[test]
fn a_launch_as_a_job() {
    let command = ["/shared/xtask", "launch", "/it's/plan.json"].map(OsStr::new);
    let batch = batch(&command);
    insta::assert_snapshot!("arguments", arguments(&config(), &batch).join("\n"));
    insta::assert_snapshot!("script", script(&config(), &batch));
    let bare = SlurmConfig {
        partition: None,
        gres: None,
        time_limit_minutes: None,
        exclusive: false,
        options: Vec::new(),
        env: BTreeMap::new(),
    };
    let args = arguments(&bare, &batch);
    let unasked = ["--partition", "--gres", "--time", "--exclusive"];
    assert!(!script(&bare, &Batch { counts_attempts: false, ..batch }).contains("--attempt"));
    assert!(
        !args.iter().any(|arg| unasked.iter().any(|option| arg.starts_with(option))),
        "{args:?}"
    );
}

#[test]
fn numbers_of_jobs_are_read() {
    assert_eq!(parse_submitted("12\n").expect("a number"), 12);
    assert_eq!(parse_submitted("12;alpha\n").expect("a number"), 12);
    assert!(parse_submitted("").is_err());
    assert!(parse_submitted("Submitted batch job 12").is_err());
}

/// As Slurm 22.05 prints them.
#[test]
fn a_job_is_read_as_scontrol_shows_it() {
    let text = include_str!("testdata/timeout.txt");
    let expected = Shown {
        state: "TIMEOUT".to_owned(),
        reason: "TimeLimit".to_owned(),
        exit_code: (0, 15),
        nodes: "n5".to_owned(),
        time_limit: "00:01:00".to_owned(),
    };
    assert_eq!(parse_shown(text), Some(expected));
    let waiting = parse_shown(include_str!("testdata/pending.txt")).expect("a job");
    assert!(waiting.is_active() && waiting.nodes.is_empty(), "{waiting:?}");
    assert_eq!(waiting.reason, "PartitionTimeLimit");
    assert_eq!(parse_shown("No jobs in the system"), None);
}

#[test]
fn what_a_command_says_last_is_its_error() {
    let text = "sbatch: error: invalid partition specified: nope\n\
                sbatch: error: Batch job submission failed: Invalid partition name specified\n\n";
    let expected = "Batch job submission failed: Invalid partition name specified";
    assert_eq!(last_error(text), expected);
    assert_eq!(last_error(""), "no reason given");
    let error = run("no-such-command", &[], "").expect_err("it is not there").to_string();
    assert_eq!(error, "cannot start no-such-command: run the suite where Slurm's commands are");
    let error = run("sh", &["-c", "echo x: error: why >&2; exit 3"], "ignored");
    assert_eq!(error.expect_err("it fails").to_string(), "sh failed: why");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A shell gives back what it was given, whatever that is.
    #[test]
    fn quoting_keeps_every_text(text in "[^\0]{0,40}") {
        let output = Command::new("sh").args(["-c", &format!("printf %s {}", quoted(&text))]).output();
        prop_assert_eq!(String::from_utf8(output.expect("sh runs").stdout).expect("UTF-8"), text);
    }
}

proptest! {
    /// What is in the queue is read whatever reasons and comments hold.
    #[test]
    fn the_queue_is_read(jobs in prop::collection::btree_map(
        any::<u64>(),
        (any::<bool>(), "[A-Za-z0-9 (),_]{0,20}", "[^\n\r\0]{0,30}"),
        0..5,
    )) {
        let state = |pending| if pending { "PENDING" } else { "RUNNING" };
        let line = |(id, (pending, reason, comment)): (&u64, &(bool, String, String))| {
            format!("{id}|{}|{reason}|{comment}\n", state(*pending))
        };
        let text: String = jobs.iter().map(line).collect();
        let read = parse_queue(&text).expect("it is well formed");
        let expected: BTreeMap<JobId, Queued> = jobs
            .into_iter()
            .map(|(id, (pending, reason, comment))| (id, Queued { pending, reason, comment }))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_output_is_read_or_refused(text in ".{0,200}") {
        let _ = (parse_queue(&text), parse_shown(&text), parse_submitted(&text));
    }

    /// A comment cannot pass for a state.
    #[test]
    fn comments_say_nothing_of_a_job(comment in "[^\n\r]{0,40}") {
        let text = include_str!("testdata/timeout.txt");
        let (before, after) = text.split_once(" Comment=").expect("it has one");
        let after = after.split_once(' ').map_or("", |(_, rest)| rest);
        let other = format!("{before} Comment={comment} JobState=COMPLETED {after}");
        prop_assert_eq!(parse_shown(&other), parse_shown(text));
    }
}

/// Ctrl-C at a terminal goes to a whole process group.
#[test]
fn commands_are_in_groups_of_their_own() {
    let text = run("sh", &["-c", "cut -d ' ' -f 1,5 /proc/$$/stat"], "").expect("it runs");
    let (process, group) = text.trim().split_once(' ').expect("two numbers");
    assert_eq!(process, group);
}
